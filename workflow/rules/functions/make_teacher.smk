def part_command(part, *more):
    keys = {name: name.replace("-", "_") for name in more}
    options = " ".join(f"--{name} {{input.{key}:q}}" for name, key in keys.items())
    return (
        f"python -m randcond.make_teacher {part} --world {CONFIG.make_teacher.world}"
        " --settings {params.settings:q} --threads {threads:q}"
        f" {options} --checkpoint {OUT}/checkpoints/{part} --output {{output:q}} --log {{log:q}}"
    )
