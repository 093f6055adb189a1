"""What a configuration costs on GPUs: GPU hours, wall time, disk and memory of each stage.

``python -m randcond.planning.plan --config config/config.yaml config/paper.yaml --gpu a100-80gb --gpus 8``: operations
are counted on the models themselves (:mod:`randcond.planning.operations`), speeds are measured ones, by others or by
``benchmarks/gpu.py``, with their source (:mod:`randcond.planning.speeds`).
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from randcond.assets.listing import needed, read_assets
from randcond.jobs.errors import UserError
from randcond.jobs.stage import run_stage
from randcond.planning import operations
from randcond.planning.speeds import MEASURED, Gpu, default_gpu, gpus
from randcond.settings.config import MINIATURES, Config, read_config
from randcond.settings.experiments import Experiments, Run, load_experiments
from randcond.settings.stages import Sampling
from randcond.settings.workflow import (
    asks_writer,
    drawing,
    evaluation_count,
    kept_points,
    needs_images,
    shards,
    step_count,
    without_idle_writer,
)

_TOKEN_FLOPS = 2 * 7.6e9  # a token of a model of 7.6 billion parameters
_TOKENS_PER_LINE, _ACCEPTED = 25, 0.7
_IMAGE_SCORING_FLOPS = 3 * 2 * 5.7e9 + 2 * 290e9  # three Inceptions and ViT-g-14, in multiply-adds as published
_ACTIVATIONS = 0.5  # GB of an image of 512 x 512 that is drawn in 16 bits
_JPEG = 25_000 / 256**2  # bytes of a stored pixel, by experience with COCO's photos of 256 x 256
_PNG = 1.5
_WEIGHTS = 4  # bytes


@dataclass(frozen=True)
class Line:
    """A stage's jobs, its GPU hours in all, GPUs of one job, disk in GB, and memory of one GPU in GB."""

    stage: str
    jobs: int
    hours: float
    per_job: int
    disk: float
    memory: float

    def wall(self, available: int) -> float:
        """Hours with so many GPUs, jobs side by side as far as they go."""
        if not self.hours:
            return 0.0
        side_by_side = max(1, available // self.per_job)
        rounds = -(-self.jobs // side_by_side)
        return rounds * self.hours / self.jobs / self.per_job


def plan(config: Config, experiments: Experiments, gpu: Gpu) -> list[Line]:
    """The stages' operations.

    Raises:
        UserError: If the teacher's sizes are not known, as the miniatures' are not of a GPU's size.
    """
    if config.world in MINIATURES:
        raise UserError(f"config: world: the {config.world} world needs no plan; it runs on a laptop")
    assets = read_assets(Path("config/assets.yaml"))
    runs = {name: run for name, run in experiments.runs.items() if not config.only or name in config.only}
    asking = config.model_dump() | {"teacher_layout": config.layout}, [run.model_dump() for run in runs.values()]
    sizes = [assets[name] for name in needed(assets, without_idle_writer(*asking))]
    downloads = sum(asset.gigabytes * (2 if asset.repack else 1) for asset in sizes)
    stages = _Stages(config, experiments, runs, operations.models_of(config), gpu)
    return [
        Line("fetch", len(sizes), 0, 1, downloads, 0),
        stages.prompts(),
        *([stages.llm()] if asks_writer(*asking) else []),
        stages.renders(),
        *stages.sensitivity(),
        *stages.students(),
        *stages.faster(),
        *stages.samples(),
    ]


@dataclass(frozen=True)
class _Stages:
    """What the stages of a configuration cost."""

    config: Config
    experiments: Experiments
    runs: dict[str, Run]
    models: operations.Models
    gpu: Gpu

    def prompts(self) -> Line:
        """D's prompts and the pool of each draw."""
        draws = len({draw for name in self.runs for draw in self._draws(name)})
        return Line("prompts", draws, 0, 1, draws * (self.config.prompts.pool or 0) * 80 / 1e9, 0)

    def _draws(self, name: str) -> list[int]:
        """The draws of D that a run's seeds stand for."""
        return self.config.seeds_of(name) if self.config.prompts.redrawn else [0]

    def llm(self) -> Line:
        """Prompts of each draw, or the texts of a world that is described, by a local model."""
        prompts = self.config.prompts
        asking = [name for name, run in self.runs.items() if run.prompts == "llm"]
        times = 1 if prompts.description is not None else len({draw for name in asking for draw in self._draws(name)})
        local = prompts.llm.writer is not None and prompts.llm.writer.model is not None
        tokens = prompts.llm.count * _TOKENS_PER_LINE / _ACCEPTED if local else 0
        # token by token a model reads all its weights for a few operations: a tenth of what convolutions reach, at best
        hours = tokens * _TOKEN_FLOPS / (self.gpu.draw / 10) / 3600
        return Line("llm_prompts", times, times * hours, 1, times * 0.3, 20.0 if local else 0.0)

    def renders(self) -> Line:
        """D's images of all sets that the runs name."""
        config, drawing = self.config, self.config.rendering
        sets = {
            (run.prompts, run.images, draw)
            for name, run in self.runs.items()
            if needs_images(run.model_dump())
            for draw in self._draws(name)
        }
        count, jobs = config.prompts.count, shards(config.prompts.count, drawing.shard)
        drawn = sum(images == "rendered" for _, images, _ in sets)
        # encoding a real image costs about half of a decoding; to be augmented it is encoded twice, and keeps spreads
        encoding = sum({"rendered": 0, "real": 1, "real-augmented": 2}[images] for _, images, _ in sets)
        kept = sum(4 if images == "real-augmented" else 1 for _, images, _ in sets)
        flops = drawn * self.models.image_flops("unet", drawing.steps) + encoding * self.models.decode_flops() / 2
        bytes_each = self.models.latent_bytes * (1 if drawing.latents == "fp16" else 2)
        hours, disk = count * flops / self.gpu.draw / 3600, kept * count * bytes_each / 1e9
        return Line("render", jobs * len(sets), hours, 1, disk, self._drawing_memory(drawing))

    def sensitivity(self) -> Iterator[Line]:
        """The measurement that a measured p(t) comes from, if a run has one."""
        asked, unet = self.config.sensitivity, "unet"
        if any((run.random_conditioning or {}).get("kind") == "measured" for run in self.runs.values()):
            # at levels and, of their own text and the others, at the last timestep
            predictions = asked.images * (asked.levels + 1) * (1 + asked.texts)
            hours = predictions * self.models.prediction_flops(unet) / self.gpu.draw / 3600
            # in float32; without gradients little more is alive at once than what checkpointing keeps, in 16 bits
            alive = 2 * asked.batch * self.models.saved_bytes(unet, True) / 1e9
            yield Line("sensitivity", 1, hours, 1, 0, self._weights(unet) + alive)

    def students(self) -> Iterator[Line]:
        """Each run's training."""
        config, recipe, models = self.config, self.config.distillation, self.models
        processes = max(1, config.gpus.train)
        for name, run in self.runs.items():
            seeds = len(config.seeds_of(name))
            steps = step_count(recipe.steps.model_dump(), run.model_dump())
            flops: float = steps * recipe.batch * models.step_flops(run.student, recipe.gradient_checkpointing)
            if run.trajectories and run.trajectories.guidance > 1:  # the teacher's second pass
                flops += steps * recipe.batch * run.trajectories.share * models.prediction_flops("unet")
            own = self._state(run.student)
            unets = len(kept_points(recipe.model_dump(), run.model_dump())) * own / (5 if recipe.ema else 4)
            disk = seeds * (self._weights(run.student) + 4 / 5 * own + unets)
            memory = own + self._training_memory(run.student, "unet")
            yield Line(f"student {name}", seeds, seeds * flops / self.gpu.train / 3600, processes, disk, memory)

    def faster(self) -> Iterator[Line]:
        """Each training that makes a student faster."""
        config, recipe = self.config, self.config.distillation
        for name in self._more():
            if name in self.experiments.faster:
                student = self.experiments.runs[self.experiments.student(name)].student
                seeds, processes = len(config.seeds_of(name)), max(1, config.gpus.train)
                each = self.models.faster_flops(student, recipe.gradient_checkpointing)
                hours = seeds * recipe.steps.faster * recipe.batch * each / self.gpu.train / 3600
                own = self._state(student)
                disk = seeds * (self._weights(student) + 4 / 5 * own)
                memory = own + self._training_memory(student, student)
                yield Line(f"faster {name}", seeds, hours, processes, disk, memory)

    def samples(self) -> Iterator[Line]:
        """Drawing and scoring."""
        config = self.config
        recipe, real = config.distillation.model_dump(), config.prompts.evaluation
        teacher = 1
        if config.world == "own":  # no real images: the teacher from other noise stands in their place
            teacher, real = 2, 0
        finished = {"teacher": teacher} | {name: len(config.seeds_of(name)) for name in self.runs}
        for name in self._more():
            finished[name] = 1 if self.experiments.student(name) == "teacher" else len(config.seeds_of(name))
        along = {
            name: finished[name] * len(kept_points(recipe, run.model_dump()))
            for name, run in self.runs.items()
            if name in config.along
        }
        features = config.prompts.evaluation * 2 * 2048 * 4 / 1e9
        # real images are stored, and scored once as the reference
        for suffix, times, more in (("", finished, real), *([("_along", along, 0)] if along else [])):
            jobs, images, hours = self._drawn(times)
            memory, disk = self._drawing_memory(config.sampling), (images + more) * self._stored() / 1e9
            yield Line(f"sample{suffix}", jobs, hours, 1, disk, memory)
            scoring = (images + more) * _IMAGE_SCORING_FLOPS / self.gpu.draw / 3600
            disk = features * (suffix == "")
            yield Line(f"score{suffix}", sum(times.values()) + bool(more), scoring, 1, disk, 8.0)

    def _more(self) -> list[str]:
        """What is scored beside the runs."""
        return [name for name in self.experiments.more if not self.config.only or name in self.config.only]

    def _weights(self, name: str) -> float:
        """GB of a pipeline with this UNet in float32."""
        return _WEIGHTS * sum(self.models.parameters(part) for part in (name, "vae", "text")) / 1e9

    def _drawing_memory(self, how: Sampling) -> float:
        """GB of a teacher that draws."""
        half = self._weights("unet") / 2 + _ACTIVATIONS * (self.models.pixels / 512) ** 2 * how.batch
        return half * (2 if how.precision == "no" else 1)

    def _stored(self) -> float:
        """Bytes of a stored image."""
        side = self.config.sampling.resize or self.models.pixels
        return side**2 * (_JPEG if self.config.sampling.image_format == "jpeg" else _PNG)

    def _state(self, student: str) -> float:
        """GB of weights, gradients, two moments (of Muon: one and some work) and the moving average, in float32."""
        return (5 if self.config.distillation.ema else 4) * _WEIGHTS * self.models.parameters(student) / 1e9

    def _training_memory(self, student: str, teacher: str) -> float:
        """GB that a training needs besides: the teacher's UNet as it computes, and what is kept for backward.

        In mixed precision that is the student's weights too, in the 16 bits that they are multiplied in.
        """
        recipe, half = self.config.distillation, self.config.distillation.mixed_precision != "no"
        saved = self.models.saved_bytes(student, recipe.gradient_checkpointing) * (1 if half else 2)
        rest = _WEIGHTS * (self.models.parameters("vae") + self.models.parameters("text"))
        weights = (2 if half else 4) * self.models.parameters(teacher)
        weights += 2 * self.models.parameters(student) if half else 0
        return (weights + rest + recipe.micro_batch * saved) / 1e9

    def _drawn(self, times: dict[str, int]) -> tuple[int, int, float]:
        """Jobs, images and GPU hours of drawing each run so many times."""
        content, prompts, sampling = self.experiments.model_dump(), self.config.prompts, self.config.sampling
        jobs = images = 0
        seconds = 0.0
        for name, number in times.items():
            count = evaluation_count(content, name, prompts.benchmark, prompts.evaluation)
            run = self.experiments.student(name)
            unet = "unet" if run == "teacher" else self.experiments.runs[run].student
            how = drawing(content, name, sampling.guidance_scale)
            each = self.models.image_flops(unet, how.get("steps", sampling.steps), "scheduler" not in how)
            jobs, images = jobs + number * shards(count, sampling.shard), images + number * count
            seconds += number * count * each / self.gpu.draw
        return jobs, images, seconds / 3600


def table(lines: list[Line], gpu: Gpu, name: str, available: int) -> str:
    """The plan as text."""
    text = [f"{'stage':28} {'jobs':>5} {'GPU hours':>10} {'wall hours':>10} {'disk GB':>8} {'GB a GPU':>8}"]
    for line in lines:
        wall = line.wall(available)
        numbers = f"{line.hours:10.1f} {wall:10.1f} {line.disk:8.1f} {line.memory:8.1f}"
        text.append(f"{line.stage:28} {line.jobs:5} {numbers}" + ("  TOO LARGE" if line.memory > gpu.memory else ""))
    students = [line for line in lines if line.stage.startswith(("student ", "faster "))]
    together = sum(line.hours for line in students) / max(available, 1)
    others = sum(line.wall(available) for line in lines if line not in students)
    hours, disk = sum(line.hours for line in lines), sum(line.disk for line in lines)
    text.append(f"{'all':28} {sum(line.jobs for line in lines):5} {hours:10.1f} {together + others:10.1f} {disk:8.1f}")
    text += [
        "",
        f"{available} x {name}, {gpu.memory:g} GB each: {gpu.draw / 1e12:.0f} TFLOP/s drawing, {gpu.train / 1e12:.0f}"
        " TFLOP/s training.",
        f"Speeds: {gpu.source}.",
        "Operations are counted by torch on the models' configurations. Assumed: the language model reaches a tenth of",
        "the drawing speed, 0.5 GB of activations an image drawn. 'GB a GPU' of students: weights, optimiser, average,",
        "and what is kept for the backward pass, without the kernels' workspace. Students run side by side in 'all'.",
        "DVC keeps what is recorded once more, where the disk cannot share it (ext4; not XFS, Btrfs, APFS).",
    ]
    return "\n".join(text)


def smallest(lines: list[Line], known: dict[str, Gpu]) -> str:
    """The smallest known GPU that each training's memory fits on, as text."""
    by_size = sorted(known, key=lambda name: known[name].memory)
    rows = []
    for line in lines:
        if line.stage.startswith(("student ", "faster ")):
            fits = next((name for name in by_size if line.memory <= known[name].memory), None)
            size = f"{fits} ({known[fits].memory:g} GB)" if fits else "none that is known"
            rows.append(f"{line.stage:28} {line.memory:8.1f} GB  {size}")
    return "\n".join(["The smallest GPU of those known that a training fits on, with this micro_batch:", *rows])


def _show(arguments: argparse.Namespace) -> None:
    config, known = read_config(arguments.config), gpus(arguments.measured)
    name = arguments.gpu or default_gpu(arguments.measured)
    if name not in known:
        raise UserError(f"plan: no speeds of a {name!r} are known; there are {', '.join(known)}")
    gpu = known[name]
    if arguments.train_tflops:
        gpu = Gpu(gpu.memory, gpu.draw, arguments.train_tflops * 1e12, f"{gpu.source}; training as given")
    if arguments.draw_tflops:
        gpu = Gpu(gpu.memory, arguments.draw_tflops * 1e12, gpu.train, f"{gpu.source}; drawing as given")
    lines = plan(config, load_experiments(Path(config.experiments)).of_grid(config.grid), gpu)
    print(table(lines, gpu, name, arguments.gpus), smallest(lines, known), sep="\n\n")


def main(argv: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    files = [Path("config/config.yaml"), Path("config/paper.yaml")]
    parser.add_argument("--config", type=Path, nargs="+", default=files)
    parser.add_argument("--gpu", help="a100-80gb, a100-40gb, a10, or the one that was measured, which is the default")
    parser.add_argument("--measured", type=Path, default=MEASURED, help="what benchmarks/gpu.py wrote, if it was run")
    parser.add_argument("--gpus", type=int, default=4, help="how many there are")
    parser.add_argument("--train-tflops", type=float, help="your own measurement, in operations as counted here")
    parser.add_argument("--draw-tflops", type=float, help="the same for drawing images")
    run_stage(_show, parser, argv)


if __name__ == "__main__":
    main()
