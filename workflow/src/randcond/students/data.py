"""What a student is trained on: D, rendered latents with their texts, and C, the texts that may take their place."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from randcond.jobs.errors import UserError
from randcond.jobs.seeding import generator, numpy_generator
from randcond.jobs.tensors import read_tensors
from randcond.prompts.pool import ArrowTexts, TextPool
from randcond.prompts.table import read_prompts

_AUGMENTED = ("spread", "mirrored", "mirrored_spread")
Variation = tuple[torch.Tensor, torch.Tensor]  # which rows are mirrored, bool (n,), and noise of the latents' shape


class LatentShards:
    """All latents of a set of shards, read from disk as they are asked for.

    Args:
        paths: The shards, in order.

    Attributes:
        shape: (channels, height, width) of a latent.
        augmented: Whether they hold posteriors of images and of mirror images.

    Raises:
        UserError: If a shard is broken, has non-finite latents or others than the shard before it, or the rows are not
            0, 1, 2, ...
    """

    def __init__(self, paths: list[Path]) -> None:
        self._slices: list[dict[str, Any]] = []
        self._places: list[tuple[int, int]] = []
        self.augmented, expected = False, 0
        self.shape: tuple[int, ...] = ()
        for number, path in enumerate(paths):
            tensors = read_tensors(path)
            if tensors.keys() not in ({"latents", "rows"}, {"latents", "rows", *_AUGMENTED}):
                raise UserError(f"{path}: no shard of latents; it holds {', '.join(tensors)}")
            rows, latents = tensors["rows"].tolist(), tensors["latents"]
            if latents.ndim != 4 or not latents.is_floating_point():
                raise UserError(f"{path}: its latents are {latents.dtype} {tuple(latents.shape)}; render it again")
            if latents.shape[1:] != (self.shape or latents.shape[1:]):
                raise UserError(
                    f"{path}: its latents are {tuple(latents.shape[1:])}, those before it {self.shape}; render it again"
                )
            self.shape = tuple(latents.shape[1:])
            if rows != list(range(expected, expected + len(latents))):
                raise UserError(f"{path}: its rows do not go on where the shard before it ends; render it again")
            if not torch.isfinite(latents).all():
                raise UserError(f"{path}: holds latents that are not finite numbers; render it again")
            self._check_augmented(path, tensors)
            file = safe_open(path, "pt")
            self._slices.append({name: file.get_slice(name) for name in tensors if name != "rows"})
            self._places += [(number, i) for i in range(len(rows))]
            expected += len(rows)

    def __len__(self) -> int:
        return len(self._places)

    def _check_augmented(self, path: Path, tensors: dict[str, torch.Tensor]) -> None:
        augmented = tensors.keys() >= set(_AUGMENTED)
        if self._slices and augmented != self.augmented:
            raise UserError(f"{path}: its images are augmented otherwise than those before it; render them again")
        self.augmented = augmented
        for name in _AUGMENTED if augmented else ():
            if tensors[name].shape != tensors["latents"].shape or not torch.isfinite(tensors[name]).all():
                raise UserError(f"{path}: its {name} does not fit its latents; render it again")

    def get(self, rows: list[int], name: str = "latents") -> torch.Tensor:
        """Latents of the rows, or another of the shards' tensors: float32 (len(rows), channels, h, w)."""
        places = [self._places[row] for row in rows]
        return torch.stack([self._slices[shard][name][i].float() for shard, i in places])


class Pairs:
    """D: latents and the texts they were rendered from, dealt out epoch by epoch in an order fixed by the seed.

    Args:
        shards: All rendered latents.
        texts: Their texts, row by row.
        rows: The rows that make up D.
        seed: Seed of the order.
    """

    def __init__(self, shards: LatentShards, texts: list[str], rows: list[int], seed: int) -> None:
        self._shards, self._texts, self._rows, self._seed = shards, texts, rows, seed
        self._order = lru_cache(2)(self._shuffled)
        self.variation = lru_cache(1)(self._varied)  # the parts of a batch ask one after another

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, height, width) of a latent."""
        return self._shards.shape

    def batch(self, step: int, size: int) -> list[int]:
        """Rows of step ``step``'s batch."""
        places = range(step * size, (step + 1) * size)
        return [self._order(place // len(self))[place % len(self)] for place in places]

    def texts(self, rows: list[int]) -> list[str]:
        """Texts of the rows."""
        return [self._texts[row] for row in rows]

    def _varied(self, step: int, size: int) -> Variation | None:
        """How step ``step``'s images vary from their latents: mirrored or not, and where in the posterior."""
        if not self._shards.augmented:
            return None
        chance = generator(self._seed, 3, step)
        mirrored = torch.rand(size, generator=chance) < 0.5
        return mirrored, torch.randn((size, *self.shape), generator=chance)

    def latents(self, rows: list[int], variation: Variation | None = None) -> torch.Tensor:
        """Latents of the rows: of augmented images a sample of each posterior, or of its mirror image's."""
        if variation is None:
            return self._shards.get(rows)
        mirrored, noise = variation[0][:, None, None, None], variation[1]
        mean = torch.where(mirrored, self._shards.get(rows, "mirrored"), self._shards.get(rows))
        spread = torch.where(mirrored, self._shards.get(rows, "mirrored_spread"), self._shards.get(rows, "spread"))
        return mean + spread * noise

    def _shuffled(self, epoch: int) -> list[int]:
        return [self._rows[i] for i in numpy_generator(self._seed, 1, epoch).permutation(len(self._rows))]


def load_data(
    prompts: Path, latents: list[Path], pool: Path | None, run: dict[str, Any], count: int, seed: int
) -> tuple[Pairs, TextPool]:
    """D and C of a run.

    Args:
        prompts: Table of prompts, of which the first ``count`` were rendered.
        latents: The shards rendered from them, in order; none where all pairs are of trajectories.
        pool: The large pool, where the run draws from it.
        run: What the experiments file says of it.
        count: Prompts rendered.
        seed: Seed of D's order.

    Raises:
        UserError: If prompts and latents do not belong together, or D or an added pool is empty.
    """
    table = read_prompts(prompts)
    rendered = table.head(count)
    shards = LatentShards(latents)
    all_of_trajectories = run["trajectories"] is not None and run["trajectories"]["share"] == 1
    if len(shards) != (0 if all_of_trajectories else len(rendered)):
        raise UserError(f"{prompts}: {len(rendered)} prompts but {len(shards)} latents; render them again")
    seen = (rendered["split"] == "seen").to_numpy()
    rows = np.flatnonzero(seen) if run["rows"] == "seen" else np.arange(len(rendered))
    rows = rows[: run["size"]]
    if not len(rows):
        raise UserError(f"{prompts}: holds no {run['rows']} prompts, so D is empty")
    texts = rendered["text"].tolist()
    parts: list[Sequence[str]] = [[texts[row] for row in rows]]
    if "unseen" in run["texts"]:
        parts.append(rendered["text"][~seen].tolist())
    if "llm" in run["texts"]:
        parts.append(table["text"].tolist()[count:])
    if "pool" in run["texts"]:
        if pool is None:
            raise UserError(f"{prompts}: the run draws from the large pool, but none was given")
        parts.append(ArrowTexts(pool))
    if any(not len(part) for part in parts):
        raise UserError(f"{pool or prompts}: one of the text pools {', '.join(run['texts'])} is empty")
    return Pairs(shards, texts, [int(row) for row in rows], seed), TextPool(*parts)
