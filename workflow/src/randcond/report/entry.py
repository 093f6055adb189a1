"""An entry to the reports that are kept: does it hold, the picture that shows it, and what else there is.

``python -m randcond.report.entry`` writes ``docs/index.html`` from ``docs/reports.yaml``, which names the reports'
folders, and from the claims' tables that the reports hold; no number is typed.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pandas as pd
from jinja2 import Environment as Templates
from jinja2 import FileSystemLoader, StrictUndefined
from pydantic import Field

from randcond.jobs.errors import UserError, reading
from randcond.jobs.files import atomic_path
from randcond.jobs.stage import run_stage
from randcond.jobs.yaml_file import read_yaml
from randcond.report import TEMPLATES
from randcond.report.tables import METRICS
from randcond.report.verdicts import Verdict
from randcond.settings.claims import load_claims
from randcond.settings.fields import Section, validated


class Kept(Section):
    """A report that is kept.

    Attributes:
        folder: Beside the entry.
        title: Of what world and how large.
        text: What it is, in a sentence.
        picture: What its first picture shows.
    """

    folder: str
    title: str
    text: str
    picture: str


class Also(Section):
    """Something else that is kept: a file or a folder's page beside the entry."""

    file: str
    text: str


class Entries(Section):
    """What the entry leads to; the first report answers."""

    reports: list[Kept] = Field(min_length=1)
    also: list[Also] = Field(default=[])


@dataclass(frozen=True)
class Answer:
    """A central claim, or question of our own, in a report.

    Attributes:
        text: The claim.
        verdict: Of all its metrics.
        gains: By metric, with the interval, e.g. ``FID +2.01 [+0.41, +3.62]``.
        seeds: Of the runs compared.
        own: Whether it is a question of our own.
    """

    text: str
    verdict: str
    gains: list[str]
    seeds: int
    own: bool


@dataclass(frozen=True)
class Shown:
    """A kept report as the entry shows it."""

    kept: Kept
    answers: list[Answer]
    counts: dict[str, int]
    picture: str


def read_report(docs: Path, kept: Kept, central: Sequence[str]) -> Shown:
    """What the entry shows of a report.

    Args:
        docs: The entry's folder.
        kept: The report.
        central: Texts of the central claims.

    Raises:
        UserError: If its tables of claims and questions are missing or are none.
    """
    tables = docs / kept.folder / "tables"
    asked = [path for path in (tables / "claims.csv", tables / "questions.csv") if path.is_file()]
    if not asked:
        raise UserError(f"{tables}: no claims.csv and no questions.csv; keep a whole report there")
    ledgers = {path.stem: _read_ledger(path) for path in asked}
    found = [(name, ledger[ledger["claim"] == text]) for name, ledger in ledgers.items() for text in central]
    answers = [_answer(rows, name == "questions") for name, rows in found if (rows["claim_verdict"] != "not run").any()]
    claims = ledgers.get("claims", pd.DataFrame(columns=["claim", "claim_verdict"]))
    verdicts = claims.drop_duplicates("claim")["claim_verdict"]
    pictures = sorted((docs / kept.folder / "figures").glob("samples-1-*.png"))
    counts = {str(verdict): int((verdicts == verdict).sum()) for verdict in get_args(Verdict)}
    return Shown(
        kept,
        answers,
        {verdict: count for verdict, count in counts.items() if count},
        f"{kept.folder}/figures/{pictures[0].name}" if pictures else "",
    )


def _read_ledger(path: Path) -> pd.DataFrame:
    with reading(path, "a report's table of claims"):
        return pd.read_csv(
            path,
            dtype={"seeds": str},
            keep_default_na=False,
            na_values=dict.fromkeys(("beyond", "low95", "high95"), ""),
        ).astype({"claim": str, "claim_verdict": str})


def _answer(rows: pd.DataFrame, own: bool) -> Answer:
    gains = []
    for metric in METRICS:
        for row in rows[rows["metric"] == metric.key].dropna(subset="beyond").itertuples():
            middle, low, high = (
                f"{float(v) * metric.scale:+.{metric.digits}f}" for v in (row.beyond, row.low95, row.high95)
            )
            gains.append(f"{metric.name} {middle} [{low}, {high}]" if low != "+nan" else f"{metric.name} {middle}")
    seeds = max(len(str(seeds).split()) for seeds in rows["seeds"])
    return Answer(rows["claim"].iloc[0], rows["claim_verdict"].iloc[0], gains, seeds, own)


def render(docs: Path, claims: Path, templates: Path = TEMPLATES) -> str:
    """The entry's HTML.

    Args:
        docs: Folder of ``reports.yaml`` and of the reports.
        claims: The claims file, which says which claims and questions are central.
        templates: Folder of ``entry.html.j2``.

    Raises:
        UserError: If something that ``reports.yaml`` names is not there.
    """
    entries = validated(Entries, read_yaml(docs / "reports.yaml", "reports"), str(docs / "reports.yaml"))
    ledger = load_claims(claims)
    central = [one.text for one in (*ledger.claims, *ledger.questions) if one.central]
    for one in entries.also:
        if not (docs / one.file).exists():
            raise UserError(f"{docs / 'reports.yaml'}: {one.file} is not there; take the line out or put the file back")
    templated = Templates(
        loader=FileSystemLoader(templates), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return templated.get_template("entry.html.j2").render(
        reports=[read_report(docs, kept, central) for kept in entries.reports], also=entries.also
    )


def _main(arguments: argparse.Namespace) -> None:
    text = render(arguments.docs, arguments.claims)
    with atomic_path(arguments.docs / "index.html") as file:
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--claims", type=Path, default=Path("config/claims.yaml"))
    run_stage(_main, parser)
