"""The rehearsal: what fits into so much memory, why the rest does not, and every way of it on tiny pipelines."""

import copy
import logging
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_pipelines import every_family, student_of, tiny_transformer, tiny_unet

from randcond.jobs.errors import UserError
from randcond.make_teacher.clip import build_tokenizer
from randcond.method.student import feature_pairs
from randcond.planning import memory, operations, rehearse
from randcond.planning.true_sizes import FAMILIES, TrueSize
from randcond.settings.config import read_config
from randcond.settings.experiments import load_experiments
from randcond.teachers.pipelines import load_pipeline, teacher_of

PROJECT = Path(__file__).parents[2]
RUN = PROJECT / "docs/runs/rehearse.txt"
RUN_OF_SD3 = PROJECT / "docs/runs/rehearse_sd3.txt"


@pytest.fixture
def fresh_state() -> Iterator[None]:
    """accelerate keeps one precision a process."""
    yield
    AcceleratorState._reset_state(True)


def tiny(folder: Path, *students: str) -> TrueSize:
    """A tiny pipeline in the place of one at true size."""
    models = operations.of_folder(folder)
    parameters = {"teacher": models.parameters("unet"), **{one: models.parameters(one) for one in students}}
    return TrueSize(
        lambda: models, lambda _: load_pipeline(folder), parameters, models.latent, models.pixels, ("config", "paper")
    )


class Counted:
    """Models of round sizes: a teacher of 3 billion parameters, with 0.5 beside it, and students of 1 and 2; a tenth
    of a billion numbers are compared, of the large one through projections of 0.1 billion parameters."""

    pixels = 512

    def parameters(self, name: str) -> int:
        return {"unet": 3, "vae": 0.25, "text": 0.25, "small": 1, "large": 2}[name] * 10**9  # type: ignore[return-value]

    def saved_bytes(self, _name: str, checkpointing: bool) -> int:
        assert checkpointing
        return 10**8  # in 16 bits; 0.2 GB in float32

    def projections(self, name: str) -> int:
        return 10**8 if name == "large" else 0

    def compared(self, _name: str) -> int:
        return 10**8


MODELS: Any = Counted()
ROOM = memory._LIBRARIES + memory._WORK


@pytest.mark.parametrize(
    ("way", "needed"),
    [
        ("whole", 20 + 14 + 0.2),  # 4 bytes more of each of the student's parameters, which is read
        ("step", 16 + 14 + 0.2),  # weights, gradients and two moments; the teacher in float32
        ("half-step", 16 + 7 + 0.2),
        ("prediction", 2 + 7 + 0.4),  # what is compared alone is kept, in float32
    ],
)
def test_what_fits_is_what_is_counted(way: str, needed: float) -> None:
    found = memory.WAYS[way].needs(MODELS, "small")
    assert found == pytest.approx(needed + ROOM)
    assert memory.choose(MODELS, "small", found + 1e-6, True) == way
    fewer = {"whole": "step", "step": "half-step", "half-step": "prediction", "prediction": None}
    assert memory.choose(MODELS, "small", found - 1e-6, True) == fewer[way]
    assert memory.choose(MODELS, "small", 1000, False) == "step"


def test_a_refusal_says_how_much_and_why() -> None:
    assert memory.refusal(MODELS, "small", 16 + 7 + 0.2 + ROOM + 0.01) == ""
    # 41.65 GB: what takes a bit more than there is does not read as much as there is
    why = "no step: it takes 41.7 GB even with the teacher's weights in 16 bits, 33.6 of them for weights, gradients"
    assert memory.refusal(MODELS, "large", 41.6) == f"{why} and moments"
    assert memory.refusal(MODELS, "large", 10) == f"{why} and moments; no prediction: it takes 12.5 GB"


def test_the_table_has_them_all() -> None:
    ways = {one: memory.choose(MODELS, one, 25, False) for one in ("small", "large")}
    head, columns, small, large = memory.table(MODELS, ways, 25)
    assert "float32" in head
    assert columns.split()[-3:] == ["of", "25", "GB"]
    assert small.split()[:6] == ["small", "1,000,000,000", "16.0", "14.0", "1.1", "31.1"]
    assert small.endswith("  a step, the teacher's weights in 16 bits")
    assert "  a prediction, all weights in 16 bits; no step: it takes 41.7 GB" in large


def test_sd3s_step_took_little_less_than_is_counted() -> None:
    (found,) = re.findall(r"half-width +one optimiser step .*? (\d+\.\d) GB at most", RUN_OF_SD3.read_text())
    counted = memory.WAYS["step"].needs(operations.stable_diffusion_3(), "half-width")
    assert 0 < counted - float(found) < 1


def test_steps_of_sd14_took_what_is_counted() -> None:
    found = re.findall(r"(\S+)\s+one optimiser step\b.*? (\d+\.\d) GB at most", RUN.read_text())
    models = operations.stable_diffusion()
    assert len(found) == 7
    for student, gigabytes in found:
        assert memory.WAYS["step"].needs(models, student) == pytest.approx(float(gigabytes), abs=0.3), student
    (resumed,) = re.findall(r"the other step again .*? (\d+\.\d) GB at most", RUN.read_text())
    assert float(resumed) < memory.WAYS["whole"].needs(models, "b-base") < 24


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("sdxl", {"koala-700m": "half-step"}),
        ("sd3", {"third-depth": "half-step", "two-thirds-width": "half-step", "half-width": "step"}),
    ],
)
def test_how_far_24_gigabytes_go(family: str, expected: dict[str, str]) -> None:
    size = FAMILIES[family]
    models, students = size.models(), {*size.parameters} - {"teacher"}
    found = {student: memory.choose(models, student, 24, True) for student in students}
    assert found == dict.fromkeys(students, "prediction") | expected


@pytest.mark.parametrize("pipeline_folder", ["sd3"], indirect=True)
@pytest.mark.parametrize(("student", "narrow"), [("half-depth", False), ("half-width", True)])
def test_what_is_compared_is_counted(pipeline_folder: Path, student: str, narrow: bool) -> None:
    models = operations.of_folder(pipeline_folder)
    pairs = feature_pairs(models.unet("unet"), models.unet(student), student)
    images = sum(name.endswith(":1") for name, _ in pairs)
    texts = len(pairs) - images
    # 16 patches of an image, 154 tokens of a text without T5; of both as wide as they are
    places, widths = 16 * images + 154 * texts, 16 + (8 if narrow else 16)
    assert models.compared(student) == places * widths
    assert models.projections(student) == (len(pairs) * (8 + 1) * 16 if narrow else 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_runs_are_those_of_the_configuration(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    size = FAMILIES[family]
    config = read_config([Path("config", f"{name}.yaml") for name in size.configuration])
    runs = load_experiments(Path(config.experiments)).runs.values()
    assert set(size.students) == {run.student for run in runs} == {*size.parameters} - {"teacher"}
    if family != "sd14":
        assert {(run.features, run.relative_features) for run in runs} == {(size.features, size.relative)}
    else:
        assert size.students == ["b-base", "b-small", "b-tiny", "c-base", "c-small", "c-tiny", "c-micro"]


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_of_true_size_fit_together(family: str) -> None:
    size = FAMILIES[family]
    with torch.device("meta"):
        pipeline = size.pipeline(build_tokenizer(rehearse.TEXTS, 600))
    teacher = teacher_of(pipeline)
    assert sum(one.numel() for one in teacher.denoiser.parameters()) == size.parameters["teacher"]
    assert teacher.latent_shape == size.latent
    assert size.latent[1] * pipeline.vae_scale_factor == size.pixels
    assert pipeline.vae.config["latent_channels"] == size.latent[0]
    for what, taken, given in type(teacher).widths(pipeline):
        assert taken == given, what


@pytest.mark.parametrize("make", [tiny_unet, tiny_transformer])
def test_weights_in_16_bits_compute_in_float32(make: Any) -> None:
    torch.manual_seed(0)
    exact = make()
    layers = [one for one in exact.modules() if isinstance(one, torch.nn.Linear | torch.nn.Conv2d)]
    for layer in layers[1:]:
        for parameter in layer.parameters():
            parameter.data = parameter.data.half().float()
    kept = copy.deepcopy(exact).half()  # as one that was made in 16 bits
    memory.keep_in_16_bits(kept)
    # all but the first layer, whose precision stands for the model's, and what is no layer's
    kinds = {name: parameter.dtype for name, parameter in kept.named_parameters()}
    assert next(iter(kinds.values())) == torch.float32
    size = sum(parameter.nbytes for parameter in exact.parameters())
    assert sum(parameter.nbytes for parameter in kept.parameters()) < 0.6 * size
    latents = torch.randn(1, 4, 8, 8)
    if make is tiny_unet:
        given = {"encoder_hidden_states": torch.randn(1, 5, 8)}
    else:
        given = {"encoder_hidden_states": torch.randn(1, 5, 24), "pooled_projections": torch.randn(1, 16)}
    with torch.no_grad():
        first, other = (one(latents, timestep=torch.ones(1), **given).sample for one in (kept, exact))
    assert first.dtype == torch.float32
    # what is no layer's was in 16 bits once, too, in the one
    assert torch.allclose(first, other, atol=1e-2 * float(other.abs().max()))
    assert {name: parameter.dtype for name, parameter in kept.named_parameters()} == kinds


@every_family
@pytest.mark.usefixtures("fresh_state")
@pytest.mark.parametrize("relative", [False, True])
def test_every_way_on_a_tiny_family(pipeline_folder: Path, tmp_path: Path, relative: bool) -> None:
    student = student_of(pipeline_folder)
    family = replace(tiny(pipeline_folder, student), relative=relative)
    before = torch.get_default_dtype()
    for way in memory.WAYS:
        lines = rehearse.rehearse(family, student, tmp_path, way, False)
        words = [line["what"] for line in lines]
        assert words[0] == "build teacher and student"
        assert len(words) == (4 if way == "whole" else 2), words
    assert rehearse.rehearse(family, student, tmp_path, "whole", True)[-1]["what"].startswith("load the checkpoint")
    assert torch.get_default_dtype() == before
    with pytest.raises(UserError, match=rf"{student}: [\d,]+ parameters instead of 1$"):
        rehearse.build(replace(family, parameters=family.parameters | {student: 1}), student, "step", tmp_path)


@pytest.mark.parametrize("pipeline_folder", ["sd3"], indirect=True)
def test_weights_are_in_16_bits_where_that_is_counted(pipeline_folder: Path, tmp_path: Path) -> None:
    family = tiny(pipeline_folder, "half-depth")

    def halves(model: torch.nn.Module) -> bool:
        layers = [one for one in model.modules() if isinstance(one, torch.nn.Linear | torch.nn.Conv2d)]
        kinds = {layer.weight.dtype for layer in layers[1:]}
        assert len(kinds) == 1
        return kinds == {torch.float16}

    for name, way in memory.WAYS.items():
        problem, teacher = rehearse.build(family, "half-depth", name, tmp_path)
        pipeline = teacher.pipeline
        for part in (teacher.denoiser, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
            assert halves(part) == (way.teacher == 2), name
        assert halves(problem.loss.student) == (way.student == 2), name


@pytest.mark.usefixtures("fresh_state")
@pytest.mark.parametrize("pipeline_folder", ["sd3"], indirect=True)
def test_what_fits_is_run(pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    students = ["half-depth", "half-width"]
    family = replace(tiny(pipeline_folder, *students), configuration=("config", "paper", "sd3"))
    monkeypatch.setitem(FAMILIES, "sd3", family)
    commands: list[list[str]] = []

    def run_here(command: list[str]) -> Any:
        commands.append(command[3:])
        rehearse.main(command[3:])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(rehearse, "subprocess", SimpleNamespace(run=run_here))
    given = ["--family", "sd3", "--students", *students, "--threads", "1", "--log", str(tmp_path / "log")]
    rehearse.main(given)
    ways = [(command[command.index("--student") + 1], command[command.index("--way") + 1]) for command in commands]
    assert ways == [("half-depth", "whole"), ("half-depth", "whole"), ("half-width", "step")]
    assert ["--resume" in command for command in commands] == [False, True, False]
    for command in commands:
        assert command[command.index("--family") + 1] == "sd3"
    text = (tmp_path / "log").read_text()
    assert "half-width" in text
    assert "rehearsal of half-depth, half-width: passed in" in text
    # of two students one fits
    commands.clear()
    fitting = {"half-depth": None, "half-width": "prediction"}
    monkeypatch.setattr(memory, "choose", lambda _models, student, *_: fitting[student])
    rehearse.main(given)
    assert [command[command.index("--way") + 1] for command in commands] == ["prediction"]
    assert (tmp_path / "log").read_text().splitlines()[-1].count("half-depth") == 0


@pytest.mark.parametrize("pipeline_folder", ["sd3"], indirect=True)
def test_what_is_not_run(
    pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(PROJECT)
    family = replace(tiny(pipeline_folder, "half-width"), configuration=("config", "paper", "sd3"))
    monkeypatch.setitem(FAMILIES, "sd3", family)

    def asked(memory_given: float, *students: str) -> Any:
        return SimpleNamespace(family="sd3", students=list(students), memory=memory_given)

    with pytest.raises(UserError, match="sd3 has no student b-base; there are half-depth, third-depth") as caught:
        rehearse.ways_of(asked(24, "b-base"))
    assert "\n" not in str(caught.value)
    logging.getLogger("randcond").propagate = True
    with (
        caplog.at_level(logging.INFO, "randcond"),
        pytest.raises(UserError, match=r"0\.5 GB are too few for anything of sd3: .* takes 0\.\d GB; give more") as few,
    ):
        rehearse.ways_of(asked(0.5, "half-width"))
    assert "\n" not in str(few.value)
    assert "no prediction: it takes" in caplog.text  # the table stands before it
    assert rehearse.ways_of(asked(24, "half-width")) == {"half-width": "whole"}


@pytest.mark.parametrize("family", ["", "sdxl"])
def test_make_names_the_family(family: str) -> None:
    make = ["make", "--dry-run", "rehearse", f"FAMILY={family}", "MEMORY="]
    command = subprocess.run(make, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"--family (\S+) --memory (\S+)", command) == [(family or "sd14", "24")]
