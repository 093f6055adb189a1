def writer_model(fetched):
    """The model that writes prompts: the fetched one, another folder, or none where a service writes."""
    writer = CONFIG.prompts.llm.writer
    if writer is None:
        return [fetched]
    return [writer.model] if writer.model else []
