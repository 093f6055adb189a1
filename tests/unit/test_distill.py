"""Distillation: what D and C hold, that a step depends on (seed, step) alone, and the whole of it in small."""

import argparse
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from randcond import distill
from randcond.config import Config
from randcond.errors import UserError
from randcond.files import write_tensors
from randcond.prompts import choose, write_pool, write_prompts
from randcond.render import LatentShards

N = 12


@pytest.fixture
def arguments(tmp_path: Path, pipeline_folder: Path) -> argparse.Namespace:
    captions, _, pool = choose({"count": 20, "evaluation": 10, "seed": 0})
    write_prompts(tmp_path / "captions.parquet", captions)
    write_pool(tmp_path / "pool.arrow", pool)
    latents = torch.randn(N, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    write_tensors(tmp_path / "0.safetensors", {"latents": latents, "rows": torch.arange(N)})
    recipe = Config().distillation.model_dump(exclude={"steps"}) | {"batch": 4, "micro_batch": 2}
    run = {"student": "b-base", "init": "copied", "prompts": "captions", "rows": "all", "images": "real"}
    run |= {"random_conditioning": {"kind": "exponential", "rate": 5.0}, "texts": ["pool"]}
    return argparse.Namespace(
        settings=json.dumps({"run": run, "recipe": recipe, "steps": 45, "count": N, "seed": 3}),
        name="tiny/3", threads=1, teacher=pipeline_folder, prompts=tmp_path / "captions.parquet",
        latents=[tmp_path / "0.safetensors"], pool=tmp_path / "pool.arrow", output=tmp_path / "student",
        history=tmp_path / "history.json", checkpoint=tmp_path / "checkpoint",
    )  # fmt: skip


def run_of(arguments: argparse.Namespace, **changes: object) -> dict:
    return json.loads(arguments.settings)["run"] | changes


def test_an_epoch_deals_every_row_once(arguments: argparse.Namespace) -> None:
    rows = [1, 4, 7, 8, 11]
    pairs = distill.Pairs(LatentShards(arguments.latents), ["x"] * N, rows, seed=0)
    dealt = [row for step in range(5) for row in pairs.batch(step, 4)]
    epochs = [dealt[i : i + 5] for i in range(0, 20, 5)]
    assert all(Counter(epoch) == Counter(rows) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    other = distill.Pairs(LatentShards(arguments.latents), ["x"] * N, rows, seed=1)
    assert [row for step in range(5) for row in other.batch(step, 4)] != dealt


def test_what_d_and_c_hold(arguments: argparse.Namespace) -> None:
    frame = distill.read_prompts(arguments.prompts)
    rendered = frame.head(N)
    seen = rendered[rendered["split"] == "seen"]["text"].tolist()
    unseen = rendered[rendered["split"] == "unseen"]["text"].tolist()
    assert seen
    assert unseen

    def load(**changes: object) -> tuple[list[str], list[str]]:
        pairs, pool = distill.load_data(arguments, run_of(arguments, **changes), N, 0)
        return pairs.texts(sorted(pairs.batch(0, len(pairs)))), pool[:]

    assert load(texts=[]) == (rendered["text"].tolist(), rendered["text"].tolist())
    assert load(rows="seen", texts=[]) == (seen, seen)
    assert load(rows="seen", texts=["unseen"]) == (seen, seen + unseen)
    assert load(texts=["llm"])[1] == frame["text"].tolist()  # D's own and those that were not rendered
    own, pool = load(rows="seen", texts=["unseen", "pool"])
    assert own == seen
    assert pool[: N + 1] == [*seen, *unseen, distill.ArrowTexts(arguments.pool)[0]]
    assert len(pool) == N + len(distill.ArrowTexts(arguments.pool))


def test_data_that_do_not_belong_together(arguments: argparse.Namespace) -> None:
    with pytest.raises(UserError, match="11 prompts but 12 latents"):
        distill.load_data(arguments, run_of(arguments), 11, 0)
    frame = distill.read_prompts(arguments.prompts)
    write_prompts(arguments.prompts, frame[frame["split"] == "unseen"].sample(N, replace=True, random_state=0))
    with pytest.raises(UserError, match="D is empty"):
        distill.load_data(arguments, run_of(arguments, rows="seen"), N, 0)


def test_latents_stay_with_their_texts(arguments: argparse.Namespace) -> None:
    pairs, _ = distill.load_data(arguments, run_of(arguments, rows="seen", texts=[]), N, 0)
    frame, shards = distill.read_prompts(arguments.prompts), LatentShards(arguments.latents)
    rows = pairs.batch(3, 5)
    assert pairs.texts(rows) == frame["text"].iloc[rows].tolist()
    assert torch.equal(pairs.latents(rows), shards.get(rows))


def finished(arguments: argparse.Namespace) -> tuple[dict[str, torch.Tensor], list]:
    pipeline = StableDiffusionPipeline.from_pretrained(arguments.output, local_files_only=True, safety_checker=None)
    return pipeline.unet.state_dict(), json.loads(arguments.history.read_text())


def test_end_to_end_and_killed_half_way(arguments: argparse.Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    distill.distil(arguments)
    weights, history = finished(arguments)
    assert history[-1]["step"] == 45
    assert set(history[-1]) == {"step", "loss", "out", "feat", "denoise"}
    assert not arguments.checkpoint.exists()
    arguments.output, arguments.history = arguments.output.with_name("again"), arguments.history.with_name("again.json")
    settings = json.loads(arguments.settings)
    settings["recipe"]["checkpoint_minutes"] = 0.0
    arguments.settings = json.dumps(settings)
    original = distill.Distillation.forward

    def killed(self: distill.Distillation, step: int, rows: slice) -> dict[str, torch.Tensor]:
        if step == 30:
            raise KeyboardInterrupt
        return original(self, step, rows)

    monkeypatch.setattr(distill.Distillation, "forward", killed)
    with pytest.raises(KeyboardInterrupt):
        distill.distil(arguments)
    assert not arguments.output.exists()
    assert not arguments.history.exists()
    monkeypatch.undo()
    steps: list[int] = []
    monkeypatch.setattr(
        distill.Distillation, "forward", lambda self, step, rows: steps.append(step) or original(self, step, rows)
    )
    distill.distil(arguments)
    assert min(steps) == 20  # the last checkpoint before step 30
    resumed, resumed_history = finished(arguments)
    assert resumed_history == history
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)


def test_checkpoint_of_other_data_is_refused(arguments: argparse.Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = json.loads(arguments.settings)
    settings["recipe"]["checkpoint_minutes"] = 0.0
    arguments.settings = json.dumps(settings)
    monkeypatch.setattr(distill, "save_pipeline", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        distill.distil(arguments)
    latents = torch.randn(N, 4, 8, 8)
    write_tensors(arguments.latents[0], {"latents": latents, "rows": torch.arange(N)})
    with pytest.raises(UserError, match="other data"):
        distill.distil(arguments)
