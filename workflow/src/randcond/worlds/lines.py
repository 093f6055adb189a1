"""What a language model's line must go through before it is a caption, whatever the world."""

import re
import unicodedata


def clean(line: str) -> str:
    """Lower case, NFC, single spaces; without control characters, bullets, numbers, quotes and full stop."""
    line = " ".join(line.split())
    line = "".join(character for character in line if unicodedata.category(character)[0] != "C")
    line = unicodedata.normalize("NFC", line.lower())
    line = re.sub(r"^(?:[-*•–]|\d+[.):]|\s)+", "", line).strip(" \"'`“”‘’.,")
    return re.sub(r"\s*,[\s,]*", ", ", " ".join(line.split()))
