PROTOCOL = {
    "scheduler": "PNDM",
    "steps": CONFIG.sampling.steps,
    "guidance_scale": CONFIG.sampling.guidance_scale,
    "weights": CONFIG.distillation.weights,
    "image format": "PNG, no resize but the evaluator's own",
    "features": "the world's evaluator, directions scaled to length sqrt(width)",
    "real images per prompt": CONFIG.scoring.real_per_prompt,
    "sampling seed": CONFIG.sampling.seed,
}


rule reference:
    """Features of the real images, the prompts and the classes."""
    input:
        code=code("score"),
        evaluator=EVALUATOR,
        images=rules.real_images.output[0],
        prompts=rules.prompts.output.evaluation,
    output:
        f"{OUT}/scores/reference.safetensors",
    log:
        f"{OUT}/logs/reference.log",
    benchmark:
        f"{OUT}/benchmarks/reference.tsv"
    params:
        settings=settings(
            batch=CONFIG.scoring.batch, real_per_prompt=CONFIG.scoring.real_per_prompt
        ),
    shell:
        "python -m randcond.score reference --settings {params.settings:q} --evaluator {input.evaluator}"
        " --images {input.images} --prompts {input.prompts} --output {output} --log {log}"


rule score:
    """Scores of one run."""
    input:
        code=code("score"),
        evaluator=EVALUATOR,
        reference=rules.reference.output[0],
        images=lambda w: sample_shards(w.run, w.seed),
        pipeline=pipeline_of,
        prompts=rules.prompts.output.evaluation,
    output:
        f"{OUT}/scores/{{run}}/{{seed}}.json",
    log:
        f"{OUT}/logs/score/{{run}}-{{seed}}.log",
    benchmark:
        f"{OUT}/benchmarks/score/{{run}}-{{seed}}.tsv"
    params:
        settings=settings(
            **{
                "batch": CONFIG.scoring.batch,
                "bootstrap": CONFIG.scoring.bootstrap,
                "seed": CONFIG.scoring.seed,
            },
            **{"world": CONFIG.world, "name": CONFIG.name, "protocol": PROTOCOL},
        ),
    shell:
        "python -m randcond.score run --settings {params.settings:q} --run {wildcards.run} --seed {wildcards.seed}"
        " --evaluator {input.evaluator} --reference {input.reference} --images {input.images}"
        " --pipeline {input.pipeline} --prompts {input.prompts} --output {output} --log {log}"
