include: "functions/report.smk"


UNTRAINED = ["teacher", *(["real"] if EXPERIMENTS.shows_real else [])]
SCORED = [(name, CONFIG.seeds[0]) for name in UNTRAINED] + [
    (run, seed) for run in [*RUNS, *MORE] for seed in seeds_of(run)
]
COSTED = sorted(
    {
        run
        for table in EXPERIMENTS.tables.values()
        if table.costs
        for run in costed_rows(table)
    }
)


rule report:
    """All tables and figures on one page."""
    input:
        code=code("report.__main__"),
        template=sorted(Path(HERE, "report").glob("*")),
        paper="config/paper_results.csv",
        claims=CONFIG.claims,
        prompts=rules.evaluation_prompts.output[0],
        llm=llm_summaries(),
        counts=f"{OUT}/prompts/{draw_of(CONFIG.seeds[0])}/summary.json",
        calibration=calibration(),
        scores=[f"{OUT}/scores/{run}/{seed}.json" for run, seed in SCORED],
        along=along_scores(),
        costs=[f"{OUT}/costs/{run}/{CONFIG.seeds[0]}.json" for run in COSTED],
        samples=[shard for run, seed in SCORED for shard in sample_shards(run, seed)],
        histories=[
            f"{OUT}/{stage_of(run)}/{run}/{seed}/history.json"
            for run, seed in SCORED
            if run not in (*UNTRAINED, *EXPERIMENTS.drawn)
        ],
        curve=curve_of(*RUNS),
        figures=[f"{FIGURES}/{name}" for name in FIGURES_OF[CONFIG.world]],
    output:
        report(
            directory(f"{OUT}/report"),
            patterns=[
                "{kind,tables}/{name}.csv",
                "{kind,figures}/{name}.svg",
                "{kind,figures}/{name}.png",
            ],
            caption="../report/caption.rst",
            category="{kind}",
        ),
    log:
        f"{OUT}/logs/report.log",
    params:
        settings=report_settings(),
        benchmarks=f"{OUT}/benchmarks",
        logs=f"{OUT}/logs",
        calibration=lambda w, input: (
            ["--calibration", *input.calibration] if input.calibration else []
        ),
        llm=lambda w, input: ["--llm-summary", *input.llm] if input.llm else [],
        curve=lambda w, input: ["--sensitivity", *input.curve] if input.curve else [],
    shell:
        "python -m randcond.report --settings {params.settings:q} --scores {input.scores:q} --along {input.along:q}"
        " --costs {input.costs:q} --histories {input.histories:q} --samples {input.samples:q} --prompts {input.prompts:q}"
        " {params.llm:q} --prompts-summary {input.counts:q} {params.calibration:q} {params.curve:q} --figures {input.figures:q}"
        " --benchmarks {params.benchmarks:q} --logs {params.logs:q} --output {output:q} --log {log:q}"


rule pdf:
    """The report as PDF, on request: it takes an installed Chromium, Chrome or Edge."""
    input:
        code=code("report.pdf"),
        report=rules.report.output[0],
    output:
        f"{OUT}/report.pdf",
    log:
        f"{OUT}/logs/pdf.log",
    shell:
        "python -m randcond.report.pdf --report {input.report:q} --output {output:q} --log {log:q}"
