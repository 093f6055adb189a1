def run_of(wildcards):
    return EXPERIMENTS.runs[wildcards.run]


def student_settings(wildcards):
    run = run_of(wildcards).model_dump()
    recipe = CONFIG.distillation.model_dump()
    steps = step_count(recipe.pop("steps"), run)
    return settings(run=run, recipe=recipe, steps=steps, count=CONFIG.prompts.count, seed=int(wildcards.seed))


def student_pool(wildcards):
    return [rules.prompts.output.pool] if "pool" in run_of(wildcards).texts else []


rule student:
    """Distil one student. Its checkpoint is no output: Snakemake would delete it when the job restarts."""
    input:
        code=code("distill"),
        teacher=TEACHER,
        prompts=lambda w: f"{OUT}/prompts/{run_of(w).prompts}.parquet",
        latents=lambda w: render_shards(run_of(w).prompts, run_of(w).images),
        pool=student_pool,
    output:
        pipeline=directory(f"{OUT}/students/{{run}}/{{seed}}/pipeline"),
        history=f"{OUT}/students/{{run}}/{{seed}}/history.json",
    params:
        settings=student_settings,
        checkpoint=f"{OUT}/checkpoints/{{run}}-{{seed}}",
        pool=lambda w, input: f"--pool {input.pool[0]}" if input.pool else "",
    log:
        f"{OUT}/logs/student/{{run}}-{{seed}}.log",
    benchmark:
        f"{OUT}/benchmarks/student/{{run}}-{{seed}}.tsv"
    shell:
        "{PYTHON} -m randcond.distill --settings {params.settings:q} --name {wildcards.run}/{wildcards.seed}"
        " --teacher {input.teacher} --prompts {input.prompts} --latents {input.latents} {params.pool}"
        " --output {output.pipeline} --history {output.history} --checkpoint {params.checkpoint} --log {log}"
