"""Students: a smaller denoiser made from any teacher's. Each is made by the rules for denoisers of its kind."""

from importlib import import_module
from typing import Any, Protocol, cast

import torch
from diffusers import ModelMixin
from torch import nn

from randcond.jobs.errors import UserError
from randcond.method.catalogue import KNOWN_STUDENTS, NARROW_STUDENTS, RULES
from randcond.method.inherit import inherit


class Rules(Protocol):
    """How students are made of one kind of denoiser: a module that the catalogue names.

    Attributes:
        DENOISER: diffusers' class.
    """

    DENOISER: Any

    def student_config(self, teacher: dict[str, Any], student: str) -> dict[str, Any]:
        """The student's configuration, of the teacher's."""

    def source(self, name: str, teacher: dict[str, Any], student: dict[str, Any]) -> str:
        """The teacher's parameter that the student's parameter ``name`` copies, by both's configurations."""

    def feature_pairs(self, teacher: Any, student: Any, name: str, features: str) -> list[tuple[str, str]]:
        """(teacher's module, student's module) whose outputs the feature loss compares.

        ``name:i`` is the i-th of a module's outputs.
        """


def rules_of(student: str) -> Rules:
    """The rules that make a student.

    Raises:
        UserError: If it is unknown.
    """
    for module, names in RULES.items():
        if student in names:
            return cast(Rules, import_module(module))
    raise UserError(f"student: {student!r} is unknown; choose one of {', '.join(KNOWN_STUDENTS)}")


def build_student(
    teacher: ModelMixin, student: str, init: str, importance: dict[str, torch.Tensor] | None = None
) -> Any:
    """A student of ``teacher``; random weights come from torch's global generator.

    Args:
        teacher: The teacher's denoiser.
        student: One of :data:`randcond.method.catalogue.KNOWN_STUDENTS`.
        init: ``"random"``, ``"copied"`` to take over the teacher's kept layers (not of narrower ones), or
            ``"inherited"`` to take over its most important channels (C-* only).
        importance: Of the teacher's weights, for ``"inherited"``; see :func:`randcond.method.inherit.inherit`.

    Raises:
        UserError: If a narrower student is to copy weights, or it is no student of such a teacher.
    """
    rules = rules_of(student)
    if not isinstance(teacher, rules.DENOISER):
        raise UserError(f"student: {student} is made of a {rules.DENOISER.__name__}, not of a {type(teacher).__name__}")
    if init == "copied" and student in NARROW_STUDENTS:
        raise UserError(f"init: {student} has other widths than the teacher and cannot copy its weights; use random")
    built = rules.DENOISER.from_config(rules.student_config(teacher.config, student))
    if init == "copied":
        copy_weights(teacher, built, rules)
    elif init == "inherited":
        inherit(teacher, built, importance)
    return built


def check_smaller(student: nn.Module, name: str, teacher: nn.Module) -> None:
    """Raise :class:`UserError` if a student is no smaller than the teacher, as that may be a student itself."""
    if (size := count_parameters(student)) >= (whole := count_parameters(teacher)):
        raise UserError(
            f"student: {name} of this teacher has {size:,} parameters, the teacher {whole:,}; name a smaller one"
        )


def copy_weights(teacher: Any, student: Any, rules: Rules) -> None:
    """Give every layer of a student with fewer of them the teacher's layer it stands for.

    Raises:
        UserError: If the student has a layer that the teacher lacks, or of another shape.
    """
    theirs, taken = teacher.state_dict(), {}
    of_teacher, of_student = dict(teacher.config), dict(student.config)
    for name, tensor in student.state_dict().items():
        source = rules.source(name, of_teacher, of_student)
        if source not in theirs or theirs[source].shape != tensor.shape:
            raise UserError(f"init: the teacher has no layer {source} of shape {tuple(tensor.shape)} to copy")
        taken[name] = theirs[source].to(tensor.dtype)
    student.load_state_dict(taken)


def feature_pairs(teacher: Any, student: Any, name: str, features: str = "blocks") -> list[tuple[str, str]]:
    """(teacher's module, student's module) whose outputs the feature loss compares.

    Args:
        teacher: The teacher's denoiser.
        student: The student's denoiser.
        name: One of :data:`randcond.method.catalogue.KNOWN_STUDENTS`.
        features: One of :data:`randcond.method.catalogue.FEATURES`.
    """
    return rules_of(name).feature_pairs(teacher, student, name, features)


def count_parameters(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def student_of_config(teacher: dict[str, Any], student: str) -> Any:
    """The student on the meta device (shapes without memory), for counting and planning."""
    rules = rules_of(student)
    with torch.device("meta"):
        return rules.DENOISER.from_config(rules.student_config(teacher, student))
