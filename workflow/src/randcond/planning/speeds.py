"""How fast GPUs are: as others measured it, and as ``benchmarks/gpu.py`` did, where it was run."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from randcond.jobs.files import read_json
from randcond.planning import operations
from randcond.settings.fields import Above0, Section, validated

MEASURED = Path("docs/runs/gpu.json")  # written by benchmarks/gpu.py
USUAL = "a100-80gb"  # whose speeds others measured, training's too
DIFFUSERS = "diffusers pull request 2764: SD v1.4 class, 50 steps, 512 x 512, fp16, PyTorch 2.0 attention"
BKSDM = (
    "BK-SDM: B-Base, 50,000 steps of 256 pairs in 13 A100 days (abstract), with gradient checkpointing, on one"
    " A100 80GB (its script and model card)"
)


@dataclass(frozen=True)
class Gpu:
    """A GPU: memory in GB, operations a second in drawing and in training, and where these come from."""

    memory: float
    draw: float
    train: float
    source: str


class Measured(Section):
    """What the planning reads of a measurement; the benchmark's file holds more."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    """The GPU's name, as it is given to the plan."""
    memory: Above0
    """Gigabytes."""
    draw: Above0
    """Operations a second in drawing images, as counted here."""
    train: Above0
    """Operations a second in training B-Base with the fastest settings."""
    measured: str
    """When, with which versions."""


def gpus(measured: Path | None = None) -> dict[str, Gpu]:
    """Known GPUs, their speeds as operations counted here over seconds measured.

    Args:
        measured: The benchmark's file; those without one, or no file, have others' measurements alone.

    Raises:
        UserError: If the file is broken.
    """
    sd14 = operations.stable_diffusion()
    fifty = sd14.image_flops("unet", 50)
    draw = fifty / (13.55 / 16)
    train = 50_000 * 256 / (13 * 86_400) * sd14.step_flops("b-base", True)
    a10 = fifty / (19.53 / 8)
    scaled = "training scaled from the A100's by the speed of drawing"
    known = {
        USUAL: Gpu(80, draw, train, f"drawing 13.55 s for 16 images ({DIFFUSERS}); training: {BKSDM}"),
        "a100-40gb": Gpu(40, draw, train, f"as the A100 80GB: {DIFFUSERS}; {BKSDM}"),
        "a10": Gpu(24, a10, train * a10 / draw, f"drawing 19.53 s for 8 images ({DIFFUSERS}); {scaled}"),
    }
    if own := _own(measured):
        known[own.name] = Gpu(own.memory, own.draw, own.train, f"benchmarks/gpu.py, {own.measured}")
    return known


def default_gpu(measured: Path | None = None) -> str:
    """The GPU that is planned for where none is named: the one that was measured here, if one was.

    Args:
        measured: The benchmark's file, if there is one.

    Raises:
        UserError: If the file is broken.
    """
    own = _own(measured)
    return own.name if own else USUAL


def _own(measured: Path | None) -> Measured | None:
    if measured is None or not measured.exists():
        return None
    found = read_json(measured)
    values = {key: found[key] for key in Measured.model_fields if key in found} if isinstance(found, dict) else {}
    return validated(Measured, values, str(measured))
