# Train the world's teacher and evaluator from nothing (`snakemake teacher --configfile config/artists-teacher.yaml`).
# The pipeline itself starts from the shipped weights, which these rules made.
include: "functions/make_teacher.smk"


MADE = f"{OUT}/make_teacher"


rule autoencoder:
    """The autoencoder, on scenes drawn anew at every step: the longest of the parts that come first."""
    input:
        code=code("make_teacher.__main__"),
    output:
        directory(f"{MADE}/parts/autoencoder"),
    log:
        f"{OUT}/logs/teacher/autoencoder.log",
    benchmark:
        f"{OUT}/benchmarks/teacher/autoencoder.tsv"
    priority: 2
    params:
        settings=settings(**CONFIG.make_teacher.autoencoder.model_dump()),
    shell:
        part_command("autoencoder")


rule text_encoder:
    """The teacher's text encoder and tokenizer."""
    input:
        code=code("make_teacher.__main__"),
    output:
        directory(f"{MADE}/parts/text-encoder"),
    log:
        f"{OUT}/logs/teacher/text-encoder.log",
    benchmark:
        f"{OUT}/benchmarks/teacher/text-encoder.tsv"
    priority: 1
    params:
        settings=settings(**CONFIG.make_teacher.text_encoder.model_dump()),
    shell:
        part_command("text-encoder")


rule evaluator:
    """The evaluator: another architecture, size and seed than the teacher's text encoder."""
    input:
        code=code("make_teacher.__main__"),
    output:
        directory(f"{MADE}/evaluator"),
    log:
        f"{OUT}/logs/teacher/evaluator.log",
    benchmark:
        f"{OUT}/benchmarks/teacher/evaluator.tsv"
    params:
        settings=settings(**CONFIG.make_teacher.evaluator.model_dump()),
    shell:
        part_command("evaluator")


rule denoiser:
    """The teacher's UNet or transformer."""
    input:
        code=code("make_teacher.__main__"),
        autoencoder=autoencoder(),
        text_encoder=text_encoder(),
    output:
        directory(f"{MADE}/parts/denoiser"),
    log:
        f"{OUT}/logs/teacher/denoiser.log",
    benchmark:
        f"{OUT}/benchmarks/teacher/denoiser.tsv"
    threads: 2
    params:
        settings=settings(**CONFIG.make_teacher.denoiser.model_dump()),
    shell:
        part_command("denoiser", "autoencoder", "text-encoder")


rule assemble_teacher:
    """The finished pipeline, with its recipe, its training log and its files' SHA-256."""
    input:
        code=code("make_teacher.__main__"),
        autoencoder=autoencoder(),
        text_encoder=text_encoder(),
        denoiser=rules.denoiser.output[0],
    output:
        directory(f"{MADE}/teacher"),
    log:
        f"{OUT}/logs/teacher/assemble.log",
    benchmark:
        f"{OUT}/benchmarks/teacher/assemble.tsv"
    params:
        settings=settings(**CONFIG.make_teacher.model_dump()),
    shell:
        part_command("assemble", "autoencoder", "text-encoder", "denoiser")


rule teacher_scores:
    """How many real drawings, reconstructions and teacher's samples the evaluator names right."""
    input:
        code=code("make_teacher.check"),
        teacher=rules.assemble_teacher.output[0],
        evaluator=judge(),
    output:
        scores=f"{MADE}/scores.json",
        grid=f"{MADE}/samples.png",
    log:
        f"{OUT}/logs/teacher/scores.log",
    benchmark:
        f"{OUT}/benchmarks/teacher/scores.tsv"
    threads: 2
    params:
        settings=settings(
            **CONFIG.sampling.model_dump(include={"steps", "guidance_scale", "batch"}),
            seed=99,
            captions_per_concept=18,
        ),
    shell:
        f"python -m randcond.make_teacher.check --world {CONFIG.make_teacher.world}"
        " --settings {params.settings:q} --threads {threads:q}"
        " --teacher {input.teacher:q} --evaluator {input.evaluator:q}"
        " --output {output.scores:q} --grid {output.grid:q} --log {log:q}"


rule teacher:
    """Target: the teacher and the evaluator, trained and checked."""
    input:
        rules.teacher_scores.output,
