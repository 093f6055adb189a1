import subprocess


def record_versions():
    """Let DVC record what is up to date. `dvc repro` (DVC_STAGE) records its stages itself, with settings of now."""
    command = ["describe"] if "DVC_STAGE" in os.environ else ["record", "--quietly"]
    files = [str(path) for path in workflow.config_settings.configfiles]
    values = ["--config", json.dumps(workflow.config_settings.config)]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "randcond.versions",
            *command,
            "--configfile",
            *files,
            *values,
        ]
    )
