from randcond.settings.workflow import protocol


def score_settings(wildcards):
    return settings(
        batch=CONFIG.scoring.batch,
        bootstrap=CONFIG.scoring.bootstrap,
        seed=CONFIG.scoring.seed,
        world=CONFIG.world,
        name=CONFIG.name,
        protocol=protocol(CONFIG.model_dump()),
        count=sample_count(wildcards.run),
        benchmark=CONFIG.prompts.benchmark,
    )


def calibration(wildcards=None):
    """No student is scored before the teacher has scored as it should."""
    needed = CONFIG.calibration and (wildcards is None or wildcards.run != "teacher")
    return [f"{OUT}/scores/calibration.json"] if needed else []
