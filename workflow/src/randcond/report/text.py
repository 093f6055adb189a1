"""Texts of others on a page, in LaTeX and in plots."""

import re
from typing import Any

# controls but tab and line feed, marks that turn the direction, halves of characters: none of them is seen, some turn
# the text around them, and files that hold one are broken for LaTeX or for UTF-8
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(value: Any) -> Any:
    """The value with every character of its texts that is not seen replaced by a space; lists and dicts throughout."""
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return _UNSEEN.sub(" ", value) if isinstance(value, str) else value
