from randcond.settings.workflow import shown_point


def llm_summaries():
    """Of the language model's prompts, if a run that is shown uses them, or all texts are its."""
    if CONFIG.prompts.description is not None:
        return [f"{OUT}/prompts/written.json"]
    wanted = any(EXPERIMENTS.runs[run].prompts == "llm" for run in RUNS)
    return [f"{OUT}/prompts/{draw_of(CONFIG.seeds[0])}/llm.json"] if wanted else []


def report_settings():
    experiments = EXPERIMENTS.model_dump()
    for name, table in experiments["tables"].items():
        for row in table["rows"]:
            if row["paper"] is not None:
                row["paper"] = {"table": name, "row": row["paper"]}
            if run := experiments["runs"].get(row["run"]):
                shown = shown_point(CONFIG.distillation.model_dump(), run, row)
                row["step"], row["weights"] = shown or (None, None)
    experiments["runs"] |= {name: shown_faster(name) for name in EXPERIMENTS.faster}
    drawn = {name: EXPERIMENTS.pipeline(name) for name in experiments.pop("drawn")}
    del experiments["faster"]
    for grid in experiments["grids"]:
        grid["benchmark"] = CONFIG.prompts.benchmark
    return settings(
        in_order=True,
        title="Random conditioning with distillation",
        world=CONFIG.world,
        name=CONFIG.name,
        seeds=CONFIG.seeds,
        count=CONFIG.prompts.count,
        claims=[claim.model_dump() for claim in CLAIMS.claims],
        questions=[one.model_dump() for one in CLAIMS.questions if scored(one.runs)],
        **experiments,
        **({"drawn": drawn} if drawn else {}),
        settings=CONFIG.model_dump(),
    )


def scored(runs):
    return set(runs) <= {*RUNS, *MORE, "teacher"}


def shown_faster(name):
    """A student that was made faster, in the words of a run."""
    made, swaps_texts = (
        EXPERIMENTS.faster[name],
        EXPERIMENTS.faster[name].random_conditioning,
    )
    run = EXPERIMENTS.runs[made.student].model_dump() | {
        "init": made.student,
        "images": "rendered",
        "trajectories": None,
    }
    return run if swaps_texts else run | {"random_conditioning": None, "texts": []}


def costed_rows(table):
    """Of a table that shows costs those that are scored; none if that is the teacher alone."""
    rows = [row.run for row in table.rows if row.run in (*RUNS, *MORE)]
    return [*rows, *(row.run for row in table.rows if rows and row.run == "teacher")]
