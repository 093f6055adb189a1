"""Saving plots so that the same data give the same bytes."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure


def save(figure: Figure, path: Path) -> None:
    """Save a figure as SVG or PNG, by the name's ending."""
    if path.suffix == ".svg":
        with matplotlib.rc_context({"svg.hashsalt": "randcond"}):
            figure.savefig(path, metadata={"Date": None, "Creator": None})
    else:
        figure.savefig(path, metadata={"Software": None}, dpi=150)
