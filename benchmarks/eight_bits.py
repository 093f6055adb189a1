"""Weights in 8 bits on a CPU: bytes, seconds and error of a UNet whose linear layers torch quantizes dynamically.

python benchmarks/eight_bits.py [--pipeline results/artists/students/seen-rc-pool/0/pipeline]
"""

import argparse
import copy
import io
import time
import warnings
from pathlib import Path

import torch
from torch import nn
from torch.ao.quantization import quantize_dynamic

from randcond.jobs.seeding import normal
from randcond.teachers.pipelines import decode, draw_latents, load_pipeline, teacher_of


def weight_bytes(model: nn.Module) -> int:
    """Bytes of the model's weights as they are saved."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return file.getbuffer().nbytes


def share(model: nn.Module, kind: type[nn.Module]) -> float:
    """The part of the parameters that layers of a kind hold."""
    held = sum(
        p.numel() for layer in model.modules() if isinstance(layer, kind) for p in layer.parameters(recurse=False)
    )
    return held / sum(p.numel() for p in model.parameters())


def main() -> None:
    """Measure and print."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", type=Path, default=Path("workflow/assets/emoji/teacher"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    plain = load_pipeline(arguments.pipeline)
    eight = load_pipeline(arguments.pipeline)
    eight.unet = quantize_dynamic(copy.deepcopy(plain.unet), {nn.Linear}, dtype=torch.qint8)
    linear, convolutions = (share(plain.unet, kind) for kind in (nn.Linear, nn.Conv2d))
    print(f"parameters in linear layers {linear:.0%}, in convolutions {convolutions:.0%}")
    conditions = teacher_of(plain).encode(["a tiger on a red background"])
    given = (normal((1, *teacher_of(plain).latent_shape), 0), torch.tensor([500]), conditions["encoder_hidden_states"])
    predictions: dict[str, torch.Tensor] = {}
    seconds: dict[str, list[float]] = {"float32": [], "8 bits": []}
    for _ in range(arguments.repeats + 1):  # in turn, so that others on the machine disturb both
        for name, pipeline in (("float32", plain), ("8 bits", eight)):
            start = time.perf_counter()
            with torch.no_grad():
                predictions[name] = pipeline.unet(*given).sample
            seconds[name].append(time.perf_counter() - start)
    for name, pipeline in (("float32", plain), ("8 bits", eight)):
        fastest, size = min(seconds[name][1:]), weight_bytes(pipeline.unet) / 1e6
        print(f"{name}: {size:.1f} MB, a prediction {fastest * 1e3:.1f} ms")
    apart = predictions["8 bits"] - predictions["float32"]
    print(f"error of a prediction: {float(apart.norm() / predictions['float32'].norm()):.1%} of its size")
    pictures = [
        decode(one, draw_latents(one, ["a tiger on a red background"], 0, 0, 25, 2.0)) for one in (plain, eight)
    ]
    apart = (pictures[0].float() - pictures[1].float()).abs()
    print(f"a picture after 25 steps: values differ by {float(apart.mean()):.1f} of 255 on average")


if __name__ == "__main__":
    main()
