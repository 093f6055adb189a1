"""Random conditioning with distillation: a room for each stage, and the paper's idea apart from them in ``method``.

For a training script of one's own: ``from randcond import Exponential, recondition``.
"""

import gc
import os
from importlib import import_module
from typing import Any

if "RANDCOND_JOB" in os.environ:
    # A job begins with loading libraries, whose objects stay: looking for garbage among them is a fifth of that time.
    gc.disable()  # until jobs.stage.run_stage

# loaded when they are asked for: torch takes seconds, and not every command needs it
_PUBLIC = {
    **dict.fromkeys(
        ("Constant", "Exponential", "Linear", "Parabola", "Probability", "Sigmoid", "TwoSidedExponential"),
        "method.conditioning",
    ),
    **dict.fromkeys(("probability", "recondition"), "method.conditioning"),
    **dict.fromkeys(("DistillationLoss", "FeatureLoss"), "method.losses"),
    **dict.fromkeys(("build_student", "feature_pairs"), "method.student"),
    "Trajectories": "method.trajectories",
    **dict.fromkeys(("Phases", "consistency_loss"), "method.consistency"),
    "first_order": "method.inherit",
    **dict.fromkeys(("DDIM", "Euler"), "teachers.solvers"),
    "Measured": "method.measured",
    "Sensitivity": "method.curve",
    **dict.fromkeys(("equivalent_timesteps", "share_of"), "method.noise_level"),
    "measure_sensitivity": "method.sensitivity",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
