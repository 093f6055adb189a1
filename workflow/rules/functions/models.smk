def model_settings(wildcards):
    """What a card says of the run that no file of results does."""
    return settings(
        name=wildcards.run,
        seed=int(wildcards.seed),
        run=(
            shown_faster(wildcards.run) if made_faster(wildcards) else run_of(wildcards)
        ),
        teacher=CONFIG.teacher_name,
        card=CONFIG.teacher_card,
        count=sample_count(wildcards.run),
        precision=CONFIG.sampling.precision,
        described=CONFIG.prompts.description is not None,
        held_out=bool(CONFIG.prompts.held_out),
        **{
            "steps": CONFIG.sampling.steps,
            "guidance_scale": CONFIG.sampling.guidance_scale,
            **drawn_otherwise(wildcards.run),
        },
        **(
            {"faster": EXPERIMENTS.faster[wildcards.run]}
            if made_faster(wildcards)
            else {}
        ),
    )


def model_pipeline(wildcards):
    """The pipeline that a model is made of. Of a seed that the configuration has not, it would be trained first."""
    run, seed = wildcards.run, wildcards.seed
    where = f"{OUT}/models/{run}/{seed}"
    known = [str(one) for one in CONFIG.seeds_of(run)]
    if run not in MODELS:
        stop(f"{where}: there is no run {run!r}; there are {', '.join(MODELS)}")
    if seed not in known:
        stop(
            f"{where}: seed {seed} is none of {run}'s seeds: {', '.join(known)}; add SEED={known[0]}"
        )
    return pipeline_of(wildcards)


def made_faster(wildcards):
    return wildcards.run in EXPERIMENTS.faster


def beside_teacher(folder):
    """A file of the teacher and that of the run."""
    return [
        f"{folder}/teacher/{CONFIG.seeds[0]}.json",
        f"{folder}/{{run}}/{{seed}}.json",
    ]


def samples_beside_teacher(wildcards):
    """Samples of the teacher and of the run."""
    teacher = sample_shards("teacher", CONFIG.seeds[0])
    return [*teacher, *sample_shards(wildcards.run, wildcards.seed)]


def made_models():
    """Folders of the models that somebody has asked for, of runs and seeds that there are."""
    made = sorted(Path(OUT, "models").glob("*/*"))
    return [
        str(one)
        for one in made
        if one.parent.name in MODELS
        and one.name in map(str, CONFIG.seeds_of(one.parent.name))
    ]


def training_log(wildcards):
    """The log of the training that the model came from."""
    stage = "faster" if made_faster(wildcards) else "student"
    return f"{OUT}/logs/{stage}/{wildcards.run}-{wildcards.seed}.log"
