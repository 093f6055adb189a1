"""Numbers of a finished miniature world's tables, recomputed from the samples themselves by other code.

    python tests/recount.py results/artists

Three numbers of each table, a distance, an IS and a CLIP score of different rows, each over all its seeds. Of the
project only the world's texts are used. Images are read and encoded here, the Fréchet distance is computed without a
covariance matrix or its root, the IS from its definition. Exits with 1 if a number is another than the table's.
"""

import argparse
import io
import json
import sys
import zipfile
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]
TOLERANCE = 1e-4  # of a number; features are float32


class Judge:
    """The evaluator of a world, and what it makes of images and texts."""

    def __init__(self, world: str) -> None:
        folder = ROOT / "workflow/assets" / world / "evaluator"
        self._model, self._prepare = open_clip.create_model_from_pretrained(f"local-dir:{folder}", weights_only=True)
        self._tokens = open_clip.get_tokenizer(f"local-dir:{folder}", trust_remote_code=False)
        self._model.eval()

    @torch.no_grad()
    def images(self, archives: list[Path]) -> np.ndarray:
        """Directions of the images of the archives, in the order of their names."""
        found = []
        for path in sorted(archives):
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    image = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
                    found.append(self._prepare(image))
        parts = torch.stack(found).split(100)
        return directions(torch.cat([self._model.encode_image(part) for part in parts]).double().numpy())

    @torch.no_grad()
    def texts(self, texts: list[str]) -> np.ndarray:
        """Directions of texts."""
        parts = [texts[i : i + 100] for i in range(0, len(texts), 100)]
        return directions(torch.cat([self._model.encode_text(self._tokens(p)) for p in parts]).double().numpy())

    def probabilities(self, images: np.ndarray, classes: list[np.ndarray]) -> np.ndarray:
        """Of each concept, by the best of its meanings, which are (meanings, width)."""
        scale = float(self._model.logit_scale.detach().exp())
        logits = scale * np.stack([(images @ meanings.T).max(1) for meanings in classes], axis=1)
        shares = np.exp(logits - logits.max(1, keepdims=True))
        return shares / shares.sum(1, keepdims=True)


def directions(vectors: np.ndarray) -> np.ndarray:
    """Of length 1."""
    return vectors / np.sqrt(np.square(vectors).sum(-1, keepdims=True))


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of two samples (n, width) and (m, width).

    The trace of the root of the covariances' product is the sum of the singular values of the centred samples' inner
    products, over sqrt((n - 1) (m - 1)): no covariance, no matrix root.
    """
    middle_a, middle_b = a.mean(0), b.mean(0)
    rest_a, rest_b = (a - middle_a) / np.sqrt(len(a) - 1), (b - middle_b) / np.sqrt(len(b) - 1)
    shared = np.linalg.svd(rest_a @ rest_b.T, compute_uv=False).sum()
    return float(np.square(middle_a - middle_b).sum() + np.square(rest_a).sum() + np.square(rest_b).sum() - 2 * shared)


def inception_score(shares: np.ndarray) -> float:
    """exp of the mean over images of the sum over classes of p(y|x) log(p(y|x) / p(y))."""
    logs = np.log(np.maximum(shares, 1e-300)) - np.log(np.maximum(shares.mean(0), 1e-300))
    return float(np.exp((shares * logs).sum(1).mean()))


def class_directions(judge: Judge, world: str) -> list[np.ndarray]:
    """Of each concept (meanings, width): the means over all that says the same, by colour and, where named, artist."""
    said: dict[str, dict[Hashable, list[str]]] = {}
    for text, concept, rest in _world_texts(world):
        said.setdefault(concept, {}).setdefault(rest, []).append(text)
    return [directions(np.array([judge.texts(texts).mean(0) for texts in one.values()])) for one in said.values()]


def _world_texts(world: str) -> Iterator[tuple[str, str, Hashable]]:
    if world == "emoji":
        from randcond.worlds.emoji import captions

        yield from ((caption.text, caption.concept, caption.colour) for caption in captions())
    elif world == "artists":
        from randcond.worlds.grammars import texts

        meant = ((sentence.text, sentence.meaning) for sentence in texts("clean"))
        yield from ((text, meaning.concept, (meaning.colour, meaning.artist)) for text, meaning in meant)
    else:
        raise SystemExit(f"error: recount.py knows the miniature worlds' texts alone, not those of {world}")


def rows_to_recount(tables: list[Path]) -> Iterator[tuple[Path, pd.Series]]:
    """Of each table its first row's CLIP score, the IS of the middle one and the distance of the last one."""
    for table in tables:
        content = pd.read_csv(table)
        if not {"run", "split", "metric", "measured", "seeds"} <= set(content):
            continue  # costs, claims
        for metric, place in (("clip", 0.0), ("is", 0.5), ("fid", 1.0)):
            rows = content[(content["metric"] == metric) & content["measured"].notna()]
            if len(rows):
                yield table, rows.iloc[round(place * (len(rows) - 1))]


def main() -> None:
    """Recompute, print, and exit with 1 if a number differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    out = parser.parse_args().results
    world = json.loads(next((out / "scores").glob("*/*.json")).read_text())["world"]
    judge, prompts = Judge(world), pd.read_parquet(out / "prompts/evaluation.parquet")
    classes, asked = class_directions(judge, world), judge.texts(prompts["text"].tolist())
    real, split = judge.images([out / "samples/real.zip"]), prompts["split"].to_numpy()
    width, per_prompt = real.shape[1], len(real) // len(prompts)
    computed: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "clip": lambda images, rows: float((images * asked)[rows].sum(1).mean()),
        "is": lambda images, rows: inception_score(judge.probabilities(images[rows], classes)),
        "fid": lambda images, rows: width * frechet(images[rows], real[np.repeat(rows, per_prompt)]),
    }
    drawn: dict[str, list[np.ndarray]] = {}
    wrong = 0
    for table, row in rows_to_recount(sorted((out / "report/tables").glob("*.csv"))):
        seeds = sorted(path.stem for path in (out / "scores" / row["run"]).glob("*.json"))
        if len(seeds) != row["seeds"]:
            raise SystemExit(f"error: {table}: {row['run']} has {row['seeds']} seeds, {out}/scores {len(seeds)}")
        if row["run"] not in drawn:
            folders = [out / "samples" / row["run"] / seed for seed in seeds]
            drawn[row["run"]] = [judge.images(list(folder.glob("*.zip"))) for folder in folders]
        chosen = np.ones(len(split), bool) if row["split"] == "all" else split == row["split"]
        found = float(np.mean([computed[row["metric"]](images, chosen) for images in drawn[row["run"]]]))
        same = abs(found - row["measured"]) <= TOLERANCE * max(1.0, abs(row["measured"]))
        wrong += not same
        what = f"{table.stem}: {row['run']}, {row['split']}, {row['metric']}, {row['seeds']} seeds"
        print(f"{what}: {row['measured']:.6f} shown, {found:.6f} here{'' if same else ' - NOT THE SAME'}", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
