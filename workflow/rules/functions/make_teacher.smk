def part_command(part, *more):
    options = " ".join(f"--{name} {{input.{name.replace('-', '_')}}}" for name in more)
    return (
        f"python -m randcond.make_teacher {part} --settings {{params.settings:q}} --threads {{threads}}"
        f" {options} --checkpoint {OUT}/checkpoints/{part} --output {{output}} --log {{log}}"
    )
