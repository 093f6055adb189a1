"""The seven students: their sizes on SD v1.4, and which of the teacher's layers they take."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from tiny_pipelines import tiny_unet

from randcond.jobs.errors import UserError
from randcond.method.catalogue import FEATURES, STUDENTS, best_features
from randcond.method.losses import FeatureLoss, captured
from randcond.method.student import (
    build_student,
    copy_weights,
    count_parameters,
    feature_pairs,
    rules_of,
    student_of_config,
)

SIZES = {
    "b-base": 579_384_964, "b-small": 482_346_884, "b-tiny": 323_384_964, "c-base": 553_235_204,
    "c-small": 425_288_868, "c-tiny": 314_140_228, "c-micro": 219_789_284,
}  # fmt: skip


@pytest.fixture(scope="module")
def sd14() -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(sample_size=64, cross_attention_dim=768)


def test_teacher_is_sd14(sd14: UNet2DConditionModel) -> None:
    assert count_parameters(sd14) == 859_520_964


@pytest.mark.parametrize("student", STUDENTS)
def test_size_on_sd14(sd14: UNet2DConditionModel, student: str) -> None:
    assert count_parameters(student_of_config(sd14.config, student)) == SIZES[student]


@pytest.mark.parametrize(
    ("student", "widths"),
    [("c-base", [256, 512, 1024, 1024]), ("c-small", [224, 448, 896, 896]), ("c-tiny", [192, 384, 768, 768]),
     ("c-micro", [160, 320, 640, 640])],
)  # fmt: skip
def test_widths_on_sd14(sd14: UNet2DConditionModel, student: str, widths: list[int]) -> None:
    assert list(student_of_config(sd14.config, student).config["block_out_channels"]) == widths


@pytest.mark.parametrize("student", ["b-base", "b-small", "b-tiny"])
def test_copies_the_layer_it_stands_for(student: str) -> None:
    torch.manual_seed(0)
    teacher = tiny_unet()
    built = build_student(teacher, student, "copied")
    theirs = teacher.state_dict()
    shift = 1 if student == "b-tiny" else 0
    checked = set()

    def same(mine: str, source: str) -> None:
        names = [name for name in built.state_dict() if name.startswith(mine + ".")]
        assert names, mine
        for name in names:
            assert torch.equal(built.state_dict()[name], theirs[source + name.removeprefix(mine)]), (name, source)
        checked.update(names)

    for i in range(4 - shift):
        same(f"down_blocks.{i}.resnets.0", f"down_blocks.{i}.resnets.0")
        if i < 3:
            same(f"down_blocks.{i}.attentions.0", f"down_blocks.{i}.attentions.0")
        if i < 3 - shift:
            same(f"down_blocks.{i}.downsamplers.0", f"down_blocks.{i}.downsamplers.0")
    for k in range(4 - shift):
        kinds = ["resnets"] + (["attentions"] if k + shift > 0 else [])
        for kind in kinds:
            same(f"up_blocks.{k}.{kind}.0", f"up_blocks.{k + shift}.{kind}.0")
            same(f"up_blocks.{k}.{kind}.1", f"up_blocks.{k + shift}.{kind}.2")
        if k + shift < 3:
            same(f"up_blocks.{k}.upsamplers.0", f"up_blocks.{k + shift}.upsamplers.0")
    for name in ("conv_in", "conv_out", "conv_norm_out", "time_embedding"):
        same(name, name)
    if student == "b-base":
        same("mid_block", "mid_block")
    assert checked == set(built.state_dict())


@pytest.mark.parametrize("student", STUDENTS)
def test_draws_something_of_the_right_shape(student: str) -> None:
    torch.manual_seed(1)
    teacher = tiny_unet()
    built = build_student(teacher, student, "random" if student[0] == "c" else "copied")
    with torch.no_grad():
        out = built(torch.randn(2, 4, 8, 8), torch.tensor([1, 900]), torch.randn(2, 3, 8)).sample
    assert out.shape == (2, 4, 8, 8)
    assert torch.isfinite(out).all()
    assert count_parameters(built) < count_parameters(teacher)


def test_copied_weights_are_the_students_own() -> None:
    teacher = tiny_unet()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    student = build_student(teacher, "b-base", "copied")
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


def test_other_layers_are_not_copied_over_silently() -> None:
    teacher = tiny_unet()
    wider = UNet2DConditionModel.from_config({**teacher.config, "cross_attention_dim": 16, "layers_per_block": 1})
    with pytest.raises(UserError, match="no layer .*of shape") as caught:
        copy_weights(teacher, wider, rules_of("b-base"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("student", ["b-base", "b-small", "b-tiny"])
def test_heads_given_block_by_block(student: str) -> None:
    # as in SD v2.x, where they grow with the width
    teacher = UNet2DConditionModel.from_config({**tiny_unet().config, "attention_head_dim": [1, 2, 4, 4]})
    built = build_student(teacher, student, "copied")
    shift = 4 - len(built.up_blocks)
    for i in range(3):
        mine, theirs = built.down_blocks[i].attentions[0], teacher.down_blocks[i].attentions[0]
        assert mine.num_attention_heads == theirs.num_attention_heads == [1, 2, 4][i]
    for k in range(1 - shift, 4 - shift):
        mine, theirs = built.up_blocks[k].attentions[0], teacher.up_blocks[k + shift].attentions[0]
        assert mine.num_attention_heads == theirs.num_attention_heads


def test_random_weights_depend_on_the_seed_alone() -> None:
    def build(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return build_student(teacher, "b-base", "random").conv_in.weight

    teacher = tiny_unet()
    assert torch.equal(build(1), build(1))
    assert not torch.equal(build(1), build(2))


def test_feature_pairs(sd14: UNet2DConditionModel) -> None:
    def pairs(student: str) -> list[tuple[str, str]]:
        return feature_pairs(sd14, student_of_config(sd14.config, student), student)

    blocks = [*(f"down_blocks.{i}" for i in range(4)), *(f"up_blocks.{i}" for i in range(4))]
    assert pairs("b-base") == pairs("b-small") == [(block, block) for block in blocks]
    assert pairs("b-tiny") == [
        ("down_blocks.0", "down_blocks.0"),
        ("down_blocks.1", "down_blocks.1"),
        ("down_blocks.2.attentions.1", "down_blocks.2.attentions.0"),
        *((f"up_blocks.{k + 1}", f"up_blocks.{k}") for k in range(3)),
    ]
    last = [
        *(f"down_blocks.{i}.downsamplers.0" for i in range(3)), "down_blocks.3.resnets.1", "mid_block.resnets.1",
        *(f"up_blocks.{i}.upsamplers.0" for i in range(3)), "up_blocks.3.attentions.2",
    ]  # fmt: skip
    assert pairs("c-micro") == [(layer, layer) for layer in last]


def test_feature_pairs_of_the_authors(sd14: UNet2DConditionModel) -> None:
    def layers(student: str, features: str) -> list[str]:
        pairs = feature_pairs(sd14, student_of_config(sd14.config, student), student, features)
        return [own for _, own in pairs]

    resamplers = [f"{way}_blocks.{i}.{way}samplers.0" for way in ("down", "up") for i in range(3)]
    inner, mid, outer = (
        "down_blocks.3.resnets.1.conv2", "mid_block.attentions.0.proj_out", "up_blocks.3.attentions.2.proj_out",
    )  # fmt: skip
    assert layers("c-base", "authors") == [*resamplers[:3], inner, mid, *resamplers[3:], outer]
    assert layers("c-base", "authors-effective") == [*resamplers[:3], mid, *resamplers[3:]]
    ups = [f"up_blocks.{k}" for k in range(3)]
    downs = ["down_blocks.0", "down_blocks.1"]
    assert layers("b-tiny", "authors") == [*downs, "down_blocks.2.attentions.0.proj_out", *ups]
    assert layers("b-tiny", "authors-effective") == [*downs, *ups]
    assert best_features("c-base") == best_features("c-micro") == "authors-effective"
    assert best_features("b-tiny") == "blocks"
    for student in ("b-base", "b-small"):
        assert layers(student, "authors") == layers(student, "authors-effective") == layers(student, "blocks")


def test_feature_pairs_of_the_authors_without_attention_in_the_middle() -> None:
    kinds = {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
    plain = {"mid_block_type": "UNetMidBlock2D", "norm_num_groups": 4, "block_out_channels": [40, 80]}
    teacher = UNet2DConditionModel(**kinds, **plain)
    built = build_student(teacher, "c-base", "random")
    found = [own for _, own in feature_pairs(teacher, built, "c-base", "authors-effective")]
    assert found == ["down_blocks.0.downsamplers.0", "mid_block.resnets.0", "up_blocks.0.upsamplers.0"]


def test_feature_pairs_that_leave_nothing_to_compare() -> None:
    one = {"down_block_types": ["CrossAttnDownBlock2D"], "up_block_types": ["CrossAttnUpBlock2D"]}
    teacher = UNet2DConditionModel(
        **one, block_out_channels=[40], norm_num_groups=4, mid_block_type=None, cross_attention_dim=8
    )
    built = build_student(teacher, "c-base", "random")
    assert len(feature_pairs(teacher, built, "c-base")) == 2
    with pytest.raises(UserError, match="features: authors-effective .* use blocks"):
        feature_pairs(teacher, built, "c-base", "authors-effective")


@pytest.mark.parametrize("linear", [False, True], ids=["convolutions", "linear layers"])
@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("student", ["b-tiny", "c-micro"])
def test_every_feature_pair_trains_the_student(student: str, features: str, linear: bool) -> None:
    # with gradient checkpointing, under which the authors' library lost three of them
    torch.manual_seed(0)
    plain = {name: value for name, value in tiny_unet().config.items() if name[0] != "_"}  # or defaults win
    config = plain | {"use_linear_projection": linear}
    teacher = UNet2DConditionModel.from_config(config).requires_grad_(False)
    built = build_student(teacher, student, "random").train()
    built.enable_gradient_checkpointing()
    pairs = feature_pairs(teacher, built, student, features)
    loss = FeatureLoss(teacher, built, pairs)
    given = (torch.randn(1, 4, 8, 8), torch.tensor([500]), torch.randn(1, 3, 8))
    with torch.no_grad(), captured(teacher, [pair[0] for pair in pairs]) as expected:
        teacher(*given)
    with captured(built, [pair[1] for pair in pairs]) as found:
        built(*given)
    for pair in pairs:
        built.zero_grad()
        loss.pairs = [pair]
        loss(expected, found).backward(retain_graph=True)
        assert built.conv_in.weight.grad.abs().max() > 0, pair


def test_impossible_students() -> None:
    teacher = tiny_unet()
    with pytest.raises(UserError, match="c-base"):
        build_student(teacher, "c-base", "copied")
    with pytest.raises(UserError, match="d-base"):
        build_student(teacher, "d-base", "random")


@pytest.mark.parametrize(
    ("student", "changes", "width"),
    [
        ("c-base", {"block_out_channels": (12, 24, 48, 48)}, 12),  # 9.6 channels
        ("c-micro", {"block_out_channels": (10, 15, 20, 20)}, 15),  # 7.5 channels, after a width that can be halved
        ("c-small", {"norm_num_groups": 5}, 10),  # 7 channels in 5 groups
        ("c-tiny", {"attention_head_dim": 4}, 10),  # 6 channels for 4 heads
    ],
)
def test_widths_that_do_not_divide(student: str, changes: dict, width: int) -> None:
    with pytest.raises(UserError, match=f"{student}.* {width} ") as caught:
        student_of_config(dict(tiny_unet().config) | changes, student)
    assert "\n" not in str(caught.value)
