"""What Muon's orthogonal steps cost on this CPU, by bfloat16 and by float32.

Prints the seconds of one step over all matrices of the default world's B-Base.

python benchmarks/muon.py    (one thread; the project takes the one that `iteration_dtype` names)
"""

import time
from collections import Counter
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from randcond.jobs.provenance import instructions
from randcond.method.student import build_student
from randcond.teachers.pipelines import load_pipeline
from randcond.teachers.teacher import denoiser_of
from randcond.training import optimizers

TEACHER = Path("workflow/assets/artists/teacher")


def seconds(shapes: Counter[torch.Size], dtype: torch.dtype) -> float:
    """Processor time of one orthogonal step of matrices of these shapes, the fastest of three."""
    optimizers.iteration_dtype = lambda device: dtype  # type: ignore[assignment]
    batches = [torch.randn(count, *shape) for shape, count in shapes.items()]
    found = []
    for _ in track(range(3), f"{dtype}", console=Console(stderr=True)):
        start = time.process_time()
        for batch in batches:
            optimizers.orthogonal(batch)
        found.append(time.process_time() - start)
    return min(found)


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    print(f"{instructions()}; the project takes {optimizers.iteration_dtype('cpu')}")
    student = build_student(denoiser_of(load_pipeline(TEACHER)), "b-base", "copied")
    shapes = Counter(p.flatten(1).shape for p in student.parameters() if p.ndim > 1)
    for dtype in (torch.bfloat16, torch.float32):
        print(f"{dtype}: {seconds(shapes, dtype):.2f} s a step, {sum(shapes.values())} matrices")


if __name__ == "__main__":
    main()
