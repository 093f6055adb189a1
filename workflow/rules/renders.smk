def render_settings(wildcards):
    """Real images do not depend on how the teacher samples."""
    sampling = CONFIG.rendering.model_dump()
    if wildcards.images == "real":
        sampling = {key: sampling[key] for key in ("batch", "shard", "seed")}
    return settings(**sampling, count=CONFIG.prompts.count, images=wildcards.images)


rule render:
    """One shard of D's latents."""
    input:
        code=code("render"),
        teacher=TEACHER,
        prompts=f"{OUT}/prompts/{{prompts}}.parquet",
    output:
        f"{OUT}/renders/{{prompts}}-{{images}}/{{shard}}.safetensors",
    params:
        settings=render_settings,
    log:
        f"{OUT}/logs/render/{{prompts}}-{{images}}-{{shard}}.log",
    benchmark:
        f"{OUT}/benchmarks/render/{{prompts}}-{{images}}-{{shard}}.tsv"
    shell:
        "{PYTHON} -m randcond.render --settings {params.settings:q} --shard $((10#{wildcards.shard}))"
        " --teacher {input.teacher} --prompts {input.prompts} --output {output} --log {log}"


def render_shards(prompts, images):
    names = shard_names(CONFIG.prompts.count, CONFIG.rendering.shard)
    return [f"{OUT}/renders/{prompts}-{images}/{name}.safetensors" for name in names]
