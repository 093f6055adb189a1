include: "functions/samples.smk"


rule sample:
    """One shard of a run's evaluation images."""
    input:
        code=code("samples.draw"),
        pipeline=pipeline_of,
        pipeline_files=pipeline_files_of,
        unets=unets_of,
        prompts=rules.evaluation_prompts.output[0],
        checked=checked(),
    output:
        f"{OUT}/samples/{{run}}/{{seed}}/{{shard}}.zip",
    log:
        f"{OUT}/logs/sample/{{run}}-{{seed}}/{{shard}}.log",
    benchmark:
        f"{OUT}/benchmarks/sample/{{run}}-{{seed}}/{{shard}}.tsv"
    resources:
        gpu=CONFIG.gpus.draw,
    params:
        settings=sample_settings,
        unet=unet_option,
    shell:
        "python -m randcond.jobs.launch --gpus {resources.gpu:q} randcond.samples.draw --settings {params.settings:q} --shard $((10#{wildcards.shard:q}))"
        " --name sample/{wildcards.run:q}/{wildcards.seed:q}/{wildcards.shard:q}"
        " --pipeline {input.pipeline:q} {params.unet:q} --prompts {input.prompts:q} --output {output:q} --log {log:q}"


use rule sample as sample_along with:
    output:
        f"{OUT}/samples/along/{{run}}/{{seed}}/{{step}}-{{weights}}/{{shard}}.zip",
    log:
        f"{OUT}/logs/sample_along/{{run}}-{{seed}}-{{step}}-{{weights}}/{{shard}}.log",
    benchmark:
        f"{OUT}/benchmarks/sample_along/{{run}}-{{seed}}-{{step}}-{{weights}}/{{shard}}.tsv"


rule real_images:
    """The world's real images of the evaluation prompts, to measure distances to."""
    input:
        code=code("samples.real_images", WORLD),
        sources=sources("photos"),
        prompts=rules.evaluation_prompts.output[0],
    output:
        f"{OUT}/samples/real.zip",
    log:
        f"{OUT}/logs/real_images.log",
    benchmark:
        f"{OUT}/benchmarks/real_images.tsv"
    params:
        settings=real_image_settings(
            real_per_prompt=CONFIG.scoring.real_per_prompt, seed=CONFIG.scoring.seed
        ),
        sources=sources_option("photos"),
    shell:
        "python -m randcond.samples.real_images --settings {params.settings:q} --sources {params.sources:q} --prompts {input.prompts:q}"
        " --output {output:q} --log {log:q}"


use rule real_images as fresh_real_images with:
    # others than those: what scores are when nothing but chance stands between samples and real images
    output:
        fresh_real_images(),
    log:
        f"{OUT}/logs/fresh_real_images.log",
    benchmark:
        f"{OUT}/benchmarks/fresh_real_images.tsv"
    params:
        settings=real_image_settings(real_per_prompt=1, seed=CONFIG.scoring.seed + 1),
        sources=sources_option("photos"),


ruleorder: fresh_real_images > sample
