include: "functions/faster.smk"


rule faster:
    """Make one finished student faster: it learns to draw in few steps without guidance."""
    input:
        code=code("faster.distil"),
        student=lambda w: student_pipeline(made_from(w.run), w.seed),
        prompts=lambda w: f"{OUT}/prompts/{draw_of(w.seed)}/{base_of(w).prompts}.parquet",
        latents=lambda w: render_shards(draw_of(w.seed), base_of(w).prompts, "rendered"),
        pool=lambda w: large_pool(w, swapped_texts(w)),
        curve=lambda w: curve_of(made_from(w.run)) if swaps(w) else [],
    output:
        pipeline=directory(f"{OUT}/faster/{{run}}/{{seed}}/pipeline"),
        history=f"{OUT}/faster/{{run}}/{{seed}}/history.json",
    log:
        f"{OUT}/logs/faster/{{run}}-{{seed}}.log",
    benchmark:
        f"{OUT}/benchmarks/faster/{{run}}-{{seed}}.tsv"
    resources:
        gpu=CONFIG.gpus.train,
        held=HELD,
    params:
        settings=faster_settings,
        checkpoint=f"{OUT}/checkpoints/{{run}}-{{seed}}",
        pool=lambda w, input: ["--pool", *input.pool] if input.pool else [],
        curve=lambda w, input: ["--sensitivity", *input.curve] if input.curve else [],
    shell:
        "python -m randcond.jobs.launch --gpus {resources.gpu:q} randcond.faster.distil --settings {params.settings:q} --held {resources.held:q} --name {wildcards.run:q}/{wildcards.seed:q}"
        " --student {input.student:q} --prompts {input.prompts:q} --latents {input.latents:q} {params.pool:q} {params.curve:q}"
        " --output {output.pipeline:q} --history {output.history:q} --checkpoint {params.checkpoint:q} --log {log:q}"
