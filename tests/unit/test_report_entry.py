"""The entry to the kept reports."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from report_world import World

from randcond.jobs.errors import UserError
from randcond.report.entry import render

CLAIM = "Swapping <b>helps</b>"


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A kept report of three seeds, whose central claim gained 4 of FID in each."""
    (tmp_path / "world").mkdir()
    world = World(tmp_path / "world", [0, 1, 2])
    for (run, _), score in world.scores.items():
        score["splits"]["all"]["metrics"]["fid"]["value"] = 5.0 if run == "seen-rc" else 9.0
    claim = world.settings["claims"][0] | {"text": CLAIM, "metrics": ["fid"]}
    world.settings["claims"] = [claim, world.settings["claims"][-1]]
    docs = tmp_path / "docs"
    docs.mkdir()
    world.build().rename(docs / "full")
    (docs / "log.md").write_text("what was tried")
    reports = [{"folder": "full", "title": "A world", "text": "It is small.", "picture": "Animals"}]
    (docs / "reports.yaml").write_text(
        yaml.safe_dump({"reports": reports, "also": [{"file": "log.md", "text": "the log"}]})
    )
    claims = {"claims": [{**claim, "central": True}]}
    (docs / "claims.yaml").write_text(yaml.safe_dump(claims))
    return docs


def test_the_answer_the_picture_the_rest(docs: Path) -> None:
    text = render(docs, docs / "claims.yaml")
    places = [
        text.index(what)
        for what in (
            "Swapping &lt;b&gt;helps&lt;/b&gt;",
            '<strong class="verdict reproduced">reproduced</strong> in a world.',
            "FID +4.00 [",
            "(3 seeds; 95% intervals)",
            "Of the paper's 2 claims 1 reproduced, 1 not run",
            'href="full/index.html"',
            'src="full/figures/samples-1-',
            'href="log.md"',
        )
    ]
    assert places == sorted(places)


def test_a_report_of_our_questions_alone(docs: Path) -> None:
    ledger = yaml.safe_load((docs / "claims.yaml").read_text())
    (docs / "claims.yaml").write_text(yaml.safe_dump({"claims": [], "questions": ledger["claims"]}))
    tables = docs / "full/tables"
    claims = pd.read_csv(tables / "claims.csv")
    asked = claims.assign(claim_verdict=claims["claim_verdict"].replace("reproduced", "holds"))
    asked.to_csv(tables / "questions.csv", index=False)
    nothing = dict.fromkeys(("beyond", "low95", "high95"), float("nan"))
    claims.assign(**nothing, claim_verdict="not run").to_csv(tables / "claims.csv", index=False)
    both = [render(docs, docs / "claims.yaml")]
    (tables / "claims.csv").unlink()  # as of a world in which nothing is claimed
    for text in (*both, render(docs, docs / "claims.yaml")):
        assert text.count('<strong class="verdict holds">holds</strong> in a world.') == 1
        assert "A question of our own: “" in text and "FID +4.00 [" in text
        assert "The report." in text and "Of the paper's" not in text


def test_a_report_of_one_seed_has_no_intervals(docs: Path) -> None:
    table = docs / "full/tables/claims.csv"
    frame = pd.read_csv(table)
    frame[["low95", "high95"]] = float("nan")
    frame.assign(seeds="0", claim_verdict="undecided").to_csv(table, index=False)
    text = " ".join(render(docs, docs / "claims.yaml").split())
    assert "Gains: FID +4.00 (1 seed)." in text


def test_what_is_not_there_is_named(docs: Path) -> None:
    (docs / "log.md").unlink()
    with pytest.raises(UserError, match=r"reports\.yaml: log\.md is not there"):
        render(docs, docs / "claims.yaml")
    (docs / "log.md").write_text("")
    (docs / "full/tables/claims.csv").unlink()
    with pytest.raises(UserError, match=r"tables: no claims\.csv"):
        render(docs, docs / "claims.yaml")


def test_the_entry_in_docs_is_what_is_kept_there() -> None:
    assert Path("docs/index.html").read_text() == render(Path("docs"), Path("config/claims.yaml")), "run `make entry`"
