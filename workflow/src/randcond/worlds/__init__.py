"""Worlds: what supplies texts, real images and the seen/unseen split.

A world is two modules: ``worlds/<world>.py`` has the functions of :class:`World`, ``scores/<world>.py`` those of
:class:`randcond.scores.world.Scores` (apart, so that a changed score does not draw images anew). Everything else that
tells worlds apart is configuration.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import pandas as pd
import torch
from PIL import Image

Sources = Mapping[str, Path]  # the files of the configuration's section of that name


class World(Protocol):
    """Texts and real images. Prompts are tables with the columns text, split and source.

    Where D's texts are not of the kind that a language model should write, a world has ``examples()`` of it too.

    Attributes:
        REASONS: Why ``screen`` leaves a line out.
        SPLITS: What the evaluation prompts and every D must hold some of.
    """

    REASONS: tuple[str, ...]
    SPLITS: tuple[str, ...]

    def evaluation(self, settings: dict[str, Any], sources: Sources) -> pd.DataFrame:
        """The evaluation prompts, of the settings ``prompts``."""

    def choose(
        self, settings: dict[str, Any], evaluation: pd.DataFrame, sources: Sources
    ) -> tuple[pd.DataFrame, Iterable[str]]:
        """D's prompts and the text pool, of the settings ``prompts`` and the number of the ``draw``."""

    def training_images(
        self, prompts: pd.DataFrame, seed: int, first: int, size: int, sources: Sources, bilinear: bool = False
    ) -> torch.Tensor:
        """A real image of each prompt, uint8 (n, 3, size, size); ``first`` is the number of the first in D.

        ``bilinear``: resized as BK-SDM does it, where the world resizes.
        """

    def reference_images(
        self, prompts: pd.DataFrame, per_prompt: int, seed: int, sources: Sources
    ) -> Iterator[Image.Image]:
        """``per_prompt`` real images of each prompt, in the prompts' order, to measure distances to."""

    def topics(self) -> Sequence[str]:
        """What a language model is asked to write of; may be empty."""

    def topic_of(self, text: str) -> str | None:
        """The topic of a text; None for none or several."""

    def screen(self, line: str) -> tuple[str | None, str]:
        """(caption, "") of a line that a language model wrote, or (None, why it is left out)."""

    def split_of(self, text: str) -> str:
        """``"unseen"`` if the text names a concept that is held out, else ``"seen"``."""


class Caption(Protocol):
    """A text and what it names."""

    @property
    def text(self) -> str: ...
    @property
    def concept(self) -> str: ...
    @property
    def colour(self) -> str: ...


def load_captions(name: str) -> Sequence[Caption]:
    """Texts and what they name, of the worlds that are made of named things alone: these have ``captions()``."""
    return cast(Sequence[Caption], import_module(f"randcond.worlds.{name}").captions())


def load_world(name: str) -> World:
    """The world's texts and images."""
    return cast(World, import_module(f"randcond.worlds.{name}"))
