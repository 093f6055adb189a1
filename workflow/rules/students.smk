include: "functions/students.smk"


rule student:
    """Distil one student. Its checkpoint is no output: Snakemake would delete it when the job restarts."""
    input:
        code=code("students.distil"),
        teacher=TEACHER,
        teacher_files=files_of(TEACHER),
        prompts=lambda w: f"{OUT}/prompts/{run_of(w).prompts}.parquet",
        latents=lambda w: render_shards(run_of(w).prompts, run_of(w).images),
        pool=student_pool,
    output:
        pipeline=directory(f"{OUT}/students/{{run}}/{{seed}}/pipeline"),
        history=f"{OUT}/students/{{run}}/{{seed}}/history.json",
    log:
        f"{OUT}/logs/student/{{run}}-{{seed}}.log",
    benchmark:
        f"{OUT}/benchmarks/student/{{run}}-{{seed}}.tsv"
    resources:
        gpu=CONFIG.gpus.train,
    params:
        settings=student_settings,
        checkpoint=f"{OUT}/checkpoints/{{run}}-{{seed}}",
        pool=lambda w, input: f"--pool {input.pool[0]}" if input.pool else "",
    shell:
        "python -m randcond.jobs.launch --gpus {resources.gpu} randcond.students.distil --settings {params.settings:q} --name {wildcards.run}/{wildcards.seed}"
        " --teacher {input.teacher} --prompts {input.prompts} --latents {input.latents} {params.pool}"
        " --output {output.pipeline} --history {output.history} --checkpoint {params.checkpoint} --log {log}"
