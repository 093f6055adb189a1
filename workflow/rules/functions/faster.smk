def made_from(name):
    """The run whose student was made faster under a name."""
    return EXPERIMENTS.faster[name].student


def base_of(wildcards):
    return EXPERIMENTS.runs[made_from(wildcards.run)]


def swaps(wildcards):
    """Whether texts are swapped: where its run does it, unless it is to go without."""
    swapped = EXPERIMENTS.faster[wildcards.run].random_conditioning
    return swapped and base_of(wildcards).random_conditioning is not None


def swapped_texts(wildcards):
    """What the text pool holds besides D's own texts."""
    return base_of(wildcards).texts if swaps(wildcards) else []


def faster_settings(wildcards):
    base, made = base_of(wildcards), EXPERIMENTS.faster[wildcards.run]
    return settings(
        # as training data take it; all pairs are of D
        run={
            "rows": base.rows,
            "size": base.size,
            "texts": swapped_texts(wildcards),
            "random_conditioning": (
                base.random_conditioning if swaps(wildcards) else None
            ),
            "trajectories": None,
        },
        recipe=CONFIG.distillation.recipe("faster"),
        steps=CONFIG.distillation.steps.faster,
        times=made.times,
        phases=made.phases,
        guidance_scale=CONFIG.sampling.guidance_scale,
        count=CONFIG.prompts.count,
        seed=int(wildcards.seed),
    )
