"""The report's verdicts on claims."""

import copy
import math
from pathlib import Path

import pandas as pd
import pytest
from report_world import World

from randcond.figures.output import FigureScore, FigureScores
from randcond.jobs.errors import UserError
from randcond.report import ledger, score_files, shown, tables
from randcond.report.verdicts import Finding, Verdict
from randcond.settings.claims import Claim


def test_claims_have_verdicts_from_the_scores(tmp_path: Path) -> None:
    world = World(tmp_path, [0, 1, 2])
    for (run, seed), score in world.scores.items():
        values = {"fid": 5.0, "named": 0.9} if run == "seen-rc" else {"fid": 9.0, "named": 0.4}
        for metric, value in values.items():
            score["splits"]["all"]["metrics"][metric]["value"] = value + seed / 1000
    report = world.build()
    frame = pd.read_csv(report / "tables/claims.csv")
    assert frame["verdict"].tolist() == ["reproduced", "reproduced", "not run", "not run"]
    assert frame["claim_verdict"].tolist() == ["reproduced", "reproduced", "not run", "not run"]
    assert frame["gain"].tolist()[:2] == pytest.approx([4.0, 0.5])
    assert frame["needed"].tolist()[:2] == [0, 0] and math.isnan(frame["needed"][2])
    text = (report / "index.html").read_text()
    summary = "Of 3 claims: 1 reproduced, 2 not run. Of their 4 comparisons: 2 reproduced, 2 not run."
    assert text.index(summary) < text.index("<nav") and text.count(summary) == 2
    assert "Swapping &lt;b&gt;helps&lt;/b&gt;" in text


def test_the_answer_stands_first_and_its_picture_second(tmp_path: Path) -> None:
    world = World(tmp_path, [0, 1, 2])
    for (run, seed), score in world.scores.items():
        score["splits"]["all"]["metrics"]["fid"]["value"] = (1.0 if run == "seen-rc" else 5.0) + seed / 1000
    claim = world.settings["claims"][0] | {"text": "The heart of it", "metrics": ["fid"], "central": True}
    world.settings["claims"] = [*world.settings["claims"], claim]
    world.settings["questions"] = [claim | {"text": "Ours"}]
    text = (world.build() / "index.html").read_text()
    head = text[: text.index("<nav")]
    assert head.count("Does it hold?") == 1 and head.index("The heart of it") < head.index("A question of our own: “")
    assert '“<bdi>The heart of it</bdi>” is <strong class="verdict reproduced">reproduced</strong> here' in head
    assert "Gain on all concepts: FID +4.00 [" in " ".join(head.split())
    assert "(seeds 0, 1, 2; 95% intervals)" in head
    first = world.settings["grids"][0]["title"]
    assert head.index("The heart of it") < head.index(first)
    assert text.count(f'aria-label="{first}"') == 1 == head.count(f'aria-label="{first}"')


def test_a_central_question_is_answered_where_the_central_claim_was_not_run(tmp_path: Path) -> None:
    world = World(tmp_path, [0, 1, 2])
    for (run, seed), score in world.scores.items():
        score["splits"]["all"]["metrics"]["fid"]["value"] = (1.0 if run == "seen-rc" else 5.0) + seed / 1000
    claim = world.settings["claims"][0] | {"metrics": ["fid"], "central": True}
    world.settings["claims"] = [claim | {"text": "Not run", "better": "missing"}]
    world.settings["questions"] = [claim | {"text": "Ours"}]
    # nor is a figure shown of which no student was trained
    figure = world.settings["grids"][0]
    world.settings["grids"] = [figure | {"title": "Nobody", "runs": ["teacher", "missing"]}, figure]
    text = (world.build() / "index.html").read_text()
    head = text[: text.index("<nav")]
    answer = (
        '<strong>Does it hold?</strong> A question of our own: “<bdi>Ours</bdi>” <strong class="verdict reproduced">'
    )
    assert f"{answer}holds</strong> here" in head
    assert "“<bdi>Not run</bdi>”" not in head
    assert "Nobody" not in text and figure["title"] in head


def test_our_own_questions_have_a_ledger_beside_the_papers(tmp_path: Path) -> None:
    world = World(tmp_path, [0, 1, 2])
    for (run, seed), score in world.scores.items():
        for metric, value in {"fid": 5.0, "named": 0.9}.items():
            score["splits"]["all"]["metrics"][metric]["value"] = (value if run == "seen-rc" else 0.9) + seed / 1000
    world.settings["questions"] = [
        world.settings["claims"][0] | {"text": "Ours", "source": "we ask", "metrics": ["fid"]}
    ]
    report = world.build()
    ours, papers = (pd.read_csv(report / f"tables/{name}.csv") for name in ("questions", "claims"))
    assert ours["claim"].tolist() == ["Ours"] and ours["verdict"].tolist() == ["does not hold"]
    assert "Ours" not in papers["claim"].tolist() and "not reproduced" in papers["verdict"].tolist()
    text = (report / "index.html").read_text()
    summary = "Of 1 question: 1 does not hold. Of their 1 comparison: 1 does not hold."
    assert text.index(summary) < text.index("<nav") and text.count(summary) == 2
    assert text.index('id="claims"') < text.index('id="questions"') < text.index('id="samples"')


def test_what_we_ask_moves_no_verdict_on_the_paper(tmp_path: Path) -> None:
    world = World(tmp_path, [0, 1, 2])
    for (run, seed), score in world.scores.items():
        for split, noise in (("all", 1.0), ("seen", 50.0)):  # questions of a noisier split
            value = 5.0 + noise * (seed**2 if run == "seen-rc" else seed)
            score["splits"][split]["metrics"]["fid"]["value"] = value
    alone = (world.build() / "tables/claims.csv").read_text()
    one = world.settings["claims"][0] | {"metrics": ["fid"], "split": "seen"}
    world.settings["questions"] = [one | {"text": f"Ours {i}"} for i in range(5)]
    assert (world.build() / "tables/claims.csv").read_text() == alone


def test_where_the_paper_claims_nothing_our_standard_is_said(tmp_path: Path) -> None:
    world = World(tmp_path, [0])
    said = "A verdict is computed from the scores."
    report = world.build()
    assert (report / "index.html").read_text().count(said) == 1
    assert not (report / "tables/questions.csv").exists()
    world.settings["questions"], world.settings["claims"] = world.settings["claims"], []
    text = (world.build() / "index.html").read_text()
    assert text.count(said) == 1 and 'id="claims"' not in text and "<strong>Holds</strong>" in text


def test_a_claim_at_unequal_share_says_so(tmp_path: Path) -> None:
    world = World(tmp_path, [0])
    said = '<span class="run">at unequal share of swapped texts</span>'
    assert said not in (world.build() / "index.html").read_text()
    world.settings["claims"][0]["unequal_share"] = True
    assert (world.build() / "index.html").read_text().count(said) == 1


def test_a_claim_by_several_metrics_has_one_verdict() -> None:
    claim = Claim(text="x", source="y", better="a", than="b", metrics=["fid", "is", "clip"])

    def tested(*verdicts: Verdict) -> Verdict:
        found = [Finding("fid", 1.0, 0.0, None, None, [0], verdict) for verdict in verdicts]
        return ledger.Tested(claim, [ledger.Entry(claim, tables.METRICS[0], one) for one in found]).verdict

    assert tested("reproduced", "reproduced") == "reproduced"
    assert tested("reproduced", "undecided") == "undecided"
    assert tested("reproduced", "undecided", "not reproduced") == "not reproduced"
    assert tested("not run", "not run") == "not run"
    assert tested("reproduced", "not run") == "undecided"


def test_who_has_hardly_learned_decides_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, [0, 1, 2])
    for (run, seed), score in world.scores.items():
        metrics = score["splits"]["all"]["metrics"]
        metrics["fid"]["value"] = (5.0 if run == "seen-rc" else 9.0) + seed / 1000
        metrics["named"]["value"] = {"teacher": 0.9, "seen-rc": 0.22}.get(run, 0.5)
    report = world.build()
    frame = pd.read_csv(report / "tables/claims.csv", keep_default_na=False)
    assert frame["verdict"].tolist() == ["undecided", "undecided", "not run", "not run"]
    assert frame["hardly_learned"].tolist() == ["seen-rc", "seen-rc", "", ""]
    assert "hardly learned: seen-rc" in (report / "index.html").read_text()
    for (run, _), score in world.scores.items():
        score["splits"]["all"]["metrics"]["named"]["value"] = {"teacher": 0.9, "base-plain": 0.1}.get(run, 0.5)
    # that the other has not learned may be what the claim says
    assert pd.read_csv(world.build() / "tables/claims.csv")["verdict"][0] == "reproduced"
    # but to be as good as a student that has not learned says nothing
    world.settings["claims"][0]["as_good"] = True
    assert pd.read_csv(world.build() / "tables/claims.csv")["hardly_learned"][0] == "base-plain"


def test_a_claim_compares_the_same_prompts(world: World) -> None:
    splits, plain = (world.scores[run, 0]["splits"] for run in ("seen-rc", "base-plain"))
    splits["coco30k"] = copy.deepcopy(splits["all"])
    plain["coco30k"] = plain.pop("all")  # as where no table shows more than the benchmark
    splits["coco30k"]["metrics"]["fid"]["value"] = plain["coco30k"]["metrics"]["fid"]["value"] - 1.5
    world.settings["tables"] = {"table2": world.settings["tables"]["table2"] | {"splits": ["unseen"]}}
    world.settings["series"] = {}
    frame = pd.read_csv(world.build() / "tables/claims.csv")
    assert frame["split"][0] == "coco30k"
    assert frame["gain"][0] == pytest.approx(1.5)
    splits["coco30k"]["count"] -= 1
    with pytest.raises(UserError, match=r"coco30k: not as many samples .* seen-rc on \[\(89, 300\)\]"):
        world.build()


def test_the_teacher_sets_a_margin_on_the_same_prompts(world: World) -> None:
    (claim, *_) = world.settings["claims"]
    world.settings["claims"] = [claim | {"as_good": True}]
    assert pd.read_csv(world.build() / "tables/claims.csv")["verdict"][0] != "not run"
    teacher = world.scores["teacher", 0]["splits"]
    teacher["coco30k"] = teacher.pop("all")
    world.settings["tables"] = {"table2": world.settings["tables"]["table2"] | {"splits": ["unseen"]}}
    world.settings["series"] = {}
    assert set(pd.read_csv(world.build() / "tables/claims.csv")["verdict"]) == {"not run"}


def test_scores_without_clip_make_a_report(world: World) -> None:
    for score in world.scores.values():
        for split in score["splits"].values():
            del split["metrics"]["clip"]
    assert "CLIP" not in (world.build() / "tables/table1.csv").read_text()
    world.scores["teacher", 0]["splits"]["all"]["metrics"]["clip"] = {"value": 0.5, "error95": 0.1}
    with pytest.raises(UserError, match=r"splits\.\w+\.metrics\.clip is missing, other scores have it"):
        world.build()


def test_claims_on_figures_are_judged_from_their_shares() -> None:
    shares = {("condition", 51): 0.1, ("image", 51): 0.3, ("condition", 951): 0.9, ("image", 951): 0.0}
    measured = FigureScores(
        settings={},
        scores=[
            FigureScore(seed=seed, t=t, metric=metric, value=value + seed / 100, count=32)
            for (metric, t), value in shares.items()
            for seed in range(3)
        ],
    )
    threes = [FigureScore(seed=s, model="with", metric="threes", value=0.5, count=9) for s in range(3)]
    figures = {"swapped-condition": measured, "digits-diffusion": FigureScores(settings={}, scores=threes)}
    base = {"text": "x", "source": "y", "figure": "swapped-condition", "metrics": ["share"]}
    late = Claim.model_validate(base | {"better": "condition", "than": "image", "near_t": 999})
    early = Claim.model_validate(base | {"better": "condition", "than": "image", "near_t": 0})
    names = {"figure": "digits-diffusion", "better": "threes, with", "than": "threes, with"}
    model = Claim.model_validate(base | names)
    found = [one.entries[0] for one in ledger.judged([late, early, model], {}, figures)]
    assert [entry.finding.verdict for entry in found] == ["reproduced", "not reproduced", "undecided"]
    assert [entry.where for entry in found] == ["t = 951", "t = 51", "–"]
    assert found[0].finding.effect == pytest.approx(0.9)
    assert ledger.judged([late], {}, {})[0].verdict == "not run"
    for wrong, said in (
        (late.model_copy(update={"near_t": None}), "has timesteps"),
        (model.model_copy(update={"near_t": 5}), "has no timesteps"),
        (model.model_copy(update={"than": "threes, wth"}), "measures no 'threes, wth'; it has threes, with"),
    ):
        with pytest.raises(UserError, match=said):
            ledger.judged([wrong], {}, figures)


def test_the_benchmarks_captions_stand_for_all(finished: World) -> None:
    scores = score_files.read_scores(finished.score_files(), shown.Settings.model_validate(finished.settings))
    score = scores["seen-rc"][0]
    expected = score.splits["all"].metrics.fid.value
    score.splits["coco30k"] = score.splits.pop("all")
    assert ledger.values([score], "all", "fid") == {0: expected}
    assert ledger.values([score], "unseen", "fid") == {0: score.splits["unseen"].metrics.fid.value}
