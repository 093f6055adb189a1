"""Jobs of one machine take different GPUs for as long as they live. No GPU is needed: names and locked files do."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from randcond.jobs import launch
from randcond.jobs.gpus import deal, visible


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_each_job_takes_others() -> None:
    assert deal(["0", "1", "2", "3"], 1) == ["0"]
    assert deal(["0", "1", "2", "3"], 2) == ["1", "2"]
    # a third is free, the other one must be shared
    assert deal(["0", "1", "2", "3"], 2) == ["3", "0"]
    assert deal(["0", "1"], 1) == ["0"]


def test_names_are_those_that_the_user_left_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    assert visible(3) == ["0", "1", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-GPU-ab/1/0, 5")
    assert visible(2) == ["MIG-GPU-ab/1/0", "5"]
    assert deal(visible(2), 1) == ["MIG-GPU-ab/1/0"]
    assert deal(visible(2), 1) == ["5"]


def test_a_gpu_is_taken_until_what_the_job_became_has_ended(tmp_path: Path) -> None:
    becomes = (
        "import os, sys, tempfile; from randcond.jobs.gpus import deal; tempfile.tempdir = sys.argv[1];"
        "deal(['0', '1'], 1); os.execv(sys.executable, [sys.executable, '-c', 'print(flush=True); input()'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", becomes, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as job:
        assert job.stdout is not None
        job.stdout.readline()
        assert deal(["0", "1"], 1) == ["1"]
        job.communicate(b"\n")
    assert deal(["0", "1"], 1) == ["0"]


@pytest.mark.parametrize(("module", "gpus"), [("randcond.samples.draw", 1), ("randcond.students.distil", 2)])
def test_a_stage_starts_with_what_it_was_dealt(monkeypatch: pytest.MonkeyPatch, module: str, gpus: int) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(launch, "_found", lambda: 4)
    monkeypatch.setattr("os.execv", lambda _, words: started.append(words))
    monkeypatch.setattr("runpy.run_module", lambda *_, **__: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    deal(["4"], 1)
    launch._main(["--gpus", str(gpus), module, "--x"])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(["5", "6"][:gpus])
    assert started[0][-2:] == [module, "--x"]


def test_one_that_was_given_all_there_are_starts_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(launch, "_found", lambda: 1)
    monkeypatch.setattr("os.execv", lambda *_: pytest.fail("was started anew"))
    monkeypatch.setattr("runpy.run_module", lambda module, **_: ran.append(module))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    launch._main(["--gpus", "1", "randcond.samples.draw"])
    assert ran == ["randcond.samples.draw"]
    assert deal(["3", "4"], 1) == ["3"]  # nothing was locked
