"""The large text pool: memory while it is built and drawn from, and what its size adds to a draw.

python benchmarks/pool.py --folder /path/with/6/GB/free
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "lmnrst"]

BUILD = """
import sys
from pathlib import Path
from randcond.prompts.pool import write_pool
from randcond.worlds.texts import sample_texts
files = sorted(Path(sys.argv[1]).glob("*.parquet"))
print(write_pool(Path(sys.argv[2]), sample_texts(files, int(sys.argv[3]), 0, 1000)))
"""

DRAW = """
import random, resource, sys, time
from pathlib import Path
from randcond.prompts.pool import ArrowTexts
def held():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
rng, before, peak = random.Random(0), held(), 0
pool = ArrowTexts(Path(sys.argv[1]))
start = time.perf_counter()
for i in range(int(sys.argv[2])):
    pool[rng.randrange(len(pool))]
    if i % 7 == 0:
        peak = max(peak, held())
print(len(pool), (peak - before) / 1e6, (time.perf_counter() - start) / int(sys.argv[2]) * 1e6)
"""


def write_parquet(folder: Path, files: int, rows: int) -> None:
    """Files as LAION's metadata: a column TEXT of captions, some missing, some more than once."""
    rng = random.Random(0)
    for number in range(files):
        texts = [" ".join(rng.choices(WORDS, k=rng.randint(3, 20))) for _ in range(rows)]
        texts[::100] = [None] * len(texts[::100])
        texts[1::50] = ["a photo"] * len(texts[1::50])
        pq.write_table(pa.table({"TEXT": texts}), folder / f"{number:02d}.parquet", row_group_size=500_000)


def measured(program: str, *arguments: str) -> tuple[str, float, float]:
    """Run a program; what it prints, its seconds, and its peak memory in MB."""
    watch = "import resource\n" + program + "\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)"
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", watch, *arguments], capture_output=True, text=True, check=True)
    lines = done.stdout.split("\n")
    return lines[-3], time.monotonic() - start, float(lines[-2])


def main() -> None:
    """Build pools of both sizes and draw from them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000_000)
    parser.add_argument("--draws", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    files = 8
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        write_parquet(folder, files, int(arguments.count * 1.1) // files)
        for count in (arguments.count, arguments.count // 1000):
            pool = folder / f"{count}.arrow"
            built, seconds, peak = measured(BUILD, str(folder), str(pool), str(count))
            size = pool.stat().st_size / 1e6
            print(f"{int(built):,} texts, {size:.0f} MB, built in {seconds:.0f} s with {peak:.0f} MB at most")
            drawn, _, _ = measured(DRAW, str(pool), str(arguments.draws))
            held, each = drawn.split()[1:]
            print(
                f"  {arguments.draws:,} draws: {float(held):.0f} MB more at most, {float(each):.1f} microseconds each"
            )


if __name__ == "__main__":
    main()
