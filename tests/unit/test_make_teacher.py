"""What the trainings of a world's teacher are made of."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from randcond.jobs.errors import UserError
from randcond.make_teacher import __main__ as make_teacher
from randcond.make_teacher.autoencoder import build_autoencoder, start_orthogonal
from randcond.make_teacher.batches import of_concepts, of_concepts_or_artists
from randcond.make_teacher.check import choose, shares
from randcond.make_teacher.clip import ClipProblem, Names
from randcond.make_teacher.denoiser import DenoiserProblem, scenes_and_captions
from randcond.make_teacher.material import MATERIAL, Material
from randcond.worlds.drawings import Meaning
from randcond.worlds.meanings import held_out_pairs


@pytest.fixture(scope="module")
def world() -> Material:
    return MATERIAL["artists"]()


def test_no_two_texts_of_a_batch_fit_the_same_picture(world: Material) -> None:
    draw, kinds = of_concepts_or_artists(world.meanings, 64, colours=2), Counter[int]()
    for seed in range(20):
        once, again = ([world.meanings[i] for i in rows] for rows in draw(np.random.default_rng(seed)))
        assert once == again
        said = once
        assert len(said) == 64
        assert len({meaning.colour for meaning in said}) <= 2
        of_each = Counter(meaning.concept for meaning in said)
        kinds[len(of_each)] += 1
        if len(of_each) < 64:  # the same concept by several artists: each is named, and none twice
            assert set(of_each.values()) == {4}
            assert None not in {meaning.artist for meaning in said}
            assert len(set(said)) == 64
        else:
            assert 16 < sum(meaning.artist is None for meaning in said) < 48
    assert set(kinds) == {16, 64}
    assert min(kinds.values()) > 3


@pytest.mark.parametrize(("batch", "colours"), [(112, 2), (62, 2), (64, 9)])
def test_batches_that_cannot_be_drawn_are_refused(world: Material, batch: int, colours: int) -> None:
    with pytest.raises(UserError, match=rf"make_teacher: batch: {batch} and colours: {colours} .* at most 111 texts"):
        of_concepts_or_artists(world.meanings, batch, colours)


@pytest.mark.parametrize("emulates", [True, False])
def test_no_precision_that_the_processor_emulates(emulates: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_teacher, "multiplies_bfloat16", lambda device: not emulates)
    assert make_teacher._precision({"mixed_precision": "bf16"}) == ("no" if emulates else "bf16")
    assert make_teacher._precision({}) == "no"


def test_concepts_and_colours_that_are_too_few_are_refused() -> None:
    said = [Meaning(concept, colour) for concept in ("tiger", "car") for colour in ("red", "blue")]
    assert len(of_concepts(said, 2, 1)(np.random.default_rng(0))[0]) == 2
    for batch, colours in ((3, 1), (4, 3)):
        with pytest.raises(UserError, match="do not go together with this world"):
            of_concepts(said, batch, colours)


def test_an_autoencoder_begins_with_little_posterior_noise() -> None:
    torch.manual_seed(0)
    bias = build_autoencoder(16, (8, 16, 16), 8).quant_conv.bias
    assert bias[:8].abs().max() < 1 < 5 < bias[8:].abs().min()


def test_images_pass_whole_through_an_autoencoder_that_starts_orthogonal() -> None:
    torch.manual_seed(0)
    model = build_autoencoder(16, (8, 16, 16), 8).eval()
    start_orthogonal(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and name.endswith(".conv2"):
            assert not module.weight.any()
        elif isinstance(module, nn.Conv2d) and name != "quant_conv":
            rows = module.weight.flatten(1)
            short = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
            torch.testing.assert_close(short, torch.eye(len(short)), atol=1e-5, rtol=0)
    images = torch.randn(4, 3, 16, 16)
    posterior = model.encode(images).latent_dist
    assert float(posterior.logvar.detach().mean()) == pytest.approx(-6, abs=0.2)
    block, hidden = model.encoder.down_blocks[0].resnets[0], torch.randn(2, 8, 16, 16)
    torch.testing.assert_close(block(hidden, None), hidden)


@pytest.mark.parametrize("name", MATERIAL)
def test_every_caption_of_a_scene_says_what_it_shows(name: str) -> None:
    world = MATERIAL[name]()
    meaning_of = dict(zip(world.texts, world.meanings, strict=True))
    shown, choices, captions = scenes_and_captions(world.texts, world.meanings, 2)
    assert len(shown) == len(choices) == 2 * len(set(world.meanings))
    assert len(set(captions)) == len(captions) == choices.unique().numel()
    assert choices.shape[1] == min(Counter(world.meanings).values())
    for row in range(0, len(shown), 97):
        said = {meaning_of[captions[i]] for i in choices[row]}
        assert said == {meaning_of[shown[row]]}
        assert len(choices[row].unique()) == choices.shape[1]


def test_texts_that_a_teacher_is_judged_by(world: Material) -> None:
    picks = choose(world, 3, seed=1)
    assert set(Counter(world.meanings[i].concept for i in picks).values()) == {3}
    assert set(picks) <= set(world.judged)
    assert choose(world, 3, seed=1) == picks != choose(world, 3, seed=2)


def test_shares_of_images_that_are_right() -> None:
    concept, artist = sorted(held_out_pairs())[0]
    asked = [
        *(Meaning("tiger", "red"), Meaning("tiger", "red", "noto"), Meaning("car", "red"), Meaning("car", "red")),
        *(Meaning(concept, "red", artist), Meaning(concept, "red", artist)),
    ]
    found = [
        *(("tiger", "noto"), ("lion", "noto"), ("car", None), ("bus", None)),
        *((concept, artist), (concept, "another")),
    ]
    assert shares(asked, found) == {"animals": 0.5, "rest": 0.75, "style": 2 / 3, "unseen pair": 0.5}
    assert shares(asked[:1], found[:1]) == {"animals": 1}


def test_two_texts_and_their_image_are_contrasted_pair_by_pair() -> None:
    views = [torch.randn(4, 6, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    image, once, again = (torch.nn.functional.normalize(view, dim=-1) for view in views)
    towers = SimpleNamespace(
        encode_image=lambda images: views[0], encode_text=lambda rows: views[1 + int(rows[0]) // 4]
    )
    problem = ClipProblem(
        towers,
        [str(i) for i in range(8)],
        lambda texts: torch.tensor([int(text) for text in texts]),
        lambda texts, seed, first: torch.zeros(len(texts), 3, 8, 8, dtype=torch.uint8),
        lambda rng: [[0, 1, 2, 3], [4, 5, 6, 7]],
        *(4, 0),
    )
    scale, expected = float(problem.logit_scale.detach().exp()), []
    for one, other in ((image, once), (image, again), (once, again)):
        for logits in (scale * one @ other.T, scale * other @ one.T):
            expected.append(-logits.log_softmax(1).diagonal().mean())
    torch.testing.assert_close(problem(0, slice(0, 4))["loss"].detach(), torch.stack(expected).mean())


def test_what_a_picture_shows_is_named_without_texts() -> None:
    meanings = [Meaning("tiger", "red", "noto"), Meaning("car", "red"), Meaning("car", "blue", "openmoji")]
    torch.manual_seed(0)
    names, features = Names(5, meanings), torch.randn(4, 5)
    assert [head.out_features for head in names.heads] == [2, 2, 2]
    concept, colour, artist = (head(features).log_softmax(1) for head in names.heads)
    # in the order of the alphabet: car, tiger; blue, red; noto, openmoji. The picture of text 1 names no artist.
    expected = -(concept[[0, 1, 2, 3], [1, 0, 0, 0]] + colour[[0, 1, 2, 3], [1, 1, 0, 1]]).sum() - (
        artist[0, 0] + artist[2, 1]
    )
    torch.testing.assert_close(names(features, [0, 1, 2, 1]), expected / 4)
    names(features, [1, 1, 1, 1]).backward()  # nobody's artist: nothing to learn from, and no division by zero
    assert not names.heads[2].weight.grad.any() and names.heads[0].weight.grad.isfinite().all()


@pytest.mark.parametrize(
    ("noisier", "quarters"), [(False, [0.25, 0.25, 0.25, 0.25]), (True, [1 / 16, 3 / 16, 5 / 16, 7 / 16])]
)
def test_timesteps_of_the_denoiser(noisier: bool, quarters: list[float]) -> None:
    class Watched(nn.Module):
        def forward(self, noised: torch.Tensor, timesteps: torch.Tensor, states: torch.Tensor) -> SimpleNamespace:
            seen.append(timesteps)
            return SimpleNamespace(sample=noised)

    seen: list[torch.Tensor] = []
    latents, states = torch.zeros(3, 1, 2, 2), torch.zeros(4, 1, 1)
    problem = DenoiserProblem(Watched(), latents, torch.tensor([[0], [1], [2]]), states, 4096, 0, noisier)
    for step in range(4):
        problem(step, slice(0, 4096))
    timesteps = torch.cat(seen)
    assert (timesteps.min() >= 0) & (timesteps.max() <= 999)
    found = [((timesteps // 250) == quarter).float().mean().item() for quarter in range(4)]
    assert found == pytest.approx(quarters, abs=0.015)
