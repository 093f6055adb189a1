# What the rules share: the checked configuration, names of files, and the code a stage depends on.
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from randcond.assets import needed, read_assets
from randcond.claims import load_claims
from randcond.config import check_config
from randcond.experiments import load_experiments
from randcond.errors import UserError
from randcond.workflow import code_of, evaluation_count, protocol, shards, step_count

try:
    CONFIG = check_config(config)
    EXPERIMENTS = load_experiments(CONFIG.experiments).of_grid(CONFIG.grid)
    CONFIG.check_experiments(EXPERIMENTS)
    CLAIMS = load_claims(Path(CONFIG.claims))
except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    os._exit(1)  # before any job, and without Snakemake's traceback

OUT = f"results/{CONFIG.name}"
RUNS = [run for run in EXPERIMENTS.runs if not CONFIG.only or run in CONFIG.only]
TEACHER = CONFIG.teacher
EVALUATORS = [CONFIG.evaluator, *([CONFIG.inception] if CONFIG.inception else [])]
# relative, so that a checkout can be moved or copied without running anything again
HERE = Path(os.path.relpath(workflow.basedir))
CODE = HERE / "workflow" / "src" / "randcond"
WORLD = f"worlds.{CONFIG.world}"  # its module

# Jobs run with Snakemake's own Python. They depend neither on the number of cores around them nor on the network.
# `exec`: a rule is one command, which takes the shell's place, so that it is told of signals and of Snakemake's end.
shell.prefix(
    f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    " HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 RANDCOND_JOB=1; exec "
)


wildcard_constraints:
    run="[a-z0-9-]+",
    seed=r"\d+",
    shard=r"\d{5}",
    prompts="captions|llm",
    images="rendered|real",


def settings(in_order=False, **values):
    """A rule's one params value: the settings it reads, as JSON, so that nothing else reruns it.

    in_order: the order of what is named counts, as that of the tables on a page."""
    plain = {
        k: v.model_dump() if hasattr(v, "model_dump") else v for k, v in values.items()
    }
    return json.dumps(plain, sort_keys=not in_order)


def code(*modules):
    """The package's files that a stage runs; Snakemake does not see imports."""
    return sorted({file for module in modules for file in code_of(CODE, module)})


def sources(*names):
    """Those of the world's files that it has."""
    return [path for name in names if (path := getattr(CONFIG.sources, name))]


def sources_option(*names):
    """The same for the command line, with their names."""
    found = {name: getattr(CONFIG.sources, name) for name in names}
    return " ".join(
        shlex.quote(f"{name}={path}") for name, path in found.items() if path
    )


def writer_model(fetched):
    """The model that writes prompts: the fetched one, another folder, or none where a service writes."""
    writer = CONFIG.prompts.llm.writer
    if writer is None:
        return fetched
    return writer.model or []


def files_of(*folders):
    """Files of folders from outside, as a folder's own time does not tell that a file in it has changed."""
    own = [Path(one) for one in folders if not Path(one).is_relative_to("results")]
    return sorted(
        file for folder in own for file in folder.rglob("*") if file.is_file()
    )


def shard_names(count, size):
    return [f"{i:05d}" for i in range(shards(count, size))]


def render_settings(wildcards):
    """Real images do not depend on how the teacher samples."""
    sampling = CONFIG.rendering.model_dump()
    if wildcards.images == "real":
        sampling = {
            key: sampling[key]
            for key in ("batch", "shard", "seed", "precision", "latents")
        }
    return settings(
        **sampling,
        count=CONFIG.prompts.count,
        images=wildcards.images,
        world=CONFIG.world,
    )


def render_shards(prompts, images):
    names = shard_names(CONFIG.prompts.count, CONFIG.rendering.shard)
    return [f"{OUT}/renders/{prompts}-{images}/{name}.safetensors" for name in names]


def run_of(wildcards):
    return EXPERIMENTS.runs[wildcards.run]


def student_settings(wildcards):
    run = run_of(wildcards).model_dump(exclude={"grid"})
    recipe = CONFIG.distillation.recipe(run["init"])
    steps = step_count(CONFIG.distillation.steps.model_dump(), run)
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


def sample_count(run):
    """Evaluation images of a run: those of the benchmark's prompts where no table or grid shows more."""
    return evaluation_count(
        EXPERIMENTS.model_dump(),
        run,
        CONFIG.prompts.benchmark,
        CONFIG.prompts.evaluation,
    )


def sample_settings(wildcards):
    return settings(**CONFIG.sampling.model_dump(), count=sample_count(wildcards.run))


def sample_shards(run, seed):
    names = shard_names(sample_count(run), CONFIG.sampling.shard)
    return [f"{OUT}/samples/{run}/{seed}/{name}.zip" for name in names]


def score_settings(wildcards):
    return settings(
        batch=CONFIG.scoring.batch,
        bootstrap=CONFIG.scoring.bootstrap,
        seed=CONFIG.scoring.seed,
        world=CONFIG.world,
        name=CONFIG.name,
        protocol=protocol(CONFIG.model_dump()),
        count=sample_count(wildcards.run),
        benchmark=CONFIG.prompts.benchmark,
    )


def calibration(wildcards=None):
    """No student is scored before the teacher has scored as it should."""
    needed = CONFIG.calibration and (wildcards is None or wildcards.run != "teacher")
    return [f"{OUT}/calibration.json"] if needed else []


def report_settings():
    experiments = EXPERIMENTS.model_dump()
    for name, table in experiments["tables"].items():
        for row in table["rows"]:
            if row["paper"] is not None:
                row["paper"] = {"table": name, "row": row["paper"]}
    for grid in experiments["grids"]:
        grid["benchmark"] = CONFIG.prompts.benchmark
    return settings(
        in_order=True,
        title="Random conditioning with distillation",
        world=CONFIG.world,
        name=CONFIG.name,
        seeds=CONFIG.seeds,
        count=CONFIG.prompts.count,
        claims=[claim.model_dump() for claim in CLAIMS],
        **experiments,
        settings=CONFIG.model_dump(),
    )


def figure_settings(section):
    """A figure's own settings and the seeds that all figures share."""
    own = getattr(CONFIG.figures, section).model_dump()
    return settings(**own, seeds=CONFIG.figures.seeds)


def part_command(part, *more):
    options = " ".join(f"--{name} {{input.{name.replace('-', '_')}}}" for name in more)
    return (
        f"python -m randcond.make_teacher {part} --settings {{params.settings:q}} --threads {{threads}}"
        f" {options} --checkpoint {OUT}/checkpoints/{part} --output {{output}} --log {{log}}"
    )


def record_versions():
    """Let DVC record what is up to date. `dvc repro` (DVC_STAGE) records its stages itself, with settings of now."""
    command = ["describe"] if "DVC_STAGE" in os.environ else ["record", "--quietly"]
    files = [str(path) for path in workflow.config_settings.configfiles]
    values = ["--config", json.dumps(workflow.config_settings.config)]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "randcond.versions",
            *command,
            "--configfile",
            *files,
            *values,
        ]
    )
