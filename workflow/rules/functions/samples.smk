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
    return settings(**CONFIG.sampling.model_dump(), count=sample_count(wildcards.run))


def sample_shards(run, seed):
    names = shard_names(sample_count(run), CONFIG.sampling.shard)
    return [f"{OUT}/samples/{run}/{seed}/{name}.zip" for name in names]
