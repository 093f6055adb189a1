def measured_shards():
    """The first of D's latents, of the first seed: twice as many as are measured, as those of unseen concepts are left
    out."""
    needed = shards(2 * CONFIG.sensitivity.images, CONFIG.rendering.shard)
    return render_shards(draw_of(CONFIG.seeds[0]), "captions", "rendered")[:needed]


def curve_of(*runs):
    """The measured curve, where p(t) of one of the runs comes from it."""
    kinds = [
        (EXPERIMENTS.runs[run].random_conditioning or {}).get("kind") for run in runs
    ]
    return [f"{OUT}/sensitivity/curve.json"] if "measured" in kinds else []
