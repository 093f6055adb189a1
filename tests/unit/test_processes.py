"""Two processes (gloo, CPU) train as one with the same batch, and never draw the same noise."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from randcond.training.processes import accelerator_for

PROGRAM = """
import json, sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
import torch
from randcond.training.processes import accelerator_for
sys.path.insert(0, sys.argv[1])
from tiny_pipelines import tiny_unet
from randcond.method.conditioning import probability
from randcond.method.losses import DistillationLoss
from randcond.method.trajectories import Trajectories
from randcond.students.data import LatentShards, Pairs
from randcond.students.problem import Distillation
from randcond.method.student import build_student, feature_pairs
from randcond.teachers.pipelines import load_pipeline, teacher_of
from randcond.training.loop import fit

folder = Path(sys.argv[2])
torch.set_num_threads(1)
accelerator = accelerator_for("no")
teacher = teacher_of(load_pipeline(sys.argv[3], accelerator.device))
torch.manual_seed(0)
student = build_student(teacher.denoiser, "b-small", "random")
loss = DistillationLoss(teacher, student, feature_pairs(teacher.denoiser, student, "b-small"), True)
student.enable_gradient_checkpointing()
texts = [f"text {i}" for i in range(8)]
pairs = Pairs(LatentShards([folder / "0.safetensors"]), texts, list(range(8)), 3)
seen = []
original = loss.forward
def watched(noised, *rest):
    seen.extend(round(float(one.sum()), 4) for one in noised)
    return original(noised, *rest)
loss.forward = watched
bank = Trajectories(texts, teacher.latent_shape, teacher.solver(), 3, depth=2, stride=300, seed=3)
problem = Distillation(loss, teacher, pairs, texts, probability({"kind": "linear"}), 0.1, 6, 3, bank, guidance=2.0)
total = partial(accelerator.reduce, reduction="sum")
recipe = SimpleNamespace(steps=4, batch=6, micro_batch=2, learning_rate=1e-3, schedule="constant", weight_decay=0.0,
                         gradient_clip=1.0, ema=0.0, cycles=1, optimizer="adamw")
fitted = fit(problem, recipe, "two", accelerator=accelerator, log_every=1,
             after_step=lambda step, _: problem.after_step(step - 1, total))
weights = sum(float(p.detach().double().abs().sum()) for p in student.parameters())
(folder / f"{sys.argv[4]}-{accelerator.process_index}.json").write_text(
    json.dumps({"history": fitted.history, "noise": seen,
                "states": [float(one.sum()) for one in bank.states], "weights": weights,
                "of": accelerator.num_processes}))
"""


def run(folder: Path, pipeline: Path, name: str, launcher: list[str], text: str = PROGRAM) -> list:
    program = folder / "program.py"
    program.write_text(text)
    arguments = [str(program), str(Path(__file__).parent), str(folder), str(pipeline), name]
    done = subprocess.run([sys.executable, *launcher, *arguments], capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(file.read_text()) for file in sorted(folder.glob(f"{name}-*.json"))]


def test_two_processes_equal_one(tmp_path: Path, pipeline_folder: Path) -> None:
    import torch

    from randcond.jobs.tensors import write_tensors

    latents = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    write_tensors(tmp_path / "0.safetensors", {"latents": latents, "rows": torch.arange(8)})
    (one,) = run(tmp_path, pipeline_folder, "one", [])
    two = run(
        tmp_path, pipeline_folder, "two", ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    )
    assert [one["of"], *(process["of"] for process in two)] == [1, 2, 2]
    for process in two:
        assert process["states"] == pytest.approx(one["states"], abs=1e-3)
        assert process["weights"] == pytest.approx(one["weights"], rel=1e-5)
        for mine, theirs in zip(process["history"], one["history"], strict=True):
            assert mine == pytest.approx(theirs, rel=1e-4)
    # every row of every batch is drawn by exactly one process, and no noise comes twice
    assert len(set(one["noise"])) == len(one["noise"]) == 24
    assert sorted(two[0]["noise"] + two[1]["noise"]) == pytest.approx(sorted(one["noise"]), rel=1e-5)


STOPPED = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace
import torch
from randcond.training.processes import accelerator_for
from randcond.jobs.errors import UserError
from randcond.training.checkpoint import Checkpoint
from randcond.training.loop import fit

folder = Path(sys.argv[2])
accelerator = accelerator_for("no")

class Problem(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def forward(self, step, rows):
        if step == 2 and accelerator.process_index == 1:  # not the one that writes the state
            os.kill(os.getpid(), signal.SIGTERM)
        return {"loss": self.layer(torch.ones(8, 3)[rows]).square().mean(), "row": torch.tensor(float(rows.start))}

recipe = SimpleNamespace(steps=40, batch=8, micro_batch=4, learning_rate=1e-3, schedule="constant", weight_decay=0.0,
                         gradient_clip=1.0, ema=0.0, cycles=1, optimizer="adamw")
checkpoint = Checkpoint(folder / "state", {})
try:
    fit(Problem(), recipe, "two", checkpoint=checkpoint, accelerator=accelerator)
    said = "went on"
except UserError as error:
    said = str(error)
state = checkpoint.load()
rows = [losses[1].item() for losses in state["recent"]]
(folder / f"{sys.argv[4]}-{accelerator.process_index}.json").write_text(f'["{said}", {state["step"]}, {rows}]')
"""


def test_processes_stop_together_at_the_next_step(tmp_path: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    first, second = run(tmp_path, tmp_path, "stopped", launcher, STOPPED)
    kept = [3, [2.0] * 3]  # the mean of rows 0 and 4
    assert first == ["two: stopped at step 3; the same command goes on from there", *kept]
    assert second == ["two: stopped by SIGTERM at step 3; the same command goes on from there", *kept]


def test_gradients_are_kept_once() -> None:
    handler = accelerator_for("no").ddp_handler
    assert handler is not None
    assert handler.gradient_as_bucket_view
