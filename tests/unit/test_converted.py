"""A teacher in one file: the same weights as a folder, or one line that says what it is instead."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from randcond.converted.convert import convert
from randcond.jobs.errors import UserError
from randcond.settings.own import check_teacher
from randcond.teachers.pipelines import load_pipeline
from single_file import save_single_file

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "workflow/assets/emoji/teacher"
THREE_LEVELS = {
    "block_out_channels": (12, 24, 24), "layers_per_block": 1, "cross_attention_dim": 128, "attention_head_dim": 2,
    "norm_num_groups": 3, "sample_size": 8, "in_channels": 4, "out_channels": 4,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}  # fmt: skip


@pytest.fixture(scope="module")
def teacher() -> StableDiffusionPipeline:
    """Of other widths and levels than the shipped one, whose autoencoder and text encoder it has."""
    pipeline = load_pipeline(SHIPPED)
    torch.manual_seed(0)
    pipeline.unet = UNet2DConditionModel(**THREE_LEVELS).eval()
    return pipeline


@pytest.fixture(scope="module")
def layout(teacher: StableDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layout") / "pipeline"
    teacher.save_pretrained(folder)
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    return folder


@pytest.fixture(scope="module")
def file(teacher: StableDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "mine.safetensors"
    save_single_file(teacher, path)
    return path


def test_the_weights_are_the_same(teacher: StableDiffusionPipeline, layout: Path, file: Path, tmp_path: Path) -> None:
    check_teacher(file, str(layout))
    convert(file, layout, tmp_path / "folder")
    check_teacher(tmp_path / "folder")
    found = load_pipeline(tmp_path / "folder")
    for part in ("unet", "vae", "text_encoder"):
        ours, theirs = getattr(found, part).state_dict(), getattr(teacher, part).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), part
    assert found.tokenizer("a tiger").input_ids == teacher.tokenizer("a tiger").input_ids


def test_its_precision_is_kept(layout: Path, file: Path, tmp_path: Path) -> None:
    save_file({name: weight.half() for name, weight in load_file(file).items()}, tmp_path / "half.safetensors")
    convert(tmp_path / "half.safetensors", layout, tmp_path / "folder")
    weights = load_file(tmp_path / "folder/unet/diffusion_pytorch_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}


def without(prefix: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda weights: {name: weight for name, weight in weights.items() if not name.startswith(prefix)}


@pytest.mark.parametrize(
    "lost",
    [
        "model.diffusion_model.out.2.bias",
        "first_stage_model.decoder.conv_out.bias",
        "cond_stage_model.transformer.text_model.final_layer_norm.bias",
    ],
)
def test_a_weight_that_is_not_there_is_no_random_number(layout: Path, file: Path, tmp_path: Path, lost: str) -> None:
    save_file(without(lost)(load_file(file)), tmp_path / "torn.safetensors")
    with pytest.raises(UserError, match=r"torn\.safetensors: not the weights .* is missing"):
        convert(tmp_path / "torn.safetensors", layout, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_another_layout_is_named(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mine\.safetensors: not the weights that .*teacher describes") as refused:
        convert(file, SHIPPED, tmp_path / "folder")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("named", [["layout.evil", "Evil"], "xy"])
def test_nothing_that_a_layout_names_is_run(
    layout: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: list[str] | str
) -> None:
    folder, ran = shutil.copytree(layout, tmp_path / "layout"), tmp_path / "ran"
    for module in (folder / "evil.py", tmp_path / "x.py"):  # a text of two letters is a library and a class, too
        module.write_text(f"open({str(ran)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(str(tmp_path))  # as jobs have the folder that they run in
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"scheduler": named}))
    for refuse in (lambda: convert(file, folder, tmp_path / "folder"), lambda: check_teacher(file, str(folder))):
        with pytest.raises(UserError, match=r"layout/model_index\.json: scheduler is of (layout\.evil|xy); known are"):
            refuse()
    assert not ran.exists()


WEIGHT = {"weight": torch.zeros(1)}
FILES: dict[str, tuple[dict[str, torch.Tensor] | None, str]] = {
    "none": (None, "no such file"),
    "torn": ({}, "no whole safetensors file"),
    "a LoRA": ({"lora_unet_down_blocks_0.lora_up.weight": torch.zeros(1)}, "a LoRA"),
    "an SDXL": ({"conditioner.embedders.1.model.ln_final.bias": torch.zeros(1)}, "an SDXL"),
    "a UNet": ({"model.diffusion_model.out.2.bias": torch.zeros(1)}, "holds no autoencoder"),
    "anything": (WEIGHT, "holds no UNet"),
}


@pytest.mark.parametrize("case", FILES)
def test_what_is_no_whole_model_is_named(layout: Path, tmp_path: Path, case: str) -> None:
    weights, told = FILES[case]
    path = tmp_path / "mine.safetensors"
    if weights:
        save_file(weights, path)
    elif weights is not None:
        path.write_bytes(b"no header")
    with pytest.raises(UserError, match=told) as refused:
        check_teacher(path, str(layout))
    assert "\n" not in str(refused.value)


def test_a_file_needs_a_layout(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="teacher_layout: name the diffusers folder"):
        check_teacher(file)
    with pytest.raises(UserError, match="teacher_layout: .*none: no such folder"):
        check_teacher(file, str(tmp_path / "none"))
    check_teacher(file, "results/assets/stable-diffusion-v1-4-layout")  # is fetched before it is needed
