# The workflow, where `snakemake` looks for it without being told: the same as workflow/Snakefile.
include: "workflow/Snakefile"


workflow.default_target = "all"  # which an included file cannot set
