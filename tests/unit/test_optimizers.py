"""The optimisers: Muon against torch's, its orthogonal steps, and the learning rate over the steps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from randcond.jobs.stage import multiplies_bfloat16
from randcond.training.optimizers import Muon, iteration_dtype, make_optimizer, make_schedule, orthogonal


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), nn.Linear(10, 6), nn.Linear(6, 10), nn.Linear(10, 3))


def set_gradients(model: nn.Module, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=draw)


def test_muon_is_torchs_on_matrices_and_adamw_on_the_rest() -> None:
    mine, theirs = layers(), layers()
    before = [p.detach().clone() for p in mine.parameters()]
    muon = Muon(mine.parameters(), lr=1e-2, weight_decay=0.1)
    references = [
        torch.optim.Muon(
            [p for p in theirs.parameters() if p.ndim == 2], 1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW([p for p in theirs.parameters() if p.ndim == 1], 1e-2, weight_decay=0.1),
    ]
    for step in range(3):
        for model in (mine, theirs):
            set_gradients(model, step)
        for optimizer in (muon, *references):
            optimizer.step()
    for start, found, expected in zip(before, mine.parameters(), theirs.parameters(), strict=True):
        # bfloat16 has 8 bits; torch transposes before it rounds, and takes matrices one by one
        tolerance = {"rtol": 0.05, "atol": 3e-4} if found.ndim == 2 else {"rtol": 1e-6, "atol": 1e-8}
        torch.testing.assert_close(found - start, expected - start, **tolerance)


def test_muon_takes_a_convolution_as_the_matrix_of_its_filters() -> None:
    torch.manual_seed(0)
    convolution, linear = nn.Conv2d(4, 5, 3, bias=False), nn.Linear(36, 5, bias=False)
    linear.weight.data.copy_(convolution.weight.data.flatten(1))
    convolution.weight.grad = torch.randn(5, 4, 3, 3)
    linear.weight.grad = convolution.weight.grad.flatten(1).clone()
    for layer in (convolution, linear):
        Muon(layer.parameters(), lr=1e-2, weight_decay=0.0).step()
    assert torch.equal(convolution.weight.flatten(1), linear.weight)


def test_muon_in_parts_is_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    together, parts = layers(), layers()
    for model, many in ((together, 2**24), (parts, 60)):
        monkeypatch.setattr("randcond.training.optimizers._TOGETHER", many)
        set_gradients(model, 0)
        Muon(model.parameters(), lr=1e-2, weight_decay=0.1).step()
    for mine, theirs in zip(together.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_muon_leaves_parameters_without_a_gradient() -> None:
    model = layers()
    set_gradients(model, 0)
    model[1].weight.grad = None
    before = [p.detach().clone() for p in model.parameters()]
    Muon(model.parameters(), lr=1e-2, weight_decay=0.1).step()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert moved == [True, True, False, True, True, True, True, True]


def test_muon_sees_no_loss_scale_and_no_overflow() -> None:
    plain, scaled = layers(), layers()
    optimizer, other = Muon(plain.parameters(), 1e-2, 0.1), Muon(scaled.parameters(), 1e-2, 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    x = torch.linspace(-1, 1, 12).reshape(2, 6)
    for step in range(4):
        plain.zero_grad(), scaled.zero_grad()
        plain(x).square().mean().backward()
        scaler.scale(scaled(x).square().mean() * (float("inf") if step == 1 else 1.0)).backward()
        if step != 1:  # an overflow is no step
            optimizer.step()
        scaler.step(other)
        scaler.update()  # after it the scale is half
    for mine, theirs in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)  # two momenta of other scales: 0.3 of 1


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 1000), st.floats(1e-6, 1e6))
def test_orthogonal_has_singular_values_near_1(rows: int, columns: int, seed: int, scale: float) -> None:
    matrices = torch.randn(2, rows, columns, generator=torch.Generator().manual_seed(seed))
    exact, values, right = torch.linalg.svd(matrices, full_matrices=False)
    found = orthogonal(matrices * scale)
    inside = exact.mT @ found @ right.mT  # in the bases of singular vectors: a diagonal
    large = values > 0.05 * values[:, :1]  # five steps bring no smaller one near 1
    assert inside.diagonal(dim1=-2, dim2=-1)[large].min() > 0.6
    assert inside.diagonal(dim1=-2, dim2=-1).max() < 1.3
    assert (inside - torch.diag_embed(inside.diagonal(dim1=-2, dim2=-1))).abs().max() < 0.06


@pytest.mark.parametrize(
    ("can", "dtype"),
    [({"amx_bf16": True}, torch.bfloat16), ({"avx512_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)],
)
def test_a_cpu_iterates_in_what_it_multiplies_in(
    can: dict[str, bool], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can)
    multiplies_bfloat16.cache_clear()
    try:
        assert (iteration_dtype("cpu"), iteration_dtype("cuda")) == (dtype, torch.bfloat16)
        matrix = torch.randn(1, 6, 9, generator=torch.Generator().manual_seed(0))
        found = orthogonal(matrix)
        assert found.dtype == torch.float32
        # the polynomial of each singular value, in float64
        left, values, right = torch.linalg.svd(matrix.double() / matrix.double().norm(), full_matrices=False)
        for _ in range(5):
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        error = float((found - left @ torch.diag_embed(values) @ right).abs().max())
        assert (error < 1e-5) == (dtype == torch.float32) and error < 0.05
    finally:
        multiplies_bfloat16.cache_clear()


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_rate_is_constant_and_falls_at_the_end(name: str) -> None:
    optimizer = make_optimizer(name, layers().parameters(), 2e-3, 0.0)  # type: ignore[arg-type]
    schedule = make_schedule(optimizer, "cosine", steps=20, warmup=4, cycles=1, decay=8)
    rates = []
    for _ in range(20):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert all(len(set(rate)) == 1 for rate in rates)
    expected = [0, 0.25, 0.5, 0.75] + [1] * 8 + [1 - (step / 8) ** 0.5 for step in range(8)]
    assert [rate[0] / 2e-3 for rate in rates] == pytest.approx(expected)
