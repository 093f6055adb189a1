"""``python -m randcond.report``: write the report's folder."""

import argparse
import logging
from pathlib import Path

from randcond.jobs.files import files_below
from randcond.jobs.stage import run_stage
from randcond.report import PAPER_RESULTS, TEMPLATES, Files, build
from randcond.report.shown import read_settings

log = logging.getLogger("randcond")


def main(arguments: argparse.Namespace) -> None:
    """Read the settings and write the report."""
    files = Files(
        scores=arguments.scores,
        histories=arguments.histories,
        samples=arguments.samples,
        costs=arguments.costs,
        prompts=arguments.prompts,
        llm_summary=arguments.llm_summary,
        prompts_summary=arguments.prompts_summary,
        calibration=arguments.calibration,
        along=arguments.along,
        sensitivity=arguments.sensitivity,
        benchmarks=[file for path in arguments.benchmarks for file in files_below(path, "*.tsv")],
        figures=arguments.figures,
        logs=[file for path in arguments.logs for file in files_below(path, "*.log")],
        paper=arguments.paper_results,
        templates=arguments.templates,
    )
    build(read_settings(arguments.settings), files, arguments.output)
    log.info("report: %s", arguments.output / "index.html")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    command = argparse.ArgumentParser(prog="python -m randcond.report", description=__doc__)
    command.add_argument("--settings", required=True, help="JSON object, or a file that holds it")
    command.add_argument("--scores", type=Path, nargs="*", default=[], help="scores/<run>/<seed>.json")
    command.add_argument(
        "--along", type=Path, nargs="*", default=[], help="scores/along/<run>/<seed>/<step>-<weights>.json"
    )
    command.add_argument("--histories", type=Path, nargs="*", default=[], help="students/<run>/<seed>/history.json")
    command.add_argument("--samples", type=Path, nargs="*", default=[], help="samples/<run>/<seed>/<shard>.zip")
    command.add_argument("--costs", type=Path, nargs="*", default=[], help="costs/<run>/<seed>.json")
    command.add_argument("--prompts", type=Path, help="evaluation prompts, Parquet")
    command.add_argument("--llm-summary", type=Path, help="summary of the data-free prompts, JSON")
    command.add_argument("--figures", type=Path, nargs="*", default=[], help="figures/<figure>")
    command.add_argument("--prompts-summary", type=Path, help="counts of the prompts stage, JSON")
    command.add_argument("--calibration", type=Path, help="verdict on the teacher's scores, JSON")
    command.add_argument("--sensitivity", type=Path, help="the curve that a measured p(t) comes from, JSON")
    command.add_argument(
        "--benchmarks", type=Path, nargs="*", default=[], help="Snakemake's benchmark files, or folders"
    )
    command.add_argument("--logs", type=Path, nargs="*", default=[], help="log files of jobs, or folders")
    command.add_argument("--paper-results", type=Path, default=PAPER_RESULTS, help="the paper's numbers, CSV")
    command.add_argument("--templates", type=Path, default=TEMPLATES, help="folder of the page's templates")
    command.add_argument("--output", type=Path, required=True, help="folder to write")
    return command


if __name__ == "__main__":
    run_stage(main, parser())
