"""Compare two finished runs: ``python -m randcond.report.compare results/artists seen-plain seen-rc-animals``.

Prints each score of both with its interval, and by how much the second is better over the seeds that both have;
writes their samples of the same prompts, side by side, to ``results/<name>/compare/``.
"""

import argparse
import sys
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table

from randcond.jobs.errors import UserError, one_line
from randcond.jobs.files import read_json
from randcond.report import checking, grids, inputs, ledger, score_files, shown
from randcond.report.tables import NONE, Measured, Metric, estimate, shown_metrics
from randcond.report.verdicts import judge
from randcond.settings.claims import Claim
from randcond.settings.config import Config, read_config
from randcond.settings.fields import Split

SPLITS = get_args(Split)
Scores = dict[str, list[score_files.Score]]


def read_runs(folder: Path, runs: list[str], config: Config | None = None) -> Scores:
    """Scores of the runs, by seed.

    Args:
        folder: The world's results.
        runs: Their names.
        config: Of its seeds alone, where given: others that lie there may be of other settings.

    Raises:
        UserError: If a run was not scored, or a score file is broken or scores the student of another.
    """
    scores: Scores = {}
    for run in runs:
        files = sorted((folder / "scores" / run).glob("*.json"))
        if not files:
            there = sorted(path.parent.name for path in (folder / "scores").glob("*/*.json"))
            raise UserError(f"{folder}/scores/{run}: no scores; there are {', '.join(dict.fromkeys(there)) or 'none'}")
        files = _of_seeds(files, config.seeds_of(run), run) if config else files
        found: list[score_files.Score] = [checking.parse(score_files.Score, read_json(file), file) for file in files]
        for score, file in zip(found, files, strict=True):
            score.path = file
        scores[run] = sorted(found, key=lambda score: score.seed)
    score_files.check_students(score for several in scores.values() for score in several)
    return scores


def _of_seeds(files: list[Path], seeds: list[int], run: str) -> list[Path]:
    """The files of the seeds; says which others there are."""
    known = [file for file in files if file.stem in map(str, seeds)]
    if left := [file.stem for file in files if file not in known]:
        named = f"{run}: seeds {', '.join(left)} are left out, the configuration has {', '.join(map(str, seeds))}"
        if not known:
            raise UserError(f"{named}; name one that has them, CONFIG=...")
        print(f"{named}; CONFIG=... names another", file=sys.stderr)
    return known


def table(scores: Scores) -> Table:
    """The scores of two runs, split by split, and the gain of the second over the first."""
    first, second = scores
    shown = Table(title="mean ± half width of the 95% interval: over seeds, or over images for a single seed")
    shown.add_column("split")
    shown.add_column("metric")
    for head in (first, second, "gain [95%, paired]", "seeds"):
        shown.add_column(head, justify="right")
    for split in shared_splits(scores):
        for metric in shown_metrics(scores):
            claim = Claim.model_validate(
                {"text": "", "source": "", "better": second, "than": first, "metrics": [metric.key], "split": split}
            )
            values = {run: ledger.values(several, split, metric.key) for run, several in scores.items()}
            entry = ledger.Entry(claim, metric, judge(claim, metric.key, values))
            cells = [_text(estimate([one.splits[split] for one in scores[run]], metric.key), metric) for run in scores]
            seeds = ", ".join(map(str, entry.finding.seeds)) or "none in common"
            shown.add_row(split, f"{metric.name} {metric.arrow}", *cells, entry.beyond, seeds)
    return shown


def shared_splits(scores: Scores) -> list[str]:
    """The splits that both runs were scored on, whatever the seed."""
    return [name for name in SPLITS if all(name in score.splits for several in scores.values() for score in several)]


def write_grids(folder: Path, scores: Scores, count: int, output: Path) -> list[Path]:
    """Write the runs' samples of the same prompts: seen and unseen concepts apart, or the benchmark's."""
    runs, shared = list(scores), shared_splits(scores)
    benchmark = next(iter(scores.values()))[0].splits.get("coco30k")
    prompts = inputs.read_prompts(folder / "prompts/evaluation.parquet")
    samples = grids.shards(path for run in runs for path in (folder / "samples" / run).glob("*/*.zip"))
    seeds = sorted(set.intersection(*({seed for name, seed in samples if name == run} for run in runs)))
    output.mkdir(parents=True, exist_ok=True)
    written = []
    concepts = [name for name in ("seen", "unseen") if name in shared]
    for number, split in enumerate(concepts or [name for name in ("coco30k", "all") if name in shared][:1], 1):
        first = benchmark.count if benchmark else None
        grid = shown.Grid(title=split, split=split, runs=runs, count=count, benchmark=first)
        written.append(output / grids.fill(number, grid, prompts, samples, seeds, output).file)
    return written


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def main(argv: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a world's results, e.g. results/artists")
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--configfile", type=Path, nargs="+", help="compare the seeds of this configuration alone")
    parser.add_argument("--count", type=_positive, default=12, help="prompts in each picture")
    arguments = parser.parse_args(argv)
    runs = [arguments.first, arguments.second]
    if runs[0] == runs[1]:
        sys.exit(f"error: {runs[0]} cannot be compared with itself; name two runs")
    with one_line():
        config = read_config(arguments.configfile) if arguments.configfile else None
        scores = read_runs(arguments.folder, runs, config)
        if not shared_splits(scores):
            raise UserError(f"{runs[0]} and {runs[1]} were scored on no split in common; score them alike")
        Console().print(table(scores))
        output = arguments.folder / "compare" / "-and-".join(runs)
        for path in write_grids(arguments.folder, scores, arguments.count, output):
            print(path)


def _text(found: Measured | None, metric: Metric) -> str:
    if found is None:
        return NONE
    return f"{metric.text(found.value)} ± {metric.text(found.error95)}"


if __name__ == "__main__":
    main()
