SCORED = [("teacher", CONFIG.seeds[0])] + [
    (run, seed) for run in RUNS for seed in CONFIG.seeds
]


rule report:
    """All tables and figures on one page."""
    input:
        code=code("report.__main__"),
        template=sorted(Path(workflow.basedir, "workflow", "report").glob("*")),
        paper="config/paper_results.csv",
        prompts=rules.prompts.output.evaluation,
        llm=rules.llm_prompts.output.summary,
        scores=[f"{OUT}/scores/{run}/{seed}.json" for run, seed in SCORED],
        samples=[shard for run, seed in SCORED for shard in sample_shards(run, seed)],
        histories=[
            f"{OUT}/students/{run}/{seed}/history.json"
            for run, seed in SCORED
            if run != "teacher"
        ],
    output:
        directory(f"{OUT}/report"),
    log:
        f"{OUT}/logs/report.log",
    params:
        settings=report_settings(),
        benchmarks=f"{OUT}/benchmarks",
    shell:
        "python -m randcond.report --settings {params.settings:q} --scores {input.scores}"
        " --histories {input.histories} --samples {input.samples} --prompts {input.prompts}"
        " --llm-summary {input.llm} --benchmarks $(find {params.benchmarks} -name '*.tsv' | sort)"
        " --output {output} --log {log}"
