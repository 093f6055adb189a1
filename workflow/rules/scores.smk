include: "functions/scores.smk"


rule check_evaluators:
    """Before anything is rendered: the models that will score load, and one's own teacher has such students."""
    input:
        code=code("scores.check", f"scores.{CONFIG.world}"),
        evaluator=EVALUATORS,
        evaluator_files=files_of(*EVALUATORS),
    output:
        f"{OUT}/scores/evaluators.json",
    log:
        f"{OUT}/logs/check_evaluators.log",
    params:
        world=CONFIG.world,
        students=students_option(),
    shell:
        "python -m randcond.jobs.launch --gpus 0 randcond.scores.check --world {params.world:q} --evaluator {input.evaluator:q}"
        " {params.students:q} --output {output:q} --log {log:q}"


rule reference:
    """Features of what samples are held against: real images, the prompts and the classes, or the teacher's own samples."""
    input:
        code=code("scores.score", f"scores.{CONFIG.world}"),
        evaluator=EVALUATORS,
        evaluator_files=files_of(*EVALUATORS),
        images=reference_images(),
        prompts=rules.evaluation_prompts.output[0],
    output:
        f"{OUT}/scores/reference.safetensors",
    log:
        f"{OUT}/logs/reference.log",
    benchmark:
        f"{OUT}/benchmarks/reference.tsv"
    resources:
        gpu=CONFIG.gpus.draw,
    params:
        settings=settings(
            world=CONFIG.world,
            batch=CONFIG.scoring.batch,
            real_per_prompt=CONFIG.scoring.real_per_prompt,
        ),
    shell:
        "python -m randcond.jobs.launch --gpus {resources.gpu:q} randcond.scores.score reference --settings {params.settings:q} --evaluator {input.evaluator:q}"
        " --images {input.images:q} --prompts {input.prompts:q} --output {output:q} --log {log:q}"


rule score:
    """Scores of one run."""
    input:
        code=code("scores.score", f"scores.{CONFIG.world}"),
        evaluator=EVALUATORS,
        evaluator_files=files_of(*EVALUATORS),
        reference=rules.reference.output[0],
        images=lambda w: sample_shards(w.run, w.seed, point_of(w)),
        pipeline=pipeline_of,
        pipeline_files=pipeline_files_of,
        unets=unets_of,
        prompts=rules.evaluation_prompts.output[0],
        calibration=calibration,
    output:
        f"{OUT}/scores/{{run}}/{{seed}}.json",
    log:
        f"{OUT}/logs/score/{{run}}-{{seed}}.log",
    benchmark:
        f"{OUT}/benchmarks/score/{{run}}-{{seed}}.tsv"
    resources:
        gpu=CONFIG.gpus.draw,
    params:
        settings=score_settings,
        pipeline=lambda w, input: (
            ["--pipeline", input.pipeline] if input.pipeline else []
        ),
        unet=unet_option,
    shell:
        "python -m randcond.jobs.launch --gpus {resources.gpu:q} randcond.scores.score run --settings {params.settings:q} --run {wildcards.run:q} --seed {wildcards.seed:q}"
        " --evaluator {input.evaluator:q} --reference {input.reference:q} --images {input.images:q}"
        " {params.pipeline:q} {params.unet:q} --prompts {input.prompts:q} --output {output:q} --log {log:q}"


use rule score as score_along with:
    output:
        f"{OUT}/scores/along/{{run}}/{{seed}}/{{step}}-{{weights}}.json",
    log:
        f"{OUT}/logs/score_along/{{run}}-{{seed}}-{{step}}-{{weights}}.log",
    benchmark:
        f"{OUT}/benchmarks/score_along/{{run}}-{{seed}}-{{step}}-{{weights}}.tsv"


rule along:
    """Scores along the trainings that the configuration names: quality against steps."""
    input:
        along_scores(),


rule calibrate:
    """The gate: the teacher scores as the paper says, or somebody answers by name for going on all the same."""
    input:
        code=code("scores.calibrate"),
        scores=f"{OUT}/scores/teacher/{CONFIG.seeds[0]}.json",
    output:
        f"{OUT}/scores/calibration.json",
    log:
        f"{OUT}/logs/calibrate.log",
    params:
        settings=(
            settings(**CONFIG.calibration.model_dump()) if CONFIG.calibration else "{}"
        ),
    shell:
        "python -m randcond.scores.calibrate --settings {params.settings:q} --scores {input.scores:q}"
        " --output {output:q} --log {log:q}"
