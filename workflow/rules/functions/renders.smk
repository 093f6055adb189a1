def render_settings(wildcards):
    """Real images do not depend on how the teacher samples."""
    sampling = CONFIG.rendering.model_dump()
    sampling["seed"] += int(wildcards.draw)
    if wildcards.images != "rendered":
        sampling = {
            key: sampling[key]
            for key in ("batch", "shard", "seed", "precision", "latents")
        }
    return settings(
        **sampling,
        count=CONFIG.prompts.count,
        images=wildcards.images,
        world=CONFIG.world,
    )


def render_shards(draw, prompts, images):
    names = shard_names(CONFIG.prompts.count, CONFIG.rendering.shard)
    return [
        f"{OUT}/renders/{draw}/{prompts}-{images}/{name}.safetensors" for name in names
    ]
