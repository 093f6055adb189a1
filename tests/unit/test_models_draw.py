"""One picture by teacher and student."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler, PNDMScheduler
from PIL import Image
from tiny_pipelines import every_family

from randcond.models import draw, finished
from randcond.models.finished import Wish
from randcond.settings.config import Config, read_config
from randcond.teachers.pipelines import decode, draw_latents, load_pipeline
from randcond.teachers.teacher import denoiser_of

WISH = Wish(prompt="a tiger", seed=3, steps=3, guidance_scale=2.0)


def config() -> Config:
    return read_config([Path("config/config.yaml")])


def picture(page: Image.Image, column: int) -> np.ndarray:
    """The middle of a picture on the page, beside the prompt's 190 pixels."""
    left = 200 + 262 * column
    return np.asarray(page)[10:240, left : left + 230]


def scheduler(folder: Path, kind: type) -> None:
    """Give a pipeline another scheduler."""
    kind.from_config(PNDMScheduler().config).save_pretrained(folder / "scheduler")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", kind.__name__]}))


def test_students_by_name(students: Path) -> None:
    assert list(finished.finished(config())) == ["mine/9", "mine/10"]
    assert finished.find(config(), "mine") == "mine/9"
    assert finished.find(config(), "mine/10") == "mine/10"


@every_family
def test_the_picture_is_that_of_the_evaluation(students: Path) -> None:
    pipeline = finished.load(students / "teacher", students / "teacher")
    drawn = finished.draw("teacher", pipeline, WISH)
    fresh = load_pipeline(students / "teacher")
    expected = decode(fresh, draw_latents(fresh, ["a tiger"], 0, 3, 3, 2.0))[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(np.asarray(drawn.image), expected)
    assert drawn.parameters == sum(one.numel() for one in denoiser_of(fresh).parameters())
    assert drawn.seconds > 0


def test_a_scheduler_of_the_students_own_is_kept_and_draws_the_same_twice(students: Path) -> None:
    student = finished.finished(config())["mine/9"]
    assert isinstance(finished.load(student, students / "teacher").scheduler, PNDMScheduler)
    scheduler(student, LCMScheduler)
    pipeline = finished.load(student, students / "teacher")
    assert isinstance(pipeline.scheduler, LCMScheduler)
    torch.manual_seed(1)
    first = finished.draw("mine", pipeline, WISH)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = finished.draw("mine", pipeline, WISH)
    np.testing.assert_array_equal(np.asarray(first.image), np.asarray(second.image))
    assert torch.equal(before, torch.get_rng_state())
    # one that the teacher has as well is only what both came with: the evaluation draws by PNDM
    scheduler(students / "teacher", LCMScheduler)
    assert isinstance(finished.load(student, students / "teacher").scheduler, PNDMScheduler)


def test_no_such_scheduler(students: Path) -> None:
    student = finished.finished(config())["mine/9"]
    scheduler(students / "teacher", LCMScheduler)
    (student / "scheduler/scheduler_config.json").write_text("{")
    with pytest.raises(SystemExit, match="mine/9/pipeline: no whole Stable Diffusion pipeline"):
        draw.main(["--prompt", "a", "--run", "mine"])


def test_teacher_alone_and_beside_a_student(students: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw.main(["--prompt", "a tiger on a red background"])
    first, numbers, path = capsys.readouterr().out.splitlines()
    assert first == "the teacher alone; students to name by RUN=...: mine/9, mine/10"
    assert numbers.startswith("teacher: 0.") and numbers.endswith(" s")
    assert path == "results/artists/drawn/a-tiger-on-a-red-background-7.png"
    alone = Image.open(path)
    # as make gives it where nothing is set
    empty = ["--run=", "--seed=", "--steps=", "--guidance-scale="]
    draw.main(["--prompt", "a tiger on a red background", *empty])
    np.testing.assert_array_equal(picture(Image.open(path), 0), picture(alone, 0))
    capsys.readouterr()
    draw.main(["--prompt", "a tiger", "--run", "mine", "--seed", "1", "--steps", "1", "--guidance-scale", "1"])
    *numbers, path = capsys.readouterr().out.splitlines()
    assert [one.split(":")[0] for one in numbers] == ["teacher", "mine/9"]
    assert path == "results/artists/drawn/a-tiger-mine-9-1.png"
    both = Image.open(path)
    assert both.width > alone.width + 200
    # the student is its teacher here: the same noise, the same picture
    np.testing.assert_array_equal(picture(both, 0), picture(both, 1))
    assert picture(both, 0).std() > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--prompt", " "], "draw: prompt: say what to draw, not ' '"),
        (["--prompt", "a", "--run", "none"], "students/none: no finished student; there are mine/9, mine/10"),
        (["--prompt", "a", "--run", "begun"], "students/begun: no finished student"),
        (["--prompt", "a", "--seed", "one"], "draw: seed: Input should be a valid integer, not 'one'"),
        (["--prompt", "a", "--seed=-1"], "draw: seed: .* greater than or equal to 0"),
        (["--prompt", "a", "--steps", "0"], "draw: steps: "),
        (["--prompt", "a", "--steps", "1000"], "draw: steps: "),
        (["--prompt", "a", "--guidance-scale", "NaN"], "draw: guidance_scale: "),
        (["--prompt", "a", "--configfile", "none.yaml"], "none.yaml: no such file"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(students: Path, options: list[str], said: str) -> None:
    with pytest.raises(SystemExit, match=f"^error: .*{said}") as caught:
        draw.main(options)
    assert "\n" not in str(caught.value)
    assert not (students / "results/artists/drawn").exists()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (RuntimeError("CUDA out of memory. Tried\nto"), "out of memory"),
        (OSError(28, "No space left on device"), "disk is full"),
    ],
)
def test_a_fault_of_the_machine_is_one_line(
    students: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, said: str
) -> None:
    monkeypatch.setattr(draw.finished, "load", lambda *_: (_ for _ in ()).throw(fault))
    with pytest.raises(SystemExit, match=f"^error: .*{said}"):
        draw.main(["--prompt", "a"])
    monkeypatch.setattr(draw.finished, "load", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # nobody foresaw it: all of it is shown
        draw.main(["--prompt", "a"])


def test_a_corrupt_pipeline_is_one_line(students: Path) -> None:
    weights = students / "results/artists/students/mine/9/pipeline/unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(SystemExit, match="mine/9/pipeline: no whole Stable Diffusion pipeline"):
        draw.main(["--prompt", "a", "--run", "mine"])


def test_names_of_files_are_fit_for_any_filesystem(students: Path) -> None:
    wish = WISH.model_copy(update={"prompt": '../虎 & "x" ' + "y" * 500})
    path = draw.path_of(config(), wish, ["mine/9"])
    assert path.parent == Path("results/artists/drawn")
    assert path.name.startswith("虎-x-y") and path.name.endswith("y-mine-9-3.png") and len(path.name) < 120
    # of other scripts none is another's, their signs for vowels included, nor longer than the system has room for
    prompts = ["虎", "虎 " * 300, "тигр на красном фоне" * 9, "बाघ", "बघ", "🐯" * 300, "٣ نمور", "ß" * 79]
    paths = [draw.path_of(config(), WISH.model_copy(update={"prompt": one}), ["mine/9"]) for one in prompts]
    assert len(set(paths)) == len(prompts)
    for path in paths:
        assert path.name.endswith("mine-9-3.png") and len(path.name.encode()) < 200
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert [paths[0].name, paths[5].name] == ["虎-mine-9-3.png", "mine-9-3.png"]
    long = draw.path_of(config(), wish, ["a" * 190 + "/9"])
    assert long.name.startswith("a") and long.name.endswith("a-9-3.png")


def test_who_trains_students_where_there_are_none(students: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(students / "results")
    told = "run snakemake with the same configuration to train some"
    with pytest.raises(SystemExit, match=f"no finished student; there are none: {told}$"):
        draw.main(["--prompt", "a tiger", "--run", "mine"])
    draw.main(["--prompt", "a tiger"])
    assert told in capsys.readouterr().out


def test_few_steps_are_drawn_by_the_student_that_was_made_for_them(
    students: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {"runs": {"mine": {}}, "faster": {"fast": {"student": "mine", "steps": 3}}, "tables": {}}
    (students / "config/experiments.yaml").write_text(json.dumps(made))
    folder = students / "results/artists/faster/fast/9/pipeline"
    shutil.copytree(students / "teacher", folder)
    scheduler(folder, DDIMScheduler)
    assert list(finished.finished(config())) == ["fast/9", "mine/9", "mine/10"]
    assert [finished.faster(config(), name) for name in (None, "mine/9", "fast/9", "mine/10")] == ["fast/9"] * 3 + [
        None
    ]
    assert isinstance(finished.load(folder, students / "teacher").scheduler, DDIMScheduler)
    scheduler(students / "teacher", DDIMScheduler)  # also where its teacher came with one of the same kind
    assert isinstance(finished.load(folder, students / "teacher").scheduler, DDIMScheduler)

    def drawn(*options: str) -> list[list[str]]:
        """Name and steps of each picture, and the file."""
        draw.main(["--prompt", "a tiger", *options])
        *numbers, path = capsys.readouterr().out.splitlines()
        assert Path(path).is_file()
        return [[one.split(":")[0], one.split(", ")[1]] for one in numbers]

    few = [["teacher", "2 steps"], ["fast/9", "4 steps"]]
    assert (
        drawn("--steps", "4") == drawn("--steps", "4", "--run", "mine") == drawn("--steps", "4", "--run", "fast") == few
    )
    assert drawn("--run", "fast") == [["teacher", "2 steps"], ["fast/9", "3 steps"]]  # as it is evaluated
    # many steps, or a student that none was made from: as ever
    assert drawn("--steps", "9", "--run", "mine") == [["teacher", "9 steps"], ["mine/9", "9 steps"]]
    assert drawn("--steps", "1", "--run", "mine/10") == [["teacher", "1 step"], ["mine/10", "1 step"]]
    # guidance is in its weights
    assert [finished.usual(config(), name)["guidance_scale"] for name in ("teacher", "mine/9", "fast/9")] == [
        2.5,
        2.5,
        1.0,
    ]
