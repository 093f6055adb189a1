def llm_settings(wildcards):
    llm = CONFIG.prompts.llm.model_dump()
    llm["seed"] += int(wildcards.draw)
    return settings(world=CONFIG.world, **llm, threads=1)


def writer_model(fetched):
    """The model that writes prompts: the fetched one, another folder, or none where a service writes."""
    writer = CONFIG.prompts.llm.writer
    if writer is None:
        return [fetched]
    return [writer.model] if writer.model else []
