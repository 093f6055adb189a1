"""Saving plots so that the same data give the same bytes."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure


def save(figure: Figure, path: Path, suffix: str | None = None) -> None:
    """Save a figure as SVG or PNG, by the name's ending or by ``suffix``, ``.svg`` or ``.png``."""
    if (suffix or path.suffix) == ".svg":
        with matplotlib.rc_context({"svg.hashsalt": "randcond"}):
            figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    else:
        figure.savefig(path, format="png", metadata={"Software": None}, dpi=150)
