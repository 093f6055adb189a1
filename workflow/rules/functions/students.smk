from randcond.settings.workflow import step_count


def student_settings(wildcards):
    run = run_of(wildcards).model_dump(exclude={"grid", "null_text"})
    recipe = CONFIG.distillation.recipe(run["init"])
    if run_of(wildcards).null_text is not None:
        recipe["null_text"] = run_of(wildcards).null_text
    steps = step_count(CONFIG.distillation.steps.model_dump(), run)
    return settings(
        run=run,
        recipe=recipe,
        steps=steps,
        count=CONFIG.prompts.count,
        seed=int(wildcards.seed),
    )


def student_pool(wildcards):
    return [f"{OUT}/prompts/pool.arrow"] if "pool" in run_of(wildcards).texts else []
