"""The GPU's benchmark runs from end to end, on the CPU and the small teacher, and the plan reads what it writes."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from randcond.jobs.errors import UserError
from randcond.planning import plan
from randcond.planning.speeds import default_gpu, gpus

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import gpu

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def fresh_state() -> Iterator[None]:
    """accelerate keeps one precision a process."""
    yield
    AcceleratorState._reset_state(True)


@pytest.mark.usefixtures("fresh_state")
def test_rehearsed() -> None:
    found = gpu.measure(True, batch=2, steps=3)
    assert [line["precision"] for line in found["training"]] == ["bf16", "fp16"]
    assert found["training"][0]["pairs_a_second"] > 0
    assert found["drawing"][0]["finite"]
    assert min(found["scoring"][f"{name}_images_a_second"] for name in ("clip", "inception")) > 0
    (twice,) = found["twice"]
    assert twice["two_runs_equal"]
    assert twice["resumed_equal"]


def test_every_option_is_measured() -> None:
    asked = gpu.settings(["b-base", "c-base"])
    plain = gpu.Setting()
    for name in ("student", "precision", "gradient_checkpointing", "channels_last", "compile", "tf32"):
        assert any(getattr(one, name) != getattr(plain, name) for one in asked), name


def test_the_plan_prefers_measurements(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    assert gpus(file) == gpus(None)  # there is none yet
    own = {"name": "nvidia-a100", "memory": 80.0, "draw": 1e14, "train": 9e13, "measured": "2026-01-01"}
    file.write_text(json.dumps(own | {"training": []}))
    assert gpus(file)["nvidia-a100"].train == 9e13
    assert "benchmarks/gpu.py" in gpus(file)["nvidia-a100"].source
    assert "a10" in gpus(file)
    for broken in ({**own, "train": 0.0}, {}, []):
        file.write_text(json.dumps(broken))
        for read in (gpus, default_gpu):
            with pytest.raises(UserError, match=r"gpu\.json"):
                read(file)


def test_the_plan_is_for_the_gpu_that_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(PROJECT)
    monkeypatch.setattr(plan, "plan", lambda *_: [])  # it is not about the costs
    file = tmp_path / "gpu.json"
    own = {"name": "nvidia-h200", "memory": 140.0, "draw": 2e14, "train": 9e13, "measured": "2026-01-01"}

    def planned(*options: str) -> str:
        plan.main(["--measured", str(file), "--log", str(tmp_path / "log"), *options])
        return capsys.readouterr().out

    assert "4 x a100-80gb, 80 GB each" in planned()
    file.write_text(json.dumps(own))
    assert "4 x nvidia-h200, 140 GB each" in planned()
    assert "4 x a10, 24 GB each" in planned("--gpu", "a10")


@pytest.mark.parametrize("named", ["", "a10"])
def test_make_names_no_gpu_of_its_own(named: str) -> None:
    make = ["make", "--dry-run", "plan", f"GPU={named}"]
    command = subprocess.run(make, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"--gpu (\S+)", command) == ([named] if named else [])
