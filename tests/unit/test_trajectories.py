"""The teacher's own trajectories: the sampler's steps in closed form, a bank that is a function of its seed alone."""

import pytest
import torch
from diffusers import DDIMScheduler

from randcond.jobs.seeding import normal
from randcond.method.trajectories import LAST_TIMESTEP, Trajectories
from randcond.teachers.noise import NOISE_SCHEDULE
from randcond.teachers.solvers import DDIM

SHAPE = (1, 2, 2)
POOL = [f"text {i}" for i in range(50)]
KEPT = DDIMScheduler(**NOISE_SCHEDULE).alphas_cumprod


def noise_of(states: torch.Tensor, timesteps: torch.Tensor, mean: float, spread: float) -> torch.Tensor:
    """E[noise | x_t] of data N(mean, spread^2)."""
    kept = KEPT[timesteps].view(-1, 1, 1, 1)
    return (1 - kept).sqrt() * (states - kept.sqrt() * mean) / (kept * spread**2 + 1 - kept)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_step_is_diffusers_ddim(prediction: str) -> None:
    scheduler = DDIMScheduler(**NOISE_SCHEDULE, prediction_type=prediction, clip_sample=False, set_alpha_to_one=False)
    scheduler.set_timesteps(25)
    states, predicted = normal((3, *SHAPE), 0, 0), normal((3, *SHAPE), 0, 1)
    solver = DDIM(scheduler.alphas_cumprod, prediction == "v_prediction")
    for at in (961, 481, 41):
        expected = scheduler.step(predicted, at, states).prev_sample
        now, following = torch.full((3,), at), torch.full((3,), at - 40)
        torch.testing.assert_close(solver(states, predicted, now, following), expected, rtol=1e-4, atol=1e-5)


def test_each_state_has_its_own_timesteps() -> None:
    states, predicted = normal((2, *SHAPE), 1, 0), normal((2, *SHAPE), 1, 1)
    now, following, solver = torch.tensor([900, 100]), torch.tensor([800, 99]), DDIM(KEPT)
    both = solver(states, predicted, now, following)
    for i in range(2):
        torch.testing.assert_close(
            both[i : i + 1], solver(*(x[i : i + 1] for x in (states, predicted, now, following)))
        )
    with_velocity = DDIM(KEPT, v_prediction=True)
    assert torch.allclose(with_velocity(states, predicted, now, now), states, atol=1e-6)  # no way to go: as it was


def bank(**changes: object) -> Trajectories:
    settings = {"take": 4, "depth": 3, "stride": 40, "null": 0.1, "seed": 7} | changes
    return Trajectories(POOL, SHAPE, DDIM(KEPT), **settings)  # type: ignore[arg-type]


def predict(states: torch.Tensor, timesteps: torch.Tensor, texts: list[str]) -> torch.Tensor:
    """The teacher of a world in which text i stands for data N(i / 10, 0.01^2); the empty one for N(-1, 0.01^2)."""
    means = [float(text.split()[1]) / 10 if text else -1.0 for text in texts]
    each = [noise_of(states[i : i + 1], timesteps[i : i + 1], mean, 0.01) for i, mean in enumerate(means)]
    return torch.cat(each)


def walk(of: Trajectories, steps: range, parts: int = 1) -> list[tuple[torch.Tensor, torch.Tensor, list[str]]]:
    seen = []
    for step in steps:
        seen.append(of.batch(step))
        size = of.take // parts
        for first in range(0, of.take, size):
            rows = slice(first, first + size)
            of.advance(step, predict(*of.batch(step, rows)), rows)
        of.settle(step)
    return seen


def test_states_end_at_what_their_texts_say() -> None:
    # with an exact teacher the states of a text flow to its data
    trajectories = bank(stride=20)
    trajectories.fill(predict)
    late = 0
    for states, timesteps, texts in walk(trajectories, range(300)):
        for state, timestep, text in zip(states, timesteps, texts, strict=True):
            kept = float(KEPT[timestep])
            mean = float(text.split()[1]) / 10 if text else -1.0
            if timestep < 100:
                late += 1
                assert float((state - kept**0.5 * mean).abs().max()) < 4 * (1 - kept + 0.01**2) ** 0.5 + 0.1 * abs(mean)
    assert late > 50


def test_a_bank_starts_spread_over_t_and_stays_so() -> None:
    trajectories = bank(take=8, depth=8)
    assert not trajectories.filled
    trajectories.fill(predict)
    assert trajectories.filled
    for step in range(8):
        timesteps = trajectories.batch(step)[1]
        assert timesteps.max() - timesteps.min() > 600  # those of one step are not alike
    everything = torch.cat([timesteps for _, timesteps, _ in walk(trajectories, range(400))])
    counts = torch.histc(everything.float(), 5, 0, 1000) / len(everything)
    assert float((counts - 0.2).abs().max()) < 0.03, counts


def test_texts_are_drawn_uniformly_and_some_are_empty() -> None:
    trajectories = bank(take=64, depth=1, stride=400)
    trajectories.fill(predict)
    texts = [text for _, _, texts in walk(trajectories, range(60)) for text in texts]
    assert len(set(texts)) == len(POOL) + 1
    assert 0.05 < texts.count("") / len(texts) < 0.15
    assert "" not in {text for _, _, texts in walk(bank_without_null(), range(60)) for text in texts}


def bank_without_null() -> Trajectories:
    trajectories = bank(take=64, depth=1, stride=400, null=0.0)
    trajectories.fill(predict)
    return trajectories


def test_a_state_is_taken_again_after_depth_steps_moved_once() -> None:
    trajectories = bank()
    trajectories.fill(predict)
    (first, at, texts), *between, (again, later, _) = walk(trajectories, range(4))
    assert len(between) == 2
    moved = at - later
    assert all(1 <= int(stride) < 80 or int(now) == LAST_TIMESTEP for stride, now in zip(moved, later, strict=True))
    going = later < LAST_TIMESTEP
    expected = DDIM(KEPT)(first, predict(first, at, texts), at, later)
    torch.testing.assert_close(again[going], expected[going])


def test_resumed_is_the_same_to_the_bit() -> None:
    whole, stopped, resumed = bank(), bank(), bank()
    for one in (whole, stopped):
        one.fill(predict)
    expected = walk(whole, range(90))
    walk(stopped, range(47))
    resumed.load_state_dict({name: tensor.clone() for name, tensor in stopped.state_dict().items()})
    assert resumed.filled
    for mine, theirs in zip(walk(resumed, range(47, 90)), expected[47:], strict=True):
        assert torch.equal(mine[0], theirs[0])
        assert torch.equal(mine[1], theirs[1])
        assert mine[2] == theirs[2]


def test_parts_move_as_the_whole() -> None:
    whole, parts = bank(), bank()
    for one in (whole, parts):
        one.fill(predict)
    for mine, theirs in zip(walk(parts, range(40), parts=2), walk(whole, range(40)), strict=True):
        assert torch.equal(mine[0], theirs[0])
        assert mine[2] == theirs[2]


def test_processes_put_their_parts_together() -> None:
    alone, processes = bank(), [bank(), bank()]
    for one in (alone, *processes):
        one.fill(predict)
    for step in range(20):
        alone.advance(step, predict(*alone.batch(step)))
        alone.settle(step)
        for one, rows in zip(processes, (slice(0, 3), slice(3, 4)), strict=True):
            one.advance(step, predict(*one.batch(step, rows)), rows)
        moved: list[list[torch.Tensor]] = [[], []]
        for process, mine in zip(processes, moved, strict=True):
            copy = bank()
            copy.load_state_dict(process.state_dict())
            copy._moved = list(process._moved)
            copy.settle(step, lambda tensor, mine=mine: mine.append(tensor) or tensor)  # type: ignore[misc]
        for process in processes:
            sums = iter([one + two for one, two in zip(*moved, strict=True)])
            process.settle(step, lambda _, sums=sums: next(sums))  # type: ignore[misc]
        for process in processes:
            for name, expected in alone.state_dict().items():
                assert torch.equal(process.state_dict()[name], expected), name


def test_seeds_draw_others() -> None:
    one, other = bank(), bank(seed=8)
    assert one._text(0, 0) == bank()._text(0, 0)
    assert [one._text(slot, 0) for slot in range(12)] != [other._text(slot, 0) for slot in range(12)]
    assert not torch.equal(one._start(0, 0), other._start(0, 0))
    assert not torch.equal(one._start(0, 0), one._start(0, 1))


@pytest.mark.parametrize("wrong", [{"take": 0}, {"depth": 0}, {"stride": 0}])
def test_nonsense_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        bank(**wrong)
    with pytest.raises(ValueError, match="pool is empty"):
        Trajectories([], SHAPE, DDIM(KEPT), 4)
