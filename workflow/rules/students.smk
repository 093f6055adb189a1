include: "functions/students.smk"


rule student:
    """Distil one student. Its checkpoint is no output: Snakemake would delete it when the job restarts."""
    input:
        code=code("students.distil"),
        teacher=TEACHER,
        teacher_files=files_of(TEACHER),
        prompts=lambda w: f"{OUT}/prompts/{draw_of(w.seed)}/{run_of(w).prompts}.parquet",
        latents=student_latents,
        pool=student_pool,
        curve=lambda w: curve_of(w.run),
    output:
        **UNETS,
        pipeline=directory(f"{OUT}/students/{{run}}/{{seed}}/pipeline"),
        history=f"{OUT}/students/{{run}}/{{seed}}/history.json",
    log:
        f"{OUT}/logs/student/{{run}}-{{seed}}.log",
    benchmark:
        f"{OUT}/benchmarks/student/{{run}}-{{seed}}.tsv"
    resources:
        gpu=CONFIG.gpus.train,
        held=HELD,
    params:
        settings=student_settings,
        checkpoint=f"{OUT}/checkpoints/{{run}}-{{seed}}",
        pool=lambda w, input: ["--pool", *input.pool] if input.pool else [],
        curve=lambda w, input: ["--sensitivity", *input.curve] if input.curve else [],
        unets=lambda w, output: ["--unets", output.unets] if KEEPS else [],
    shell:
        "python -m randcond.jobs.launch --gpus {resources.gpu:q} randcond.students.distil --settings {params.settings:q} --held {resources.held:q} --name {wildcards.run:q}/{wildcards.seed:q}"
        " --teacher {input.teacher:q} --prompts {input.prompts:q} --latents {input.latents:q} {params.pool:q} {params.curve:q} {params.unets:q}"
        " --output {output.pipeline:q} --history {output.history:q} --checkpoint {params.checkpoint:q} --log {log:q}"
