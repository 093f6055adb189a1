"""A finished student as a folder to hand on: the weights and the card."""

import json
import re
import shutil
from argparse import Namespace
from pathlib import Path

import diffusers
import numpy as np
import pandas as pd
import pytest
import tiny_pipelines
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionPipeline,
)
from finished_students import picture, student_of
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from PIL import Image

from randcond.faster import distil as faster
from randcond.jobs.errors import UserError
from randcond.models import card, write
from randcond.models.finished import load
from randcond.prompts.table import write_prompts
from randcond.samples.images import encoded, write_images
from randcond.settings.experiments import Run
from randcond.settings.stages import ModelCard as ModelCardSettings
from randcond.students import distil
from randcond.teachers.families import family_of
from randcond.teachers.pipelines import load_pipeline, teacher_of, teacher_type

ROOT = Path(__file__).parents[2]
PUBLISHED = ["stable_diffusion", "sdxl", "sd3"]  # families whose pipelines are diffusers' own
FULL = ROOT / "docs/full"
RUN = Run.model_validate(
    {"rows": "seen", "random_conditioning": {"kind": "exponential", "rate": 5.0}, "texts": ["unseen", "pool"]}
).model_dump()
NOTHING = ModelCardSettings().model_dump()
LICENCE = NOTHING | {"license": "cc-by-sa-4.0"}
LOG = f"x INFO {distil.SIZES % ('mine/0', '5', 612, 9657, 19.8, 800)}\n"
PROMPTS = ["a <b>tiger</b> | ![x](y) *red*", 'a "quoted" `tick` \\', "a cat\n# in two lines", "a dog", "a", "b", "c"]


def made(**run: object) -> card.Made:
    """Where a student of a run is from."""
    return card.Made("mine", Run.model_validate(run).model_dump(), 0, "teacher", (612, 9657, 800), None)


@pytest.fixture
def arguments(pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Namespace:
    """The arguments of the rule, with scores and costs as they were once measured."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pipeline_folder, "teacher")
    student_of(Path("teacher"), tiny_pipelines.student_of(pipeline_folder), Path("student"))
    Path("student.log").write_text(LOG)
    write_prompts(Path("prompts.parquet"), pd.DataFrame({"text": PROMPTS, "split": "seen", "source": "emoji"}))
    for run in ("teacher", "mine"):
        pictures = (encoded(Image.new("RGB", (32, 32), "red"), "png") for _ in PROMPTS)
        Path(f"samples/{run}/0").mkdir(parents=True)
        write_images(Path(f"samples/{run}/0/00000.zip"), pictures, 0, "png")
    settings = {"name": "mine", "teacher": "their/teacher", "seed": 0, "run": RUN, "card": LICENCE}
    settings |= {
        "count": len(PROMPTS),
        "steps": 3,
        "guidance_scale": 2.0,
        "precision": "no",
        "described": False,
        "held_out": False,
    }
    return Namespace(
        settings=json.dumps(settings),
        scores=[FULL / f"scores/{run}/0.json" for run in ("teacher", "seen-rc-pool")],
        costs=[FULL / f"costs/{run}.json" for run in ("teacher", "copied-rc")],
        samples=[Path(f"samples/{run}/0/00000.zip") for run in ("teacher", "mine")],
        teacher=Path("teacher"),
        pipeline=Path("student"),
        prompts=Path("prompts.parquet"),
        student_log=Path("student.log"),
        template=ROOT / "workflow/src/randcond/models/card.md.j2",
        output=Path("model"),
    )


def changed(arguments: Namespace, **settings: object) -> Namespace:
    """The arguments with other settings."""
    return Namespace(**{**vars(arguments), "settings": json.dumps(json.loads(arguments.settings) | settings)})


def parameters(pipeline: DiffusionPipeline) -> dict[str, torch.Tensor]:
    """All parameters of a pipeline's models, by the model's name and their own."""
    models = {part: one for part, one in pipeline.components.items() if isinstance(one, torch.nn.Module)}
    return {f"{part}.{name}": weight for part, one in models.items() for name, weight in one.named_parameters()}


@pytest.mark.parametrize("pipeline_folder", PUBLISHED, indirect=True)
def test_the_folder_draws_as_the_student(arguments: Namespace) -> None:
    write.main(arguments)
    optional = teacher_type(family_of(Path("model"))).optional
    absent = dict.fromkeys(part for part in optional if not Path("model", part).is_dir())
    whole = DiffusionPipeline.from_pretrained("model", **absent)
    expected = picture(load(Path("student"), Path("teacher")))
    np.testing.assert_array_equal(picture(whole), expected)
    assert expected.std() > 0.01
    half = DiffusionPipeline.from_pretrained("model", variant="fp16", dtype=torch.float16, **absent)
    ours, theirs = parameters(half), parameters(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name].half()) for name in ours)
    names = {str(path.relative_to("model")) for path in Path("model").rglob("*.safetensors")}
    denoiser = f"{family_of(Path('model')).denoiser}/diffusion_pytorch_model"
    assert {f"{denoiser}.safetensors", f"{denoiser}.fp16.safetensors"} <= names
    assert len(names) == 2 * len({name.split(".")[0] for name in theirs})
    # equal students are equal folders
    first = {path: path.read_bytes() for path in Path("model").rglob("*") if path.is_file()}
    write.main(arguments)
    assert {path: path.read_bytes() for path in first} == first


def test_the_card_says_what_it_was_made_from(arguments: Namespace) -> None:
    write.main(arguments)
    found = ModelCard.load(Path("model/README.md"))
    data = found.data.to_dict()
    assert data["library_name"] == "diffusers" and data["pipeline_tag"] == "text-to-image"
    assert data["license"] == "cc-by-sa-4.0" and "base_model" not in data  # a path is no model of the hub
    assert {"random-conditioning", "b-base"} <= set(data["tags"])
    for text in (
        "| teacher | their/teacher |",
        "| D | 612 pairs: the world's captions, those that name no concept held out; images rendered by the teacher |",
        "| C | 9,657 texts: D's own, those of the concepts held out, a large pool |",
        "| p(t) | exponential, rate 5.0 |",
        "| training | 800 steps, seed 0, averaged weights |",
        "| all | FID ↓ | 0.79 ± 0.28 | 2.37 ± 0.45 |".replace("0.79 ± 0.28", teachers_fid()),
        "| unseen | named right, % ↑ | ",
        "| parameters of the UNet | 7,725,094 | 5,202,844 |",
        "ControlNetModel.from_unet(pipeline.unet)",
        "for an autoencoder of factor 4",
    ):
        assert text in found.content
    assert Image.open("model/samples.png").height > 2 * 96


def teachers_fid() -> str:
    found = json.loads((FULL / "scores/teacher/0.json").read_text())["splits"]["all"]["metrics"]["fid"]
    return f"{found['value']:.2f} ± {found['error95']:.2f}"


@pytest.mark.parametrize("pipeline_folder", PUBLISHED, indirect=True)
def test_the_cards_lines_run(arguments: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    write.main(arguments)
    monkeypatch.chdir("model")
    (lines,) = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    assert len(lines.strip().splitlines()) == 3
    exec(compile(lines, "README.md", "exec"), {})
    assert Image.open("picture.png").size == (32, 32)
    kind = json.loads(Path("model_index.json").read_text())["_class_name"]
    for other in re.findall(r"`(\w+)\.from_pipe", Path("README.md").read_text()):
        assert other.startswith(kind.removesuffix("Pipeline")) and hasattr(diffusers, other)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_no_text_of_others_is_markup(prompt: str) -> None:
    escaped = card.markdown(prompt)
    (paragraph,) = (one for one in MarkdownIt("commonmark").enable("table").parse(escaped) if one.type == "inline")
    assert {one.type for one in paragraph.children} <= {"text", "text_special"}
    assert "".join(one.content for one in paragraph.children) == " ".join(prompt.split())
    assert not re.search(r"(?<!\\)\|", escaped)  # which ends a table's cell


def test_every_kind_of_run_is_told_in_words() -> None:
    rows = {name: made(student="c-base", init=name) for name in ("inherited", "random")}
    assert "inherited" in rows["inherited"].weights and "random" in rows["random"].weights
    assert made().c == "none: texts are not swapped" and made().trajectories is None
    all_of_them = made(trajectories={"share": 1.0, "guidance": 2.0}, texts=["pool"])
    assert all_of_them.d.startswith("none: all pairs are") and all_of_them.c == "9,657 texts: D's own, a large pool"
    assert all_of_them.trajectories == "100% of each batch, guidance 2"
    for prompts, images in (("llm", "rendered"), ("captions", "real"), ("captions", "real-augmented")):
        assert made(prompts=prompts, images=images).d.startswith("612 pairs: ")


def test_a_card_without_a_log_says_so(arguments: Namespace) -> None:
    arguments.student_log.unlink()
    write.main(arguments)
    assert "| D | size not recorded: the world's captions" in Path("model/README.md").read_text()


def test_the_teachers_own_card_gives_the_licence(arguments: Namespace) -> None:
    Path("teacher/README.md").write_text("---\nlicense: other\nlicense_name: mine\n---\n# teacher\n")
    write.main(changed(arguments, card=NOTHING | {"license": "mit", "base_model": "me/teacher"}))
    data = ModelCard.load(Path("model/README.md")).data.to_dict()
    assert (data["license"], data["license_name"], data["base_model"]) == ("other", "mine", "me/teacher")


def test_a_log_of_either_training_is_read(tmp_path: Path) -> None:
    for line in (distil.SIZES % ("a/0", "5", 8, 220, 50.0, 2), faster.SIZES % ("a/0", "5", 8, 220, 2)):
        (tmp_path / "log").write_text(f"2026-01-01 INFO {line}\n")
        assert card.trained(tmp_path / "log")[0] == (8, 220, 2)


def test_what_a_licence_asks_for_goes_along(arguments: Namespace) -> None:
    for name in ("LICENSE.md", "NOTICE", "terms.txt"):
        Path("teacher", name).write_text(name)
    Path("teacher/README.md").write_text("---\nlicense: other\nlicense_name: mine\nlicense_link: terms.txt\n---\n")
    write.main(arguments)
    assert {name: Path("model", name).read_text() for name in ("LICENSE.md", "NOTICE", "terms.txt")}
    told = Path("model/README.md").read_text()
    assert "Its licence is its teacher's; LICENSE.md, NOTICE, terms.txt beside this card belong to it." in told
    assert ModelCard.load(Path("model/README.md")).data.to_dict()["license_link"] == "terms.txt"
    Path("teacher/terms.txt").unlink()
    write.main(arguments)
    assert "license_link" not in ModelCard.load(Path("model/README.md")).data.to_dict()


def test_no_file_from_elsewhere_goes_along(arguments: Namespace) -> None:
    Path("secret").write_text("mine")
    for link in ("../secret", str(Path("secret").absolute())):
        Path("teacher/README.md").write_text(f"---\nlicense: other\nlicense_link: {link}\n---\n")
        write.main(arguments)
        assert "license_link" not in ModelCard.load(Path("model/README.md")).data.to_dict()
        assert not [path for path in Path("model").rglob("*") if path.is_file() and path.read_bytes() == b"mine"]


@pytest.mark.parametrize("world", ["emoji", "artists"])
def test_a_shipped_teacher_names_whose_drawings_it_learned(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    teacher = Path(f"workflow/assets/{world}/teacher")
    (file,) = card.notices(teacher, card.front_matter(teacher, LICENCE, []))
    assert "OpenMoji" in file.read_text()


def test_a_licence_of_no_known_name_is_named_by_the_settings(arguments: Namespace) -> None:
    link = "https://example.org/licence"
    write.main(changed(arguments, card=NOTHING | {"license": "other", "license_name": "own", "license_link": link}))
    data = ModelCard.load(Path("model/README.md")).data.to_dict()
    assert (data["license_name"], data["license_link"]) == ("own", link)


def test_who_wrote_and_what_was_held_out_is_told(arguments: Namespace) -> None:
    run = RUN | {"rows": "all", "texts": ["pool"]}
    write.main(changed(arguments, run=run, described=True, held_out=True))
    told = Path("model/README.md").read_text()
    assert "612 pairs: prompts by a language model; images" in told
    assert "Concepts of *unseen* were in no image" in told
    write.main(changed(arguments, run=run))
    assert "Concepts of *unseen*" not in Path("model/README.md").read_text()


def test_no_licence_is_no_model(arguments: Namespace) -> None:
    with pytest.raises(UserError, match="teacher/README.md: names no licence"):
        write.main(changed(arguments, card=NOTHING))
    Path("teacher/README.md").write_text("---\nlicense: [\n---\n")
    with pytest.raises(UserError, match="teacher/README.md: not a model card"):
        write.main(arguments)
    assert not Path("model").exists()


def test_a_weight_too_large_for_float16_is_refused(arguments: Namespace) -> None:
    pipeline = load_pipeline(Path("student"))
    pipeline.unet.conv_in.weight.data[0, 0, 0, 0] = 1e5
    pipeline.unet.save_pretrained("student/unet")
    with pytest.raises(UserError, match="student/unet: conv_in.weight is too large for float16"):
        write.main(arguments)
    assert not Path("model").exists()


def test_scores_of_something_else_are_refused(arguments: Namespace) -> None:
    Path("broken.json").write_text("{}")
    arguments.scores[1] = Path("broken.json")
    with pytest.raises(UserError, match="broken.json: run: "):
        write.main(arguments)


def test_the_card_of_a_student_without_middle_block(arguments: Namespace) -> None:
    student_of(Path("teacher"), "b-small", Path("small"))
    arguments.pipeline = Path("small")
    write.main(arguments)
    text = Path("model/README.md").read_text()
    assert "No ControlNet fits" in text and "from_unet" not in text


def test_a_student_that_was_made_faster_keeps_its_scheduler_and_says_how_to_draw(arguments: Namespace) -> None:
    arguments.pipeline = Path("results/artists/faster/mine/0/pipeline")
    shutil.copytree("student", arguments.pipeline)
    teacher = teacher_of(load_pipeline(Path("teacher")))
    teacher.few_steps(32, 4).save_pretrained(arguments.pipeline / "scheduler")
    index = arguments.pipeline / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"scheduler": ["diffusers", "DDIMScheduler"]}))
    faster = {"student": "seen-rc-pool", "phases": 4, "times": 32}
    run = RUN | {"init": "seen-rc-pool"}
    write.main(changed(arguments, run=run, faster=faster, steps=4, guidance_scale=1.0))
    found = StableDiffusionPipeline.from_pretrained("model")
    assert isinstance(found.scheduler, DDIMScheduler)
    found.scheduler.set_timesteps(4)
    assert found.scheduler.timesteps.tolist() == [999, 749, 499, 249]
    text = Path("model/README.md").read_text()
    assert "num_inference_steps=4, guidance_scale=1.0" in text
    assert "| UNet | b-base, the finished student seen-rc-pool, same seed |" in text
    assert "| few steps | consistency distillation over 4 phases of its sampler's way in 32 times;" in text
