"""A teacher in one ``.safetensors`` file becomes a diffusers folder, by diffusers' own loader."""

import argparse
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open

from randcond.jobs.errors import UserError, lacks_memory, reason
from randcond.jobs.files import atomic_path
from randcond.jobs.progress import log
from randcond.jobs.stage import run_stage
from randcond.teachers.families import check_libraries
from randcond.teachers.pipelines import load_pipeline

_PARTS = ("unet", "vae", "text_encoder")
_LACKING = "meta tensor"


def convert(file: Path, layout: Path, output: Path) -> None:
    """Write the pipeline of a single file, in the precision of the file's UNet.

    Args:
        file: Weights under the names of the original Stable Diffusion.
        layout: Folder of the configurations and the tokenizer of a diffusers pipeline with the same layers: that of the
            model which the file was fine-tuned from. Weights in it are not read.
        output: The pipeline's folder, written whole or not at all.

    Raises:
        UserError: If a part's weights are not in the file, or are not those of the layout, or if that names other
            libraries than a teacher's parts are of.
    """
    check_libraries(layout)  # or diffusers would import them
    try:
        pipeline = StableDiffusionPipeline.from_single_file(
            str(file),
            config=str(layout),
            dtype=_dtype(file),
            local_files_only=True,
            safety_checker=None,
            feature_extractor=None,
        )
        if any(weight.is_meta for part in _PARTS for weight in getattr(pipeline, part).parameters()):
            raise ValueError(_LACKING)
    except Exception as error:
        if lacks_memory(error):
            raise
        # a weight that the file lacks has no value, which diffusers cannot copy
        why = "a weight is missing" if _LACKING in str(error) else reason(error)
        raise UserError(
            f"{file}: not the weights that {layout} describes ({why}); name as teacher_layout the folder of the model"
            " that it was fine-tuned from"
        ) from None
    pipeline.register_to_config(requires_safety_checker=False)
    with atomic_path(output) as partial:
        pipeline.save_pretrained(partial, safe_serialization=True)
        load_pipeline(partial)  # raises UserError if parts do not fit together


def _dtype(file: Path) -> torch.dtype:
    with safe_open(file, "pt") as weights:
        found: torch.dtype = weights.get_tensor("model.diffusion_model.input_blocks.0.0.weight").dtype
    return found


def main(arguments: argparse.Namespace) -> None:
    """Convert the file of ``arguments``."""
    convert(arguments.file, arguments.layout, arguments.output)
    log.info("%s: the pipeline of %s", arguments.output, arguments.file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--file", "--layout", "--output"):
        parser.add_argument(option, type=Path, required=True)
    run_stage(main, parser)
