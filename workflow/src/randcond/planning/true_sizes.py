"""The families that can be rehearsed: how each is counted and made at true size, and which students its runs have."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from randcond.method.catalogue import KNOWN_STUDENTS
from randcond.planning import operations, sd3, sd14, sdxl
from randcond.settings.config import read_config
from randcond.settings.experiments import load_experiments


@dataclass(frozen=True)
class TrueSize:
    """A family at true size.

    Attributes:
        models: Makes its models without memory, for counting.
        pipeline: Makes its pipeline with random weights around a tokenizer.
        parameters: Of the teacher's denoiser, by the name ``teacher``, and of each student.
        latent: Shape of a latent.
        pixels: Of a side of an image.
        configuration: The files in ``config/``, one laid over the other, whose runs are rehearsed.
        features: What students are compared by.
        relative: Whether each feature's error is divided by the teacher's own.
    """

    models: Callable[[], operations.Models]
    pipeline: Callable[[Any], Any]
    parameters: dict[str, int]
    latent: tuple[int, int, int]
    pixels: int
    configuration: tuple[str, ...]
    features: str = "blocks"
    relative: bool = False

    @property
    def students(self) -> list[str]:
        """The students of its runs.

        Raises:
            UserError: If the configuration cannot be read.
        """
        config = read_config([Path("config", f"{name}.yaml") for name in self.configuration])
        runs = load_experiments(Path(config.experiments)).of_grid(config.grid).runs.values()
        return [student for student in KNOWN_STUDENTS if student in {run.student for run in runs}]


FAMILIES = {
    "sd14": TrueSize(
        operations.stable_diffusion,
        sd14.pipeline,
        {"teacher": sd14.PARAMETERS, **sd14.STUDENT_PARAMETERS},
        sd14.LATENT,
        512,
        ("config", "paper"),
    ),
    "sdxl": TrueSize(
        operations.stable_diffusion_xl,
        sdxl.pipeline,
        {"teacher": sdxl.PARAMETERS, **sdxl.STUDENT_PARAMETERS},
        sdxl.LATENT,
        1024,
        ("config", "paper", "sdxl"),
        "authors",
        True,
    ),
    "sd3": TrueSize(
        operations.stable_diffusion_3,
        sd3.pipeline,
        {"teacher": sd3.PARAMETERS["medium"], **sd3.STUDENT_PARAMETERS["medium"]},
        sd3.LATENT,
        1024,
        ("config", "paper", "sd3"),
        relative=True,
    ),
}
