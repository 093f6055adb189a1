"""Run a stage on as many GPUs as its job was given.

``python -m randcond.jobs.launch --gpus 4 randcond.students.distil ...``

The number belongs to the job's resources, not to its settings: results do not depend on it. Without GPUs the stage runs
here, on the CPU, whatever the machine has; on one it runs here too; on several ``accelerate launch`` starts a process
for each, if the stage is a training. Any other takes the first. Of a machine that has more the job takes those that no
other job has (:mod:`randcond.jobs.gpus`).
"""

import os
import runpy
import sys

from randcond.jobs.errors import UserError, one_line
from randcond.jobs.gpus import deal, visible

TRAININGS = ("randcond.students.distil", "randcond.faster.distil")  # what knows how to share its work


def command(gpus: int, module: str, options: list[str]) -> list[str] | None:
    """The command that starts several processes, or None where this process is enough."""
    if gpus < 2 or module not in TRAININGS:
        return None
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--num_processes", str(gpus)]
    # each job picks a free port, so that several fit on a machine; precision is the stage's setting. What is named here
    # is not read from the user's own accelerate configuration
    launcher += ["--main_process_port", "0", "--mixed_precision", "no", "--gpu_ids", "all", "--dynamo_backend", "no"]
    return [sys.executable, *launcher, "-m", module, *options]


def _main(arguments: list[str]) -> None:
    if len(arguments) < 3 or arguments[0] != "--gpus" or not arguments[1].isdecimal():
        raise UserError("launch: expected --gpus NUMBER MODULE OPTIONS...")
    asked, module, options = int(arguments[1]), arguments[2], arguments[3:]
    gpus = asked or _of_slurm()
    start = command(gpus, module, options)
    if gpus == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif (found := _found()) < gpus:
        there = found or "none"
        mend = f"set gpus to {found}" if asked else "unset SLURM_STEP_GPUS to stay on the CPU"
        raise UserError(f"gpus: the job was given {gpus}, but torch finds {there}; {mend} or check the driver")
    elif found > gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(deal(visible(found), gpus))
        start = start or [sys.executable, "-m", module, *options]  # this process may have met the others already
    if start:
        # asked to stop, accelerate's processes are given this many seconds to save their state; 30 are too few
        os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "300")
        os.execv(start[0], start)
    sys.argv = [module, *options]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _of_slurm() -> int:
    """GPUs that SLURM gave this job step otherwise than by Snakemake's resource ``gpu``, e.g. by ``gres``.

    Not those of the batch job around it, in which a whole workflow may run.
    """
    return len(os.environ.get("SLURM_STEP_GPUS", "").replace(",", " ").split())


def _found() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


if __name__ == "__main__":
    with one_line():
        _main(sys.argv[1:])
