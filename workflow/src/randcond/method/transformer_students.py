"""Students of joint transformers, as SD3's: fewer blocks, or fewer heads and so a smaller width.

Kept blocks are spread evenly from the first to the last: of 24, every second of the first half and every second of the
rest. The last stays the last: it has no outputs for the text, and so other shapes. Blocks that attend twice are
numbered anew.
"""

import copy
from typing import Any

from diffusers import SD3Transformer2DModel

from randcond.jobs.errors import UserError
from randcond.method.catalogue import DEPTH_STUDENTS, WIDTH_STUDENTS

DENOISER = SD3Transformer2DModel
IMAGE, TEXT = 1, 0  # places in what a block gives


def kept_blocks(count: int, student: str) -> list[int]:
    """The teacher's blocks that a student keeps, rising, the first and the last among them."""
    part, whole = DEPTH_STUDENTS.get(student, (1, 1))
    kept = max(2, count * part // whole)
    return [(2 * i * (count - 1) + kept - 1) // (2 * (kept - 1)) for i in range(kept)]


def student_config(teacher: dict[str, Any], student: str) -> dict[str, Any]:
    """The student's configuration.

    Args:
        teacher: The teacher's (``transformer.config``).
        student: One of :data:`randcond.method.catalogue.TRANSFORMER_STUDENTS`.

    Raises:
        UserError: If the teacher's heads cannot be divided so.
    """
    config = {key: value for key, value in copy.deepcopy(dict(teacher)).items() if not key.startswith("_")}
    if student in WIDTH_STUDENTS:
        part, whole = WIDTH_STUDENTS[student]
        heads, rest = divmod(config["num_attention_heads"] * part, whole)
        if rest:
            raise UserError(
                f"student: {student} needs heads that {part}/{whole} leaves whole, not {config['num_attention_heads']}"
            )
        config["num_attention_heads"] = heads
        config["caption_projection_dim"] = heads * config["attention_head_dim"]
        return config
    kept = kept_blocks(config["num_layers"], student)
    config["num_layers"] = len(kept)
    twice = config.get("dual_attention_layers") or ()
    config["dual_attention_layers"] = [i for i, block in enumerate(kept) if block in twice]
    return config


def _stands_for(teacher: dict[str, Any], student: dict[str, Any]) -> list[int]:
    """The teacher's block of each of the student's."""
    theirs, mine = teacher["num_layers"], student["num_layers"]
    if theirs == mine:
        return list(range(mine))
    return next(kept for name in DEPTH_STUDENTS if len(kept := kept_blocks(theirs, name)) == mine)


def source(name: str, teacher: dict[str, Any], student: dict[str, Any]) -> str:
    """The teacher's parameter that the student's parameter ``name`` copies.

    Args:
        name: The student's.
        teacher: The teacher's configuration.
        student: The student's configuration.
    """
    parts = name.split(".")
    if parts[0] == "transformer_blocks":
        parts[1] = str(_stands_for(teacher, student)[int(parts[1])])
    return ".".join(parts)


def feature_pairs(
    teacher: SD3Transformer2DModel, student: SD3Transformer2DModel, name: str, features: str = "blocks"
) -> list[tuple[str, str]]:
    """(teacher's module, student's module) whose outputs the feature loss compares: of image and of text tokens.

    A block of the student stands for the teacher's that it came from and for those that are gone behind it, so that it
    is compared with the last of them. The last block gives no text.

    Args:
        teacher: The teacher's transformer.
        student: The student's transformer.
        name: One of :data:`randcond.method.catalogue.TRANSFORMER_STUDENTS`.
        features: Whatever it is, the pairs are the same.
    """
    kept = _stands_for(dict(teacher.config), dict(student.config))
    ends = [following - 1 for following in kept[1:]] + [teacher.config["num_layers"] - 1]
    pairs = [(f"transformer_blocks.{end}", f"transformer_blocks.{i}") for i, end in enumerate(ends)]
    images = [(f"{theirs}:{IMAGE}", f"{mine}:{IMAGE}") for theirs, mine in pairs]
    return images + [(f"{theirs}:{TEXT}", f"{mine}:{TEXT}") for theirs, mine in pairs[:-1]]
