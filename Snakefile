# Random conditioning with distillation: config -> prompts -> renders -> students -> samples -> scores -> report
from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


# Only with --software-deployment-method apptainer; it supplies the system, the project's .venv the packages.
container: "docker://python:3.11-bookworm"


include: "workflow/rules/common.smk"
include: "workflow/rules/prompts.smk"
include: "workflow/rules/renders.smk"
include: "workflow/rules/students.smk"
include: "workflow/rules/samples.smk"
include: "workflow/rules/scores.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/teacher.smk"


rule all:
    default_target: True
    input:
        f"{OUT}/report",
