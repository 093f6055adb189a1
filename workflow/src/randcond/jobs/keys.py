"""Keys to services, out of environment variables: never shown, never logged."""

import os
import re

from randcond.jobs.errors import UserError


def key_from(variable: str) -> str:
    """The key in an environment variable, without white space around it; ``""`` if there is none.

    Raises:
        UserError: If it holds what no header may. It is not shown, nor is what is wrong with it.
    """
    key = os.environ.get(variable, "").strip()
    if not re.fullmatch(r"[!-~]*", key):
        raise UserError(f"{variable}: holds something else than printable ASCII, so it is no key; set it anew")
    return key


def masked(text: str, key: str) -> str:
    """The text in one line, with ``***`` for the key. To be called before anything is cut off."""
    return " ".join((text.replace(key, "***") if key else text).split())
