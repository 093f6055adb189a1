include: "functions/models.smk"


MODELS = [*EXPERIMENTS.runs, *EXPERIMENTS.faster]


rule model:
    """A finished student as a folder to hand on, with a model card; on request."""
    input:
        code=code("models.write"),
        template=str(CODE / "models/card.md.j2"),
        teacher=TEACHER,
        teacher_files=files_of(TEACHER),
        pipeline=model_pipeline,
        prompts=rules.evaluation_prompts.output[0],
        scores=beside_teacher(f"{OUT}/scores"),
        costs=beside_teacher(f"{OUT}/costs"),
        samples=samples_beside_teacher,
    output:
        directory(f"{OUT}/models/{{run}}/{{seed}}"),
    log:
        f"{OUT}/logs/model/{{run}}-{{seed}}.log",
    params:
        settings=model_settings,
        student_log=training_log,
    shell:
        "python -m randcond.jobs.launch --gpus 0 randcond.models.write --settings {params.settings:q} --teacher {input.teacher:q} --pipeline {input.pipeline:q}"
        " --prompts {input.prompts:q} --scores {input.scores:q} --costs {input.costs:q} --samples {input.samples:q}"
        " --student-log {params.student_log:q} --template {input.template:q} --output {output:q} --log {log:q}"


rule models:
    """The models that were made so far, for DVC to know of."""
    input:
        made_models(),
