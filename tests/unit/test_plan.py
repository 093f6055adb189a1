"""The plan: operations are those of the models, and costs follow from the configuration."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from tiny_pipelines import every_family

from randcond.jobs.errors import UserError
from randcond.method.student import count_parameters
from randcond.planning import operations, plan, sd14
from randcond.settings.config import Config, check_config, read_config
from randcond.settings.experiments import Experiments, load_experiments
from randcond.settings.workflow import evaluation_count, protocol
from randcond.teachers.pipelines import load_pipeline, teacher_of

CONFIG = Path(__file__).parents[2] / "config"
SD14 = operations.stable_diffusion()
GPU = plan.Gpu(memory=80, draw=1e14, train=2e13, source="a test")


def paper(**changes: object) -> Config:
    values = yaml.safe_load((CONFIG / "paper.yaml").read_text())
    return check_config(values | changes)


def experiments(*runs: str) -> Experiments:
    everything = load_experiments(CONFIG / "paper_experiments.yaml")
    return Experiments(runs={run: everything.runs[run] for run in runs}, tables={})


def test_operations_of_a_convolution() -> None:
    with torch.device("meta"):
        layer, images = torch.nn.Conv2d(3, 8, 3, padding=1), torch.empty(2, 3, 10, 10)
    assert operations.flops(lambda: layer(images)) == 2 * (2 * 10 * 10 * 8) * (3 * 3 * 3)


def test_the_models_are_sd14s() -> None:
    assert SD14.parameters("unet") == sd14.PARAMETERS
    assert SD14.parameters("vae") == 83_653_863
    assert SD14.parameters("text") == 123_060_480
    # BK-SDM counts 339 G multiply-adds for the UNet without those inside of attention
    assert 339e9 < SD14.prediction_flops("unet") / 2 < 420e9


def test_a_training_step_is_its_parts() -> None:
    forward = SD14.prediction_flops("c-micro")
    plain, checkpointed = (SD14.step_flops("c-micro", flag) for flag in (False, True))
    assert checkpointed - plain == forward
    both = plain - SD14.prediction_flops("unet") - SD14.text_flops()
    assert 2.5 < both / forward < 3.1  # backward costs about two forwards


def test_hours_follow_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIG.parent)
    one = {line.stage: line for line in plan.plan(paper(), experiments("c-micro-rc"), GPU)}
    recipe = yaml.safe_load((CONFIG / "paper.yaml").read_text())["distillation"]
    longer = recipe | {"steps": {"copied": 50_000, "random": 100_000}}
    two = {line.stage: line for line in plan.plan(paper(distillation=longer), experiments("c-micro-rc"), GPU)}
    line = one["student c-micro-rc"]
    assert line.hours == pytest.approx(50_000 * 256 * SD14.step_flops("c-micro", True) / 2e13 / 3600)
    assert two["student c-micro-rc"].hours == pytest.approx(2 * line.hours)
    assert two["render"].hours == one["render"].hours
    assert one["render"].disk == pytest.approx(212_776 * 32_768 / 1e9)
    assert (one["render"].jobs, one["sample"].jobs) == (213, 30 + 30)  # no table asks for more
    assert line.wall(4) == pytest.approx(line.hours / 4)
    assert line.wall(8) == line.wall(4)  # one job cannot take more than its own GPUs
    text = plan.table(list(one.values()), GPU, "test", 8)
    assert "a test" in text
    assert "student c-micro-rc" in text
    tight = plan.Gpu(5, 1e14, 2e13, "a test")
    assert "TOO LARGE" in plan.table(list(one.values()), tight, "test", 8)
    assert "TOO LARGE" not in text


def test_measuring_p_of_t_costs_its_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIG.parent)
    assert "sensitivity" not in {line.stage for line in plan.plan(paper(), experiments("c-micro-rc"), GPU)}
    run = experiments("c-micro-rc").runs["c-micro-rc"]
    measured = run.model_copy(update={"random_conditioning": {"kind": "measured", "share": 0.35}})
    config = paper(sensitivity={"images": 10, "texts": 3, "levels": 5, "batch": 8})
    (line,) = (
        one
        for one in plan.plan(config, Experiments(runs={"m": measured}, tables={}), GPU)
        if one.stage == "sensitivity"
    )
    assert line.hours == pytest.approx(10 * (5 + 1) * 4 * SD14.prediction_flops("unet") / GPU.draw / 3600)
    weights = sum(SD14.parameters(part) for part in ("unet", "vae", "text"))
    alive = 8 * 2 * SD14.saved_bytes("unet", True)  # in float32, whose saved bytes are counted in 16 bits
    assert line.memory == pytest.approx((4 * weights + alive) / 1e9)


def test_memory_follows_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of it would not be a half of all: the moments and the average stay in float32."""
    monkeypatch.chdir(CONFIG.parent)
    content = yaml.safe_load((CONFIG / "paper.yaml").read_text())

    def planned(precision: str) -> dict[str, float]:
        drawing = {name: content[name] | {"precision": precision, "batch": 2} for name in ("rendering", "sampling")}
        recipe = content["distillation"] | {"mixed_precision": precision, "ema": 0.0, "micro_batch": 1}
        lines = plan.plan(paper(**drawing, distillation=recipe), experiments("c-micro-rc"), GPU)
        return {line.stage: line.memory for line in lines}

    whole, half = planned("no"), planned("fp16")
    for stage in ("render", "sample"):
        assert whole[stage] == pytest.approx(2 * half[stage])
    own, teacher, texts = (4 * sum(map(SD14.parameters, parts)) for parts in (["c-micro"], ["unet"], ["vae", "text"]))
    saved = SD14.saved_bytes("c-micro", content["distillation"]["gradient_checkpointing"])
    assert whole["student c-micro-rc"] == pytest.approx((4 * own + teacher + texts + 2 * saved) / 1e9)
    assert half["student c-micro-rc"] == pytest.approx((4 * own + own / 2 + teacher / 2 + texts + saved) / 1e9)


def test_scores_along_a_training_cost_what_they_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIG.parent)
    runs = experiments("c-micro-rc", "seen-plain")
    recipe = yaml.safe_load((CONFIG / "paper.yaml").read_text())["distillation"]

    def planned(**changes: object) -> dict[str, plan.Line]:
        return {line.stage: line for line in plan.plan(paper(**changes), runs, GPU)}

    none, one = planned(along=[]), planned(along=["c-micro-rc"])
    assert {"sample_along", "score_along"}.isdisjoint(none)
    assert one["sample"] == none["sample"] and one["score"] == none["score"]
    # 25,000 steps by both weights, 50,000 by their average, of 30,000 images
    assert (one["sample_along"].jobs, one["score_along"].jobs) == (3 * 30, 3)
    drawn = 3 * 30_000 * SD14.image_flops("c-micro", 25)
    assert one["sample_along"].hours == pytest.approx(drawn / GPU.draw / 3600)
    # kept by every run, scored or not
    fewer = planned(along=[], distillation=recipe | {"keep_every": 0})
    for run in ("c-micro-rc", "seen-plain"):
        kept = none[f"student {run}"].disk - fewer[f"student {run}"].disk
        student = "c-micro" if run == "c-micro-rc" else "b-base"
        assert kept == pytest.approx(3 * 4 * SD14.parameters(student) / 1e9)


@pytest.mark.parametrize("redrawn", [True, False])
def test_more_seeds_of_some_runs_cost_as_much_each(monkeypatch: pytest.MonkeyPatch, redrawn: bool) -> None:
    monkeypatch.chdir(CONFIG.parent)
    runs = experiments("c-micro-rc", "seen-plain").model_dump()
    runs |= {"faster": {"fast": {"student": "c-micro-rc"}}, "drawn": {"two": {"run": "c-micro-rc", "steps": 2}}}
    prompts = yaml.safe_load((CONFIG / "paper.yaml").read_text())["prompts"] | {"redrawn": redrawn}

    def planned(more: dict[str, list[int]]) -> dict[str, plan.Line]:
        config = paper(prompts=prompts, along=["c-micro-rc"], more_seeds=more)
        return {line.stage: line for line in plan.plan(config, Experiments.model_validate(runs), GPU)}

    plain, several = planned({}), planned({"c-micro-rc": [1, 2], "fast": [2]})
    for stage, times in (("student c-micro-rc", 3), ("faster fast", 2), ("sample_along", 3), ("score_along", 3)):
        assert several[stage].jobs == times * plain[stage].jobs
        assert several[stage].hours == pytest.approx(times * plain[stage].hours)
        assert several[stage].disk == pytest.approx(times * plain[stage].disk)
    assert several["student seen-plain"] == plain["student seen-plain"]
    # two more students and one that is faster; what is drawn in other steps was given no more seeds
    assert several["sample"].jobs - plain["sample"].jobs == 3 * 30
    assert several["score"].jobs - plain["score"].jobs == 3
    draws = 3 if redrawn else 1
    assert several["render"].jobs == draws * plain["render"].jobs
    assert several["render"].hours == pytest.approx(draws * plain["render"].hours)
    assert several["render"].disk == pytest.approx(draws * plain["render"].disk)


@pytest.mark.parametrize(("redrawn", "times"), [(True, 3), (False, 1)])
def test_each_draw_is_written_for(redrawn: bool, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIG.parent)
    monkeypatch.setattr(operations, "models_of", lambda _: SD14)
    prompts = yaml.safe_load((CONFIG / "paper.yaml").read_text())["prompts"] | {"redrawn": redrawn}

    def planned(more: dict[str, list[int]]) -> dict[str, plan.Line]:
        config = paper(prompts=prompts, along=[], more_seeds=more)
        return {line.stage: line for line in plan.plan(config, experiments("llm-rc", "copied-rc"), GPU)}

    plain, several = planned({}), planned({"llm-rc": [1, 2]})
    for stage in ("prompts", "llm_prompts"):
        assert several[stage].jobs == times * plain[stage].jobs == times
        assert several[stage].hours == pytest.approx(times * plain[stage].hours)
        assert several[stage].disk == pytest.approx(times * plain[stage].disk)
    assert planned({"copied-rc": [1, 2]})["llm_prompts"].jobs == 1  # whose prompts are D's own


@pytest.mark.parametrize("family", ["sd21", "sdxl", "sd3"])
def test_no_writer_where_nothing_asks_for_one(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIG.parent)
    monkeypatch.setattr(operations, "models_of", lambda _: SD14)  # it is not about sizes, which take long to count

    def planned(name: str, run: str) -> dict[str, plan.Line]:
        config = read_config([CONFIG / f"{one}.yaml" for one in ("config", "paper", name)])
        runs = Experiments(runs={"a": experiments(run).runs[run]}, tables={})
        return {line.stage: line for line in plan.plan(config.model_copy(update={"along": []}), runs, GPU)}

    written, plain = planned("paper", "llm-rc"), planned("paper", "copied-rc")
    assert (written["fetch"].jobs, plain["fetch"].jobs) == (9, 8)
    assert written["fetch"].disk - plain["fetch"].disk == pytest.approx(15.3)
    assert written["llm_prompts"].hours > 0
    assert "llm_prompts" not in plain
    # as Snakemake plans it (tests/workflow/test_paper_dag.py)
    newer = planned(family, "copied-rc")
    assert newer["fetch"].jobs == 8
    assert "llm_prompts" not in newer
    assert planned(family, "llm-rc")["fetch"].jobs == 9


def test_a_described_world_has_a_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIG.parent)
    described = read_config([CONFIG / "config.yaml", CONFIG / "own_sd.yaml"]).model_dump()
    described["prompts"] |= {"description": "Things on a plain background, drawn by hand.", "examples": ["a", "b", "c"]}
    described["prompts"]["llm"] |= {"count": 10_000, "writer": {"model": "results/assets/llm"}}
    described["sources"]["own"] = None
    lines = {line.stage: line for line in plan.plan(check_config(described), experiments("copied-rc"), GPU)}
    assert lines["llm_prompts"].hours > 0
    assert lines["fetch"].jobs == 3


def test_students_that_are_made_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIG.parent)
    runs = experiments("c-micro-rc").model_dump()
    more = {"faster": {"fast": {"student": "c-micro-rc"}}, "drawn": {"fast-1": {"run": "fast", "steps": 1}}}
    fewer, all_of_it = (
        {line.stage: line for line in plan.plan(paper(along=[]), Experiments.model_validate(runs | added), GPU)}
        for added in ({}, more)
    )
    found = all_of_it["faster fast"]
    # in the place of the teacher's prediction three of the student's own: guided by itself, and its own target
    three = 3 * SD14.prediction_flops("c-micro") - SD14.prediction_flops("unet")
    assert SD14.faster_flops("c-micro", True) == SD14.step_flops("c-micro", True) + three
    assert found.hours == pytest.approx(4_000 * 256 * SD14.faster_flops("c-micro", True) / GPU.train / 3600)
    assert found.memory < all_of_it["student c-micro-rc"].memory  # the teacher is a small one
    # drawn in four steps and in one, a pass each
    passes = (4 + 1) * SD14.prediction_flops("c-micro") + 2 * (SD14.decode_flops() + SD14.text_flops())
    drawn = all_of_it["sample"].hours - fewer["sample"].hours
    assert drawn == pytest.approx(30_000 * passes / GPU.draw / 3600)
    assert (all_of_it["sample"].jobs, all_of_it["score"].jobs) == (fewer["sample"].jobs + 60, fewer["score"].jobs + 2)


def test_what_is_no_plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(CONFIG.parent)
    with pytest.raises(UserError, match="the artists world needs no plan"):
        plan.plan(Config(), experiments("c-micro-rc"), GPU)
    with pytest.raises(UserError, match="stable-diffusion-2-1 is not there; fetch it first"):
        other = read_config([CONFIG / f"{name}.yaml" for name in ("config", "paper", "sd21")])
        plan.plan(other, experiments("c-micro-rc"), GPU)
    with pytest.raises(UserError, match="no such file"):
        read_config([tmp_path / "none.yaml"])
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet/config.json").write_text("{}")
    with pytest.raises(UserError, match="no such file|not a Stable Diffusion"):
        operations.models_of(read_config([CONFIG / "own.yaml"]).model_copy(update={"teacher": str(tmp_path)}))


def test_a_model_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIG.parent)

    def planned(name: str) -> dict[str, plan.Line]:
        config = read_config([CONFIG / "config.yaml", CONFIG / f"{name}.yaml"])
        return {line.stage: line for line in plan.plan(config, load_experiments(CONFIG / "own_experiments.yaml"), GPU)}

    small = load_pipeline(CONFIG.parent / "workflow/assets/emoji/teacher")
    models = operations.models_of(read_config([CONFIG / "own.yaml"]))
    assert models.parameters("unet") == small.unet.num_parameters()
    assert (models.latent, models.pixels, models.latent_bytes) == ((4, 8, 8), 32, 2 * 4 * 8 * 8)
    size = planned("own_sd")
    # in the place of real images the teacher draws twice; a file of which nothing is read before it is converted
    assert (size["sample"].jobs, size["score"].jobs) == (4, 4)
    steps = 6_000 * 64 * SD14.step_flops("b-base", True)
    assert size["student base"].hours == pytest.approx(steps / GPU.train / 3600)
    assert size["render"].disk == pytest.approx(4000 * 32_768 / 1e9)
    assert size["student base"].memory > 10 > 1 > planned("own")["student base"].memory
    assert (size["fetch"].jobs, planned("own")["fetch"].jobs) == (2, 0)


def test_configurations_are_laid_over_one_another() -> None:
    config = read_config([CONFIG / "config.yaml", CONFIG / "paper.yaml"])
    assert config.world == "paper"
    assert config.distillation.null_text == 0.1
    assert config.prompts.llm.batch == 256


def test_speeds_are_others_measurements() -> None:
    found = plan.gpus()["a100-80gb"]
    assert SD14.image_flops("unet", 50) / found.draw == pytest.approx(13.55 / 16)
    assert "13.55" in found.source
    assert 1e13 < found.train < found.draw < 3e14


def test_evaluation_images_of_a_run() -> None:
    table = {"splits": ["coco30k"], "rows": [{"run": "a"}, {"run": "b"}]}
    more = {"splits": ["seen", "all"], "rows": [{"run": "b"}]}
    grid = {"split": "unseen", "runs": ["c"]}
    content = {"tables": {"one": table, "two": more}, "grids": [grid]}
    assert [evaluation_count(content, run, 30, 40) for run in ("a", "b", "c")] == [30, 40, 40]
    assert evaluation_count(content, "a", None, 40) == 40


def test_protocols() -> None:
    assert protocol(Config().model_dump())["image format"] == "PNG, no resize but the evaluator's own"
    found = protocol(paper().model_dump())
    assert found["image format"].startswith("JPEG, resized to 256 x 256")
    assert found["training steps"] == {"copied": 50_000, "random": 50_000, "inherited": 50_000, "faster": 4_000}


@pytest.mark.parametrize(
    ("models", "student", "size", "latent", "pixels"),
    [
        pytest.param(
            *(operations.stable_diffusion_xl, "koala-700m", 782_822_724, (4, 128, 128), 1024), marks=pytest.mark.slow
        ),
        (operations.stable_diffusion_3, "half-depth", 1_008_559_168, (16, 128, 128), 1024),
    ],
)
def test_newer_families(
    models: Callable[[], operations.Models], student: str, size: int, latent: tuple, pixels: int
) -> None:
    found = models()
    assert found.parameters(student) == size
    assert (found.latent, found.pixels) == (latent, pixels)
    teacher, own = (found.prediction_flops(name) for name in ("unet", student))
    assert 0.2 < own / teacher < 0.6
    plain = found.step_flops(student, False) - teacher - found.text_flops()
    assert 2.5 < plain / own < 3.1  # backward costs about two forwards
    assert found.saved_bytes(student, True) < found.saved_bytes(student, False)


@every_family
def test_sizes_of_a_folder(pipeline_folder: Path) -> None:
    found, pipeline = operations.of_folder(pipeline_folder), load_pipeline(pipeline_folder)
    teacher = teacher_of(pipeline)
    assert found.parameters("unet") == count_parameters(teacher.denoiser)
    encoders = [getattr(pipeline, name) for name in teacher.encoders]
    assert found.parameters("text") == sum(count_parameters(one) for one in encoders if one is not None)
    assert found.prediction_flops("unet") > 0 < found.text_flops()


@pytest.mark.parametrize(("family", "student"), [("sdxl", "koala-700m"), ("sd3", "third-depth")])
def test_the_plan_names_the_smallest_gpu(family: str, student: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONFIG.parent)
    config = read_config([CONFIG / f"{name}.yaml" for name in ("config", "paper", family)])
    everything = load_experiments(Path(config.experiments))
    (name,) = [name for name, run in everything.runs.items() if run.student == student][:1]
    lines = plan.plan(config, Experiments(runs={name: everything.runs[name]}, tables={}), GPU)
    (line,) = [line for line in lines if line.stage == f"student {name}"]
    known = {
        f"{size} GB": plan.Gpu(size, 1e14, 1e14, "a test") for size in (80, int(line.memory), int(line.memory) + 1)
    }
    text = plan.smallest(lines, known)
    assert f"{int(line.memory) + 1} GB (" in text
    assert "none that is known" in plan.smallest(lines, {"small": plan.Gpu(1, 1e14, 1e14, "a test")})
