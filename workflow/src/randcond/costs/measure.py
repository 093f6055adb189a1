"""What a pipeline costs: parameters, bytes in float16, multiply-accumulates of a UNet call; calls, time of an image."""

import argparse
import json
import resource
import time
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from randcond.jobs.files import write_json
from randcond.jobs.stage import device, run_stage, set_threads
from randcond.method.student import count_parameters
from randcond.teachers.pipelines import decode, draw_latents, load_pipeline, teacher_of
from randcond.teachers.teacher import Teacher, denoiser_of


@torch.no_grad()
def multiply_accumulates(teacher: Teacher) -> int:
    """Multiply-accumulates of one call of the denoiser on one latent: half of what torch's counter calls operations."""
    latents = torch.zeros(1, *teacher.latent_shape, device=teacher.device, dtype=teacher.dtype)
    conditions = teacher.encode([""])
    # plain products, as the counter overlooks those that torch fuses
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        teacher.predict(teacher.denoiser, latents, torch.zeros(1, device=teacher.device, dtype=torch.long), conditions)
    return int(counter.get_total_flops()) // 2


def latency(pipeline: DiffusionPipeline, steps: int, guidance_scale: float, repeats: int) -> float:
    """Seconds from a prompt to its image: the fastest of several after one that is not counted; others only disturb."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        decode(pipeline, draw_latents(pipeline, ["a"], 0, 0, steps, guidance_scale))
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def passes(pipeline: DiffusionPipeline, steps: int, guidance_scale: float) -> int:
    """How often the denoiser sees a latent on the way to an image; with guidance it sees each twice."""
    seen: list[int] = []
    hook = denoiser_of(pipeline).register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(len(args[0] if args else kwargs["hidden_states"])), with_kwargs=True
    )
    draw_latents(pipeline, ["a"], 0, 0, steps, guidance_scale)
    hook.remove()
    return sum(seen)


def memory() -> int:
    """Bytes that this process has held at most: of the GPU what torch took, else of the machine, libraries and all."""
    if device() == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kibibytes on Linux


def device_name(threads: int) -> str:
    """What the time was measured on: the job's GPU, or a number of threads of the CPU."""
    if device() == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {threads} thread{'s' * (threads > 1)}"


def main(arguments: argparse.Namespace) -> None:
    """Measure the pipeline of ``arguments`` and write its costs as JSON."""
    settings = json.loads(arguments.settings)
    set_threads(arguments.threads)
    own, drawing = "scheduler" in settings, (settings["steps"], settings["guidance_scale"])
    pipeline = load_pipeline(arguments.pipeline, device(), settings["precision"], own_scheduler=own)
    teacher = teacher_of(pipeline)
    found: dict[str, float] = {}
    found["passes"] = passes(pipeline, *drawing)
    found["latency"] = latency(pipeline, *drawing, settings["repeats"])
    found["memory"] = memory()  # before operations are counted
    write_json(
        arguments.output,
        {
            "run": arguments.run,
            "unet_parameters": count_parameters(teacher.denoiser),
            "macs": multiply_accumulates(teacher),
            "unet_bytes": 2 * count_parameters(teacher.denoiser),  # in float16, whatever it was saved in
            **found,
            "device": device_name(arguments.threads),
        },
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="JSON: steps, guidance_scale, precision, repeats, scheduler")
    parser.add_argument("--run", required=True)
    parser.add_argument("--threads", type=int, default=1)
    for option in ("--pipeline", "--output"):
        parser.add_argument(option, type=Path, required=True)
    run_stage(main, parser)
