# What the rules share: the checked configuration, names of files, and the code a stage depends on.
import json
import os
import shlex
import sys
from pathlib import Path

from randcond.jobs.code import code_of
from randcond.jobs.errors import UserError
from randcond.jobs.files import files_below
from randcond.jobs.yaml_file import read_yaml
from randcond.settings.claims import load_claims
from randcond.settings.config import check_config
from randcond.settings.experiments import load_experiments
from randcond.settings.own import check_own
from randcond.settings.workflow import drawing, shards


def stop(reason):
    """End before any job with a line, without Snakemake's traceback."""
    print(f"error: {reason}", file=sys.stderr, flush=True)
    os._exit(1)


try:
    # Snakemake has read them, but a setting that stands there twice is silently the last
    for file in workflow.configfiles:
        read_yaml(Path(file), "settings")
    CONFIG = check_config(config)
    everything = load_experiments(CONFIG.experiments)
    EXPERIMENTS = everything.of_grid(CONFIG.grid)
    CONFIG.check_experiments(EXPERIMENTS)
    check_own(CONFIG, EXPERIMENTS)
    CLAIMS = load_claims(Path(CONFIG.claims))
    for claim in CLAIMS.every:
        claim.check_shares(everything.runs)
except UserError as error:
    stop(error)

OUT = f"results/{CONFIG.name}"
# texts that are written of a description stand where one's own would
WRITTEN = (
    {"own": f"{OUT}/prompts/written.parquet"} if CONFIG.prompts.description else {}
)
SOURCES = CONFIG.sources.model_copy(update=WRITTEN)
RUNS = [run for run in EXPERIMENTS.runs if not CONFIG.only or run in CONFIG.only]
# what is scored beside the runs: students that were made faster, and what is drawn in other steps
MORE = [name for name in EXPERIMENTS.more if not CONFIG.only or name in CONFIG.only]
TEACHER = CONFIG.teacher_folder
# one's own world also compares latents, by the teacher's autoencoder
BESIDE = TEACHER if CONFIG.world == "own" else CONFIG.inception
EVALUATORS = [CONFIG.evaluator, *([BESIDE] if BESIDE else [])]
# relative, so that a checkout can be moved or copied without running anything again
RULES = os.path.relpath(workflow.current_basedir.get_path_or_uri(secret_free=True))
HERE = Path(RULES).parent  # the folder workflow/
CODE = HERE / "src" / "randcond"
WORLD = f"worlds.{CONFIG.world}"  # its module
# files that belong to a module, too large to lie beside it
READ = {
    f"{CODE}/worlds/drawings.py": f"{HERE}/assets/artists/drawings.zip",
    f"{CODE}/figures/digits.py": f"{HERE}/assets/mnist/digits.npz",
}

# Jobs run with Snakemake's own Python. They depend neither on the number of cores around them nor on the network.
# `exec`: a rule is one command, which takes the shell's place, so that it is told of signals and of Snakemake's end.
shell.prefix(
    f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    " HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 RANDCOND_JOB=1; exec "
)


wildcard_constraints:
    run="[a-z0-9][a-z0-9-]*",
    seed=r"\d+",
    draw=r"\d+",
    shard=r"\d{5}",
    prompts="captions|llm",
    images="rendered|real|real-augmented",
    step=r"\d+",
    weights="raw|ema",


def settings(in_order=False, **values):
    """A rule's one params value: the settings it reads, as JSON, so that nothing else reruns it.

    in_order: the order of what is named counts, as that of the tables on a page."""
    plain = {
        k: v.model_dump() if hasattr(v, "model_dump") else v for k, v in values.items()
    }
    return json.dumps(plain, sort_keys=not in_order)


def code(*modules):
    """The package's files that a stage runs, and what these read; Snakemake does not see imports."""
    found = sorted({file for module in modules for file in code_of(CODE, module)})
    return [*found, *(data for reader, data in READ.items() if reader in found)]


def sources(*names):
    """Those of the world's files that it has, with the files in those that are folders."""
    found = [path for name in names if (path := getattr(SOURCES, name))]
    inside = [str(file) for file in files_of(*found)]
    return [*found, *(file for file in inside if file not in found)]


def sources_option(*names):
    """The same for the command line, with their names."""
    found = {name: getattr(SOURCES, name) for name in names}
    return [f"{name}={path}" for name, path in found.items() if path]


def files_of(*folders):
    """Files of folders from outside, as a folder's own time does not tell that a file in it has changed."""
    own = [Path(one) for one in folders if not Path(one).is_relative_to("results")]
    return sorted({file for folder in own for file in files_below(folder)})


def checked():
    """What scoring needs of others, its large models and photos, is read once before anything is rendered.

    `ancient`: what the check finds has no part in the images; it only comes first."""
    photos = [f"{OUT}/samples/real.zip"] if CONFIG.world == "paper" else []
    return (
        [ancient(file) for file in (f"{OUT}/scores/evaluators.json", *photos)]
        if CONFIG.inception or CONFIG.world == "own"
        else []
    )


def draw_of(seed):
    """The D that a seed is trained on."""
    return int(seed) if CONFIG.prompts.redrawn else 0


def shard_names(count, size):
    return [f"{i:05d}" for i in range(shards(count, size))]


def run_of(wildcards):
    return EXPERIMENTS.runs[wildcards.run]


def point_of(wildcards):
    """A point along a training, ``<step>-<weights>``; None for jobs of a finished pipeline."""
    along = "step" in wildcards.keys()
    return f"{wildcards.step}-{wildcards.weights}" if along else None


def unets_of(wildcards):
    """What was kept along a training, for jobs of a point."""
    folder = f"{OUT}/students/{wildcards.run}/{wildcards.seed}/unets"
    return [folder] if point_of(wildcards) else []


def unet_option(wildcards, input):
    """A point's UNet stands in the place of the pipeline's own."""
    point = point_of(wildcards)
    return ["--unet", f"{input.unets[0]}/{point}"] if point else []


def pipeline_of(wildcards):
    """The pipeline that draws what is scored under the name ``wildcards.run``."""
    name = EXPERIMENTS.pipeline(wildcards.run)
    if name == "real":
        return []
    if name in ("teacher", "teacher-again"):
        return TEACHER
    return student_pipeline(name, wildcards.seed)


def pipeline_files_of(wildcards):
    """Its files, where it comes from outside."""
    pipeline = pipeline_of(wildcards)
    return files_of(pipeline) if pipeline else []


def student_pipeline(name, seed):
    """Of a run's student, or of one that was made faster."""
    return f"{OUT}/{stage_of(name)}/{name}/{seed}/pipeline"


def stage_of(name):
    """The stage that trains what a name stands for."""
    return "faster" if name in EXPERIMENTS.faster else "students"


def seeds_of(name):
    """The seeds of all that is scored under a name."""
    if EXPERIMENTS.student(name) == "teacher":
        return CONFIG.seeds[:1]
    return CONFIG.seeds_of(name)


def drawn_otherwise(name):
    """How what is scored under a name is drawn otherwise than ``sampling`` says."""
    return drawing(EXPERIMENTS.model_dump(), name, CONFIG.sampling.guidance_scale)
