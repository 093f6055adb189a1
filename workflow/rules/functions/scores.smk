from randcond.settings.workflow import protocol


def score_settings(wildcards):
    how, along = protocol(CONFIG.model_dump()) | drawn_otherwise(wildcards.run), {}
    if point_of(wildcards):
        along = {"step": int(wildcards.step)}
        how |= {"weights": wildcards.weights, "training steps": int(wildcards.step)}
    return settings(
        batch=CONFIG.scoring.batch,
        bootstrap=CONFIG.scoring.bootstrap,
        seed=CONFIG.scoring.seed,
        world=CONFIG.world,
        name=CONFIG.name,
        protocol={} if wildcards.run == "real" else how,
        count=sample_count(wildcards.run),
        benchmark=CONFIG.prompts.benchmark,
        **along,
    )


def students_option():
    """The students that are asked of one's own teacher; those of other worlds' are known."""
    runs = [EXPERIMENTS.runs[run] for run in RUNS]
    inherit = {True: ":inherited", False: ""}
    names = sorted({run.student + inherit[run.init == "inherited"] for run in runs})
    return ["--students", *names] if CONFIG.world == "own" else []


def reference_images():
    """What samples are held against: real images, or in one's own world the teacher's from other noise and from the same."""
    if CONFIG.world != "own":
        return [rules.real_images.output[0]]
    return [
        shard
        for run in ("teacher-again", "teacher")
        for shard in sample_shards(run, CONFIG.seeds[0])
    ]


def along_scores():
    """Scores of all that is kept along the trainings of the runs that the configuration names."""
    return [
        f"{OUT}/scores/along/{run}/{seed}/{step}-{weights}.json"
        for run in RUNS
        if run in CONFIG.along
        for seed in CONFIG.seeds_of(run)
        for step, weights in points_of(run)
    ]


def calibration(wildcards=None):
    """No student is scored before the teacher has scored as it should."""
    needed = CONFIG.calibration and (wildcards is None or wildcards.run != "teacher")
    return [f"{OUT}/scores/calibration.json"] if needed else []
