"""Export a finished student's UNet to ONNX or OpenVINO and check it: ``python -m randcond.models.export``.

It needs the extra ``export``. The autoencoder and the text encoder stay diffusers': of an image's time the UNet takes
nearly all. :func:`with_exported` draws with what was written, and the check draws the same picture with both.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import nn

from randcond.jobs.errors import UserError, one_line
from randcond.jobs.files import atomic_path, write_json
from randcond.jobs.seeding import normal
from randcond.models import finished
from randcond.settings.config import Config, read_config
from randcond.teachers.pipelines import decode, draw_latents

INPUTS = ("sample", "timestep", "encoder_hidden_states")
# of a prediction, whose values are about 1; and of a picture's values from 0 to 255, after all steps
TOLERANCE, PICTURE_TOLERANCE = 1e-3, 2
_REPEATS = 5
Predict = Callable[[dict[str, np.ndarray]], np.ndarray]


class _Plain(nn.Module):
    """The UNet with the three inputs that it is called with, and a tensor for an answer."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor) -> Any:
        return self.unet(sample, timestep, encoder_hidden_states, return_dict=False)[0]


class ExportedUNet(nn.Module):
    """An exported UNet in the place of diffusers' own.

    Args:
        config: The configuration of the UNet that it was made from.
        predict: Runs it.
    """

    def __init__(self, config: Any, predict: Predict) -> None:
        super().__init__()
        self.config, self._predict = config, predict
        self.dtype, self.device = torch.float32, torch.device("cpu")  # which a pipeline asks for

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor, **_: Any
    ) -> tuple[torch.Tensor]:
        """The prediction for float32 latents (n, channels, h, w), a timestep and texts (n, tokens, width)."""
        given = (sample, torch.as_tensor(timestep, dtype=torch.float32), encoder_hidden_states)
        found = self._predict({name: one.cpu().numpy() for name, one in zip(INPUTS, given, strict=True)})
        return (torch.from_numpy(found).to(sample.device),)


def with_exported(pipeline: StableDiffusionPipeline, folder: Path) -> StableDiffusionPipeline:
    """The pipeline with an exported UNet in the place of its own; both share all other parts.

    Raises:
        UserError: If the folder holds none, or the package that runs it is not installed.
    """
    config = pipeline.unet.config
    parts = {name: part for name, part in pipeline.components.items() if name != "unet"}
    other = StableDiffusionPipeline(unet=ExportedUNet(config, _runtime(folder)), **parts, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    return other


def _runtime(folder: Path) -> Predict:
    threads = torch.get_num_threads()
    if (folder / "unet.xml").is_file():
        core = _imported("openvino").Core()
        options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        model = core.compile_model(folder / "unet.xml", "CPU", options)
        return lambda given: np.array(model(given)[0])  # the next call writes over its memory
    if not (folder / "unet.onnx").is_file():
        raise UserError(f"{folder}: holds neither unet.onnx nor unet.xml; make export writes one")
    runtime = _imported("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(folder / "unet.onnx", options, providers=["CPUExecutionProvider"])
    return lambda given: np.asarray(session.run(None, given)[0])


def _imported(name: str) -> Any:
    try:
        return __import__(name)
    except ModuleNotFoundError:
        raise UserError(f"export: {name} is not installed; make export installs it, beside .venv") from None


def write(pipeline: StableDiffusionPipeline, kind: str, folder: Path) -> None:
    """Write the UNet as ``unet.onnx`` (weights beside it), or as OpenVINO's ``unet.xml`` and ``unet.bin``, in float32.

    The number of images of a call is free; their size and the length of texts are not.
    """
    for name in ("onnx", "onnxscript", "onnxruntime", *(("openvino",) if kind == "openvino" else ())):
        _imported(name)
    folder.mkdir()
    batch = {0: torch.export.Dim("batch")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that both inputs share one free axis, which is what is meant
        program = torch.onnx.export(
            _Plain(pipeline.unet).eval(),
            _example(pipeline),
            input_names=INPUTS,
            output_names=["prediction"],
            dynamic_shapes={"sample": batch, "timestep": {}, "encoder_hidden_states": batch},
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # as it is of the newer exporter
    program.save(folder / "unet.onnx", external_data=True)
    if kind == "openvino":
        openvino = _imported("openvino")
        openvino.save_model(openvino.convert_model(folder / "unet.onnx"), folder / "unet.xml", compress_to_fp16=False)
        for path in folder.glob("unet.onnx*"):
            path.unlink()


def _example(pipeline: StableDiffusionPipeline) -> tuple[torch.Tensor, ...]:
    config, length = pipeline.unet.config, pipeline.tokenizer.model_max_length
    shape = (config["in_channels"], config["sample_size"], config["sample_size"])
    latents = torch.stack([normal(shape, 0, i) for i in range(2)])
    width = pipeline.text_encoder.config.hidden_size
    return latents, torch.tensor(500.0), torch.stack([normal((length, width), 1, i) for i in range(2)])


@torch.no_grad()
def check(
    pipeline: StableDiffusionPipeline,
    exported: StableDiffusionPipeline,
    prompt: str,
    seed: int,
    steps: int,
    scale: float,
) -> dict[str, float]:
    """How far an exported pipeline is from torch's, and how long each takes for a picture.

    Returns:
        ``prediction`` and ``picture``: largest differences, of a UNet's prediction and of a picture's values from 0 to
        255, both from the same noise; ``torch_seconds`` and ``seconds``: the fastest of several.

    Raises:
        UserError: If a difference is above :data:`TOLERANCE` or :data:`PICTURE_TOLERANCE`.
    """
    given = _example(pipeline)
    found: dict[str, float] = {}
    apart = (exported.unet(*given)[0] - pipeline.unet(*given, return_dict=False)[0]).abs().max()

    def draw(one: StableDiffusionPipeline) -> tuple[torch.Tensor, float]:
        return _timed(lambda: decode(one, draw_latents(one, [prompt], 0, seed, steps, scale)))

    both = draw(pipeline), draw(exported)
    (expected, found["torch_seconds"]), (picture, found["seconds"]) = both
    found["prediction"], found["picture"] = float(apart), float((expected.int() - picture.int()).abs().max())
    for name, most in (("prediction", TOLERANCE), ("picture", PICTURE_TOLERANCE)):
        if not found[name] <= most:
            raise UserError(
                f"export: its {name} differs from torch's by {found[name]:g}, more than {most:g}; not written"
            )
    return found


def _timed(draw: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float]:
    seconds, picture = [], draw()
    for _ in range(_REPEATS):
        start = time.perf_counter()
        picture = draw()
        seconds.append(time.perf_counter() - start)
    return picture, min(seconds)


def export(config: Config, run: str, kind: str) -> tuple[Path, dict[str, Any]]:
    """Export a run's student, checked, to a folder; the folder and what the check found.

    Raises:
        UserError: If there is no such student or format, a package is missing, or the check fails.
    """
    if kind not in ("onnx", "openvino"):
        raise UserError(f"export: there is no format {kind!r}; choose onnx or openvino")
    name, sampling = finished.find(config, run), config.sampling
    pipeline = finished.load(finished.finished(config)[name], Path(config.teacher_folder)).to("cpu")
    if not isinstance(pipeline, StableDiffusionPipeline):
        raise UserError(
            f"export: {name} is a {type(pipeline).__name__}; only Stable Diffusion 1.x and 2.x are exported"
        )
    output = Path("results", config.name, "exported", name, kind)
    with atomic_path(output) as folder:
        write(pipeline, kind, folder)
        how = finished.usual(config, name)
        drawing = SimpleNamespace(seed=sampling.seed, steps=how["steps"], scale=how["guidance_scale"])
        found = check(pipeline, with_exported(pipeline, folder), "a picture", **vars(drawing))
        packages = ("torch", "onnx", "onnxruntime" if kind == "onnx" else "openvino")
        result = {
            **{"student": name, "format": kind, "steps": drawing.steps, "threads": torch.get_num_threads()},
            **{"tolerance": {"prediction": TOLERANCE, "picture": PICTURE_TOLERANCE}, **found},
            "versions": {package: metadata.version(package) for package in packages},
        }
        write_json(folder / "check.json", result)
    return output, result


def main(argv: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="a finished student, <run> or <run>/<seed>")
    parser.add_argument("--format", default="onnx", help="onnx or openvino")
    parser.add_argument("--configfile", type=Path, nargs="*", default=[], help="as Snakemake's")
    arguments = parser.parse_args(argv)
    with one_line():
        config = read_config([Path("config/config.yaml"), *arguments.configfile])
        folder, found = export(config, arguments.run, arguments.format)
    print(f"largest difference from torch: {found['prediction']:.1e} of a prediction (at most {TOLERANCE:g}),", end=" ")
    print(f"{found['picture']:g} of 255 in a picture after {found['steps']} steps (at most {PICTURE_TOLERANCE})")
    seconds = f"torch {found['torch_seconds']:.2f}, exported {found['seconds']:.2f}"
    print(f"seconds a picture, {found['threads']} threads: {seconds}")
    print(folder)


if __name__ == "__main__":
    main()
