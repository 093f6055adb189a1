import subprocess

from randcond.versions.plan import behind_link


def warn_of_links():
    """Say beforehand what `record` would say after hours: that the run will not be versioned."""
    if why := behind_link(CONFIG.name):
        print(f"not versioned: {why}", file=sys.stderr)


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
