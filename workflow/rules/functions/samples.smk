from randcond.settings.workflow import evaluation_count


def sample_count(run):
    """Evaluation images of a run: those of the benchmark's prompts where no table or grid shows more."""
    return evaluation_count(
        EXPERIMENTS.model_dump(),
        run,
        CONFIG.prompts.benchmark,
        CONFIG.prompts.evaluation,
    )


def sample_settings(wildcards):
    how = CONFIG.sampling.model_dump()
    if wildcards.run == "teacher-again":
        how["seed"] += 1  # what the teacher draws from other noise
    how |= drawn_otherwise(wildcards.run)
    return settings(**how, count=sample_count(wildcards.run))


def real_image_settings(**how):
    return settings(
        world=CONFIG.world,
        image_format=CONFIG.sampling.image_format,
        resize=CONFIG.sampling.resize,
        **how,
    )


def fresh_real_images():
    return f"{OUT}/samples/real/{CONFIG.seeds[0]}/00000.zip"


def sample_shards(run, seed, point=None):
    """Of a run, or of a point along its training, e.g. ``200-raw``."""
    if run == "real":
        return [fresh_real_images()]
    folder = f"along/{run}/{seed}/{point}" if point else f"{run}/{seed}"
    names = shard_names(sample_count(run), CONFIG.sampling.shard)
    return [f"{OUT}/samples/{folder}/{name}.zip" for name in names]
