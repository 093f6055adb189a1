"""A small world's scores, histories and samples, and the report of them."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from randcond.report import Files, build, shown

NASTY = '<script>alert("x")</script> & \u202eleft\u202c "שלום" \'s'
RUNS = {
    "base-plain": {"student": "b-base", "init": "copied", "prompts": "captions", "rows": "all", "images": "rendered"},
    "seen-plain": {"student": "b-base", "init": "copied", "prompts": "captions", "rows": "seen", "images": "rendered"},
    "seen-rc": {
        "student": "b-base",
        "init": "copied",
        "prompts": "captions",
        "rows": "seen",
        "images": "rendered",
        "random_conditioning": {"kind": "exponential", "rate": 5.0},
        "texts": ["unseen", "pool"],
    },
    "missing": {"student": "c-base", "random_conditioning": {"kind": "constant", "p": 0.5}},
    "untabled": {"student": "b-base", "size": 60},
}


def settings_dict(seeds: list[int]) -> dict:
    def row(run: str | None, paper_row: str | None, label: str, table: str) -> dict:
        return {"run": run, "label": label, "paper": {"table": table, "row": paper_row} if paper_row else None}

    return {
        "title": "Emoji report",
        "world": "emoji",
        "name": "emoji",
        "seeds": seeds,
        "runs": RUNS,
        "tables": {
            "table1": {
                "title": "Table 1: ablation",
                "rows": [
                    row("base-plain", "2", "plain, 50% & more_", "table1"),
                    row("seen-rc", "5", "with random conditioning", "table1"),
                    row("missing", "4", "random weights", "table1"),
                    row(None, "6", "with real images", "table1"),
                ],
                "splits": ["all"],
            },
            "table2": {
                "title": "Table 2: unseen concepts",
                "rows": [
                    row("teacher", "teacher", "teacher", "table2"),
                    row("seen-plain", "1", "plain", "table2"),
                    row("seen-rc", "3", "texts of animals and the pool", "table2"),
                    row("base-plain", None, "not in the paper", "table2"),
                ],
                "splits": ["seen", "unseen", "all"],
            },
        },
        "grids": [{"title": "Animals", "split": "unseen", "runs": ["teacher", "seen-rc", "missing"], "count": 4}],
        "series": {
            "figure7": {
                "title": "Size of D",
                "split": "all",
                "lines": [
                    {"label": "without", "runs": ["missing", "base-plain"]},
                    {"label": "with", "runs": ["seen-rc"]},
                ],
            }
        },
        "claims": [
            {
                "text": "Swapping <b>helps</b>",
                "source": "table 1",
                "better": "seen-rc",
                "than": "base-plain",
                "metrics": ["fid", "named"],
            },
            {"text": "Missing", "source": "table 9", "better": "missing", "than": "base-plain", "metrics": ["is"]},
            {
                "text": "A figure that was not made",
                "source": "figure 3",
                "better": "condition",
                "than": "image",
                "metrics": ["share"],
                "figure": "swapped-condition",
                "near_t": 50,
            },
        ],
        "count": 960,
        "settings": {"teacher": {"path": "<b>weights</b>", "steps": 25}},
    }


def score_dict(run: str, seed: int) -> dict:
    random = np.random.default_rng([len(run), seed, *run.encode()])
    splits = {}
    for split, count in {"all": 90, "seen": 60, "unseen": 30}.items():
        values = {"fid": 5 + 20 * random.random(), "kid": 0.002 * random.random(), "is": 10 + random.random()}
        values |= {"clip": 0.2 + 0.1 * random.random(), "named": random.random()}
        metrics = {key: {"value": value, "error95": 0.1 * value} for key, value in values.items()}
        splits[split] = {"count": count, "reference_count": 300, "metrics": metrics}
    return {
        "run": run,
        "seed": seed,
        "world": "emoji",
        "name": "emoji",
        "unet_parameters": 1_234_567,
        "unet_sha256": hashlib.sha256(f"{run}/{seed}".encode()).hexdigest(),
        "protocol": {"steps": 25, "guidance_scale": 4.0, "weights": "teacher" if run == "teacher" else "ema"},
        "splits": splits,
    }


class World:
    """A finished small pipeline in a folder."""

    def __init__(self, folder: Path, seeds: list[int]) -> None:
        self.folder, self.settings = folder, settings_dict(seeds)
        self.scores = {(run, seed): score_dict(run, seed) for run in (*RUNS, "teacher") for seed in seeds}
        self.scores = {key: score for key, score in self.scores.items() if key[0] != "missing"}
        self.along: dict[tuple[str, int, int, str], dict] = {}
        self.curve: Path | None = None
        self.histories: list[Path] = []
        self.samples: list[Path] = []
        self.benchmarks: list[Path] = []
        texts = [f"a tiger {i} on a blue background" for i in range(11)] + [NASTY]
        frame = {"id": range(12), "text": texts, "split": ["seen", "unseen"] * 6, "source": ["captions"] * 12}
        self.prompts = folder / "prompts.parquet"
        pd.DataFrame(frame).to_parquet(self.prompts)
        for run, seed in self.scores:
            self._history(run, seed)
            self._samples(run, seed)
        for rule, name, text in (
            ("train", "a", "s\th:m:s\tmax_rss\n100.5\t0:01:40\t2000.25\n"),
            ("train", "b/0", "s\th:m:s\tmax_rss\n50\t0:00:50\t900\n"),
            ("score", "a", "s\th:m:s\tmax_rss\n0.1\t0:00:00\t-\n"),
        ):
            self.benchmarks.append(folder / f"results/emoji/benchmarks/{rule}/{name}.tsv")
            self.benchmarks[-1].parent.mkdir(parents=True, exist_ok=True)
            self.benchmarks[-1].write_text(text)
        self.llm = folder / "llm.json"
        summary = {"model": "SmolLM2", "asked": 200, "accepted": 90, "duplicates": 40, "filtered": 70, "pool": 5000}
        self.llm.write_text(json.dumps({**summary, "acceptance_rate": 0.45, "examples": [NASTY, "a sword"]}))

    def _history(self, run: str, seed: int) -> None:
        path = self.folder / f"students/{run}/{seed}/history.json"
        path.parent.mkdir(parents=True)
        entries = [{"step": i, "loss": 9 / i, "out": 5 / i, "feat": 4 / i} for i in range(20, 201, 20)]
        path.write_text(json.dumps(entries))
        self.histories.append(path)

    def _samples(self, run: str, seed: int) -> None:
        for shard in range(2):
            path = self.folder / f"samples/{run}/{seed}/{shard:03d}.zip"
            path.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(path, "w") as file:
                for row in range(shard * 6, shard * 6 + 6):
                    buffer = io.BytesIO()
                    Image.new("RGB", (32, 32), (row * 20, 10, 10 * seed)).save(buffer, "PNG")
                    file.writestr(f"{row:05d}.png", buffer.getvalue())
            self.samples.append(path)

    def score_along(self, run: str, *points: tuple[int, str]) -> None:
        """Score steps of a run's training, by ``raw`` weights or their average (``ema``)."""
        for step, weights in points:
            score = score_dict(f"{run}-{step}-{weights}", 0) | {"run": run, "step": step}
            score["protocol"]["weights"] = weights
            self.along[run, 0, step, weights] = score

    def along_files(self) -> list[Path]:
        paths = []
        for (run, seed, step, weights), score in self.along.items():
            path = self.folder / f"scores/along/{run}/{seed}/{step}-{weights}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(score))
            paths.append(path)
        return paths

    def score_files(self) -> list[Path]:
        paths = []
        for (run, seed), score in self.scores.items():
            path = self.folder / f"scores/{run}/{seed}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(score))
            paths.append(path)
        return paths

    def build(self) -> Path:
        files = Files(
            self.score_files(), self.histories, self.samples, self.prompts, self.llm, self.benchmarks,
            along=self.along_files(), sensitivity=self.curve,
        )  # fmt: skip
        output = self.folder / "report"
        build(shown.read_settings(json.dumps(self.settings)), files, output)
        return output


def cell(frame: pd.DataFrame, **where: str) -> pd.Series:
    for column, value in where.items():
        frame = frame[frame[column].astype(str) == value]
    assert len(frame) == 1
    return frame.iloc[0]
