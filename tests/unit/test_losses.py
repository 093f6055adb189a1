"""The distillation losses against a plain computation."""

import pytest
import torch

from randcond.method.losses import DistillationLoss, captured
from randcond.method.student import build_student, feature_pairs
from randcond.teachers.pipelines import teacher_of
from randcond.teachers.teacher import Teacher


def drawn(teacher: Teacher, n: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents, noise and timesteps."""
    chance = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn((n, *teacher.latent_shape), generator=chance) for _ in range(2))
    return latents, noise, torch.randint(1000, (n,), generator=chance)


def batch(teacher: Teacher, n: int = 4) -> dict:
    latents, noise, timesteps = drawn(teacher, n)
    return {
        "noised": teacher.add_noise(latents, noise, timesteps),
        "timesteps": timesteps,
        "conditions": teacher.encode(["a tiger", "a bus", "", "a red apple"][:n]),
        "target": teacher.target(latents, noise, timesteps),
        "known": torch.tensor([False, True, True, False][:n]),
        "share_known": 0.5,
    }


def part(whole: dict, rows: slice) -> dict:
    conditions = {name: tensor[rows] for name, tensor in whole["conditions"].items()}
    of_whole = {"conditions": conditions, "share_known": whole["share_known"]}
    return {name: value[rows] for name, value in whole.items() if name not in of_whole} | of_whole


def make(teacher: Teacher, student: str, denoise: bool = False) -> DistillationLoss:
    torch.manual_seed(5)
    built = build_student(teacher.denoiser, student, "random")
    return DistillationLoss(teacher, built, feature_pairs(teacher.denoiser, built, student), denoise)


@pytest.mark.parametrize("student", ["b-base", "b-small", "b-tiny", "c-small"])
def test_against_a_plain_computation(teacher: Teacher, student: str) -> None:
    loss, data = make(teacher, student, denoise=True), batch(teacher)
    outputs: dict[tuple[str, str], torch.Tensor] = {}
    pairs = feature_pairs(teacher.denoiser, loss.student, student)
    for of_teacher, of_student in pairs:
        for who, unet, name in (("t", teacher.denoiser, of_teacher), ("s", loss.student, of_student)):
            unet.get_submodule(name).register_forward_hook(
                lambda _m, _i, out, key=(who, name): outputs.update({key: out[0] if isinstance(out, tuple) else out})
            )
    losses, predicted = loss(**data)
    found = {name: value.detach() for name, value in losses.items()}
    noised = data["noised"]
    states = data["conditions"]["encoder_hidden_states"]
    with torch.no_grad():
        expected = teacher.denoiser(noised, data["timesteps"], states).sample
        mine = loss.student(noised, data["timesteps"], states).sample
    features = 0.0
    for of_teacher, of_student in pairs:
        output = outputs["s", of_student]
        output = getattr(output, "sample", output)
        key = of_student.replace(".", "-")
        if key in loss.features.projections:
            layer = loss.features.projections[key]
            output = torch.einsum("oc,nchw->nohw", layer.weight[:, :, 0, 0], output) + layer.bias.view(1, -1, 1, 1)
        target = outputs["t", of_teacher]
        features += float((output - getattr(target, "sample", target)).square().mean().detach())
    errors = (mine - data["target"]).square().mean((1, 2, 3))
    assert torch.equal(predicted, expected)
    assert float(found["out"]) == pytest.approx(float((mine - expected).square().mean()), rel=1e-5)
    assert float(found["feat"]) == pytest.approx(features, rel=1e-5)
    assert float(found["denoise"]) == pytest.approx(float(errors[data["known"]].mean()), rel=1e-5)
    assert float(found["loss"]) == pytest.approx(float(found["out"] + found["feat"] + found["denoise"]), rel=1e-6)


def test_noise_is_added_as_the_schedule_says(teacher: Teacher) -> None:
    latents, noise, timesteps = drawn(teacher)
    schedule = teacher.pipeline.scheduler.config
    assert schedule["beta_schedule"] == "scaled_linear"
    betas = torch.linspace(schedule["beta_start"] ** 0.5, schedule["beta_end"] ** 0.5, 1000).square()
    kept = torch.cumprod(1 - betas, 0)[timesteps].view(-1, 1, 1, 1)
    expected = kept.sqrt() * latents + (1 - kept).sqrt() * noise
    torch.testing.assert_close(teacher.add_noise(latents, noise, timesteps), expected)


def test_only_channel_students_have_projections_and_they_learn(teacher: Teacher) -> None:
    assert len(make(teacher, "b-base").features.projections) == 0
    loss = make(teacher, "c-base")
    widths = {name: layer.weight.shape[:2] for name, layer in loss.features.projections.items()}
    assert len(widths) == 9
    assert widths["down_blocks-0-downsamplers-0"] == (10, 8)
    assert widths["mid_block-resnets-1"] == (40, 32)
    loss(**batch(teacher))[0]["loss"].backward()
    for layer in loss.features.projections.values():
        assert layer.weight.grad is not None
        assert layer.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.denoiser.parameters())
    assert all(parameter.grad is not None for parameter in loss.student.parameters())


def gradients(loss: DistillationLoss, data: dict) -> dict[str, torch.Tensor]:
    loss.zero_grad(set_to_none=True)
    loss(**data)[0]["loss"].backward()
    return {name: parameter.grad for name, parameter in loss.named_parameters()}


def test_denoising_needs_an_image_that_belongs_to_its_text(teacher: Teacher) -> None:
    data = batch(teacher)
    plain, denoising = make(teacher, "b-base"), make(teacher, "b-base", denoise=True)
    assert set(plain(**data)[0]) == {"loss", "out", "feat"}
    swapped = data | {"known": torch.zeros(4, dtype=torch.bool), "share_known": 0.0}
    assert float(denoising(**swapped)[0]["denoise"].detach()) == 0
    # where every text was swapped, nothing is learned from the true noise
    expected = gradients(plain, swapped)
    for name, gradient in gradients(denoising, swapped).items():
        torch.testing.assert_close(gradient, expected[name])
    kept = gradients(denoising, data | {"known": torch.ones(4, dtype=torch.bool), "share_known": 1.0})
    assert not torch.allclose(kept["student.conv_out.weight"], expected["student.conv_out.weight"])


def test_velocity_is_the_target_of_a_teacher_that_predicts_it(teacher: Teacher) -> None:
    latents, noise, timesteps = drawn(teacher)
    assert torch.equal(teacher.target(latents, noise, timesteps), noise)
    teacher.pipeline.scheduler.register_to_config(prediction_type="v_prediction")
    teacher = teacher_of(teacher.pipeline)
    kept = teacher.pipeline.scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    expected = kept.sqrt() * noise - (1 - kept).sqrt() * latents
    torch.testing.assert_close(teacher.target(latents, noise, timesteps), expected)


@pytest.mark.parametrize("student", ["b-base", "c-base"])
def test_checkpointed_gradients_are_the_same(teacher: Teacher, student: str) -> None:
    # the blocks then run a second time in the backward pass, and their hooks with them
    plain, saving, data = make(teacher, student).train(), make(teacher, student).train(), batch(teacher)
    saving.student.enable_gradient_checkpointing()
    expected = gradients(plain, data)
    for name, gradient in gradients(saving, data).items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-4)


def test_hooks_are_gone_afterwards(teacher: Teacher) -> None:
    loss = make(teacher, "c-base")
    loss(**batch(teacher))
    data = batch(teacher)
    data["timesteps"] = data["timesteps"][:3]
    with pytest.raises((RuntimeError, ValueError)):
        loss(**data)
    for unet in (teacher.denoiser, loss.student):
        assert not [name for name, module in unet.named_modules() if module._forward_hooks]


def test_parts_of_a_batch_add_up(teacher: Teacher) -> None:
    loss, data = make(teacher, "c-base", denoise=True), batch(teacher)
    with torch.no_grad():
        whole = loss(**data)[0]
        parts = [loss(**part(data, rows))[0] for rows in (slice(0, 1), slice(1, 4))]
    assert set(whole) == {"loss", "out", "feat", "denoise"}
    for name in whole:
        expected = float(parts[0][name]) / 4 + 3 * float(parts[1][name]) / 4
        assert float(whole[name]) == pytest.approx(expected, rel=1e-4)


def test_a_copy_of_the_teacher_loses_nothing(teacher: Teacher) -> None:
    blocks = [f"down_blocks.{i}" for i in range(4)]
    loss = DistillationLoss(teacher, teacher.denoiser, [(block, block) for block in blocks], denoise=False)
    with torch.no_grad():
        assert float(loss(**batch(teacher))[0]["loss"]) == 0


@pytest.mark.parametrize("texts", [["a red apple", ""], ["a tiger " * 200, "a bus"]])  # padded, and cut
def test_texts_are_encoded_as_the_pipeline_does(teacher: Teacher, texts: list[str]) -> None:
    expected, _ = teacher.pipeline.encode_prompt(texts, "cpu", 1, False)
    assert torch.equal(teacher.encode(texts)["encoder_hidden_states"], expected)


def test_relative_features_weigh_alike(teacher: Teacher) -> None:
    raw, data = make(teacher, "c-base"), batch(teacher)
    relative = DistillationLoss(teacher, raw.student, raw.features.pairs, denoise=False, relative=True)
    relative.features.load_state_dict(raw.features.state_dict(), strict=False)  # the same projections
    assert raw.features.measured
    assert not relative.features.measured
    outputs = relative.teach(data["noised"], data["timesteps"], data["conditions"])[1]
    relative.features.measure([(1.0, outputs)])
    assert relative.features.measured
    sizes = relative.features.sizes.clone()
    rows = ((0.25, slice(0, 1)), (0.75, slice(1, 4)))
    relative.features.measure((share, {name: of[some] for name, of in outputs.items()}) for share, some in rows)
    torch.testing.assert_close(relative.features.sizes, sizes)
    with captured(raw.student, [name for _, name in raw.features.pairs]) as found, torch.no_grad():
        raw.student(data["noised"], data["timesteps"], **data["conditions"])
    expected = 0.0
    for (of_teacher, _), error in zip(raw.features.pairs, raw.features.errors(outputs, found), strict=True):
        expected += float(error.detach()) / float(outputs[of_teacher].square().mean())
    with torch.no_grad():
        assert float(relative(**data)[0]["feat"]) == pytest.approx(expected, rel=1e-5)
        parts = [float(relative(**part(data, rows))[0]["feat"]) for rows in (slice(0, 1), slice(1, 4))]
    assert parts[0] / 4 + 3 * parts[1] / 4 == pytest.approx(expected, rel=1e-4)
