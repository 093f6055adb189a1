rule converted:
    """A teacher in one file, as a diffusers folder."""
    input:
        code=code("converted.convert"),
        file=CONFIG.teacher,
        layout=CONFIG.layout or [],
        layout_files=files_of(CONFIG.layout) if CONFIG.layout else [],
    output:
        directory(f"{OUT}/converted/teacher"),
    log:
        f"{OUT}/logs/converted.log",
    shell:
        "python -m randcond.converted.convert --file {input.file:q} --layout {input.layout:q} --output {output:q} --log {log:q}"
