"""``python -m randcond.versions``: record what is up to date, restore it elsewhere, share it, tell where it is from."""

import argparse
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from randcond.jobs.errors import UserError
from randcond.jobs.yaml_file import read_yaml
from randcond.versions.origin import describe
from randcond.versions.pipeline import Source, pipeline_file, rewritten, write_pipelines, write_settings
from randcond.versions.plan import DEFAULT_WORLD, Stage, behind_link, plan
from randcond.versions.record import Recorded, record
from randcond.versions.restore import REMOTE, clean, fetch, share

# what a world can be asked for, and the folder of results that shows that it was
TARGETS = {"all": "prompts", "teacher": "make_teacher", "models": "models"}
NAMED = 10  # stages in a line that lists them


def main(argv: list[str] | None = None) -> None:
    """Run one command; an error for the user is one line."""
    logging.getLogger("dvc").setLevel(logging.ERROR)  # no progress bars either
    logging.getLogger("dvc_data").setLevel(logging.CRITICAL)  # tracebacks, with the remote's address
    arguments = parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    command = argparse.ArgumentParser(prog="python -m randcond.versions", description=__doc__)
    commands = command.add_subparsers(required=True)
    for name, function in (("describe", _describe), ("record", _record), ("restore", _restore), ("share", _share),
                           ("provenance", _provenance)):  # fmt: skip
        one = commands.add_parser(name, help=function.__doc__)
        one.set_defaults(command=function)
        one.add_argument("--configfile", nargs="*", default=[], help="as Snakemake's")
        one.add_argument("--config", type=json.loads, default={}, help="as Snakemake's, a JSON object")
    commands.choices["record"].add_argument("--quietly", action="store_true", help="never fail: after a finished run")
    commands.choices["share"].add_argument("--remote", required=True, help="folder, ssh://..., s3://...")
    commands.choices["provenance"].add_argument("--run", required=True, help="a run of the tables, or teacher")
    commands.choices["provenance"].add_argument("--rev", help="git revision; left out: the current state")
    return command


def _describe(arguments: argparse.Namespace) -> None:
    """write the settings of all stages, for a stage that `dvc repro` runs"""
    stages = _plan(arguments)[1]
    write_settings([stage for stage in stages if stage.world == stages[-1].world], stages[-1].world, keep_others=True)


def _record(arguments: argparse.Namespace) -> None:
    """record what is up to date"""
    try:
        _say(*_record_all(arguments))
    except Exception as error:
        if not arguments.quietly:
            raise
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        print(f"not versioned: {line}", file=sys.stderr)


def _record_all(arguments: argparse.Namespace) -> tuple[Recorded, str]:
    for needed, what in ((Path(".dvc/config"), "no .dvc folder"), (Path(".git"), "no git repository")):
        if not needed.exists():
            raise UserError(f"{what} here")
    if linked := behind_link(_source(arguments)[1]):
        raise UserError(linked)
    source, stages = _plan(arguments)
    write_pipelines(stages, source)
    return record(stages), stages[-1].world


def _say(found: Recorded, world: str) -> None:
    for name, reason in found.refused.items():
        print(f"dvc: {name} is not recorded: {reason}", file=sys.stderr)
    lock = pipeline_file(world).with_suffix(".lock")
    text = f"dvc: {len(found.new)} stages recorded, {len(found.kept)} were already"
    text += f", {len(found.unfinished)} are not up to date" if found.unfinished else ""
    text += f"; commit {lock} with git to keep it, and the dvc.yaml beside it" if found.new else ""
    print(text, file=sys.stderr)


def _restore(arguments: argparse.Namespace) -> None:
    """fetch recorded results and tell Snakemake that they are up to date"""
    fetch(_plan(arguments)[1])
    source, stages = _plan(arguments)  # again: what has come may be more than was asked for here
    with rewritten(stages, source):
        recorded = clean(stages)
        _touch(recorded, source)
    if left := [stage.name for stage in stages if stage not in recorded]:
        names = ", ".join(left[:NAMED]) + (f" and {len(left) - NAMED} more" if len(left) > NAMED else "")
        print(f"not recorded, for snakemake to make: {names}", file=sys.stderr)
    print(f"restored: results/{stages[-1].world}", file=sys.stderr)


def _touch(stages: list[Stage], source: Source) -> None:
    """Tell Snakemake that these stages are up to date, and what they were made from; no others, whatever lies there."""
    command = [
        "snakemake",
        "--cores",
        "1",
        "--touch",
        "--forceall",
        "--no-hooks",
        "--quiet",
        "all",
        *source.options,
        "--",
        *(target for stage in stages for target in stage.targets),
    ]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"snakemake --touch: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")


def _share(arguments: argparse.Namespace) -> None:
    """record what is up to date and push it to a remote"""
    found, world = _record_all(arguments)
    _say(found, world)
    if share(arguments.remote):
        text = "commit the dvc.lock and dvc.yaml files with git; the address holds credentials, so it is in"
        text += f" .dvc/config.local, not committed: others need `dvc remote add --local -d {REMOTE} <url>`"
        text += " before they `make restore`"
    else:
        text = "commit .dvc/config, the dvc.lock and the dvc.yaml files with git, then others can `make restore`"
    print(f"pushed; {text}", file=sys.stderr)


def _provenance(arguments: argparse.Namespace) -> None:
    """print what the numbers of a run were made from and with"""
    print(describe(_source(arguments)[1], arguments.run, arguments.rev))


def _source(arguments: argparse.Namespace) -> tuple[Source, str]:
    """Where the configuration comes from, and the world's name."""
    files = [os.path.relpath(file) for file in arguments.configfile]
    values: dict[str, Any] = {}
    for file in ["config/config.yaml", *files]:
        values.update(read_yaml(Path(file), "settings"))
    values.update(arguments.config)
    experiments = str(values.get("experiments", "config/experiments.yaml"))
    return Source(files, arguments.config, experiments), str(values.get("name", DEFAULT_WORLD))


def _plan(arguments: argparse.Namespace) -> tuple[Source, list[Stage]]:
    source, name = _source(arguments)
    targets = [target for target, folder in TARGETS.items() if Path("results", name, folder).is_dir()]
    return source, plan(source.configfiles, source.config, targets or ["all"])


if __name__ == "__main__":
    main()
