"""Exported UNets draw as torch's do."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from randcond.jobs.errors import UserError
from randcond.models import export
from randcond.teachers.pipelines import draw_latents, load_pipeline


def replaced(pipeline: StableDiffusionPipeline, wrong: float = 0.0) -> StableDiffusionPipeline:
    """The pipeline with torch's own UNet behind the exported one's interface, off by ``wrong``."""

    def predict(given: dict[str, np.ndarray]) -> np.ndarray:
        assert all(one.dtype == np.float32 for one in given.values())
        sample, timestep, texts = (torch.from_numpy(np.asarray(given[name])) for name in export.INPUTS)
        return pipeline.unet(sample, timestep, texts).sample.numpy() + np.float32(wrong)

    parts = {**pipeline.components, "unet": export.ExportedUNet(pipeline.unet.config, predict)}
    other = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    return other


def test_a_replaced_unet_is_called_as_diffusers_own(pipeline_folder: Path) -> None:
    pipeline = load_pipeline(pipeline_folder)
    expected = draw_latents(pipeline, ["a", "b"], 0, 1, 3, 2.0)
    assert torch.equal(draw_latents(replaced(pipeline), ["a", "b"], 0, 1, 3, 2.0), expected)
    found = export.check(pipeline, replaced(pipeline), "a", 1, 2, 2.0)
    assert found["prediction"] == found["picture"] == 0
    assert found["seconds"] > 0 < found["torch_seconds"]


@pytest.mark.parametrize(("wrong", "said"), [(0.01, "prediction differs .* by 0.0"), (float("nan"), "differs|finite")])
def test_what_is_too_far_off_is_refused(pipeline_folder: Path, wrong: float, said: str) -> None:
    pipeline = load_pipeline(pipeline_folder)
    with pytest.raises(UserError, match=said):
        export.check(pipeline, replaced(pipeline, wrong), "a", 1, 2, 2.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--run", "mine", "--format", "gguf"], "no format 'gguf'; choose onnx or openvino"),
        (["--run", "none"], "students/none: no finished student"),
        (["--run", "mine"], "onnx is not installed; make export installs it"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    students: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(SystemExit, match=f"^error: .*{said}"):
        export.main(options)
    assert not [path for path in students.glob("results/artists/exported/**/*") if path.is_file()]


@pytest.mark.parametrize("pipeline_folder", ["sdxl", "sd3"], indirect=True)
@pytest.mark.usefixtures("students")
def test_other_families_are_not_exported() -> None:
    with pytest.raises(SystemExit, match="only Stable Diffusion 1.x and 2.x are"):
        export.main(["--run", "mine"])


def test_no_exported_unet(pipeline_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds neither unet.onnx nor unet.xml"):
        export.with_exported(load_pipeline(pipeline_folder), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_student_is_exported(students: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package, reason=f"{package} is not installed: make .venv-export/ready")
    export.main(["--run", "mine", "--format", kind])
    folder = students / "results/artists/exported/mine/9" / kind
    assert capsys.readouterr().out.splitlines()[-1] == str(folder.relative_to(students))
    found = json.loads((folder / "check.json").read_text())
    assert 0 < found["prediction"] < found["tolerance"]["prediction"]
    weights = {"onnx": "unet.onnx.data", "openvino": "unet.bin"}[kind]
    assert sorted(one.name for one in folder.iterdir()) == sorted(
        {"check.json", weights, {"onnx": "unet.onnx", "openvino": "unet.xml"}[kind]}
    )
    # three at once, which was none of the sizes that it was made with
    pipeline = load_pipeline(students / "teacher")
    texts = ["a", "b", "c"]
    expected = draw_latents(pipeline, texts, 0, 1, 2, 2.0)
    drawn = draw_latents(export.with_exported(pipeline, folder), texts, 0, 1, 2, 2.0)
    torch.testing.assert_close(drawn, expected, atol=1e-3, rtol=1e-3)
