"""The finished students of a world, and how a picture is drawn with one."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import diffusers
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from pydantic import AfterValidator, Field

from randcond.jobs.errors import UserError
from randcond.jobs.files import read_json
from randcond.jobs.stage import device
from randcond.method.student import count_parameters
from randcond.settings.config import Config
from randcond.settings.fields import Section, Seed
from randcond.teachers.stable_diffusion import decode, draw_latents, load_pipeline


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
    steps: Annotated[int, Field(gt=0, le=1000)]
    """Denoising steps."""
    guidance_scale: Annotated[float, Field(ge=1)]
    """Weight of the classifier-free guidance; 1 is none."""


@dataclass(frozen=True)
class Drawn:
    """A picture, the seconds from prompt to picture, and the parameters of the UNet that drew it."""

    name: str
    image: Image.Image
    seconds: float
    parameters: int

    @property
    def numbers(self) -> str:
        """Parameters and seconds, for people."""
        return f"{self.parameters / 1e6:.1f} million parameters, {self.seconds:.2f} s"


def finished(config: Config) -> dict[str, Path]:
    """``<run>/<seed>`` -> folder of its pipeline, of every student of the world that is finished."""
    pipelines = Path("results", config.name, "students").glob("*/*/pipeline/model_index.json")
    found = {(path.parents[2].name, path.parents[1].name): path.parent for path in pipelines}
    return {"/".join(name): found[name] for name in sorted(found, key=lambda name: (name[0], len(name[1]), name[1]))}


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
        f" {', '.join(there) or 'none: make reproduce trains some'}"
    )


def load(folder: Path, teacher: Path, precision: str = "no") -> StableDiffusionPipeline:
    """A teacher's or student's pipeline as its images are drawn: on the GPU if there is one, else the CPU in float32.

    Images of the evaluation are drawn by PNDM, whatever the teacher comes with. A student with another kind of
    scheduler than its teacher was made for that one, LCM's say, and keeps it.

    Raises:
        UserError: If it is no whole pipeline.
    """
    pipeline = load_pipeline(folder, device(), precision if device() == "cuda" else "no")
    kind, usual = (_scheduler(one) for one in (folder, teacher))
    if kind != usual:
        try:
            own = getattr(diffusers, kind)
            pipeline.scheduler = own.from_pretrained(str(folder), subfolder="scheduler", local_files_only=True)
        except (AttributeError, OSError, ValueError, TypeError) as error:
            raise UserError(f"{folder}/scheduler: no scheduler of the kind {kind} ({error})") from None
    return pipeline


def _scheduler(folder: Path) -> str:
    index: Any = read_json(folder / "model_index.json")
    return str(index["scheduler"][1])


def draw(name: str, pipeline: StableDiffusionPipeline, wish: Wish) -> Drawn:
    """Draw it; the seconds are those after a first step that is not counted.

    Raises:
        UserError: If the image is not of finite numbers.
    """
    draw_latents(pipeline, [wish.prompt], 0, wish.seed, 1, wish.guidance_scale)
    start = time.perf_counter()
    with torch.random.fork_rng():
        torch.manual_seed(wish.seed)  # of what some schedulers add between two steps; PNDM adds nothing
        latents = draw_latents(pipeline, [wish.prompt], 0, wish.seed, wish.steps, wish.guidance_scale)
    image = decode(pipeline, latents)[0]
    seconds = time.perf_counter() - start
    return Drawn(name, Image.fromarray(image.permute(1, 2, 0).numpy()), seconds, count_parameters(pipeline.unet))
