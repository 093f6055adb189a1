include: "functions/figures.smk"


FIGURES = f"{OUT}/figures"
# figure 3 needs an evaluator that names what it sees
FIGURES_OF = {
    "paper": ["digits-classifier", "digits-diffusion", "toy"],
    "own": [],
    "artists": ["digits-classifier", "digits-diffusion", "swapped-condition", "toy"],
    "emoji": ["digits-classifier", "digits-diffusion", "swapped-condition", "toy"],
}


NAMES = (
    [f"scores.{CONFIG.world}_names"]
    if "swapped-condition" in FIGURES_OF[CONFIG.world]
    else []
)


rule digits_classifier:
    """Figure 2, classifiers: a student that never saw a "3" recognises it."""
    input:
        code=code("figures.digits_classifier"),
    output:
        directory(f"{FIGURES}/digits-classifier"),
    log:
        f"{OUT}/logs/figures/digits-classifier.log",
    benchmark:
        f"{OUT}/benchmarks/digits_classifier.tsv"
    params:
        settings=figure_settings("classifier"),
    shell:
        "python -m randcond.figures.digits_classifier --settings {params.settings:q} --output {output:q} --log {log:q}"


rule digits_diffusion:
    """Figure 2, diffusion: students that never saw a "3", without and with random conditioning."""
    input:
        code=code("figures.digits_diffusion"),
    output:
        directory(f"{FIGURES}/digits-diffusion"),
    log:
        f"{OUT}/logs/figures/digits-diffusion.log",
    benchmark:
        f"{OUT}/benchmarks/digits_diffusion.tsv"
    params:
        settings=figure_settings("diffusion"),
    shell:
        "python -m randcond.figures.digits_diffusion --settings {params.settings:q} --output {output:q} --log {log:q}"


rule swapped_condition:
    """Figure 3: x_t of one image under another image's condition."""
    input:
        code=code("figures.swapped_condition", WORLD, *NAMES),
        teacher=TEACHER,
        evaluator=CONFIG.evaluator,
        files=files_of(TEACHER, CONFIG.evaluator),
    output:
        directory(f"{FIGURES}/swapped-condition"),
    log:
        f"{OUT}/logs/figures/swapped-condition.log",
    benchmark:
        f"{OUT}/benchmarks/swapped_condition.tsv"
    params:
        world=CONFIG.world,
        settings=figure_settings("swapped"),
    shell:
        "python -m randcond.jobs.launch --gpus 0 randcond.figures.swapped_condition --world {params.world:q} --settings {params.settings:q}"
        " --teacher {input.teacher:q} --evaluator {input.evaluator:q} --output {output:q} --log {log:q}"


rule toy:
    """Figure 5: two conditional densities in the plane melt into one Gaussian."""
    input:
        code=code("figures.toy"),
    output:
        directory(f"{FIGURES}/toy"),
    log:
        f"{OUT}/logs/figures/toy.log",
    benchmark:
        f"{OUT}/benchmarks/toy.tsv"
    params:
        settings=figure_settings("toy"),
    shell:
        "python -m randcond.figures.toy --settings {params.settings:q} --output {output:q} --log {log:q}"
