"""Files of others, damaged at random: each is read whole or refused in one line, whatever is wrong with it."""

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from report_world import score_dict, settings_dict
from torch import nn

from randcond.assets.listing import read_assets
from randcond.jobs.errors import UserError
from randcond.jobs.yaml_file import read_yaml
from randcond.prompts.table import COLUMNS, read_prompts
from randcond.report.inputs import read_histories
from randcond.report.score_files import read_scores
from randcond.report.shown import Settings
from randcond.settings.claims import load_claims
from randcond.settings.config import check_config
from randcond.settings.experiments import load_experiments
from randcond.training.checkpoint import Checkpoint
from randcond.training.loop import fit
from randcond.worlds.archives import Archive, numbered_images, parse_captions
from randcond.worlds.texts import sample_texts

ROOT = Path(__file__).parents[2]
Read = TypeVar("Read")
fuzzed = settings(max_examples=500)

ANYTHING = st.recursive(
    st.sampled_from([None, True, "", "a", -1, 0, 1, 2.5, 1e300, float("nan"), float("inf"), 2**64, "\ud800", "1\n"])
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """The content, some pieces of it replaced, left out or put in; or bytes that have nothing to do with it."""
    place = st.integers(0, len(content))
    edit = st.tuples(place, st.integers(0, 9) | place, st.binary(max_size=9))

    def edited(edits: list[tuple[int, int, bytes]]) -> bytes:
        found = bytearray(content)
        for start, length, new in edits:
            found[start : start + length] = new
        return bytes(found)

    return st.lists(edit, max_size=3).map(edited) | st.binary(max_size=60)


@st.composite
def spoiled(draw: st.DrawFn, value: Any) -> Any:
    """The value with something else, or nothing, at a place in it."""
    chance = draw(st.randoms(use_true_random=False))

    def spoil(one: Any) -> Any:
        if not isinstance(one, dict | list) or not one or chance.random() < 0.1:
            return draw(ANYTHING)
        key = chance.choice(list(one) if isinstance(one, dict) else range(len(one)))
        changed = dict(one) if isinstance(one, dict) else list(one)
        if chance.random() < 0.1:
            del changed[key]
        else:
            changed[key] = spoil(one[key])
        return changed

    return spoil(value)


def tried(read: Callable[[], Read]) -> Read | None:
    """What is read, or None if it is refused; anything else that is raised fails the test."""
    try:
        return read()
    except UserError:
        return None


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to be written anew by each example."""
    return tmp_path_factory.mktemp("fuzz") / "0/mine/0/file"


def put(file: Path, content: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


TEXTS = ["a tiger on red", "a bus", "a tiger on red", "", None, "  x\ty "]


@fuzzed
@given(content=damaged(parquet(TEXT=TEXTS)) | damaged(parquet(TEXT=pa.array(TEXTS).dictionary_encode())))
def test_texts(content: bytes, file: Path) -> None:
    path = put(file, content)
    found = tried(lambda: list(sample_texts([path], 3, 0, 20)))
    assert found is None or (len(set(found)) == 3 and all(text == " ".join(text.split()) for text in found))


@fuzzed
@given(content=damaged(parquet(id=[0, 1], text=["a tiger", "a bus"], split=["seen"] * 2, source=["x"] * 2)))
def test_prompts(content: bytes, file: Path) -> None:
    path = put(file, content)
    found = tried(lambda: read_prompts(path))
    assert found is None or (len(found) and set(COLUMNS) <= set(found.columns))


ROWS = [("0.png", 'a "tiger", red'), ("1.png", "a bus\non blue"), ("2.png", ""), ("3.png", "a")]


def captions(rows: list[tuple[str, str]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([("file_name", "text"), *rows])
    return buffer.getvalue().encode()


@fuzzed
@given(content=damaged(captions(ROWS)), rows=st.dictionaries(st.text("ab.,\" '\n", min_size=1), st.text("ab,\"'\n;")))
def test_captions(content: bytes, rows: dict[str, str]) -> None:
    found = tried(lambda: parse_captions(content, "a.csv"))
    assert found is None or all(name is not None and text == " ".join(text.split()) for name, text in found)
    whole = tried(lambda: parse_captions(captions(list(rows.items())), "a.csv"))
    assert whole in (None, [(name, " ".join(text.split())) for name, text in rows.items() if text.split()])


def zipped(names: list[str], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    picture, buffer = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (2, 2)).save(picture, "PNG")
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("metadata.csv", captions(ROWS))
        for name in names:
            archive.writestr(name, picture.getvalue())
    return buffer.getvalue()


@fuzzed
@given(content=damaged(zipped(["0.png", "d/1.png"])) | damaged(zipped(["0.png", "d/1.png"], zipfile.ZIP_STORED)))
def test_archives(content: bytes, file: Path) -> None:
    path = put(file, content)
    if (archive := tried(lambda: Archive(path))) is not None:
        tried(archive.captions)
        tried(lambda: archive.json("metadata.csv"))
        image = tried(lambda: archive.image("0.png"))
        assert image is None or image.mode == "RGB"


@fuzzed
@given(names=st.lists(st.text("0123456789²٣./ap", min_size=1, max_size=9), max_size=4, unique=True), cut=st.integers(0))
@example(names=["1" * 5000 + ".png"], cut=0)
def test_numbered_images(names: list[str], cut: int, file: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    path = put(file, buffer.getvalue()[cut % 40 :] if cut % 2 else buffer.getvalue())
    found = tried(lambda: numbered_images([path]))
    if found is not None:
        ((_, inside),) = found
        assert [int(Path(name).stem) for name in inside] == list(range(len(inside)))
        assert len(inside) == len([name for name in names if not name.endswith("/")])


CONFIG = (ROOT / "config/smoke.yaml").read_bytes()
EXPERIMENTS = {
    "runs": {
        "a": {"student": "b-base", "random_conditioning": {"kind": "exponential", "rate": 5.0}, "texts": ["pool"]}
    },
    "tables": {"t": {"title": "T", "splits": ["all"], "rows": [{"run": "a", "paper": "table1/2", "label": "A"}]}},
    "grids": [{"title": "G", "split": "seen", "runs": ["teacher", "a"], "count": 2}],
    "series": {"s": {"title": "S", "split": "all", "lines": [{"label": "l", "runs": ["a"]}]}},
}
CLAIMS = {"claims": [{"text": "t", "source": "s", "better": "a", "than": "b", "metrics": ["fid"]}]}
ASSETS = {"a": {"gigabytes": 1.0, "licence": "l", "files": [{"path": "p", "url": "https://x/y"}]}}
LISTS: list[tuple[Any, Callable[[Path], Any]]] = [
    (yaml.safe_load(CONFIG), lambda path: check_config(read_yaml(path, "settings"))),
    (EXPERIMENTS, load_experiments),
    (CLAIMS, load_claims),
    (ASSETS, read_assets),
]


@fuzzed
@given(data=st.data())
def test_configuration(data: st.DataObject, file: Path) -> None:
    whole, read = data.draw(st.sampled_from(LISTS))
    changed = data.draw(spoiled(whole))
    text = data.draw(st.sampled_from([json.dumps, lambda value: yaml.safe_dump(value, allow_unicode=False)]))(changed)
    tried(lambda: read(put(file, text.encode())))


@fuzzed
@given(content=damaged(b"name: a\nprompts: &p {count: 24, llm: {count: 26}}\nseeds: [0, 1]\nonly: *p\n"))
@example(content=b"seeds: [0x" + b"f" * 5000 + b"]")
@example(content=b"name: 0x" + b"f" * 5000)
@example(content=b"seeds: [" + b"9" * 5000 + b"]")
@example(content=b"seeds: &s [*s]")
@example(content=b"? [a]\n: 1")
@example(content=b"[" * 5000)
def test_configuration_of_any_bytes(content: bytes, file: Path) -> None:
    path = put(file, content)
    tried(lambda: check_config(read_yaml(path, "settings")))


SCORE = {**score_dict("seen-rc", 0), "splits": {"all": score_dict("seen-rc", 0)["splits"]["all"]}}
REPORT = Settings.model_validate(settings_dict([0]))


@fuzzed
@given(content=spoiled(SCORE).map(lambda value: json.dumps(value).encode()) | damaged(json.dumps(SCORE).encode()))
def test_scores(content: bytes, file: Path) -> None:
    path = put(file, content)
    if (found := tried(lambda: read_scores([path], REPORT))) is not None:
        ((score,),) = found.values()
        assert score.splits
        json.dumps(score.model_dump(mode="json", exclude={"path"}), allow_nan=False)


HISTORY = [{"step": 20, "loss": 2.5, "made_with": []}, {"step": 40, "loss": 2.0}]


@fuzzed
@given(content=spoiled(HISTORY).map(lambda value: json.dumps(value).encode()) | damaged(json.dumps(HISTORY).encode()))
def test_histories(content: bytes, file: Path) -> None:
    path = put(file, content)
    found = tried(lambda: read_histories([path]))
    assert found is None or all("step" in entry and entry["loss"] > 0 for entry in found["mine", 0])


class Problem(nn.Module):
    """As simple as can be."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, step: int, _: slice) -> dict[str, torch.Tensor]:
        return {"loss": self.weight.square().sum()}


RECIPE = SimpleNamespace(
    steps=3, batch=1, micro_batch=1, learning_rate=0.1, schedule="constant", cycles=1, weight_decay=0.0,
    gradient_clip=0.0, ema=0.9, optimizer="adamw",
)  # fmt: skip


def resumed(folder: Path) -> int:
    """Go on from the checkpoint in a folder; the last step."""
    problem = Problem()
    history = fit(problem, RECIPE, "name", problem, Checkpoint(folder, {}), log_every=1).history
    return int(history[-1]["step"])


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What a training keeps before its last step."""
    kept, problem = Checkpoint(tmp_path_factory.mktemp("state"), {}, minutes=0), Problem()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("randcond.jobs.provenance.commit", lambda _: "none")  # git takes longer than all else
        fit(problem, RECIPE, "name", problem, kept, log_every=1)
        state = kept.load()
        assert state is not None
        yield state


@fuzzed
@given(data=st.data())
def test_checkpoints(data: st.DataObject, state: dict[str, Any], file: Path) -> None:
    checkpoint = Checkpoint(file.parent, {})
    lacking = data.draw(st.none() | st.sampled_from(sorted(state)))
    checkpoint.save({name: part for name, part in state.items() if name != lacking})
    if lacking is None:
        checkpoint.file.write_bytes(data.draw(damaged(checkpoint.file.read_bytes())))
    assert tried(lambda: resumed(file.parent)) in (None, RECIPE.steps)
