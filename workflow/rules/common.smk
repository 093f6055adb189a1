# What the rules share: the checked configuration, names of files, and the code a stage depends on.
import json
import os
import sys
from pathlib import Path

from randcond.config import check_config, load_experiments
from randcond.errors import UserError
from randcond.workflow import code_of, shards, step_count

try:
    CONFIG = check_config(config)
    EXPERIMENTS = load_experiments(CONFIG.experiments)
    EXPERIMENTS.check_names(CONFIG.only, "only")
except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    os._exit(1)  # before any job, and without Snakemake's traceback

OUT = f"results/{CONFIG.name}"
RUNS = [run for run in EXPERIMENTS.runs if not CONFIG.only or run in CONFIG.only]
TEACHER = CONFIG.teacher
EVALUATOR = CONFIG.evaluator
PYTHON = sys.executable
CODE = Path(workflow.basedir) / "workflow" / "src" / "randcond"

# jobs must not depend on the number of cores around them, nor look for the network
shell.prefix("export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1; ")


wildcard_constraints:
    run="[a-z0-9-]+",
    seed=r"\d+",
    shard=r"\d{5}",
    prompts="captions|llm",
    images="rendered|real",


def settings(**values):
    """A rule's one params value: the settings it reads, as JSON, so that nothing else reruns it."""
    plain = {k: v.model_dump() if hasattr(v, "model_dump") else v for k, v in values.items()}
    return json.dumps(plain, sort_keys=True)


def code(module):
    """The package's files that a stage runs; Snakemake does not see imports."""
    return code_of(CODE, module)


def shard_names(count, size):
    return [f"{i:05d}" for i in range(shards(count, size))]
