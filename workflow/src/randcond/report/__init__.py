"""The report: the paper's tables beside the measured ones, samples, plots, and what they were made with.

Run it with ``python -m randcond.report``. Its folder holds ``index.html`` (one file that needs nothing else),
``tables/<table>.csv`` and ``.tex``, ``tables/claims.csv``, ``tables/questions.csv``, ``figures/`` with the data behind
each plot, and the files that every measured number comes from: ``scores/<run>/<seed>.json``, ``costs/<run>.json`` and
``figures/<figure>/``.
"""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from randcond.jobs import provenance
from randcond.jobs.errors import UserError
from randcond.jobs.files import atomic_path
from randcond.method.curve import Sensitivity
from randcond.report import (
    along,
    converged,
    figures,
    grids,
    inputs,
    latex,
    ledger,
    machine,
    origins,
    page,
    paper_figures,
    score_files,
    seconds,
    shown,
    tables,
)
from randcond.report.paper import Paper
from randcond.settings.fields import UNTRAINED

SOURCES = Path(__file__).resolve().parents[4]
PAPER_RESULTS = SOURCES / "config/paper_results.csv"
TEMPLATES = SOURCES / "workflow/report"


@dataclass(frozen=True)
class Files:
    """What the report is made from.

    Attributes:
        scores: ``scores/<run>/<seed>.json``.
        histories: ``students/<run>/<seed>/history.json``.
        samples: ``samples/<run>/<seed>/<shard>.zip``.
        prompts: Evaluation prompts (Parquet); needed if there are grids.
        llm_summary: Summary of the data-free prompts, if there are any.
        figures: ``figures/<figure>``, the folders of the paper's figures 2, 3 and 5.
        benchmarks: Snakemake's benchmark files.
        costs: ``costs/<run>/<seed>.json``.
        logs: Log files of jobs.
        paper: paper_results.csv.
        templates: Folder of the page's templates.
        prompts_summary: Counts of the prompts stage, if the report is to show them.
        calibration: Verdict on the teacher's scores, in worlds that calibrate.
        along: ``scores/along/<run>/<seed>/<step>-<weights>.json``.
        sensitivity: ``sensitivity/curve.json``, if p(t) of a run comes from it.
    """

    scores: Sequence[Path] = ()
    histories: Sequence[Path] = ()
    samples: Sequence[Path] = ()
    prompts: Path | None = None
    llm_summary: Path | None = None
    benchmarks: Sequence[Path] = ()
    costs: Sequence[Path] = ()
    figures: Sequence[Path] = ()
    logs: Sequence[Path] = ()
    paper: Path = PAPER_RESULTS
    templates: Path = TEMPLATES
    prompts_summary: Path | None = None
    calibration: Path | None = None
    along: Sequence[Path] = ()
    sensitivity: Path | None = None


def build(settings: shown.Settings, files: Files, output: Path) -> None:
    """Write the report's folder, whole or not at all.

    Raises:
        UserError: If a file is broken, or its numbers cannot stand beside the others.
    """
    scores = score_files.read_scores(files.scores, settings)
    settings = settings.with_splits({name for several in scores.values() for one in several for name in one.splits})
    histories = inputs.read_histories(files.histories)
    steps = {run: int(entries[-1]["step"]) for (run, _), entries in histories.items() if entries}
    points = along.read(files.along, settings, scores, steps)
    grouped = along.groups(points, settings)
    given = settings
    settings = given.model_copy(update={"tables": given.tables | {group.name: group.table for group in grouped}})
    reported = Paper(files.paper)
    parts = {
        name: tables.parts(name, table, scores, reported, steps, points, settings.shares, settings.drawn)
        for name, table in settings.tables.items()
    }
    metrics = tables.shown_metrics(scores)
    drawn = paper_figures.read(files.figures)
    measured = {one.name: one.measured for one in drawn}
    # apart: what is asked of ours moves no verdict on the paper's
    claims, questions = (ledger.judged(some, scores, measured) for some in (settings.claims, settings.questions))
    made, environments = origins.origins(scores, files.logs, (*UNTRAINED, *settings.drawn))
    elsewhere = origins.elsewhere(made, environments)
    with atomic_path(output) as folder:
        (folder / "tables").mkdir(parents=True)
        (folder / "figures").mkdir()
        _write_tables(settings, parts, metrics, elsewhere, folder / "tables")
        for name, some, words in (("claims", claims, {}), ("questions", questions, ledger.OURS)):
            if some:
                ledger.tidy(some, words).to_csv(folder / f"tables/{name}.csv", index=False, lineterminator="\n")
        _copy_sources([*scores.values(), *points.values()], files.costs, drawn, folder)
        curve = Sensitivity.read(files.sensitivity) if files.sensitivity else None
        # a p(t) that is measured only of runs that are scored: of others the curve need not be there
        shown_p = {name: run for name, run in settings.runs.items() if scores.get(name) or not _measures(run)}
        probability_svg, curves = figures.probability_curves(shown_p, folder / "figures", curve)
        content = page.Content(
            tables=parts,
            metrics=metrics,
            claims=claims,
            questions=questions,
            series=_series(settings, scores, folder / "figures"),
            seconds=_seconds(settings, scores, files, folder / "figures"),
            along={group.name: along.draw(group, folder / "figures") for group in grouped},
            doublings={
                group.name: converged.doublings(group.points, scores.get("teacher", ()), group.table.splits)
                for group in grouped
            },
            scores=scores,
            grids=_grids(settings, files, folder / "figures"),
            paper_figures=drawn,
            steps=steps,
            loss_svg=_losses(given, histories, folder / "figures"),
            probability_svg=probability_svg,
            measured_svg=figures.measured_probability(shown_p, folder / "figures", curve) if curve else "",
            curves=curves,
            llm=inputs.read_llm_summary(files.llm_summary) if files.llm_summary else None,
            counts=inputs.read_prompts_summary(files.prompts_summary) if files.prompts_summary else None,
            calibration=inputs.read_calibration(files.calibration) if files.calibration else None,
            job_costs=machine.costs(files.benchmarks),
            student_costs=_student_costs(settings, files, folder / "tables"),
            origins=made,
            environments=environments,
            elsewhere=elsewhere,
            versions=provenance.versions(),
            machine=provenance.machine(),
            commit=provenance.commit(SOURCES),
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
        (folder / "index.html").write_text(page.render(settings, content, files.templates), encoding="utf-8")


def _measures(run: dict[str, Any]) -> bool:
    return (run.get("random_conditioning") or {}).get("kind") == "measured"


def _write_tables(
    settings: shown.Settings,
    parts: dict[str, list[tables.Part]],
    metrics: list[tables.Metric],
    elsewhere: list[origins.Elsewhere],
    folder: Path,
) -> None:
    head = page.measured_head(settings)
    for name, table in parts.items():
        tables.tidy(name, table, metrics).to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
        note = page.table_note(table, elsewhere)
        text = latex.tabular(settings.tables[name].title, table, metrics, page.PAPER_HEAD, head, note)
        (folder / f"{name}.tex").write_text(text, encoding="utf-8")


def _student_costs(settings: shown.Settings, files: Files, folder: Path) -> dict[str, inputs.StudentCost]:
    found = inputs.read_student_costs(files.costs)
    for name, table in settings.tables.items():
        if table.costs and found:
            rows = [found[row.run].model_dump() for row in table.rows if row.run in found]
            pd.DataFrame(rows).to_csv(folder / f"{name}-costs.csv", index=False, lineterminator="\n")
    return found


def _copy_sources(
    scores: list[list[score_files.Score]],
    costs: Sequence[Path],
    drawn: list[paper_figures.PaperFigure],
    folder: Path,
) -> None:
    for score in (score for several in scores for score in several):
        (folder / score.file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(score.path, folder / score.file)
    for path in costs:
        (folder / "costs").mkdir(exist_ok=True)
        shutil.copyfile(path, folder / "costs" / f"{path.parent.name}.json")
    for one in drawn:
        shutil.copytree(one.folder, folder / "figures" / one.name, ignore=shutil.ignore_patterns(".*"))


def _losses(settings: shown.Settings, histories: inputs.Histories, folder: Path) -> str:
    if not any(histories.values()):
        return ""
    groups = {table.title: [row.run for row in table.rows if row.run] for table in settings.tables.values()}
    groups |= {one.title: [run for line in one.lines for run in line.runs] for one in settings.series.values()}
    short = Counter(title.split(":")[0] for title in groups)
    named = {title if short[part := title.split(":")[0]] > 1 else part: runs for title, runs in groups.items()}
    return figures.loss_curves(histories, named, folder)


def _series(settings: shown.Settings, scores: dict[str, list[score_files.Score]], folder: Path) -> dict[str, str]:
    sizes = {run: made.get("size") or settings.count for run, made in settings.runs.items()}
    drawn = {name: figures.size_curves(name, one, sizes, scores, folder) for name, one in settings.series.items()}
    return {name: svg for name, svg in drawn.items() if svg}


def _seconds(
    settings: shown.Settings, scores: dict[str, list[score_files.Score]], files: Files, folder: Path
) -> dict[str, dict[str, str]]:
    """Table -> split -> plot of its rows against the seconds of an image."""
    costs = inputs.read_student_costs(files.costs)
    return {
        name: {
            split: seconds.draw(f"{name}-seconds-{split}", table, split, scores, costs, settings.drawn, folder)
            for split in table.splits
        }
        for name, table in settings.tables.items()
        if table.seconds and any(row.run in costs and scores.get(row.run) for row in table.rows if row.run)
    }


def _grids(settings: shown.Settings, files: Files, folder: Path) -> list[grids.FilledGrid]:
    if not settings.grids:
        return []
    if files.prompts is None:
        raise UserError("report settings: there are grids of samples, but no --prompts")
    prompts, samples = inputs.read_prompts(files.prompts), grids.shards(files.samples)
    students = {run for run, _ in samples if settings.drawn.get(run, run) not in UNTRAINED}
    # with a part of the runs alone a figure may have none: it would show the teacher above empty rows
    some = [grid for grid in settings.grids if students & {*grid.runs}]
    return [grids.fill(number, grid, prompts, samples, settings.seeds, folder) for number, grid in enumerate(some, 1)]
