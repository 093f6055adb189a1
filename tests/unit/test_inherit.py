"""Students that inherit channels: the layout of a UNet's channels, the choice of them, and the cut."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import get_timestep_embedding
from tiny_pipelines import tiny_unet

from randcond.jobs.errors import UserError
from randcond.method.inherit import _waves, choose, cut, first_order, inherit, parts_of, sets_of, widths
from randcond.method.student import build_student
from randcond.method.unet_students import student_config


def wide_unet(**changes: object) -> UNet2DConditionModel:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(20, 40, 80, 80),
        cross_attention_dim=8,
        **{"attention_head_dim": 2, "norm_num_groups": 1} | changes,
    )
    with torch.no_grad():
        for parameter in unet.parameters():  # norms and biases too: as they are, they are all alike
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return unet


def draw(unet: UNet2DConditionModel) -> torch.Tensor:
    chance = torch.Generator().manual_seed(1)
    noised, states = torch.randn(2, 4, 8, 8, generator=chance), torch.randn(2, 3, 8, generator=chance)
    with torch.no_grad():
        return unet(noised, torch.tensor([7, 700]), states).sample


def laid_out(unet: UNet2DConditionModel) -> tuple[dict, dict]:
    weights = unet.state_dict()
    sets = {name: sets_of(name, tensor, unet) for name, tensor in weights.items()}
    return sets, widths(sets, weights)


def test_channels_in_another_order_are_the_same_unet() -> None:
    # the layout is right in every layer, or the sums would be over the wrong channels
    unet, other = wide_unet(), wide_unet()
    sets, wide = laid_out(unet)
    heads = parts_of(unet)
    chosen = {}
    assert {name for name in wide if name.startswith("level")} == {"level 0", "level 1", "level 2"}
    for name, width in wide.items():
        pieces = heads.get(name, 1)
        order = torch.cat([torch.randperm(width // pieces) + i * (width // pieces) for i in range(pieces)])
        chosen[name] = torch.arange(width) if name == "waves" else order
    assert sum(not torch.equal(order, torch.arange(len(order))) for order in chosen.values()) > 100
    weights = unet.state_dict()
    other.load_state_dict({name: cut(tensor, sets[name], chosen, wide) for name, tensor in weights.items()})
    assert not torch.equal(other.conv_in.weight, unet.conv_in.weight)
    torch.testing.assert_close(draw(other), draw(unet), rtol=1e-4, atol=1e-4)


def test_every_dimension_is_accounted_for() -> None:
    unet = wide_unet()
    sets, wide = laid_out(unet)
    free = set()
    for name, tensor in unet.state_dict().items():
        assert len(sets[name]) == tensor.ndim, name
        for dimension, inside in enumerate(sets[name]):
            if inside == [None]:
                free.add((name, dimension)) if dimension < 2 else None
            else:
                assert sum(wide[str(one)] for one in inside) == tensor.shape[dimension], name
    # only what has the teacher's own size is left whole: latents and texts
    assert {(name.split(".")[-2], dimension) for name, dimension in free} == {
        ("conv_in", 1), ("conv_out", 0), ("to_k", 1), ("to_v", 1),
    }  # fmt: skip


def test_all_channels_are_the_teacher() -> None:
    unet, same = wide_unet(norm_num_groups=2), wide_unet(norm_num_groups=2)
    for parameter in same.parameters():
        torch.nn.init.zeros_(parameter)
    inherit(unet, same)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(same.parameters(), unet.parameters(), strict=True))


@pytest.mark.parametrize("student", ["c-base", "c-micro"])
def test_a_narrower_student_is_cut_from_the_teacher(student: str) -> None:
    unet = wide_unet(norm_num_groups=2, attention_head_dim=2)
    torch.manual_seed(3)
    built = build_student(unet, student, "inherited")
    fresh = UNet2DConditionModel.from_config(student_config(unet.config, student))
    assert [p.shape for p in built.parameters()] == [p.shape for p in fresh.parameters()]
    sets, wide = laid_out(unet)
    narrow = widths(sets, built.state_dict())
    importance = {name: tensor.square() for name, tensor in unet.state_dict().items()}
    chosen = choose(sets, importance, wide, narrow, parts_of(unet))
    # by hand: the input layer, and a resnet that reads two streams side by side
    rows = chosen["level 0"]
    assert len(rows) == narrow["level 0"] < 20
    assert (rows < 10).sum() == (rows >= 10).sum()  # as many of each group of the norm
    assert torch.equal(built.conv_in.weight, unet.conv_in.weight[rows])
    side_by_side = torch.cat([chosen["level 1"], 40 + chosen["level 0"]])
    expected = unet.up_blocks[3].resnets[0].conv1.weight[chosen["up_blocks.3.resnets.0"]][:, side_by_side]
    assert torch.equal(built.up_blocks[3].resnets[0].conv1.weight, expected)
    assert torch.isfinite(draw(built)).all()


def test_the_most_important_channels_are_kept() -> None:
    unet = wide_unet()
    sets, wide = laid_out(unet)
    importance = {name: torch.zeros_like(tensor) for name, tensor in unet.state_dict().items()}
    importance["conv_in.weight"][[3, 4, 19]] = 1.0  # as written
    importance["conv_out.weight"][:, 7] = 5.0  # and as read
    importance["up_blocks.3.resnets.0.conv1.weight"][:, 40 + 11] = 5.0  # in the second of two streams
    narrow = wide | {"level 0": 5}
    chosen = choose(sets, importance, wide, narrow, {})
    assert chosen["level 0"].tolist() == [3, 4, 7, 11, 19]
    heads = choose(sets, importance, wide, wide | {"down_blocks.0.attentions.0 0 attn1 keys": 10}, parts_of(unet))
    kept = heads["down_blocks.0.attentions.0 0 attn1 keys"]
    assert (kept < 10).sum() == 5  # each of two heads keeps half


def test_first_order_importance_is_weight_times_gradient() -> None:
    unet = wide_unet()
    unet.requires_grad_(False)
    before = [parameter.clone() for parameter in unet.parameters()]
    states = torch.zeros(1, 3, 8)
    losses = (unet(torch.randn(1, 4, 8, 8), torch.tensor([t]), states).sample.square().mean() for t in (5, 900))
    found = first_order(unet, losses)
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in unet.parameters())
    assert all(torch.equal(mine, old) for mine, old in zip(unet.parameters(), before, strict=True))
    # keys of empty texts change nothing; what writes the image does
    assert float(found["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"].sum()) == 0
    assert float(found["conv_out.weight"].sum()) > 0
    bias = unet.conv_out.bias.clone()
    torch.manual_seed(5)
    noised = torch.randn(1, 4, 8, 8)

    def loss(shift: float) -> torch.Tensor:
        with torch.no_grad():
            unet.conv_out.bias.copy_(bias + torch.tensor([shift, 0, 0, 0]))
        return unet(noised, torch.tensor([5]), states).sample.square().mean()

    slope = float((loss(1e-2) - loss(-1e-2)) / 2e-2)
    found = first_order(unet, (loss(shift) for shift in (0.0,)))
    assert float(found["conv_out.bias"][0]) == pytest.approx((float(bias[0]) * slope) ** 2, rel=1e-2)


@pytest.mark.parametrize(("wide", "narrow"), [(30, 24), (30, 15), (320, 160), (12, 12)])
def test_the_nearest_waves_of_time(wide: int, narrow: int) -> None:
    one, other = (get_timestep_embedding(torch.arange(1000), width, flip_sin_to_cos=True) for width in (wide, narrow))
    kept = _waves(wide, narrow)
    assert len(kept) == narrow
    difference = (one[:, kept] - other).abs()[:2, : narrow // 2 * 2]  # early, before phases part
    assert float(difference.max()) < (0.5 if wide != narrow else 1e-6)
    assert float(difference.mean()) < 0.06


def test_others_are_refused() -> None:
    with pytest.raises(UserError, match="all of the teacher's blocks"):
        build_student(tiny_unet(), "b-base", "inherited")
    unet = wide_unet(attention_head_dim=(5, 5, 10, 10))
    with pytest.raises(UserError, match="other numbers of heads"):
        build_student(unet, "c-small", "inherited")
