def part_command(part, *more):
    keys = {name: name.replace("-", "_") for name in more}
    options = " ".join(f"--{name} {{input.{key}:q}}" for name, key in keys.items())
    return (
        f"python -m randcond.make_teacher {part} --world {CONFIG.make_teacher.world}"
        f" --family {CONFIG.make_teacher.family}"
        " --settings {params.settings:q} --threads {threads:q}"
        f" {options} --checkpoint {OUT}/checkpoints/{part} --output {{output:q}} --log {{log:q}}"
    )


def autoencoder():
    taken = CONFIG.make_teacher.parts_of
    return f"{taken}/vae" if taken else rules.autoencoder.output[0]


def text_encoder():
    return CONFIG.make_teacher.parts_of or rules.text_encoder.output[0]


def judge():
    return (
        CONFIG.evaluator if CONFIG.make_teacher.parts_of else rules.evaluator.output[0]
    )
