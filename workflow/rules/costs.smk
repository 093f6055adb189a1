include: "functions/costs.smk"


rule cost:
    """What a run's student costs: parameters, operations, bytes, time; with the machine to itself."""
    input:
        code=code("costs.measure"),
        pipeline=pipeline_of,
        pipeline_files=lambda w: files_of(pipeline_of(w)),
    output:
        f"{OUT}/costs/{{run}}/{{seed}}.json",
    log:
        f"{OUT}/logs/cost/{{run}}-{{seed}}.log",
    threads: workflow.cores
    resources:
        gpu=CONFIG.gpus.draw,
    params:
        settings=cost_settings,
    shell:
        "python -m randcond.jobs.launch --gpus {resources.gpu:q} randcond.costs.measure --settings {params.settings:q} --run {wildcards.run:q}"
        " --pipeline {input.pipeline:q} --output {output:q} --log {log:q}"
