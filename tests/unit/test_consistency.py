"""Consistency distillation: jumps in closed form, phases on a sampler's grid, a problem whose answer is known."""

import pytest
import torch
from diffusers import DDIMScheduler
from torch import nn

from randcond.jobs.seeding import generator, normal
from randcond.method.consistency import HUBER, Phases, consistency_loss, guided, huber
from randcond.teachers.noise import NOISE_SCHEDULE
from randcond.teachers.solvers import CLEAN, DDIM, Solver

SHAPE = (1, 2, 2)
KEPT = DDIMScheduler(**NOISE_SCHEDULE).alphas_cumprod
MEAN, SPREAD = 1.5, 0.5


def flow(
    states: torch.Tensor, predicted: torch.Tensor, timesteps: torch.Tensor, following: torch.Tensor
) -> torch.Tensor:
    """Euler's step of a rectified flow whose time s is (t + 1) / 1000, so that CLEAN is s = 0."""
    return states + ((following - timesteps) / 1000).view(-1, 1, 1, 1) * predicted


SOLVERS = {"noise": DDIM(KEPT), "v": DDIM(KEPT, v_prediction=True), "flow": flow}


def scales(kind: str, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What a state has of image and of noise."""
    if kind == "flow":
        noise = ((timesteps + 1) / 1000).view(-1, 1, 1, 1)
        return 1 - noise, noise
    kept = torch.cat([KEPT, torch.ones(1)])[timesteps].view(-1, 1, 1, 1)
    return kept.sqrt(), (1 - kept).sqrt()


def exact(kind: str, states: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """The best prediction of a network of this kind, of data N(MEAN, SPREAD^2)."""
    image, noise = scales(kind, timesteps)
    variance = image**2 * SPREAD**2 + noise**2
    clean = MEAN + image * SPREAD**2 / variance * (states - image * MEAN)
    added = noise / variance * (states - image * MEAN)
    return {"noise": added, "v": image * added - noise * clean, "flow": added - clean}[kind]


def followed(kind: str, states: torch.Tensor, phases: Phases, first: int) -> torch.Tensor:
    """Where the exact teacher's sampler gets from the time at place ``first`` to its phase's edge, time by time."""
    edge, count = int(phases.edges[first]), len(states)
    for now, then in zip(phases.timesteps[first:].tolist(), phases.below[first:].tolist(), strict=True):
        at, to = torch.full((count,), now), torch.full((count,), then)
        states = SOLVERS[kind](states, exact(kind, states, at), at, to)
        if then == edge:
            break
    return states


@pytest.mark.parametrize(("times", "phases"), [(32, 4), (32, 1), (32, 8), (50, 1), (50, 5)])
def test_phases_are_those_of_a_trailing_sampler(times: int, phases: int) -> None:
    scheduler, found = (
        DDIMScheduler(**NOISE_SCHEDULE | {"steps_offset": 0}, timestep_spacing="trailing"),
        Phases(times, phases),
    )
    scheduler.set_timesteps(times)
    assert found.timesteps.tolist() == scheduler.timesteps.tolist()
    scheduler.set_timesteps(phases)
    assert found.starts == scheduler.timesteps.tolist()
    assert found.below.tolist() == [*found.timesteps.tolist()[1:], CLEAN]
    each = found.edges.view(phases, -1)
    assert (each == each[:, :1]).all()
    assert each[:, 0].tolist() == [*found.starts[1:], CLEAN]
    assert (found.edges <= found.below).all()


@pytest.mark.parametrize(("times", "phases"), [(32, 5), (4, 8), (0, 1), (8, 0)])
def test_phases_that_do_not_divide_the_times(times: int, phases: int) -> None:
    with pytest.raises(ValueError, match=f"{times} times cannot be cut into {phases} phases"):
        Phases(times, phases)


@pytest.mark.parametrize("kind", SOLVERS)
def test_a_jump_of_no_length_is_the_identity(kind: str) -> None:
    # the boundary condition, of any network; at CLEAN too
    now = torch.tensor([CLEAN, 0, 249, 749, 999])
    states, anything = normal((5, *SHAPE), 0, 0), normal((5, *SHAPE), 0, 1)
    torch.testing.assert_close(SOLVERS[kind](states, anything, now, now), states, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", SOLVERS)
def test_a_jump_to_the_clean_image_is_the_predicted_image(kind: str) -> None:
    image, added, now = normal((3, *SHAPE), 1, 0), normal((3, *SHAPE), 1, 1), torch.tensor([30, 499, 968])
    a, b = scales(kind, now)
    predicted = {"noise": added, "v": a * added - b * image, "flow": added - image}[kind]
    jumped = SOLVERS[kind](a * image + b * added, predicted, now, torch.full((3,), CLEAN))
    torch.testing.assert_close(jumped, image, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_diffusers_ddim_draws_as_the_jumps_go(steps: int) -> None:
    scheduler = DDIMScheduler(
        **NOISE_SCHEDULE | {"steps_offset": 0}, timestep_spacing="trailing", set_alpha_to_one=True, clip_sample=False
    )
    scheduler.set_timesteps(steps)
    states = ours = normal((2, *SHAPE), 2, 0)
    for now, then in zip(scheduler.timesteps, [*scheduler.timesteps[1:], torch.tensor(CLEAN)], strict=True):
        predicted = exact("noise", states, now.expand(2))
        states = scheduler.step(predicted, now, states).prev_sample
        ours = DDIM(KEPT)(ours, predicted, now.expand(2), then.expand(2))
    torch.testing.assert_close(ours, states, rtol=1e-3, atol=1e-4)


def test_huber_is_the_absolute_error_of_large_ones_and_the_squared_of_small() -> None:
    zero = torch.zeros(())
    assert float(huber(torch.tensor(3.0), zero)) == pytest.approx(3 - HUBER, rel=1e-4)
    assert float(huber(torch.tensor(HUBER / 10), zero)) == pytest.approx((HUBER / 10) ** 2 / (2 * HUBER), rel=2e-2)
    assert float(huber(torch.tensor([1.0, -1.0]), torch.tensor([1.0, 1.0]))) == pytest.approx(1, rel=1e-2)


def test_guidance() -> None:
    predicted, plain = torch.tensor([3.0]), torch.tensor([1.0])
    assert [float(guided(predicted, plain, scale)) for scale in (1.0, 2.0)] == [3.0, 5.0]


class Linear(nn.Module):
    """A student with a slope and an offset of its own at each timestep: as much as Gaussian data need."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        timesteps = torch.arange(1000)
        at = [exact(kind, torch.full((1000, 1, 1, 1), value), timesteps).flatten() for value in (0.0, 1.0)]
        self.offset, self.slope = nn.Parameter(at[0].clone()), nn.Parameter(at[1] - at[0])

    def forward(self, states: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return self.slope[timesteps].view(-1, 1, 1, 1) * states + self.offset[timesteps].view(-1, 1, 1, 1)


@torch.no_grad()
def gap(kind: str, student: nn.Module, phases: Phases) -> float:
    """Root mean square of how far the student's jumps from where phases begin miss where the sampler gets."""
    missed = []
    for i, start in enumerate(phases.starts):
        place = phases.timesteps.tolist().index(start)
        now, edge = torch.full((500,), start), phases.edges[place].expand(500)
        image, noise = scales(kind, now)
        states = image * (MEAN + SPREAD * normal((500, 1, 1, 1), 3, i)) + noise * normal((500, 1, 1, 1), 4, i)
        missed.append(SOLVERS[kind](states, student(states, now), now, edge) - followed(kind, states, phases, place))
    return float(torch.cat(missed).square().mean().sqrt())


@pytest.mark.parametrize("kind", SOLVERS)
@pytest.mark.parametrize("phases", [1, 2])
def test_a_student_learns_the_consistency_function_of_a_gaussian(kind: str, phases: int) -> None:
    # it starts as an exact denoiser, whose single step misses, and ends where the sampler gets in many
    times, student = Phases(8, phases), Linear(kind)
    solver: Solver = SOLVERS[kind]
    before = gap(kind, student, times)
    steps = 800
    optimizer = torch.optim.Adam(student.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        chance = generator(5, step)
        places = torch.randint(8, (64,), generator=chance)
        image, noise = scales(kind, times.timesteps[places])
        clean = MEAN + SPREAD * torch.randn(64, 1, 1, 1, generator=chance)
        states = image * clean + noise * torch.randn(64, 1, 1, 1, generator=chance)
        loss = consistency_loss(student, lambda x, t: exact(kind, x, t), solver, states, places, times)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    assert before > 0.05
    assert gap(kind, student, times) < 0.1 * before


def test_the_target_is_the_students_without_gradient() -> None:
    student, times, places = Linear("noise"), Phases(32, 4), torch.tensor([0, 7, 31])
    states, moved = normal((3, *SHAPE), 6, 0), []

    def teacher(states: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        moved.append(timesteps.tolist())
        return exact("noise", states, timesteps)

    consistency_loss(student, teacher, SOLVERS["noise"], states, places, times).backward()
    assert moved == [times.timesteps[places].tolist()]
    # a gradient where the student jumps from, none at the times below
    assert student.offset.grad is not None
    assert student.offset.grad.nonzero().flatten().tolist() == sorted(times.timesteps[places].tolist())
    # at an edge the target is the teacher's step itself
    now, edge = times.timesteps[places[1:]], times.edges[places[1:]]
    assert torch.equal(edge, times.below[places[1:]])
    expected = SOLVERS["noise"](states[1:], exact("noise", states[1:], now), now, edge)
    jumped = SOLVERS["noise"](states[1:], student(states[1:], now), now, edge)
    found = consistency_loss(student, teacher, SOLVERS["noise"], states[1:], places[1:], times)
    torch.testing.assert_close(found, huber(jumped, expected), rtol=1e-3, atol=1e-6)
