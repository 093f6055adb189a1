"""Students of SDXL's UNet and of SD3's transformer: true sizes, what they copy, what they are compared by."""

from typing import Any

import pytest
import torch
from diffusers import SD3Transformer2DModel
from tiny_pipelines import tiny_sdxl_unet, tiny_transformer, tiny_unet

from randcond.jobs.errors import UserError
from randcond.method.catalogue import STACK_STUDENTS, TRANSFORMER_STUDENTS, UNET_STUDENTS
from randcond.method.losses import FeatureLoss, captured
from randcond.method.student import build_student, count_parameters, feature_pairs, student_of_config
from randcond.method.transformer_students import kept_blocks
from randcond.planning import sd3, sdxl


def config_of(make: Any, *given: str) -> tuple[int, dict]:
    with torch.device("meta"):
        model = make(*given)
    return count_parameters(model), dict(model.config)


@pytest.mark.parametrize("student", sdxl.STUDENT_PARAMETERS)
def test_size_on_sdxl(student: str) -> None:
    size, config = config_of(sdxl.unet)
    assert size == sdxl.PARAMETERS
    assert count_parameters(student_of_config(config, student)) == sdxl.STUDENT_PARAMETERS[student]


def by_hand(width: int, blocks: int, twice: int, newer: bool) -> int:
    """Parameters of an SD3 of heads of 64: ``twice`` of its blocks attend twice, ``newer`` ones normalise q and k."""
    square, bias = width * width, width
    attention, ahead = 4 * (square + bias), 8 * square + 5 * bias
    one_stream = 6 * (square + bias) + attention + ahead  # shifts and scales, q, k, v and out, the layer after them
    lacking = 4 * (square + bias) + (square + bias) + ahead  # of the last block's text: four shifts, out, that layer
    again = 3 * (square + bias) + attention + 2 * 64
    norms = 4 * 64 * blocks if newer else 0
    inputs = (16 * 2 * 2 + 1) * width + (4096 + 1) * width  # patches of 2 x 2, texts
    times = (256 + 1) * width + (2048 + 1) * width + 2 * (square + bias)  # and pooled texts
    outputs = 2 * (square + bias) + (width + 1) * 16 * 2 * 2
    return blocks * 2 * one_stream - lacking + twice * again + norms + inputs + times + outputs


@pytest.mark.parametrize("name", sd3.PARAMETERS)
def test_size_of_sd3(name: str) -> None:
    size, config = config_of(sd3.transformer, name)
    heads, newer, twice = config["num_attention_heads"], name != "medium", len(config["dual_attention_layers"])
    assert size == sd3.PARAMETERS[name] == by_hand(64 * heads, heads, twice, newer)
    for student, expected in sd3.STUDENT_PARAMETERS[name].items():
        built = student_of_config(config, student)
        width, blocks = 64 * built.config["num_attention_heads"], built.config["num_layers"]
        assert count_parameters(built) == expected, student
        assert expected == by_hand(width, blocks, len(built.config["dual_attention_layers"]), newer), student


def test_kept_blocks() -> None:
    # every second of the first half, every second of the rest
    assert kept_blocks(24, "half-depth") == [0, 2, 4, 6, 8, 10, 13, 15, 17, 19, 21, 23]
    for count in range(4, 40):
        for student, part in (("half-depth", 2), ("third-depth", 3)):
            kept = kept_blocks(count, student)
            assert kept[0] == 0
            assert kept[-1] == count - 1
            assert kept == sorted(set(kept))
            assert len(kept) == max(2, count // part)


@pytest.mark.parametrize("student", ["half-depth", "third-depth"])
def test_a_transformers_blocks_are_the_teachers(student: str) -> None:
    torch.manual_seed(0)
    teacher = tiny_transformer()
    built = build_student(teacher, student, "copied")
    theirs, kept = teacher.state_dict(), kept_blocks(6, student)
    assert len(built.transformer_blocks) == len(kept)
    for name, tensor in built.state_dict().items():
        parts = name.split(".")
        if parts[0] == "transformer_blocks":
            parts[1] = str(kept[int(parts[1])])
        assert torch.equal(tensor, theirs[".".join(parts)]), name
    # blocks that attend twice are those that did
    twice = [i for i, block in enumerate(built.transformer_blocks) if block.use_dual_attention]
    assert twice == [i for i, block in enumerate(kept) if block < 3]
    assert [block.context_pre_only for block in built.transformer_blocks] == [False] * (len(kept) - 1) + [True]


@pytest.mark.parametrize("student", STACK_STUDENTS)
def test_lower_transformer_layers_are_copied(student: str) -> None:
    torch.manual_seed(0)
    teacher = tiny_sdxl_unet()
    built = build_student(teacher, student, "copied")
    theirs, mine = teacher.state_dict(), built.state_dict()
    moved = 1 if student == "ssd-1b" else 2  # the place of an up block's second pair in the teacher
    for kind in ("resnets.1.conv1.weight", "attentions.1.transformer_blocks.3.attn2.to_q.weight"):
        source = kind.replace(".1.", f".{moved}.", 1)
        assert torch.equal(mine[f"up_blocks.0.{kind}"], theirs[f"up_blocks.0.{source}"])
    depth = {"koala-1b": 6, "koala-700m": 5, "ssd-1b": 4}[student]
    assert len(built.down_blocks[2].attentions[0].transformer_blocks) == depth
    for layer in range(depth):
        name = f"down_blocks.2.attentions.0.transformer_blocks.{layer}.attn1.to_q.weight"
        assert torch.equal(mine[name], theirs[name])


def conditions(denoiser: Any) -> dict[str, Any]:
    chance = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=chance)

    if isinstance(denoiser, SD3Transformer2DModel):
        return {"encoder_hidden_states": drawn(2, 5, 24), "pooled_projections": drawn(2, 16)}
    added = {"text_embeds": drawn(2, 8), "time_ids": torch.tensor([[32, 32, 0, 0, 32, 32]] * 2)}
    return {"encoder_hidden_states": drawn(2, 5, 16), "added_cond_kwargs": added}


CASES = [(tiny_sdxl_unet, name) for name in UNET_STUDENTS] + [(tiny_transformer, name) for name in TRANSFORMER_STUDENTS]
CASES = [(make, name) for make, name in CASES if name != "two-thirds-width"]  # of 4 heads
NARROWER = ("c-small", "c-tiny", "c-micro")  # by the rule of c-base, and as long


@pytest.mark.parametrize("features", ["blocks", "authors"])
@pytest.mark.parametrize(
    ("make", "student"),
    [pytest.param(*case, marks=pytest.mark.slow if case[1] in NARROWER else (), id=case[1]) for case in CASES],
)
def test_every_feature_pair_trains_the_student(make: Any, student: str, features: str) -> None:
    torch.manual_seed(0)
    teacher = make().requires_grad_(False)
    built = build_student(teacher, student, "random").train()
    assert count_parameters(built) < count_parameters(teacher)
    built.enable_gradient_checkpointing()
    pairs = feature_pairs(teacher, built, student, features)
    loss = FeatureLoss(teacher, built, pairs)
    given = {"timestep": torch.tensor([500.0, 20.0]), **conditions(teacher)}
    noised = torch.randn(2, 4, 8, 8)
    with torch.no_grad(), captured(teacher, [pair[0] for pair in pairs]) as expected:
        out = teacher(noised, **given).sample
    with captured(built, [pair[1] for pair in pairs]) as found:
        assert built(noised, **given).sample.shape == out.shape
    errors = list(loss.errors(expected, found))
    assert len(errors) == len(pairs) > 2
    first = built.pos_embed.proj.weight if isinstance(built, SD3Transformer2DModel) else built.conv_in.weight
    for pair, error in list(zip(pairs, errors, strict=True))[:: max(1, len(pairs) // 8)]:
        first.grad = None
        error.backward(retain_graph=True)
        assert first.grad is not None, pair
        assert first.grad.abs().max() > 0, pair


def test_pairs_of_blocks() -> None:
    def pairs(make: Any, student: str, features: str = "blocks") -> list[tuple[str, str]]:
        with torch.device("meta"):
            teacher = make()
            return feature_pairs(teacher, student_of_config(dict(teacher.config), student), student, features)

    assert pairs(tiny_transformer, "half-depth") == [  # keeps 0, 3, 5
        ("transformer_blocks.2:1", "transformer_blocks.0:1"),
        ("transformer_blocks.4:1", "transformer_blocks.1:1"),
        ("transformer_blocks.5:1", "transformer_blocks.2:1"),
        ("transformer_blocks.2:0", "transformer_blocks.0:0"),
        ("transformer_blocks.4:0", "transformer_blocks.1:0"),
    ]
    assert pairs(tiny_transformer, "half-width")[0] == ("transformer_blocks.0:1", "transformer_blocks.0:1")
    blocks = [*(f"down_blocks.{i}" for i in range(3)), *(f"up_blocks.{i}" for i in range(3))]
    assert pairs(tiny_sdxl_unet, "koala-700m") == [(block, block) for block in blocks]
    koala = pairs(tiny_sdxl_unet, "koala-700m", "authors")
    assert len(koala) == 2 + 5 + 2 * 5 + 2 * 2
    assert all(own.endswith(".attn1") for _, own in koala)
    layer = "transformer_blocks.4.attn1"
    assert (f"up_blocks.0.attentions.2.{layer}", f"up_blocks.0.attentions.1.{layer}") in koala
    ssd = pairs(tiny_sdxl_unet, "ssd-1b", "authors")
    assert len(ssd) == 6 + 4 + 9 + 6 + 1  # resnets and attentions down and up, and the middle
    assert all(theirs == own for theirs, own in ssd)


@pytest.mark.parametrize(
    ("make", "student", "error"),
    [
        (tiny_unet, "half-depth", "made of a SD3Transformer2DModel, not of a UNet2DConditionModel"),
        (tiny_transformer, "b-base", "made of a UNet2DConditionModel"),
        (tiny_unet, "koala-1b", "SDXL's stacks"),
        (tiny_transformer, "two-thirds-width", "leaves whole, not 4"),
    ],
)
def test_students_of_other_teachers(make: Any, student: str, error: str) -> None:
    with pytest.raises(UserError, match=error) as caught:
        build_student(make(), student, "random")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("student", ["half-width", "c-base"])
def test_narrow_ones_copy_nothing(student: str) -> None:
    teacher = tiny_transformer() if student == "half-width" else tiny_sdxl_unet()
    with pytest.raises(UserError, match=f"{student} has other widths"):
        build_student(teacher, student, "copied")


def test_a_narrow_sdxl_inherits_channels() -> None:
    torch.manual_seed(0)
    plain = {name: value for name, value in tiny_sdxl_unet().config.items() if name[0] != "_"}
    teacher = type(tiny_sdxl_unet()).from_config(plain | {"attention_head_dim": 1})
    built = build_student(teacher, "c-base", "inherited")
    added = teacher.add_embedding.linear_1.weight
    assert built.add_embedding.linear_1.weight.shape == (32, 32)  # of 40
    rows = {tuple(row) for row in added.tolist()}
    assert all(tuple(row) in rows for row in built.add_embedding.linear_1.weight.tolist())
