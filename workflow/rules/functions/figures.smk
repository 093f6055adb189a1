def figure_settings(section):
    """A figure's own settings and the seeds that all figures share."""
    own = getattr(CONFIG.figures, section).model_dump()
    return settings(**own, seeds=CONFIG.figures.seeds)
