# Random conditioning with distillation: config -> prompts -> renders -> students -> samples -> scores -> report
from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


# Only with --software-deployment-method apptainer; it supplies the system, the project's .venv the packages.
container: "docker://python:3.11-bookworm"


include: "workflow/rules/common.smk"
include: "workflow/rules/prompts.smk"
include: "workflow/rules/assets.smk"
include: "workflow/rules/renders.smk"
include: "workflow/rules/students.smk"
include: "workflow/rules/samples.smk"
include: "workflow/rules/scores.smk"
include: "workflow/rules/costs.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/teacher.smk"


rule all:
    default_target: True
    input:
        f"{OUT}/report",


# What is up to date is recorded by DVC, also after a run that failed in part.
onsuccess:
    record_versions()


onerror:
    record_versions()
