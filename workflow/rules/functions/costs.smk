def cost_settings(wildcards):
    how = {
        "steps": CONFIG.sampling.steps,
        "guidance_scale": CONFIG.sampling.guidance_scale,
        "precision": CONFIG.sampling.precision,
        "repeats": 20,
    }
    return settings(**how | drawn_otherwise(wildcards.run))
