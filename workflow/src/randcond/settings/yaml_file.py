"""A YAML file of settings, or one line for why it cannot be read."""

from pathlib import Path
from typing import Any

import yaml

from randcond.jobs.errors import UserError


def read_yaml(path: Path, what: str, holds: str) -> dict[str, Any]:
    """The mapping in the file.

    Args:
        path: The file.
        what: What it is, for errors.
        holds: What it must hold, for errors.

    Raises:
        UserError: If it is missing, no text, no YAML, or no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{what}: there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{what}: {path} is no readable text file ({error})") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: must hold {holds}")
    return values
