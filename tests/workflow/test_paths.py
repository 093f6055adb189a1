"""Paths of the user's reach jobs whole, whatever characters are in them, and what lies behind links is watched."""

import shlex
import shutil

import pytest

from conftest import Checkout

TEACHER, EVALUATOR, MODEL, ARCHIVE = "my teacher/it's", "y$(touch x)", "a;b", "*/`id`.zip"


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dry run with such paths of teacher, evaluator, language model and source; the teacher's ``unet`` is a link."""
    checkout = Checkout(tmp_path_factory.mktemp("paths"))
    shipped = checkout.folder / "workflow/assets/emoji"
    shutil.copytree(shipped / "teacher", checkout.folder / TEACHER)
    shutil.move(checkout.folder / TEACHER / "unet", checkout.folder / "weights")
    (checkout.folder / TEACHER / "unet").symlink_to(checkout.folder / "weights")
    shutil.copytree(shipped / "evaluator", checkout.folder / EVALUATOR)
    for name in (f"{MODEL}/config.json", ARCHIVE):
        (checkout.folder / name).parent.mkdir()
        (checkout.folder / name).touch()
    own = checkout.folder / "own.yaml"
    own.write_text(
        f'teacher: "{TEACHER}"\nevaluator: "{EVALUATOR}"\nsources: {{captions: "{ARCHIVE}"}}\n'
        f'prompts: {{llm: {{writer: {{model: "{MODEL}"}}}}}}\n'
    )
    return checkout.snakemake(
        *("--dry-run", "--printshellcmds", "--cores", "1", "--configfile", "config/smoke.yaml", str(own))
    ).stdout


def commands(planned: str) -> list[list[str]]:
    """The commands' words, were the shell to expand nothing."""
    return [shlex.split(line) for line in planned.splitlines() if line.startswith("Shell command: python -m randcond.")]


@pytest.mark.parametrize(
    ("module", "path"),
    [
        ("renders.render", TEACHER),
        ("students.distil", TEACHER),
        ("samples.draw", TEACHER),
        ("figures.swapped_condition", TEACHER),
        ("figures.swapped_condition", EVALUATOR),
        ("scores.score", EVALUATOR),
        ("prompts.llm", MODEL),
        ("prompts.choose", f"captions={ARCHIVE}"),
        ("renders.render", f"captions={ARCHIVE}"),
    ],
)
def test_a_path_is_one_word_to_the_shell(planned: str, module: str, path: str) -> None:
    found = [words for words in commands(planned) if f"randcond.{module}" in words]
    assert any(path in words for words in found), found


def inputs_of(planned: str, rule: str) -> str:
    return planned.split(f"rule {rule}:")[1].split("output:")[0]


@pytest.mark.parametrize("rule", ["render", "student", "sample", "swapped_condition"])
def test_weights_behind_a_link_are_inputs(planned: str, rule: str) -> None:
    assert f"{TEACHER}/unet/diffusion_pytorch_model.safetensors" in inputs_of(planned, rule)


def test_a_language_models_files_are_inputs(planned: str) -> None:
    assert f"{MODEL}/config.json" in inputs_of(planned, "llm_prompts")
