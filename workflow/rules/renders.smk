rule render:
    """One shard of D's latents."""
    input:
        code=code("render"),
        teacher=TEACHER,
        prompts=f"{OUT}/prompts/{{prompts}}.parquet",
    output:
        f"{OUT}/renders/{{prompts}}-{{images}}/{{shard}}.safetensors",
    log:
        f"{OUT}/logs/render/{{prompts}}-{{images}}-{{shard}}.log",
    benchmark:
        f"{OUT}/benchmarks/render/{{prompts}}-{{images}}-{{shard}}.tsv"
    params:
        settings=render_settings,
    shell:
        "python -m randcond.render --settings {params.settings:q} --shard $((10#{wildcards.shard}))"
        " --teacher {input.teacher} --prompts {input.prompts} --output {output} --log {log}"
