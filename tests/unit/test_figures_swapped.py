"""Figure 3: pairs, noise up to t, denoising from there, verdicts and their shares."""

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import DDIMScheduler
from tiny_pipelines import every_family

from randcond.figures import swapped_condition
from randcond.figures.swapped_condition import (
    denoise,
    differences,
    draw_clean,
    draw_pairs,
    guidances,
    measure,
    noised_to,
    score,
    shares,
    timesteps_of,
    verdicts_on,
)
from randcond.figures.swapped_pictures import VERDICTS, draw_shares, draw_strip
from randcond.jobs.errors import UserError
from randcond.jobs.seeding import generator
from randcond.method.conditioning import Exponential
from randcond.method.noise_level import equivalent_timesteps
from randcond.scores.evaluator import Evaluator
from randcond.scores.names import load_naming
from randcond.teachers.pipelines import draw_latents
from randcond.teachers.teacher import Teacher
from randcond.worlds import drawings, emoji, load_captions, meanings

SETTINGS = {"steps": 4, "guidance_scale": 2.0, "pairs": 3}
CAPTIONS = emoji.captions()


def test_pairs_share_nothing_and_depend_on_their_number() -> None:
    pairs = draw_pairs(CAPTIONS, 60, 1)
    assert all(one.concept != other.concept and one.colour != other.colour for one, other in pairs)
    assert draw_pairs(CAPTIONS, 3, 1) == pairs[:3]
    assert draw_pairs(CAPTIONS, 3, 2) != pairs[:3]
    assert len({pair.image.concept for pair in pairs}) > 20


@pytest.mark.parametrize("steps", [4, 20, 30])
def test_grid_of_timesteps_is_the_samplers(teacher: Teacher, steps: int) -> None:
    scheduler = DDIMScheduler.from_config(teacher.pipeline.scheduler.config)
    scheduler.set_timesteps(steps)
    assert timesteps_of(steps) == [0, *reversed(scheduler.timesteps.tolist())]
    assert timesteps_of(20)[:3] == [0, 1, 51] and timesteps_of(20)[-1] == 951


def test_images_are_drawn_as_by_diffusers_ddim(teacher: Teacher) -> None:
    texts = ["a tiger", "a red bus"]
    found = draw_clean(teacher, teacher.encode(texts), 5, 3, timesteps_of(4), 2.0)
    teacher.pipeline.scheduler = DDIMScheduler.from_config(teacher.pipeline.scheduler.config, clip_sample=False)
    torch.testing.assert_close(found, draw_latents(teacher.pipeline, texts, 5, 3, 4, 2.0), rtol=1e-4, atol=1e-4)


@every_family
@pytest.mark.parametrize("level", [1, 2, 4])
def test_an_image_is_gone_on_with_from_t(teacher: Teacher, monkeypatch: pytest.MonkeyPatch, level: int) -> None:
    timesteps, count, asked = timesteps_of(4), 2, []
    latents = torch.randn(count, *teacher.latent_shape, generator=torch.Generator().manual_seed(0))
    noise = torch.stack([torch.randn(teacher.latent_shape, generator=generator(9, 1, 5 + i)) for i in range(count)])

    def all_knowing(denoiser: Any, states: torch.Tensor, at: torch.Tensor, conditions: Any) -> torch.Tensor:
        torch.testing.assert_close(states, teacher.add_noise(latents, noise, at), rtol=1e-3, atol=1e-3)
        asked.extend(at.unique().tolist())
        return teacher.target(latents, noise, at)

    monkeypatch.setattr(teacher, "predict", all_knowing)
    noised = noised_to(teacher, latents, timesteps[level], 9, 5)
    found = denoise(teacher, noised, teacher.encode(["a", "b"]), timesteps[: level + 1], 2.0)
    # with guidance each is asked twice; who knows image and noise goes straight back to the image
    assert asked == [t for t in timesteps[level:0:-1] for _ in range(2)]
    torch.testing.assert_close(found, teacher.add_noise(latents, noise, torch.zeros(2).long()), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found, latents, rtol=0.2, atol=0.2)


@every_family
def test_text_and_guidance_matter(teacher: Teacher) -> None:
    latents, timesteps = torch.zeros(1, *teacher.latent_shape), timesteps_of(4)
    noised = noised_to(teacher, latents, timesteps[-1], 0, 0)

    def gone_on(text: str, guidance: float) -> torch.Tensor:
        return denoise(teacher, noised, teacher.encode([text]), timesteps, guidance)

    assert not torch.equal(gone_on("a tiger", 1.0), gone_on("a tiger", 5.0))
    assert not torch.equal(gone_on("a tiger", 5.0), gone_on("a bus", 5.0))
    # away from the empty text there is nothing to guide the empty text to
    torch.testing.assert_close(gone_on("", 1.0), gone_on("", 5.0), rtol=1e-3, atol=1e-3)


def test_verdicts_name_the_image_the_condition_or_neither() -> None:
    pairs = draw_pairs(CAPTIONS, 3, 0)
    third = next(name for name in emoji.concepts() if name not in {c.concept for c in pairs[2]})
    named = [(pairs[0].image.concept, None), (pairs[1].condition.concept, "noto"), (third, None)]
    found = verdicts_on(lambda images: named, torch.zeros(3, 3, 4, 4), pairs)
    assert found.tolist() == ["image", "condition", "neither"]


@pytest.mark.parametrize("world", ["emoji", "artists"])
def test_worlds_name_concept_and_artist(world: str) -> None:
    named = {caption.concept: [(caption.concept, None)] for caption in load_captions(world)}
    if world == "artists":
        named = {concept: [(concept, artist) for artist in meanings.artists_of(concept)] for concept in named}
    places = {name: i for i, name in enumerate(itertools.chain.from_iterable(named.values()))}
    directions = np.eye(len(places), dtype=np.float32)

    def text_features(texts: list[str]) -> np.ndarray:
        found = []
        for text in texts:
            meaning = meanings.parse(text) if world == "artists" else drawings.Meaning(emoji.parse(text).concept, "")
            fitting = [places[name] for name in named[meaning.concept] if meaning.artist in (None, name[1])]
            found.append(directions[fitting].sum(0) / len(fitting) ** 0.5)
        return np.stack(found)

    evaluator, shown = Evaluator.__new__(Evaluator), list(places)[::7]
    evaluator._model = SimpleNamespace(logit_scale=torch.zeros(()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "text_features", text_features)
        patch.setattr(evaluator, "features_of", lambda images: np.stack([3 * directions[places[n]] for n in shown]))
        names = load_naming(world)(evaluator)
        assert names(torch.zeros(len(shown), 3, 4, 4)) == shown
        patch.setattr(evaluator, "features_of", lambda images: np.full((1, len(places)), np.nan))
        with pytest.raises(UserError, match="not finite; check the evaluator's weights"):
            names(torch.zeros(1, 3, 4, 4))


def test_other_worlds_name_nothing() -> None:
    with pytest.raises(UserError, match="the evaluator of the world own names nothing"):
        load_naming("own")


@every_family
def test_every_pair_is_judged_at_every_timestep(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swapped_condition, "BATCH", 2)
    asked: list[int] = []

    def nothing(images: torch.Tensor) -> list[tuple[str, None]]:
        asked.append(len(images))
        return [("nothing", None)] * len(images)

    found, pictures = measure(teacher, nothing, CAPTIONS, 0, SETTINGS)
    assert asked == [2] * 10 + [1] * 10
    assert set(found["verdict"]) == {VERDICTS[2]} and set(found["guidance"]) == {2.0, 1.0}
    assert found.groupby(["guidance", "t"])["pair"].apply(list).tolist() == [[0, 1, 2]] * 10
    assert sorted(pictures) == [0, 1, 251, 501, 751]
    # an image that is not finite would have ended it
    assert all(images.shape == (2, 3, 32, 32) and images.dtype == torch.uint8 for images in pictures.values())
    assert not torch.equal(pictures[0], pictures[751])
    again, same = measure(teacher, nothing, CAPTIONS, 0, SETTINGS)
    assert found.equals(again) and all(torch.equal(pictures[t], same[t]) for t in pictures)
    assert len(draw_strip(found, pictures).axes) == 2 * 5


def test_samples_without_guidance_are_judged_once() -> None:
    assert guidances({"guidance_scale": 1.0}) == [1.0]
    assert guidances({"guidance_scale": 4.0}) == [4.0, 1.0]


def test_pictures_shown_are_those_with_guidance(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def drawn(*arguments: Any) -> torch.Tensor:
        asked.append(arguments[4])
        return torch.full((2, 4, 8, 8), 1.0 - arguments[4])

    monkeypatch.setattr(swapped_condition, "denoise", drawn)
    monkeypatch.setattr(swapped_condition, "decode", lambda _, latents: (latents[:, :3] * -50).to(torch.uint8))
    nothing = [("nothing", None)] * 2
    _, pictures = measure(teacher, lambda images: nothing, CAPTIONS, 0, SETTINGS | {"pairs": 2})
    assert asked == [2.0, *[2.0, 1.0] * 4]  # the images first
    assert all((pictures[t] == 50).all() for t in (0, 1, 251, 501, 751))


@every_family
def test_differences_are_those_of_the_two_predictions(teacher: Teacher) -> None:
    found = differences(teacher, CAPTIONS, 5, SETTINGS)
    assert sorted(found["t"].unique()) == [1, 251, 501, 751]
    assert np.isfinite(found["difference"]).all() and (found["difference"] > 0).all()
    # the second pair at t = 501, alone
    pair = draw_pairs(CAPTIONS, 2, 5)[1]
    own, other = (teacher.encode([side.text]) for side in pair)
    clean = draw_clean(teacher, own, 1, 5, timesteps_of(4), 2.0)
    noise, t = torch.randn(clean.shape[1:], generator=generator(5, 1, 1))[None], torch.tensor([501])
    noised = teacher.add_noise(clean, noise, t)
    with torch.no_grad():
        one, another = (teacher.predict_noise(noised, t, condition) for condition in (own, other))
    chosen = found[(found["t"] == 501) & (found["pair"] == 1)]
    assert chosen["difference"].item() == pytest.approx(((one - another) ** 2).mean().item(), rel=1e-3)


def test_differences_by_diffusers_alone(teacher: Teacher) -> None:
    pipeline, pair = teacher.pipeline, draw_pairs(CAPTIONS, 2, 5)[1]

    def predicted(noised: torch.Tensor, t: int, text: str) -> torch.Tensor:
        tokens = pipeline.tokenizer([text], padding="max_length", truncation=True, return_tensors="pt").input_ids
        return pipeline.unet(noised, t, pipeline.text_encoder(tokens)[0]).sample

    def noise(*stream: int) -> torch.Tensor:
        return torch.randn(teacher.latent_shape, generator=generator(*stream))[None]

    with torch.no_grad():
        clean, kept = noise(5, 1), pipeline.scheduler.alphas_cumprod
        for t, below in ((751, 501), (501, 251), (251, 1), (1, 0)):
            own, empty = (predicted(clean, t, text) for text in (pair[0].text, ""))
            e = empty + 2.0 * (own - empty)
            clean = (clean - (1 - kept[t]).sqrt() * e) / kept[t].sqrt() * kept[below].sqrt() + (
                1 - kept[below]
            ).sqrt() * e
        noised = kept[501].sqrt() * clean + (1 - kept[501]).sqrt() * noise(5, 1, 1)
        one, another = (predicted(noised, 501, side.text) for side in pair)
    found = differences(teacher, CAPTIONS, 5, SETTINGS)
    chosen = found[(found["t"] == 501) & (found["pair"] == 1)]
    assert chosen["difference"].item() == pytest.approx(((one - another) ** 2).mean().item(), rel=1e-3)


@every_family
def test_p_is_drawn_at_the_teachers_noise_levels(teacher: Teacher) -> None:
    verdicts = pd.DataFrame(
        [(0, 1.0, 0, t, VERDICTS[0]) for t in (1, 951)], columns=["seed", "guidance", "pair", "t", "verdict"]
    )
    differing = pd.DataFrame([(0, 0, t, 0.1) for t in (1, 951)], columns=["seed", "pair", "t", "difference"])
    figure = draw_shares(shares(verdicts), differing, 1, equivalent_timesteps(teacher.log_snr))
    drawn = figure.axes[0].lines[-1].get_ydata()
    for t in (0, 500, 999):
        asked = equivalent_timesteps(teacher.log_snr[t : t + 1])
        assert drawn[t] == pytest.approx(100 * float(Exponential(5.0)(asked)), rel=1e-5)


def test_shares_and_scores() -> None:
    verdicts = pd.DataFrame(
        [
            (seed, guidance, pair, t, VERDICTS[2 if pair < 2 else t > 500 * guidance])
            for seed in (0, 1)
            for guidance in (4.0, 1.0)
            for pair in range(5)
            for t in (1, 900)
        ],
        columns=["seed", "guidance", "pair", "t", "verdict"],
    )
    found = shares(verdicts).set_index(["guidance", "t", "verdict"])
    assert found["share"].to_dict() == {
        (1, 1, "image"): 0.6, (1, 1, "condition"): 0.0, (1, 1, "neither"): 0.4,
        (1, 900, "image"): 0.0, (1, 900, "condition"): 0.6, (1, 900, "neither"): 0.4,
        (4, 1, "image"): 0.6, (4, 1, "condition"): 0.0, (4, 1, "neither"): 0.4,
        (4, 900, "image"): 0.6, (4, 900, "condition"): 0.0, (4, 900, "neither"): 0.4,
    }  # fmt: skip
    assert ((found["low"] <= found["share"]) & (found["share"] <= found["high"])).all()
    # Wilson's interval of 6 in 10
    centre, half = (0.6 + 1.96**2 / 20) / (1 + 1.96**2 / 10), 1.96 / (1 + 0.384) * (0.024 + 0.0096) ** 0.5
    assert found.loc[(1, 1, "image"), "high"] == pytest.approx(centre + half, abs=2e-3)
    apart = [(seed, pair, t, 0.1 * pair + t) for seed in (0, 1) for pair in range(5) for t in (1, 900)]
    differing = pd.DataFrame(apart, columns=["seed", "pair", "t", "difference"])
    scores = score(verdicts, differing)
    assert {one.count for one in scores} == {5}
    late = {(one.model, one.seed): one.value for one in scores if one.metric == "condition" and one.t == 900}
    assert late == {("no guidance", 0): 0.6, ("no guidance", 1): 0.6, ("", 0): 0.0, ("", 1): 0.0}
    apart = {(one.seed, one.t): one.value for one in scores if one.metric == "difference"}
    assert apart == pytest.approx({(0, 1): 1.2, (0, 900): 900.2, (1, 1): 1.2, (1, 900): 900.2})
    figure = draw_shares(shares(verdicts), differing, 10, torch.arange(1000))
    assert [len(axes.lines) for axes in figure.axes] == [4, 4, 1]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["guidance 4", "no guidance"]
