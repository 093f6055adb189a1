"""The finished students of a world, and how a picture is drawn with one."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from diffusers import DiffusionPipeline
from PIL import Image
from pydantic import AfterValidator, Field

from randcond.jobs.errors import UserError
from randcond.jobs.files import read_json
from randcond.jobs.stage import device
from randcond.method.student import count_parameters
from randcond.settings.config import Config
from randcond.settings.experiments import load_experiments
from randcond.settings.fields import DrawingSteps, Section, Seed
from randcond.settings.workflow import drawing
from randcond.teachers.pipelines import decode, draw_latents, load_pipeline
from randcond.teachers.teacher import denoiser_of

_FASTER = "faster"  # the stage that makes students faster


def _not_empty(prompt: str) -> str:
    if not prompt.strip():
        raise ValueError("say what to draw")
    return prompt


class Wish(Section):
    """A picture that somebody wants. Teacher and student start from the same noise."""

    prompt: Annotated[str, AfterValidator(_not_empty)]
    """What to draw."""
    seed: Seed
    """Seed of the noise, that of the first image of a list with this seed."""
    steps: DrawingSteps
    """Denoising steps."""
    guidance_scale: Annotated[float, Field(ge=1)]
    """Weight of the classifier-free guidance; 1 is none."""


@dataclass(frozen=True)
class Drawn:
    """A picture, the seconds from prompt to picture, and the parameters and steps of the UNet that drew it."""

    name: str
    image: Image.Image
    seconds: float
    parameters: int
    steps: int

    @property
    def numbers(self) -> str:
        """Parameters, steps and seconds, for people."""
        steps = f"{self.steps} step{'s' * (self.steps != 1)}"
        return f"{self.parameters / 1e6:.1f} million parameters, {steps}, {self.seconds:.2f} s"


def finished(config: Config) -> dict[str, Path]:
    """``<run>/<seed>`` -> folder of its pipeline, of every student of the world that is finished, or made faster."""
    world = Path("results", config.name)
    pipelines = [
        path for stage in ("students", _FASTER) for path in world.glob(f"{stage}/*/*/pipeline/model_index.json")
    ]
    found = {(path.parents[2].name, path.parents[1].name): path.parent for path in pipelines}
    return {"/".join(name): found[name] for name in sorted(found, key=lambda name: (name[0], len(name[1]), name[1]))}


def made_faster(folder: Path) -> bool:
    """Whether a finished student's pipeline is one that draws in few steps, by its own scheduler."""
    return folder.parts[-4:-3] == (_FASTER,)


def faster(config: Config, name: str | None) -> str | None:
    """The name of the student that was made faster out of a finished one; of any, the first, where none is named."""
    there = [one for one, folder in finished(config).items() if made_faster(folder)]
    made = load_experiments(Path(config.experiments)).faster if there else {}
    for one in there:
        run, seed = one.split("/")
        if run in made and name in (None, one, f"{made[run].student}/{seed}"):
            return one
    return None


def usual(config: Config, name: str) -> dict[str, Any]:
    """Steps and guidance that a student's images, or the teacher's, are drawn with where nobody says otherwise."""
    how = {"steps": config.sampling.steps, "guidance_scale": config.sampling.guidance_scale}
    if not made_faster(finished(config).get(name, Path())):
        return how
    made = load_experiments(Path(config.experiments)).model_dump()
    return how | {key: value for key, value in drawing(made, name.split("/")[0], 1.0).items() if key in how}


def find(config: Config, run: str) -> str:
    """The name in :func:`finished` of a run's student, that of its first seed; or of ``<run>/<seed>``.

    Raises:
        UserError: If there is none.
    """
    there = finished(config)
    for name in there:
        if run in (name, name.split("/")[0]):
            return name
    raise UserError(
        f"results/{config.name}/students/{run}: no finished student; there are"
        f" {', '.join(there) or 'none: run snakemake with the same configuration to train some'}"
    )


def load(folder: Path, teacher: Path, precision: str = "no") -> DiffusionPipeline:
    """A teacher's or student's pipeline as its images are drawn: on the GPU if there is one, else the CPU in float32.

    Images of the evaluation are drawn by PNDM, whatever the teacher comes with. A student with another kind of
    scheduler than its teacher was made for that one, LCM's say, and keeps it.

    Raises:
        UserError: If it is no whole pipeline.
    """
    own = made_faster(folder) or _scheduler(folder) != _scheduler(teacher)
    return load_pipeline(folder, device(), precision if device() == "cuda" else "no", own_scheduler=own)


def _scheduler(folder: Path) -> str:
    index: Any = read_json(folder / "model_index.json")
    return str(index["scheduler"][1])


def draw(name: str, pipeline: DiffusionPipeline, wish: Wish) -> Drawn:
    """Draw it; the seconds are those after a first step that is not counted.

    Raises:
        UserError: If the image is not of finite numbers.
    """
    draw_latents(pipeline, [wish.prompt], 0, wish.seed, 1, wish.guidance_scale)
    start = time.perf_counter()
    latents = draw_latents(pipeline, [wish.prompt], 0, wish.seed, wish.steps, wish.guidance_scale)
    image = decode(pipeline, latents)[0]
    seconds = time.perf_counter() - start
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    return Drawn(name, picture, seconds, count_parameters(denoiser_of(pipeline)), wish.steps)
