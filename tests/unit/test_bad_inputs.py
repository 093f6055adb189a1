"""A table of bad inputs: each ends its stage with one clear line and no output, or is handled as it should be."""

import io
import json
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from small_world import COUNT, SmallWorld, build
from tiny_pipelines import every_family
from transformers import CLIPTextConfig, CLIPTextModel

from randcond.training.checkpoint import Checkpoint

Fault = Callable[[SmallWorld], None]
PICKLE = pickle.dumps({"weight": [0.0]})
NAN, INFINITE = float("nan"), float("inf")


def content(name: str, data: bytes | str) -> Fault:
    return lambda world: (world / name).write_bytes(data.encode() if isinstance(data, str) else data) and None


def cut(name: str, end: int) -> Fault:
    return lambda world: (world / name).write_bytes((world / name).read_bytes()[:end]) and None


def runs_code(name: str) -> Fault:
    """An evaluator's settings that let transformers run what lies beside them."""

    def spoil(world: SmallWorld) -> None:
        settings = json.loads((world / name).read_text())
        settings["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
        (world / name).write_text(json.dumps(settings))

    return spoil


def a_tokenizer_of_its_own(world: SmallWorld) -> None:
    """Where transformers would ask at the terminal whether to run it."""
    path = world / "evaluator/tokenizer_config.json"
    (path.parent / "own.py").write_text("raise SystemExit('run')")
    changed = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def gone(name: str) -> Fault:
    return lambda world: shutil.rmtree(world / name) if (world / name).is_dir() else (world / name).unlink()


def table(name: str, column: str, value: Any) -> Fault:
    """Another value in the second row of a Parquet file."""

    def spoil(world: SmallWorld) -> None:
        frame = pd.read_parquet(world / name)
        values = frame[column].tolist()
        frame[column] = [values[0], value, *values[2:]] if isinstance(value, str | None) else value
        frame.to_parquet(world / name, index=False)

    return spoil


def tensors(name: str, **changes: Any) -> Fault:
    """Other tensors in a safetensors file: functions of those that are there; None removes."""

    def spoil(world: SmallWorld) -> None:
        found = load_file(world / name)
        for key, change in changes.items():
            key = next(one for one in found if one.endswith(key))
            tensor = found.pop(key)
            if change is not None:
                found[key] = change(tensor).contiguous()
        save_file(found, world / name, {"format": "pt"})

    return spoil


def some_nan(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.clone()
    tensor.view(-1)[0] = NAN
    return tensor


def setting(name: str, key: str, value: Any) -> Fault:
    """Another value in a JSON file; ``key`` is a path with dots."""

    def spoil(world: SmallWorld) -> None:
        whole = place = json.loads((world / name).read_text())
        *path, last = [int(part) if part.isdecimal() else part for part in key.split(".")]
        for part in path:
            place = place[part]
        place[last] = value
        (world / name).write_text(json.dumps(whole))

    return spoil


def picture(size: tuple[int, int], end: int | None = None) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(*size, 3)).save(buffer, "PNG")
    return buffer.getvalue()[:end]


def archive(*pictures: bytes) -> Fault:
    def spoil(world: SmallWorld) -> None:
        with zipfile.ZipFile(world / "samples/mine/0/0.zip", "w") as file:
            for i, data in enumerate(pictures):
                file.writestr(f"{i:05d}.png", data)

    return spoil


def pool(column: pa.Array) -> Fault:
    def spoil(world: SmallWorld) -> None:
        whole = pa.table({"text": column})
        with pa.OSFile(str(world / "pool.arrow"), "wb") as sink, pa.ipc.new_file(sink, whole.schema) as writer:
            writer.write_table(whole)

    return spoil


def another_teacher(world: SmallWorld) -> None:
    """A text encoder that is twice as wide as the UNet expects."""
    folder = world / "teacher/text_encoder"
    config = json.loads((folder / "config.json").read_text())
    changed = CLIPTextConfig(**config | {"hidden_size": 16, "intermediate_size": 16})
    CLIPTextModel(changed).save_pretrained(folder)


def checkpoint_of(teacher: str) -> Fault:
    return lambda world: Checkpoint(world / "checkpoint", {"teacher": teacher}).save({"step": 1})


UNET = "teacher/unet/diffusion_pytorch_model.safetensors"
ENCODER = "teacher/text_encoder/model.safetensors"
SCORE, SAMPLES, HISTORY = "scores/mine/0.json", "samples/mine/0/0.zip", "students/mine/0/history.json"
FID = "splits.all.metrics.fid"
GOOD = picture((32, 32))

# what is bad: (the stage that meets it, how it is made bad, what the line says)
REFUSED: dict[str, tuple[str, Fault, str]] = {
    "prompts: empty file": ("render", content("captions.parquet", ""), r"captions\.parquet: not a whole Parquet"),
    "prompts: a CSV file": ("render", content("captions.parquet", "id,text\n0,a tiger\n"), r"captions\.parquet: not"),
    "prompts: cut": ("sample", cut("evaluation.parquet", -10), r"evaluation\.parquet: not a whole Parquet"),
    "prompts: a missing text": ("render", table("captions.parquet", "text", None), r"row 1 of its column text"),
    "prompts: numbers for texts": ("render", table("captions.parquet", "text", 3), r"row 0 of its column text"),
    "prompts: a missing split": ("distill", table("captions.parquet", "split", None), r"row 1 of its column split"),
    "prompts: of no known concept": ("real", table("evaluation.parquet", "text", "a <b>\n"), r"'a <b>\\n' is not a c"),
    "prompts: 10,000 characters": ("real", table("evaluation.parquet", "text", "a " * 5000), r"^.{,200}$"),
    "latents: a pickle": ("distill", content("00001.safetensors", PICKLE), r"00001\.safetensors: not a whole"),
    "latents: cut": ("distill", cut("00001.safetensors", -1), r"00001\.safetensors: not a whole"),
    "latents: empty file": ("distill", content("00000.safetensors", ""), r"00000\.safetensors: not a whole"),
    "latents: NaN": ("distill", tensors("00001.safetensors", latents=some_nan), r"00001\.safetensors: .* not finite"),
    "latents: of two sizes": (
        "distill", tensors("00001.safetensors", latents=lambda x: x[..., :4]), r"00001\.safetensors: .*\(4, 8, 4\)",
    ),
    "latents: without channels": (
        "distill", tensors("00000.safetensors", latents=lambda x: x[:, 0]), r"00000\.safetensors: .*\(3, 8, 8\)",
    ),
    "latents: whole numbers": ("distill", tensors("00000.safetensors", latents=torch.Tensor.long), r"int64"),
    "latents: of another teacher": (
        "distill",
        lambda world: [tensors(f"0000{i}.safetensors", latents=lambda x: x[..., :4])(world) for i in range(2)] and None,
        r"this teacher's \(4, 8, 8\)",
    ),
    "measured latents: NaN": ("sensitivity", tensors("00001.safetensors", latents=some_nan), r"1\.safetensors: no"),
    "measured latents: of another teacher": (
        "sensitivity",
        lambda world: [tensors(f"0000{i}.safetensors", latents=lambda x: x[..., :4])(world) for i in range(2)] and None,
        r"this teacher's \(4, 8, 8\)",
    ),
    "measured teacher: not finite": ("sensitivity", tensors(UNET, **{"conv_out.bias": some_nan}), r"are not finite"),
    "pool: cut": ("distill", cut("pool.arrow", -100), r"pool\.arrow: not a whole text pool"),
    "pool: a missing text": ("distill", pool(pa.array(["a", None])), r"pool\.arrow: .* 1 of them missing"),
    "pool: numbers": ("distill", pool(pa.array([1, 2])), r"pool\.arrow: .*int64"),
    "teacher: cut weights": ("render", cut(UNET, -1000), r"teacher: no whole Stable Diffusion pipeline"),
    "teacher: a pickle for weights": ("render", content(UNET, PICKLE), r"teacher: no whole Stable Diffusion pipeline"),
    "teacher: a weight is missing": ("render", tensors(UNET, **{"conv_out.bias": None}), r"teacher: no whole"),
    "teacher: a text weight is missing": ("render", tensors(ENCODER, **{"fc1.bias": None}), r"teacher: no whole"),
    "teacher: a weight of another shape": (
        "render", tensors(UNET, **{"conv_out.bias": lambda x: torch.cat([x, x])}), r"teacher: no whole",
    ),
    "teacher: a list for its index": ("render", content("teacher/model_index.json", "[]"), r"index.json: not an index"),
    "teacher: parts of two teachers": ("sample", another_teacher, r"takes texts of width 8, its text encoder gives 16"),
    "teacher: constant": (
        "distill",
        tensors(UNET, **{"conv_out.weight": torch.zeros_like, "conv_out.bias": torch.ones_like}),
        r"teacher: the teacher's predictions are constant",
    ),
    "teacher: not finite": ("distill", tensors(UNET, **{"conv_out.bias": some_nan}), r"constant or not finite"),
    "teacher: its autoencoder is not finite": (
        "sample",
        tensors("teacher/vae/diffusion_pytorch_model.safetensors", **{"decoder.conv_out.bias": some_nan}),
        r"teacher: its autoencoder gives images that are not finite numbers in torch\.float32; .* set the precision",
    ),
    "checkpoint: of another teacher": ("distill", checkpoint_of("another"), r"made with other .*teacher; delete it"),
    "checkpoint: a pickle": (
        "distill",
        lambda world: (world / "checkpoint").mkdir() or content("checkpoint/state.safetensors", PICKLE)(world),
        r"state\.safetensors: not a whole",
    ),
    "evaluator: cut weights": (
        "score", cut("evaluator/open_clip_model.safetensors", -1000), r"evaluator: no whole open_clip model",
    ),
    "evaluator: a pickle for weights": (
        "score", content("evaluator/open_clip_model.safetensors", PICKLE), r"evaluator: no whole open_clip model",
    ),
    "evaluator: no weights": ("score", gone("evaluator/open_clip_model.safetensors"), r"evaluator: no open_clip model"),
    "evaluator: broken settings": ("score", content("evaluator/open_clip_config.json", "{"), r"evaluator: no whole"),
    "evaluator: code of its own": (
        "score", runs_code("evaluator/open_clip_config.json"), r"evaluator: .* asks to run code",
    ),
    "evaluator: a tokenizer of its own": ("score", a_tokenizer_of_its_own, r"evaluator: .* contains custom code"),
    "samples: cut": ("score", cut(SAMPLES, -30), r"0\.zip: not a whole zip"),
    "samples: too few": ("score", archive(*[GOOD] * (COUNT - 1)), rf"{COUNT - 1} samples for {COUNT} prompts"),
    "samples: none": ("score", archive(), r"0\.zip: holds no images"),
    "samples: text for a picture": ("score", archive(*[GOOD] * 5, b"a tiger"), r"0\.zip: holds a picture that cannot"),
    "samples: half a picture": ("score", archive(*[GOOD] * 5, picture((32, 32), -40)), r"0\.zip: holds a picture that"),
    "reference: a pickle": ("score", content("reference.safetensors", PICKLE), r"reference\.safetensors: not a whole"),
    "reference: lacks the classes": ("score", tensors("reference.safetensors", classes=None), r"reference\.saf.*: not"),
    "reference: NaN": ("score", tensors("reference.safetensors", images=some_nan), r"its images are not finite"),
    "reference: of another evaluator": (
        "score",
        tensors("reference.safetensors", **{k: lambda x: x[..., :8] for k in ("images", "prompts", "classes")}),
        r"reference\.safetensors: made by another evaluator",
    ),
    "score: NaN": ("report", setting(SCORE, f"{FID}.value", NAN), rf"0\.json: {FID}\.value"),
    "score: infinite": ("report", setting(SCORE, f"{FID}.error95", INFINITE), rf"0\.json: {FID}\.error95"),
    "score: a word": ("report", setting(SCORE, f"{FID}.value", "3.5"), rf"0\.json: {FID}\.value"),
    "score: empty file": ("report", content(SCORE, ""), r"0\.json: not valid JSON"),
    "score: a list": ("report", content(SCORE, "[]"), r"0\.json: "),
    "history: NaN": ("report", setting(HISTORY, "0.loss", NAN), r"history\.json: "),
    "benchmark: garbage": ("report", content("benchmarks/render/0.tsv", "\0\1"), r"0\.tsv: not a benchmark file"),
    "summary of the LLM: cut": ("report", cut("llm.json", 20), r"llm\.json: not valid JSON"),
    "language model: cut": ("llm", content("model.gguf", b"GGUF\3\0\0\0"), r"model\.gguf: not a language model"),
    "language model: a pickle": ("llm", content("model.gguf", PICKLE), r"model\.gguf: not a language model"),
}  # fmt: skip

STRANGE = {
    "control characters": "a \x00tiger\x07\x1b[31m\r\n on red",
    "HTML": '<script>alert("a tiger")</script> & <b>',
    "right to left": "a \u202etiger\u202c \u2067on\u2069 \u200fאריה",
    "10,000 characters": "tiger" * 2000,
    "empty": "",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, pipeline_folder: Path) -> SmallWorld:
    with pytest.MonkeyPatch.context() as monkeypatch:
        return build(tmp_path_factory.mktemp("small"), pipeline_folder, monkeypatch)


@pytest.fixture
def world(whole: SmallWorld, tmp_path: Path) -> SmallWorld:
    """A copy that a test may spoil."""
    return SmallWorld(shutil.copytree(whole.folder, tmp_path / "world"))


@pytest.mark.parametrize("stage", ["render", "distill", "sensitivity", "sample", "real", "score", "report"])
@every_family
def test_whole_inputs_pass(stage: str, world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    assert world.run(stage, monkeypatch) == 0
    assert (world / f"{stage}.out").exists()


@pytest.mark.parametrize("case", REFUSED)
def test_refused(
    case: str, world: SmallWorld, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stage, spoil, expected = REFUSED[case]
    spoil(world)
    capfd.readouterr()
    monkeypatch.setattr("builtins.input", lambda _: "y")  # somebody who agrees to whatever a library asks
    assert world.run(stage, monkeypatch) == 1
    shown = capfd.readouterr()
    lines = (shown.out + shown.err).splitlines()
    assert len(lines) <= 2, lines  # what it began, and why it ends
    (line,) = [line.split(" error: ", 1)[1] for line in lines if " error: " in line]
    assert re.search(expected, line), line
    assert "full traceback" not in line
    assert not list(world.folder.glob(f"{stage}.out")) and not list(world.folder.rglob("*.partial"))


@pytest.mark.parametrize("case", STRANGE)
@pytest.mark.parametrize("stage", ["render", "distill", "sample", "report"])
def test_strange_texts_are_only_texts(
    stage: str, case: str, world: SmallWorld, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("captions.parquet", "evaluation.parquet"):
        table(name, "text", STRANGE[case])(world)
    pool(pa.array([STRANGE[case]]))(world)
    capfd.readouterr()
    assert world.run(stage, monkeypatch) == 0
    shown = capfd.readouterr()
    assert len(shown.out + shown.err) < 600, "no warnings that quote the text"
    assert (world / f"{stage}.out").exists()
    if stage == "report":
        page = (world / "report.out/index.html").read_text()
        assert not re.search("<script|[\x00-\x08\x1b\u202e\u2067]", page)
        assert len(page) < 2_000_000
