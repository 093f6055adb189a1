include: "functions/sensitivity.smk"


rule sensitivity:
    """How far x_t tells its text from another one, as the teacher sees it: what a measured p(t) comes from."""
    input:
        code=code("sensitivity.measure"),
        teacher=TEACHER,
        teacher_files=files_of(TEACHER),
        prompts=f"{OUT}/prompts/{draw_of(CONFIG.seeds[0])}/captions.parquet",
        latents=measured_shards(),
    output:
        curve=f"{OUT}/sensitivity/curve.json",
        figure=f"{OUT}/sensitivity/figure.svg",
        table=f"{OUT}/sensitivity/probability.csv",
    log:
        f"{OUT}/logs/sensitivity.log",
    benchmark:
        f"{OUT}/benchmarks/sensitivity.tsv"
    resources:
        gpu=CONFIG.gpus.draw,
    params:
        settings=settings(**CONFIG.sensitivity.model_dump(), count=CONFIG.prompts.count),
    shell:
        "python -m randcond.jobs.launch --gpus {resources.gpu:q} randcond.sensitivity.measure --settings {params.settings:q}"
        " --teacher {input.teacher:q} --prompts {input.prompts:q} --latents {input.latents:q}"
        " --output {output.curve:q} --figure {output.figure:q} --table {output.table:q} --log {log:q}"
