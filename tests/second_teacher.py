"""A small teacher for trials of a model of one's own: other widths than the shipped one, three levels, one file.

``python tests/second_teacher.py FOLDER`` writes ``teacher.safetensors``, ``layout``, by which it is read, and
``texts.txt``, texts of the few things that it draws.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

from randcond.make_teacher.denoiser import DenoiserProblem, encode_scenes, encode_texts
from randcond.teachers.pipelines import load_pipeline
from randcond.worlds import emoji
from single_file import save_single_file

SHIPPED = Path(__file__).parents[1] / "workflow/assets/emoji/teacher"
WIDTHS = (24, 48, 96)
CONCEPTS = 8
STEPS, BATCH, RATE = 160, 32, 3e-3


def build_unet() -> UNet2DConditionModel:
    """Three levels of two layers, without weights of anybody else."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=WIDTHS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=4,
    )


def train(pipeline: StableDiffusionPipeline, unet: UNet2DConditionModel, texts: list[str]) -> None:
    """Plain noise prediction on a drawing of each text, until pictures tell their texts apart."""
    latents = encode_scenes(pipeline.vae, texts, emoji.real_images, seed=5)
    states = encode_texts(pipeline.text_encoder, pipeline.tokenizer, [*texts, ""])
    problem = DenoiserProblem(unet, latents, torch.arange(len(texts))[:, None], states, BATCH, seed=5)
    optimizer = torch.optim.AdamW(unet.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        problem(step, slice(0, BATCH))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()


def captions() -> list[str]:
    """All that can be said of the few things on the backgrounds that there are."""
    chosen = np.random.default_rng(5).choice(sorted(emoji.concepts()), CONCEPTS, replace=False)
    return [caption.text for caption in emoji.captions() if caption.concept in chosen]


def make(folder: Path) -> None:
    """Write the teacher, its layout and its texts into a folder that is there."""
    pipeline, texts = load_pipeline(SHIPPED), captions()
    unet = build_unet()
    train(pipeline, unet, texts)
    pipeline.unet = unet.eval()
    save_single_file(pipeline, folder / "teacher.safetensors")
    pipeline.save_pretrained(folder / "layout")
    for weights in (folder / "layout").rglob("*.safetensors"):
        weights.unlink()
    (folder / "texts.txt").write_text("\n".join(texts))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
