def model_settings(wildcards):
    """What a card says of the run that no file of results does."""
    return settings(
        name=wildcards.run,
        seed=int(wildcards.seed),
        run=run_of(wildcards),
        card=CONFIG.teacher_card,
        count=sample_count(wildcards.run),
        steps=CONFIG.sampling.steps,
        guidance_scale=CONFIG.sampling.guidance_scale,
        precision=CONFIG.sampling.precision,
    )


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
    """Folders of the models that somebody has asked for, of runs that there are."""
    made = sorted(Path(OUT, "models").glob("*/*"))
    return [str(one) for one in made if one.parent.name in EXPERIMENTS.runs]
