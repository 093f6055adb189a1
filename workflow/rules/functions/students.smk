from randcond.settings.workflow import kept_points, needs_images, step_count

# no params: a training that is finished is not made anew for them
HELD = settings(**CONFIG.distillation.held())
KEEPS = CONFIG.distillation.keep_every > 0
# a rule's outputs are the same for all of its jobs, and a folder that stays away would be an error
UNETS = {"unets": directory(f"{OUT}/students/{{run}}/{{seed}}/unets")} if KEEPS else {}


def points_of(run):
    """Steps and kinds of weights of the UNets that a run's training keeps."""
    return kept_points(
        CONFIG.distillation.model_dump(), EXPERIMENTS.runs[run].model_dump()
    )


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
        **({"keep": points_of(wildcards.run)} if KEEPS else {}),
    )


def student_latents(wildcards):
    run = run_of(wildcards)
    return (
        render_shards(draw_of(wildcards.seed), run.prompts, run.images)
        if needs_images(run.model_dump())
        else []
    )


def student_pool(wildcards):
    return large_pool(wildcards, run_of(wildcards).texts)


def large_pool(wildcards, texts):
    """The large pool, where a training draws from it."""
    pool = f"{OUT}/prompts/{draw_of(wildcards.seed)}/pool.arrow"
    return [pool] if "pool" in texts else []
