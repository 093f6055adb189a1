"""Values out of files, checked against what they should be: what is no finite number never gets into a table."""

import json
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.types import StrictFloat, StrictInt

from randcond.jobs.errors import UserError

Parsed = TypeVar("Parsed")
Number = Annotated[StrictFloat, Field(allow_inf_nan=False)]
Count = Annotated[StrictInt, Field(gt=0)]
SAFE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


def parse(kind: type[Parsed] | Any, value: Any, where: str | Path) -> Parsed:
    """Check ``value`` against a type; what is wrong first becomes a :class:`UserError` that names ``where``."""
    try:
        parsed: Parsed = TypeAdapter(kind).validate_python(value)
        json.dumps(value, allow_nan=False)  # also the numbers that no type describes, e.g. in a protocol
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "content"
        raise UserError(f"{where}: {place}: {first['msg']}") from None
    except ValueError:
        raise UserError(f"{where}: holds a number that is not finite") from None
    return parsed
