"""The direction of imports, a stage's name in three places, and the code files that rules depend on."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from randcond.jobs.code import code_of
from randcond.method.catalogue import RULES
from randcond.teachers.families import FAMILIES

ROOT = Path(__file__).parents[2]


def test_code_of_follows_imports(tmp_path: Path) -> None:
    package = tmp_path / "pack"
    (package / "sub").mkdir(parents=True)
    sources = {
        "a.py": "import json\nfrom pack.b import f\n",
        "b.py": "def f():\n    from pack.sub import deep\n",
        "sub/__init__.py": "",
        "sub/deep.py": "import pack.a\n",
        "unused.py": "from pack import a\n",
    }
    for name, source in sources.items():
        (package / name).write_text(source)
    found = {str(Path(file).relative_to(package)) for file in code_of(package, "a")}
    assert found == {"a.py", "b.py", "sub/__init__.py", "sub/deep.py"}
    with pytest.raises(FileNotFoundError):
        code_of(package, "none")


def test_code_of_a_package_that_is_run(tmp_path: Path) -> None:
    package = tmp_path / "pack"
    (package / "sub").mkdir(parents=True)
    for name, source in {"sub/__init__.py": "", "sub/__main__.py": "import pack.sub.part as p\n", "sub/part.py": "",
                         "sub/other.py": ""}.items():  # fmt: skip
        (package / name).write_text(source)
    found = {str(Path(file).relative_to(package)) for file in code_of(package, "sub.__main__")}
    assert found - {"sub/__init__.py"} == {"sub/__main__.py", "sub/part.py"}
    found = {str(Path(file).relative_to(package)) for file in code_of(package, "sub")}
    assert found == {"sub/__init__.py"}


def test_code_of_knows_all_that_distilling_loads() -> None:
    program = (
        "import sys, randcond.students.distil\n"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'randcond'), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {Path(file).resolve() for file in done.stdout.splitlines()}
    package = next(file for file in loaded if file.name == "distil.py").parents[1]
    listed = {Path(file).resolve() for file in code_of(package, "students.distil")}
    # by their names, when a pipeline of theirs is or a student is made
    named = [*(family.module for family in FAMILIES.values()), *RULES]
    named = [module for module in named if module.startswith("randcond.")]  # not the tests' own
    later = {package / f"{module.split('.', 1)[1].replace('.', '/')}.py" for module in named}
    assert loaded | later == listed


def test_imports_are_absolute() -> None:
    # relative ones would go unnoticed
    for file in (ROOT / "workflow/src/randcond").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{file}:{node.lineno}"


# a room's floor; a file imports from its own room and from floors below alone
FLOORS = {
    "jobs": 1,
    **dict.fromkeys(("training", "teachers", "worlds", "versions"), 2),
    "method": 3,
    "settings": 4,
    **dict.fromkeys(("assets", "prompts", "converted"), 5),
    **dict.fromkeys(("renders", "sensitivity", "samples", "scores", "costs"), 6),
    **dict.fromkeys(("students", "figures", "make_teacher"), 7),
    **dict.fromkeys(("faster", "report", "planning"), 8),
    "models": 9,
}


def rooms_of(file: Path) -> set[str]:
    """Rooms that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "randcond":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("randcond."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("randcond.")}
    return found


def test_imports_run_downwards() -> None:
    package = ROOT / "workflow/src/randcond"
    assert {path.parent.name for path in package.glob("*/__init__.py")} == FLOORS.keys()
    for file in package.rglob("*.py"):
        (room, *_) = file.relative_to(package).parts
        for other in rooms_of(file):
            if room == "__init__.py":
                assert other == "method", f"{file} imports {other}"
            else:
                assert other == room or FLOORS[other] < FLOORS[room], f"{file}: {room} imports {other}"


def test_architecture_names_every_room_and_its_floor() -> None:
    rows = re.findall(r"^\| (\d) \| (.+?) \|", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    found = [(room, int(floor)) for floor, rooms in rows for room in re.findall(r"`(\w+)/`", rooms)]
    assert sorted(found) == sorted(FLOORS.items())


def test_the_papers_idea_needs_no_machinery() -> None:
    # p(t) and the swap load in no more than torch; the losses and students in what a training script has anyway
    code = "import sys; from randcond import recondition, Exponential; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name.split(".")[1] for name in loaded if name.startswith("randcond.")} <= {"jobs", "method"}
    assert not {"diffusers", "transformers", "accelerate", "snakemake", "pandas"} & set(loaded)


def test_a_stage_has_one_name_in_three_places() -> None:
    rules = ROOT / "workflow/rules"
    rooms = (
        "prompts",
        "renders",
        "sensitivity",
        "students",
        "faster",
        "samples",
        "scores",
        "costs",
        "figures",
        "report",
        "models",
        "make_teacher",
        "converted",
    )
    for stage in rooms:
        assert (ROOT / "workflow/src/randcond" / stage / "__init__.py").exists()
        files = (rules / f"{stage}.smk", rules / "functions" / f"{stage}.smk")
        text = "".join(file.read_text() for file in files if file.exists())
        assert f"randcond.{stage}" in text
        assert f"{{OUT}}/{stage}" in text, f"{stage}.smk writes nothing to results/<world>/{stage}"
