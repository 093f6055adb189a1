"""The families of teachers that are known, by the class that ``model_index.json`` names. Loads no torch.

A family is one module with a :class:`randcond.teachers.teacher.Teacher` of the name ``TEACHER``, and a line here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from randcond.jobs.errors import UserError, reading
from randcond.jobs.files import read_json


@dataclass(frozen=True)
class Family:
    """A family in short.

    Attributes:
        module: Where its teacher is.
        denoiser: What its denoiser is called: a part of the pipeline, a folder of its own.
        sampler: What its images are drawn by.
    """

    module: str
    denoiser: str
    sampler: str = "PNDM"


FAMILIES = {
    "StableDiffusionPipeline": Family("randcond.teachers.stable_diffusion", "unet"),
    "StableDiffusionXLPipeline": Family("randcond.teachers.sdxl", "unet"),
    "StableDiffusion3Pipeline": Family("randcond.teachers.sd3", "transformer", "Euler"),
}


_LIBRARIES = ("diffusers", "transformers", "stable_diffusion")  # the last is a part of the first


def family_of(folder: Path) -> Family:
    """The family of a pipeline's folder.

    Raises:
        UserError: If it is no pipeline's, or of no known family.
    """
    index: Any = read_json(folder / "model_index.json")
    with reading(folder / "model_index.json", "an index of a diffusers pipeline"):
        name = index["_class_name"]
    if not isinstance(name, str) or name not in FAMILIES:
        raise UserError(f"{folder}: a {name}; known are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def check_libraries(folder: Path) -> None:
    """Raise :class:`UserError` if a part of a pipeline is of another library than those that teachers' parts are of.

    To load a single file diffusers imports what the index names, and to import is to run: a module in the folder, say.
    """
    path = folder / "model_index.json"
    index: Any = read_json(path)
    with reading(path, "an index of a diffusers pipeline"):
        parts = dict(index)
    for part, named in parts.items():
        library = named[0] if isinstance(named, list) and named else named
        if isinstance(library, str) and library not in _LIBRARIES and not part.startswith("_"):
            raise UserError(
                f"{path}: {part} is of {library}; known are {', '.join(_LIBRARIES)}, and nothing else is loaded for a"
                " teacher: correct it, or take the folder of another"
            )


def denoiser_folder(pipeline: Path) -> Path:
    """The folder of a pipeline's denoiser.

    Raises:
        UserError: If the pipeline is of no known family.
    """
    return pipeline / family_of(pipeline).denoiser
