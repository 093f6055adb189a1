"""The report: the paper's tables beside the measured ones, samples, plots, and what they were made with.

Run it with ``python -m randcond.report``. Its folder holds ``index.html`` (one file that needs nothing else),
``tables/<table>.csv`` and ``.tex``, and ``figures/`` with the data behind each plot.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from randcond.errors import UserError
from randcond.files import atomic_path
from randcond.report import figures, grids, inputs, latex, machine, page, tables

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
        benchmarks: Snakemake's benchmark files.
        paper: paper_results.csv.
        templates: Folder of the page's templates.
    """

    scores: Sequence[Path] = ()
    histories: Sequence[Path] = ()
    samples: Sequence[Path] = ()
    prompts: Path | None = None
    llm_summary: Path | None = None
    benchmarks: Sequence[Path] = ()
    paper: Path = PAPER_RESULTS
    templates: Path = TEMPLATES


def build(settings: inputs.Settings, files: Files, output: Path) -> None:
    """Write the report's folder, whole or not at all.

    Raises:
        UserError: If a file is broken, or its numbers cannot stand beside the others.
    """
    scores = inputs.read_scores(files.scores, settings)
    paper = inputs.Paper(files.paper)
    parts = {name: tables.parts(name, table, scores, paper) for name, table in settings.tables.items()}
    metrics = tables.shown_metrics(scores)
    histories = inputs.read_histories(files.histories)
    with atomic_path(output) as folder:
        (folder / "tables").mkdir(parents=True)
        (folder / "figures").mkdir()
        _write_tables(settings, parts, metrics, folder / "tables")
        probability_svg, curves = figures.probability_curves(settings.runs, folder / "figures")
        content = page.Content(
            tables=parts,
            metrics=metrics,
            scores=scores,
            grids=_grids(settings, files, folder / "figures"),
            loss_svg=figures.loss_curves(histories, folder / "figures") if any(histories.values()) else "",
            probability_svg=probability_svg,
            curves=curves,
            llm=inputs.read_llm_summary(files.llm_summary) if files.llm_summary else None,
            costs=machine.costs(files.benchmarks),
            versions=machine.versions(),
            machine=machine.machine(),
            commit=machine.commit(SOURCES),
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
        (folder / "index.html").write_text(page.render(settings, content, files.templates), encoding="utf-8")


def _write_tables(
    settings: inputs.Settings, parts: dict[str, list[tables.Part]], metrics: list[tables.Metric], folder: Path
) -> None:
    head = page.measured_head(settings)
    for name, table in parts.items():
        tables.tidy(name, table, metrics).to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
        note = page.interval_note(table, settings)
        text = latex.tabular(settings.tables[name].title, table, metrics, page.PAPER_HEAD, head, note)
        (folder / f"{name}.tex").write_text(text, encoding="utf-8")


def _grids(settings: inputs.Settings, files: Files, folder: Path) -> list[grids.FilledGrid]:
    if not settings.grids:
        return []
    if files.prompts is None:
        raise UserError("report settings: there are grids of samples, but no --prompts")
    prompts, samples = inputs.read_prompts(files.prompts), grids.shards(files.samples)
    return [
        grids.fill(number, grid, prompts, samples, settings.seeds, folder)
        for number, grid in enumerate(settings.grids, 1)
    ]
