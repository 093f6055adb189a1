"""The page: one HTML file that holds everything it shows."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment as Templates
from jinja2 import FileSystemLoader, StrictUndefined
from markupsafe import Markup

from randcond.method.catalogue import UNET_STUDENTS
from randcond.report import converged, ledger
from randcond.report.converged import Doubling
from randcond.report.figures import Curve, conditioning_name
from randcond.report.grids import FilledGrid, data_uri
from randcond.report.inputs import Calibration, LlmSummary, PromptsSummary, StudentCost
from randcond.report.machine import Cost
from randcond.report.origins import Elsewhere, Environment, Origin
from randcond.report.paper_figures import PaperFigure
from randcond.report.score_files import Score
from randcond.report.shown import Settings
from randcond.report.tables import (
    NONE,
    OVER_SEEDS,
    Metric,
    Part,
    agreements,
    paper_metrics,
)
from randcond.report.text import plain
from randcond.report.verdicts import PART

PAPER_HEAD = "paper (SD v1.4, COCO)"
FLATTENED = 2400  # steps until which UNets of copied weights went on learning in the artists' world (docs/log.md)
SPLITS = {
    "all": "All evaluation prompts",
    "coco30k": "The 30,000 captions of MS-COCO val2014 that BK-SDM's protocol draws",
    "seen": "Seen concepts (all but those held out)",
    "unseen": "Unseen concepts (held out from the images of runs that train on seen concepts)",
    "unseen pair": "Seen concepts in the style of an artist by whom no run met them, in no image and no text",
}


@dataclass(frozen=True)
class Content:
    """Everything on the page that is not in the settings."""

    tables: dict[str, list[Part]]
    metrics: list[Metric]
    claims: list[ledger.Tested]
    questions: list[ledger.Tested]
    series: dict[str, str]
    seconds: dict[str, dict[str, str]]
    along: dict[str, dict[str, str]]
    doublings: dict[str, list[Doubling]]
    scores: dict[str, list[Score]]
    grids: list[FilledGrid]
    paper_figures: list[PaperFigure]
    steps: dict[str, int]
    loss_svg: str
    probability_svg: str
    measured_svg: str
    curves: list[Curve]
    llm: LlmSummary | None
    counts: PromptsSummary | None
    calibration: Calibration | None
    job_costs: list[Cost]
    student_costs: dict[str, StudentCost]
    origins: list[Origin]
    environments: list[Environment]
    elsewhere: list[Elsewhere]
    versions: dict[str, str]
    machine: dict[str, str]
    commit: str
    made: str


def measured_head(settings: Settings) -> str:
    """The heading of the measured columns: the world, and its variant if it has another name."""
    variant = "" if settings.name == settings.world else f", {settings.name} settings"
    return f"measured ({settings.world} world{variant})"


def table_note(parts: list[Part], elsewhere: list[Elsewhere]) -> str:
    """What stands behind the ± of a table, and whether seeds of its runs were made on different kinds of machine."""
    shown = {line.run for part in parts for line in part.lines if line.seeds > 1}
    mixed = [run for run in dict.fromkeys(one.run for one in elsewhere) if run in shown]
    if not mixed:
        return interval_note(parts)
    return (
        f"{interval_note(parts)} Seeds of {', '.join(mixed)} were made on more than one kind of machine, whose other"
        " rounding is then in the interval too: which, stands where the numbers are from."
    )


def interval_note(parts: list[Part]) -> str:
    """What stands behind the ± of a table, in a sentence or two."""
    lines = [line for part in parts for line in part.lines if line.measured]
    several = any(one.kind == OVER_SEEDS for line in lines for one in line.measured.values())
    single = any(line.seeds == 1 for line in lines)
    over_seeds = "mean ± half width of its 95% interval over training seeds (Student t, n - 1 degrees of freedom)"
    over_images = (
        "value ± half width of a 95% bootstrap interval over the images of one training; "
        "how far another training seed would move it is not in it"
    )
    if several and single:
        text = f"With several seeds: {over_seeds}. With one seed: {over_images}."
    elif several:
        text = f"Measured: {over_seeds}."
    elif single:
        text = f"One seed: {over_images}."
    else:
        text = "Nothing of this table was run."
    return f"{text} The last column names the seeds that were scored."


def protocols(scores: dict[str, list[Score]]) -> tuple[dict[str, str], list[tuple[str, str, list[str]]]]:
    """What all scores have in common, and ``(setting, value, runs that have it)`` where they differ."""
    # real images have none
    flat = [(run, _flat(score.protocol)) for run, several in scores.items() for score in several if score.protocol]
    keys = list(dict.fromkeys(key for _, one in flat for key in one))
    common, different = {}, []
    for key in keys:
        users: dict[str, list[str]] = {}
        for run, one in flat:
            users.setdefault(one.get(key, NONE), []).append(run)
        if len(users) == 1:
            common[key] = next(iter(users))
        else:
            different += [(key, value, list(dict.fromkeys(runs))) for value, runs in users.items()]
    return common, different


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in nested.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": str(value)})
    return flat


def too_short(settings: Settings, steps: dict[str, int]) -> int:
    """The steps until which UNets of copied weights go on learning, where those here have fewer; 0 where not known."""
    copied = [
        steps[run]
        for run, made in settings.runs.items()
        if run in steps and made.get("init") == "copied" and made.get("student") in UNET_STUDENTS
    ]
    return FLATTENED if settings.world == "artists" and copied and min(copied) < FLATTENED else 0


def svg_uri(svg: str) -> str:
    """An SVG as a ``data:`` address. As an image of its own it shares no ids and no styles with the page."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def render(settings: Settings, content: Content, templates: Path) -> str:
    """The page's HTML.

    Args:
        settings: The report's settings.
        content: What to show.
        templates: Folder of ``report.html.j2`` and ``style.css.j2``.
    """
    environment = Templates(
        loader=FileSystemLoader(templates),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else plain(value),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    common, different = protocols(content.scores)
    return environment.get_template("report.html.j2").render(
        settings=settings,
        content=content,
        paper_metrics=paper_metrics,
        paper_head=PAPER_HEAD,
        measured_head=measured_head(settings),
        notes={name: table_note(parts, content.elsewhere) for name, parts in content.tables.items()},
        agreements=agreements,
        summary=ledger.summary,
        ours=ledger.OURS,
        learned=ledger.LEARNED,
        moved_metrics=converged.columns,
        too_short=too_short(settings, content.steps),
        part=PART,
        splits=SPLITS,
        conditioning_name=conditioning_name,
        data_uri=data_uri,
        svg_uri=svg_uri,
        protocol=common,
        protocol_differences=different,
        configuration=json.dumps(settings.settings, indent=2, ensure_ascii=False),
    )
