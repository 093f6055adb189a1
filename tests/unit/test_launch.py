"""A stage runs on the GPUs of its job: none, one, or several by accelerate."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from randcond.jobs import launch as launching
from randcond.jobs.errors import UserError
from randcond.jobs.launch import TRAININGS, command


def launch(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "0"} | more
    return subprocess.run(
        [sys.executable, "-m", "randcond.jobs.launch", *arguments], capture_output=True, text=True, env=environment
    )


def test_without_gpus_the_stage_runs_here_and_sees_none() -> None:
    # a module of the standard library that shows what it was given
    done = launch("--gpus", "0", "this", "--settings", "x")
    assert "Zen of Python" in done.stdout
    done = launch("--gpus", "0", "randcond.scores.calibrate", "--help")
    assert done.returncode == 0
    assert "--scores" in done.stdout


def test_several_processes_get_the_stages_options() -> None:
    assert command(0, "randcond.students.distil", ["--x"]) is None
    assert command(1, "randcond.students.distil", ["--x"]) is None
    several = command(4, "randcond.students.distil", ["--settings", '{"a": 1}'])
    assert several is not None
    assert several[several.index("--num_processes") + 1] == "4"
    assert several[-3:] == ["randcond.students.distil", "--settings", '{"a": 1}']
    assert several[several.index("-m", 2) + 1] == "randcond.students.distil"


def test_accelerate_understands_the_command() -> None:
    from accelerate.commands.launch import launch_command_parser

    several = command(2, "randcond.students.distil", ["--settings", "{}"])
    assert several is not None
    parsed = launch_command_parser().parse_args(several[3:])
    assert (parsed.num_processes, parsed.multi_gpu, parsed.module) == (2, True, True)
    assert parsed.training_script == "randcond.students.distil"
    assert parsed.training_script_args == ["--settings", "{}"]


def test_nothing_is_left_to_the_users_own_accelerate_configuration(tmp_path: Path) -> None:
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    several = command(2, "randcond.students.distil", [])
    assert several is not None
    theirs = "compute_environment: LOCAL_MACHINE\ndebug: false\ndistributed_type: MULTI_GPU\nmachine_rank: 0\n"
    theirs += "gpu_ids: '0'\nnum_machines: 1\nnum_processes: 5\nmixed_precision: fp16\nuse_cpu: false\n"
    theirs += "main_training_function: main\nmain_process_port: 17\nrdzv_backend: static\nsame_network: true\n"
    theirs += "dynamo_config: {dynamo_backend: INDUCTOR}\n"
    (tmp_path / "theirs.yaml").write_text(theirs)
    options = ["--config_file", str(tmp_path / "theirs.yaml"), *several[3:]]
    found, *_ = _validate_launch_command(launch_command_parser().parse_args(options))
    assert (found.gpu_ids, found.dynamo_backend.lower(), found.num_processes) == ("all", "no", 2)
    assert (found.main_process_port, found.mixed_precision) == (0, "no")


def test_gpus_that_slurm_gave_otherwise() -> None:
    done = launch("--gpus", "0", "randcond.scores.calibrate", "--help", SLURM_STEP_GPUS="4,5")
    assert done.returncode == 1
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("error: gpus: the job was given 2") and "unset SLURM_STEP_GPUS" in said


def test_gpus_of_the_batch_job_around_a_workflow_are_not_given_to_each_of_its_jobs() -> None:
    done = launch("--gpus", "0", "randcond.scores.calibrate", "--help", SLURM_JOB_GPUS="4,5")
    assert done.returncode == 0


@pytest.mark.parametrize("gpus", [1, 4])
def test_only_trainings_share_their_work(gpus: int) -> None:
    assert command(gpus, "randcond.samples.draw", ["--x"]) is None
    for module in TRAININGS:
        source = (Path(launching.__file__).parents[2] / f"{module.replace('.', '/')}.py").read_text()
        assert "accelerator.is_main_process" in source


def test_more_gpus_than_there_are_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "_found", lambda: 4)
    with pytest.raises(UserError, match="gpus: the job was given 8, but torch finds 4; set gpus to 4"):
        launching._main(["--gpus", "8", "randcond.students.distil"])


def test_missing_gpus_are_one_line() -> None:
    done = launch("--gpus", "2", "randcond.scores.calibrate", "--help")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: gpus: the job was given 2")
    assert "Traceback" not in done.stderr
    assert launch("--gpus").stderr.startswith("error: launch: expected")
