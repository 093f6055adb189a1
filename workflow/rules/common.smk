# What the rules share: the checked configuration, names of files, and the code a stage depends on.
import json
import os
import shlex
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
CODE = Path(workflow.basedir) / "workflow" / "src" / "randcond"

# Jobs run with Snakemake's own Python. They depend neither on the number of cores around them nor on the network.
shell.prefix(
    f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    " HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1; "
)


wildcard_constraints:
    run="[a-z0-9-]+",
    seed=r"\d+",
    shard=r"\d{5}",
    prompts="captions|llm",
    images="rendered|real",


def settings(**values):
    """A rule's one params value: the settings it reads, as JSON, so that nothing else reruns it."""
    plain = {
        k: v.model_dump() if hasattr(v, "model_dump") else v for k, v in values.items()
    }
    return json.dumps(plain, sort_keys=True)


def code(module):
    """The package's files that a stage runs; Snakemake does not see imports."""
    return code_of(CODE, module)


def shard_names(count, size):
    return [f"{i:05d}" for i in range(shards(count, size))]


def render_settings(wildcards):
    """Real images do not depend on how the teacher samples."""
    sampling = CONFIG.rendering.model_dump()
    if wildcards.images == "real":
        sampling = {key: sampling[key] for key in ("batch", "shard", "seed")}
    return settings(**sampling, count=CONFIG.prompts.count, images=wildcards.images)


def render_shards(prompts, images):
    names = shard_names(CONFIG.prompts.count, CONFIG.rendering.shard)
    return [f"{OUT}/renders/{prompts}-{images}/{name}.safetensors" for name in names]


def run_of(wildcards):
    return EXPERIMENTS.runs[wildcards.run]


def student_settings(wildcards):
    run = run_of(wildcards).model_dump()
    recipe = CONFIG.distillation.model_dump()
    steps = step_count(recipe.pop("steps"), run)
    return settings(
        run=run,
        recipe=recipe,
        steps=steps,
        count=CONFIG.prompts.count,
        seed=int(wildcards.seed),
    )


def student_pool(wildcards):
    return [f"{OUT}/prompts/pool.arrow"] if "pool" in run_of(wildcards).texts else []


def pipeline_of(wildcards):
    if wildcards.run == "teacher":
        return TEACHER
    return f"{OUT}/students/{wildcards.run}/{wildcards.seed}/pipeline"


def sample_shards(run, seed):
    names = shard_names(CONFIG.prompts.evaluation, CONFIG.sampling.shard)
    return [f"{OUT}/samples/{run}/{seed}/{name}.zip" for name in names]


def report_settings():
    experiments = EXPERIMENTS.model_dump()
    for name, table in experiments["tables"].items():
        for row in table["rows"]:
            row["paper"] = {"table": name, "row": row["paper"]}
    return settings(
        title="Random conditioning with distillation",
        world=CONFIG.world,
        name=CONFIG.name,
        seeds=CONFIG.seeds,
        **experiments,
        settings=CONFIG.model_dump(),
    )


def part_command(part, *more):
    options = " ".join(f"--{name} {{input.{name.replace('-', '_')}}}" for name in more)
    return (
        f"python -m randcond.make_teacher {part} --settings {{params.settings:q}} --threads {{threads}}"
        f" {options} --checkpoint {OUT}/checkpoints/{part} --output {{output}} --log {{log}}"
    )
