"""Layers of configuration, and what a refusal of one looks like."""

from randcond.jobs.errors import UserError


def merge(below: dict, above: dict) -> dict:
    """As Snakemake lays one configfile over another."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        merged[key] = merge(below[key], value) if both else value
    return merged


def one_line(error: UserError, named: str) -> None:
    assert "\n" not in str(error)
    assert named in str(error)
