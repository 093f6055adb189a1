"""One set of pins, and the code files that rules depend on."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from randcond.workflow import code_of, shards

ROOT = Path(__file__).parents[2]


def pins(lines: list[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        match = re.fullmatch(r"([\w.-]+)==([\w.+]+)", line.strip())
        assert match, f"{line!r} is not pinned"
        found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    return found


def test_pins_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = pins((ROOT / "requirements.lock").read_text().splitlines())
    wanted = pins(project["dependencies"] + project["optional-dependencies"]["dev"])
    assert {name: lock.get(name) for name in wanted} == wanted


def test_conda_installs_the_lock() -> None:
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    assert pip == ["-r requirements.lock", "--no-deps -e ."]
    assert "python=3.11" in dependencies


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


@pytest.mark.parametrize(("count", "size", "expected"), [(10, 5, 2), (11, 5, 3), (1, 5, 1)])
def test_shards(count: int, size: int, expected: int) -> None:
    assert shards(count, size) == expected
