"""What a model of one's own is refused for before anything runs: its teacher, its texts, its runs."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_pipelines import every_family, student_of

from randcond.assets.listing import needed, read_assets
from randcond.jobs.errors import UserError
from randcond.jobs.yaml_file import read_yaml
from randcond.method.student import build_student
from randcond.planning import operations
from randcond.scores.check import check_students
from randcond.settings.config import Config, check_config
from randcond.settings.experiments import load_experiments
from randcond.settings.own import check_own, check_teacher
from randcond.students.distil import save_pipeline
from randcond.teachers.families import denoiser_folder
from randcond.teachers.pipelines import load_pipeline

ROOT = Path(__file__).parents[2]

TEACHERS: dict[str, tuple[dict[str, str], str]] = {
    "none": ({}, "no such folder"),
    "a LoRA": ({"adapter_config.json": "{}"}, "a LoRA and no diffusers pipeline"),
    "a LoRA's weights": ({"pytorch_lora_weights.safetensors": ""}, "a LoRA and no diffusers pipeline"),
    "a UNet": ({"config.json": "{}"}, "one model and no diffusers pipeline"),
    "pictures": ({"a.png": ""}, "something else"),
    "no JSON": ({"model_index.json": "{"}, "no index of a diffusers pipeline"),
    "a list": ({"model_index.json": "[]"}, "no index of a diffusers pipeline"),
    "another family": ({"model_index.json": '{"_class_name": "FluxPipeline"}'}, "a FluxPipeline; known are"),
    "code of its own": (
        {"model_index.json": '{"_class_name": ["pipeline", "Mine"]}'},
        "a .'pipeline', 'Mine'.; known are",
    ),
    "a variant alone": (
        {"model_index.json": '{"_class_name": "StableDiffusionPipeline"}', "vae/model.fp16.safetensors": ""},
        "its vae has only a variant, model.fp16.safetensors; load it with variant",
    ),
    "a consistency model": (
        {
            "model_index.json": '{"_class_name": "StableDiffusionPipeline"}',
            "unet/config.json": '{"time_cond_proj_dim": 256}',
        },
        "a consistency model",
    ),
    "a text encoder's pickle": (
        {"model_index.json": '{"_class_name": "StableDiffusionPipeline"}', "text_encoder/pytorch_model.bin": ""},
        "its text_encoder has no safetensors weights",
    ),
    "pickles in it": (
        {"model_index.json": '{"_class_name": "StableDiffusionPipeline"}', "unet/diffusion_pytorch_model.bin": ""},
        "no safetensors weights",
    ),
}


@pytest.mark.parametrize("case", TEACHERS)
def test_what_is_no_teacher_is_named(tmp_path: Path, case: str) -> None:
    files, told = TEACHERS[case]
    folder = tmp_path / "teacher"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    with pytest.raises(UserError, match=told) as refused:
        check_teacher(folder)
    assert "\n" not in str(refused.value)


@every_family
def test_a_pipeline_of_every_family_is_a_teacher(pipeline_folder: Path, tmp_path: Path) -> None:
    check_teacher(pipeline_folder)
    folder = shutil.copytree(pipeline_folder, tmp_path / "teacher")
    for file in denoiser_folder(folder).glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    with pytest.raises(UserError, match=f"its {denoiser_folder(folder).name} has no safetensors weights"):
        check_teacher(folder)


LAYOUT = "results/assets/stable-diffusion-v1-4-layout"  # as config/own_sd.yaml has it


@pytest.mark.parametrize("pipeline_folder", ["sdxl", "sd3"], indirect=True)
def test_a_folder_is_judged_as_itself_whatever_layout_is_named(
    pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    folder, runs = shutil.copytree(pipeline_folder, tmp_path / "teacher"), tmp_path / "experiments.yaml"
    runs.write_text(f"runs: {{mine: {{student: {student_of(folder)}}}}}\ntables: {{}}\n")
    config, experiments = own_config(teacher=str(folder), teacher_layout=LAYOUT), load_experiments(runs)
    check_own(config, experiments)
    found, itself = operations.models_of(config), operations.of_folder(folder)
    assert found.parameters("unet") == itself.parameters("unet") < 1e6
    # nor is it fetched; beside one file it is
    assets, one_file = (
        read_assets(Path("config/assets.yaml")),
        own_config(teacher="t.safetensors", teacher_layout=LAYOUT),
    )
    asked = [needed(assets, {"teacher_layout": each.layout}) for each in (config, one_file)]
    assert asked == [[], [Path(LAYOUT).name]]
    for file in denoiser_folder(folder).glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    with pytest.raises(UserError, match="has no safetensors weights"):
        check_own(config, experiments)
    with pytest.raises(UserError, match="has no safetensors weights"):
        check_teacher(folder, LAYOUT)


def test_a_teacher_that_is_to_be_fetched_may_be_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = own_config(teacher="results/assets/stable-diffusion-3-medium")
    runs = tmp_path / "experiments.yaml"
    runs.write_text("runs: {mine: {student: half-depth}}\ntables: {}\n")
    monkeypatch.chdir(ROOT)
    check_own(config, load_experiments(runs))
    with pytest.raises(UserError, match="no such folder"):
        check_own(own_config(teacher="results/other/stable-diffusion-3-medium"), load_experiments(runs))


@every_family
def test_students_are_laid_out_before_anything_is_rendered(pipeline_folder: Path) -> None:
    check_students(pipeline_folder, [student_of(pipeline_folder), student_of(pipeline_folder, narrow=True)])
    wrong = "half-depth" if student_of(pipeline_folder).startswith("b-") else "b-base"
    with pytest.raises(UserError, match=f"student: {wrong} is made of a"):
        check_students(pipeline_folder, [student_of(pipeline_folder), wrong])


def test_a_student_of_another_layout_or_no_smaller_is_refused_before_anything_is_rendered(
    pipeline_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="ssd-1b"):
        check_students(pipeline_folder, ["b-base", "ssd-1b"])
    pipeline = load_pipeline(pipeline_folder)
    save_pipeline(pipeline, build_student(pipeline.unet, "b-base", "copied"), tmp_path / "small")
    with pytest.raises(UserError, match="student: b-base of this teacher has .* name a smaller one"):
        check_students(tmp_path / "small", ["b-base"])


def test_a_student_that_cannot_inherit_is_refused_before_anything_is_rendered(tmp_path: Path) -> None:
    config = {"block_out_channels": [20, 40, 80, 80], "cross_attention_dim": 8, "norm_num_groups": 1}
    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    for heads, students in ((2, ["c-small:inherited"]), ([5, 5, 10, 10], ["c-small", "b-base"])):
        (tmp_path / "unet/config.json").write_text(json.dumps(config | {"attention_head_dim": heads}))
        check_students(tmp_path, students)
    with pytest.raises(UserError, match="init: c-small has other numbers of heads than the teacher"):
        check_students(tmp_path, ["b-base", "c-small:inherited"])


def test_a_pickle_is_no_teacher(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"")
    with pytest.raises(UserError, match="a pickle"):
        check_teacher(tmp_path / "model.ckpt")


def own_config(**changes: Any) -> Config:
    return check_config(
        read_yaml(ROOT / "config/config.yaml", "c") | read_yaml(ROOT / "config/own.yaml", "c") | changes
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sources": {}}, "sources.own: name the file"),
        ({"sources": {"own": "config/none.txt"}}, "config/none.txt: no such file"),
        ({"teacher": "config"}, "something else"),
        ({"prompts": {"pool": 9}}, "config: prompts.pool: the own world's pool is all texts that are not rendered"),
        ({"prompts": {"benchmark": 9}}, "config: prompts.benchmark: the own world is scored on all its prompts"),
        ({"prompts": {"held_out": ["-"]}}, r"prompts\.held_out\.0"),
        ({"inception": "results/assets/inception"}, "config: inception: the own world is scored by its evaluator"),
        ({"evaluator": "config"}, "neither open_clip_config.json nor torchvision.json"),
        ({"teacher": "mine.safetensors"}, "mine.safetensors: no such file"),
        ({"experiments": "config/experiments.yaml"}, "no real images"),
    ],
)
def test_the_template_is_right_and_what_it_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], told: str
) -> None:
    monkeypatch.chdir(ROOT)
    right = own_config()
    check_own(right, load_experiments(right.experiments))
    with pytest.raises(UserError, match=told):
        wrong = own_config(**changes)
        check_own(wrong, load_experiments(wrong.experiments))


@pytest.mark.parametrize(
    ("split", "lacks"),
    [
        ("seen", "set prompts.held_out or leave it out"),
        ("unseen", "set prompts.held_out or leave it out"),
        ("coco30k", "scores no coco30k here; leave it out"),
        ("unseen pair", "scores no unseen pair here; leave it out"),
    ],
)
def test_a_table_of_what_is_not_scored_is_refused_before_anything_runs(
    split: str, lacks: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    file = tmp_path / "experiments.yaml"
    file.write_text(f"runs: {{base: {{}}}}\ntables: {{t: {{title: T, splits: [all, {split}], rows: []}}}}\n")
    config = own_config(experiments=str(file))
    with pytest.raises(UserError, match=f"tables.t: the own world .*{lacks}"):
        check_own(config, load_experiments(file))
    if "prompts" in lacks:
        enough = own_config(experiments=str(file), prompts={"held_out": ["green"]})
        check_own(enough, load_experiments(file))


def test_the_resolution_is_the_teachers() -> None:
    with pytest.raises(UserError, match=r"rendering\.resolution"):
        own_config(rendering={"resolution": 768})


DESCRIBED = {"count": 3, "evaluation": 2, "examples": ["a red cup", "a tiger", "two bears"], "llm": {"count": 9}}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ""),
        ({"description": "cups"}, "prompts.description: 'cups' does not say"),
        ({"description": None}, "sources.own: name the file of texts"),
        ({"examples": ["a cup", "a cup"]}, "prompts.examples: 1 different texts; give at least 3"),
        ({"llm": {"count": 4}}, "prompts.llm.count: 4 texts to be written are fewer than the 3"),
        ({"llm": {"count": 5}}, r"prompts.llm.count: of 5 texts .* none for the pool; .*: runs\.base\.texts"),
    ],
)
def test_texts_that_are_to_be_written(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], told: str) -> None:
    monkeypatch.chdir(ROOT)
    prompts = DESCRIBED | {"description": "Drawings of animals and things on plain backgrounds."} | changes
    config = own_config(sources={}, prompts=prompts)
    if not told:
        return check_own(config, load_experiments(config.experiments))
    with pytest.raises(UserError, match=told) as refused:
        check_own(config, load_experiments(config.experiments))
    assert "\n" not in str(refused.value)
    return None


def test_texts_are_written_for_the_pools_of_the_runs_that_are_trained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    runs = tmp_path / "experiments.yaml"
    runs.write_text(
        "runs: {plain: {}, pooled: {texts: [pool], random_conditioning: {kind: linear}}}\n"
        "faster: {few: {student: pooled}}\ntables: {}\n"
    )
    experiments = load_experiments(runs)
    prompts = DESCRIBED | {"description": "Drawings of animals and things on plain backgrounds.", "llm": {"count": 5}}
    check_own(own_config(sources={}, prompts=prompts, only=["plain"]), experiments)
    for only in ([], ["pooled"], ["plain", "few"]):
        with pytest.raises(UserError, match=r"none for the pool; .* runs\.pooled\.texts"):
            check_own(own_config(sources={}, prompts=prompts, only=only), experiments)


def test_a_description_is_for_this_world_and_no_file_stands_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match="give one of the two"):
        check_own(
            own_config(prompts={"description": "Drawings of things."}), load_experiments("config/experiments.yaml")
        )
    with pytest.raises(UserError, match="the world artists has texts"):
        check_config({"prompts": {"description": "Drawings of things."}})


@pytest.mark.parametrize(
    ("index", "denoiser", "student", "told"),
    [
        ("StableDiffusion3Pipeline", "transformer", "half-depth", ""),
        (
            "StableDiffusion3Pipeline",
            "transformer",
            "b-base",
            "b-base is no student of a transformer; there are half-depth",
        ),
        ("StableDiffusionXLPipeline", "unet", "koala-700m", ""),
        ("StableDiffusionXLPipeline", "unet", "half-depth", "half-depth is no student of a UNet; there are b-base"),
    ],
)
def test_students_are_of_the_teachers_kind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, index: str, denoiser: str, student: str, told: str
) -> None:
    monkeypatch.chdir(ROOT)
    (tmp_path / denoiser).mkdir()
    (tmp_path / denoiser / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": index}))
    runs = tmp_path / "experiments.yaml"
    runs.write_text(f"runs: {{mine: {{student: {student}}}}}\ntables: {{}}\n")
    config, experiments = own_config(teacher=str(tmp_path)), load_experiments(str(runs))
    if not told:
        return check_own(config, experiments)
    with pytest.raises(UserError, match=told) as refused:
        check_own(config, experiments)
    assert "\n" not in str(refused.value)
    return None


def test_unseen_texts_are_in_the_pool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    asking = tmp_path / "experiments.yaml"
    asking.write_text(
        (ROOT / "config/own_experiments.yaml").read_text().replace("{texts: [pool],", "{texts: [unseen],")
    )
    with pytest.raises(UserError, match=r"runs\.base\.texts: the own world knows no unseen texts to add; use pool"):
        check_own(own_config(), load_experiments(asking))


def test_written_prompts_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    asking = tmp_path / "experiments.yaml"
    asking.write_text((ROOT / "config/own_experiments.yaml").read_text().replace("{texts: [pool],", "{prompts: llm,"))
    with pytest.raises(UserError, match=r"runs\.base: the own world has no written prompts"):
        check_own(own_config(), load_experiments(str(asking)))
