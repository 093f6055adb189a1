"""What the settings are made of: a strict section, the kinds of numbers in it, and one line for what is wrong."""

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from randcond.jobs.errors import UserError

Model = TypeVar("Model", bound=BaseModel)

Positive = Annotated[int, Field(gt=0)]
DrawingSteps = Annotated[int, Field(gt=0, lt=1000)]  # of 1,000 timesteps, the first of which most schedulers leave out
GridName = Literal["default", "full"]
UNTRAINED = ("teacher", "real")  # rows that no student stands behind: the teacher, and fresh real images
Split = Literal["all", "seen", "unseen", "unseen pair", "coco30k"]  # of the evaluation prompts
Init = Literal["copied", "random", "inherited"]  # where a student's weights come from
Optimizer = Literal["adamw", "muon"]
Share = Annotated[float, Field(ge=0, le=1)]
Above0 = Annotated[float, Field(gt=0)]


def _number(value: Any) -> Any:
    """The number of a text of digits: Snakemake gives the items of ``--config seeds='[0, 1]'`` as texts."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value


Seed = Annotated[int, Field(ge=0, lt=2**32), BeforeValidator(_number)]  # what every generator takes


def _without_login(url: str) -> str:
    """The URL, for a file that is committed."""
    if not re.fullmatch(r"\w+://([\w.-]*|\[[\da-fA-F:.]+\])(:\d+)?([/?][!-~]*)?", url, re.ASCII):
        raise ValueError("no URL that may stand here: a host without user and password, then printable ASCII")
    return url


NoLogin = AfterValidator(_without_login)  # of a URL


class Section(BaseModel):
    """A part of the configuration: unknown keys and wrong types are errors.

    The text under a field says what it means, in ``config/README.md`` and in the JSON schema too.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # Python writes no integers of so many digits
        return "a number of thousands of digits"


def validated(model: type[Model], values: dict[str, Any], where: str) -> Model:
    """``values`` as a ``model``.

    Raises:
        UserError: Naming ``where`` and the first setting that is wrong, and why.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "there is no such setting; check its spelling"
        elif not isinstance(first["input"], dict | list):
            shown = _shown(first["input"])
            message += "" if re.search("://.*@", shown) else f", not {shown}"  # no login
        raise UserError(f"{where}: {place}: {message}" if place else f"{where}: {message}") from None
