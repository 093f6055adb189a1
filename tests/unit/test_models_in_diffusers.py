"""What diffusers does with a student; the model card says what does not work."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)
from diffusers.utils import convert_state_dict_to_diffusers
from finished_students import DRAW, picture, student_of
from PIL import Image
from safetensors.torch import load_file

from randcond.models.write import inpaints
from randcond.teachers.pipelines import load_pipeline


@pytest.fixture
def student(pipeline_folder: Path, tmp_path: Path) -> Callable[[str], StableDiffusionPipeline]:
    def made(name: str) -> StableDiffusionPipeline:
        return load_pipeline(student_of(pipeline_folder, name, tmp_path / name))

    return made


@pytest.mark.parametrize("name", ["b-base", "b-tiny"])
def test_image_to_image_and_inpainting(student: Callable[[str], StableDiffusionPipeline], name: str) -> None:
    pipeline, red = student(name), Image.new("RGB", (32, 32), "red")
    for kind, more in (
        (StableDiffusionImg2ImgPipeline, {"strength": 0.7}),
        (StableDiffusionInpaintPipeline, {"mask_image": Image.new("L", (32, 32), 255), "height": 32, "width": 32}),
    ):
        other = kind.from_pipe(pipeline)
        other.set_progress_bar_config(disable=True)
        drawn = other("a tiger", image=red, output_type="np", **DRAW, **more).images
        assert drawn.shape == (1, 32, 32, 3) and np.isfinite(drawn).all()


def test_latents_that_inpainting_does_not_know(student: Callable[[str], StableDiffusionPipeline]) -> None:
    pipeline, red = student("b-base"), Image.new("RGB", (32, 32), "red")
    assert inpaints(pipeline)
    pipeline.unet.register_to_config(in_channels=8)
    assert not inpaints(pipeline)
    with pytest.raises(ValueError, match="should have either 4 or 9 input channels"):
        StableDiffusionInpaintPipeline.from_pipe(pipeline)("a", red, Image.new("L", (32, 32), 255), **DRAW)


def test_a_controlnet_is_the_students_own(
    student: Callable[[str], StableDiffusionPipeline], pipeline_folder: Path
) -> None:
    def drawn(pipeline: StableDiffusionPipeline, source: StableDiffusionPipeline) -> np.ndarray:
        control = ControlNetModel.from_unet(source.unet, conditioning_embedding_out_channels=(4, 4, 4))
        other = StableDiffusionControlNetPipeline.from_pipe(pipeline, controlnet=control)
        other.set_progress_bar_config(disable=True)
        return other("a tiger", image=Image.new("RGB", (32, 32), "red"), output_type="np", **DRAW).images

    base, teacher = student("b-base"), load_pipeline(pipeline_folder)
    assert drawn(base, base).shape == (1, 32, 32, 3)
    with pytest.raises(RuntimeError, match="must match the size"):
        drawn(base, teacher)
    small = student("b-small")
    with pytest.raises(ValueError, match="mid_block_type"):
        drawn(small, small)


def test_a_lora_is_trained_saved_and_loaded(student: Callable[[str], StableDiffusionPipeline], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed: pip install -e '.[use]'")
    pipeline = student("b-base")
    before = picture(pipeline)
    unet, chance = pipeline.unet.requires_grad_(False), torch.Generator().manual_seed(0)
    kept = {name: one.clone() for name, one in unet.state_dict().items()}
    targets = ["to_k", "to_q", "to_v", "to_out.0"]
    unet.add_adapter(peft.LoraConfig(r=2, lora_alpha=2, target_modules=targets))
    trained = [one for one in unet.parameters() if one.requires_grad]
    optimizer, losses = torch.optim.AdamW(trained, lr=1e-1), []
    latents, texts = torch.randn(4, 4, 8, 8, generator=chance), torch.randn(4, 16, 8, generator=chance)
    for _ in range(5):
        loss = (unet(latents, torch.tensor(500), texts).sample - 1).pow(2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    adapted = picture(pipeline)
    layers = convert_state_dict_to_diffusers(peft.utils.get_peft_model_state_dict(unet))
    StableDiffusionPipeline.save_lora_weights(tmp_path / "lora", unet_lora_layers=layers)
    assert load_file(tmp_path / "lora/pytorch_lora_weights.safetensors")
    fresh = student("b-base")
    assert all(torch.equal(one, kept[name]) for name, one in fresh.unet.state_dict().items())
    fresh.load_lora_weights(tmp_path / "lora")
    np.testing.assert_array_equal(picture(fresh), adapted)
    assert np.abs(adapted - before).max() > 1e-3
