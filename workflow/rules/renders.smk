include: "functions/renders.smk"


rule render:
    """One shard of D's latents."""
    input:
        code=code("renders.render", WORLD),
        teacher=TEACHER,
        teacher_files=files_of(TEACHER),
        prompts=f"{OUT}/prompts/{{draw}}/{{prompts}}.parquet",
        sources=lambda w: sources("captions") if w.images != "rendered" else [],
        checked=checked(),
    output:
        f"{OUT}/renders/{{draw}}/{{prompts}}-{{images}}/{{shard}}.safetensors",
    log:
        f"{OUT}/logs/render/{{draw}}/{{prompts}}-{{images}}/{{shard}}.log",
    benchmark:
        f"{OUT}/benchmarks/render/{{draw}}/{{prompts}}-{{images}}/{{shard}}.tsv"
    resources:
        gpu=CONFIG.gpus.draw,
    params:
        settings=render_settings,
        sources=lambda w: (sources_option("captions") if w.images != "rendered" else []),
    shell:
        "python -m randcond.jobs.launch --gpus {resources.gpu:q} randcond.renders.render"
        " --settings {params.settings:q} --shard $((10#{wildcards.shard:q})) --sources {params.sources:q}"
        " --teacher {input.teacher:q} --prompts {input.prompts:q} --output {output:q} --log {log:q}"
