def figure_settings(section):
    """A figure's own settings and, where it has no own seeds, those that figures share."""
    own = getattr(CONFIG.figures, section).model_dump()
    return settings(**{"seeds": CONFIG.figures.seeds} | own)
