"""A YAML file of settings, or one line for why it cannot be read."""

import json
from pathlib import Path
from typing import Any

import yaml

from randcond.jobs.errors import UserError, reading


def read_yaml(path: Path, holds: str) -> dict[str, Any]:
    """The mapping in the file, YAML or JSON.

    Args:
        path: The file.
        holds: What it must hold, for errors.

    Raises:
        UserError: If it is missing, no text, no YAML, or no mapping, or if a key stands in a mapping twice.
    """
    with reading(path, "valid YAML", missing=f"it should hold {holds}; name another", broken="correct it"):
        text = Path(path).read_text(encoding="utf-8")
        try:
            values = json.loads(text, object_pairs_hook=_unique)
        except ValueError:
            values = yaml.load(text, _Loader)
    if not isinstance(values, dict):
        raise UserError(f"{path}: must hold {holds}")
    return values


class _TwiceError(Exception):
    """A key stands in a mapping twice; parsers let the last one win, and nobody hears of the other."""


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _TwiceError(f"{key!r} stands there twice")
        found[key] = value
    return found


class _Loader(yaml.SafeLoader):
    """SafeLoader without keys that stand in a mapping twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        # here, as later what `<<` brings is among the keys
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in seen:
                raise _TwiceError(f"line {key.start_mark.line + 1}: {key.value!r} stands there twice")
            seen.add((key.tag, key.value))
        return node
