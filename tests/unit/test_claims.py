"""Verdicts on scores that are clearly true, clearly false, and too noisy to tell."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import ValidationError
from scipy import stats

from randcond.jobs.errors import UserError
from randcond.report.moderated import fit
from randcond.report.verdicts import Finding, corrected, judge
from randcond.settings.claims import Claim, load_claims
from randcond.settings.config import Config, check_config
from randcond.settings.experiments import Run, load_experiments

BASE = {"text": "x", "source": "y", "metrics": ["fid", "is"], "better": "a", "than": "b"}


def claim(**changes: object) -> Claim:
    return Claim.model_validate(BASE | changes)


def test_clearly_true_false_and_noisy() -> None:
    true = {"a": {0: 20.0, 1: 20.5, 2: 19.5}, "b": {0: 10.0, 1: 10.4, 2: 9.6}}
    assert judge(claim(), "is", true).verdict == "reproduced"
    assert judge(claim(), "fid", true).verdict == "not reproduced", "lower is better"
    assert judge(claim(better="b", than="a"), "is", true).verdict == "not reproduced"
    noisy = {"a": {0: 20.0, 1: 8.0, 2: 15.0}, "b": {0: 10.0, 1: 12.0, 2: 14.0}}
    assert judge(claim(), "is", noisy).verdict == "undecided"


def test_interval_is_the_paired_t_test() -> None:
    a, b = np.array([3.0, 4.5, 4.0, 7.0]), np.array([1.0, 3.0, 3.5, 4.0])
    found = judge(claim(), "is", {"a": dict(enumerate(a)), "b": dict(enumerate(b))})
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert found.effect == pytest.approx((a - b).mean())
    assert (found.needed, found.low, found.high) == pytest.approx((0, interval.low, interval.high))
    assert found.seeds == [0, 1, 2, 3]


def test_pairing_takes_out_what_seeds_share() -> None:
    shared = {0: 0.0, 1: 50.0, 2: -50.0}
    scores = {"a": {s: v + 1 + s / 100 for s, v in shared.items()}, "b": shared}
    assert judge(claim(), "is", scores).verdict == "reproduced"


def test_one_seed_decides_nothing() -> None:
    found = judge(claim(), "is", {"a": {0: 20.0, 1: 20.0}, "b": {0: 10.0}})
    assert (found.verdict, found.effect, found.low, found.seeds) == ("undecided", 10.0, None, [0])


@pytest.mark.parametrize("scores", [{}, {"a": {0: 1.0}}, {"a": {0: 1.0, 1: 1.0}, "b": {2: 1.0, 3: 1.0}}])
def test_what_was_not_run_has_no_verdict(scores: dict) -> None:
    found = judge(claim(), "is", scores)
    assert (found.verdict, found.effect) == ("not run", None)


TEACHER = {"teacher": {0: 13.0}}


@pytest.mark.parametrize(
    ("value", "verdict"), [(9.2, "reproduced"), (8.8, "not reproduced"), (9.0, "undecided"), (10.2, "reproduced")]
)
def test_as_good_as_allows_a_third_of_the_way_to_the_teacher(value: float, verdict: str) -> None:
    scores = TEACHER | {"a": {s: value + 0.02 * (s - 1) for s in range(3)}, "b": dict.fromkeys(range(3), 10.0)}
    found = judge(claim(as_good=True), "is", scores)
    assert found.needed == pytest.approx(-1.0)
    assert found.verdict == verdict
    # the interval is the one that decides: of the gain less what is needed
    interval = stats.ttest_1samp([value + 0.02 * (s - 1) - 9 for s in range(3)], 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_nothing_is_as_good_before_the_teacher_is_scored() -> None:
    scores = {"a": dict.fromkeys(range(3), 10.0), "b": dict.fromkeys(range(3), 10.0)}
    assert judge(claim(as_good=True), "is", scores).verdict == "not run"
    assert judge(claim(as_good=True), "is", TEACHER | scores).verdict == "reproduced"


def test_the_paper_s_tables_bear_out_what_it_claims_to_be_as_good() -> None:
    rows = pd.read_csv("config/paper_results.csv")

    def value(table: str, row: str, split: str, metric: str) -> float:
        found = rows[(rows["table"] == table) & (rows["row"] == row) & (rows["split"] == split)]
        return float(found[metric].iloc[0])

    teacher, every = ("table3", "teacher", "coco30k"), ["fid", "is", "clip"]
    compared = [  # claim's better, than and teacher, as rows of the paper's tables
        (("table1", "5", "coco30k"), ("table1", "3", "coco30k"), teacher, ["fid"]),
        (("table1", "4", "coco30k"), ("table1", "2", "coco30k"), teacher, every),
        (("table2", "2", "seen"), ("table2", "1", "seen"), ("table2", "teacher", "seen"), every),
        (("table3", "3", "coco30k"), ("table3", "2", "coco30k"), teacher, every),
    ]
    for better, than, ceiling, metrics in compared:
        for metric in metrics:
            places = {"a": better, "b": than, "teacher": ceiling}
            scores = {run: dict.fromkeys(range(3), value(*place, metric)) for run, place in places.items()}
            assert judge(claim(as_good=True), metric, scores).verdict == "reproduced", (better, metric)
    # and its absence is told apart: row 1, neither copied weights nor random conditioning
    places = {"a": ("table1", "1", "coco30k"), "b": ("table1", "2", "coco30k"), "teacher": teacher}
    scores = {run: dict.fromkeys(range(3), value(*place, "clip")) for run, place in places.items()}
    assert judge(claim(as_good=True), "clip", scores).verdict == "not reproduced"


def test_as_good_of_a_metric_that_should_be_low() -> None:
    scores = {"a": {s: 10.4 + s / 100 for s in range(3)}, "b": dict.fromkeys(range(3), 10.0), "teacher": {0: 7.0}}
    assert judge(claim(as_good=True), "fid", scores).verdict == "reproduced"
    assert judge(claim(), "fid", scores).verdict == "not reproduced"


def test_the_way_is_each_seed_s() -> None:
    # every seed is within a third of its partner's way, though the partners differ more than that
    scores = {"a": {0: 22.9, 1: 36.4, 2: 29.6}, "b": {0: 20.0, 1: 30.0, 2: 25.0}, "teacher": {0: 10.0}}
    found = judge(claim(as_good=True), "fid", scores)
    assert (found.needed, found.verdict) == (pytest.approx(-5.0), "reproduced")
    worse = scores | {"a": {0: 24.5, 1: 38.0, 2: 31.2}}
    assert judge(claim(as_good=True), "fid", worse).verdict == "not reproduced"


def test_one_metric_among_several_speaks_against_a_claim_by_holm_s_correction() -> None:
    def finding(p: float | None, verdict: str) -> Finding:
        return Finding("fid", -1.0, 0.0, -2.0, -0.1, [0, 1, 2], verdict, p)  # type: ignore[arg-type]

    against, for_it = "not reproduced", "reproduced"
    alone = corrected([finding(0.04, against)])
    assert [one.verdict for one in alone] == [against]
    three = corrected([finding(0.04, against), finding(0.5, "undecided"), finding(0.3, "undecided")])
    assert [one.verdict for one in three] == ["undecided"] * 3
    # 0.01 of three passes, then 0.02 of two, and what supports the claim needs no correction
    several = corrected(
        [finding(0.02, against), finding(0.01, against), finding(0.04, for_it), finding(None, "not run")]
    )
    assert [one.verdict for one in several] == [against, against, for_it, "not run"]
    # once one fails, the larger ones do not pass
    assert [one.verdict for one in corrected([finding(0.03, against), finding(0.04, against)])] == ["undecided"] * 2


def test_a_lucky_spread_is_no_evidence_where_others_tell_of_a_wider_one() -> None:
    rng = np.random.default_rng(0)
    others = [rng.normal(0, 1, 3) for _ in range(20)]
    lucky = np.array([0.8, 0.9, 0.7])
    scores = {"a": dict(enumerate(lucky)), "b": dict.fromkeys(range(3), 0.0)}
    prior = fit([*others, lucky])
    assert judge(claim(), "is", scores).verdict == "reproduced"
    assert judge(claim(), "is", scores, prior).verdict == "undecided"
    # and one that is steadily large is found with fewer doubts
    large = {"a": {0: 3.0, 1: 4.9, 2: 2.2}, "b": scores["b"]}
    assert judge(claim(), "is", large).verdict == "undecided"
    assert judge(claim(), "is", large, prior).verdict == "reproduced"


def test_a_gain_larger_here_than_there() -> None:
    scores = {run: {s: value + s / 100 for s in range(3)} for run, value in {"a": 9, "b": 5, "c": 8, "d": 7}.items()}
    more = {"more_than": {"better": "c", "than": "d"}}
    found = judge(claim(**more), "is", scores)
    assert (found.effect, found.verdict) == (pytest.approx(3.0), "reproduced")
    back = claim(better="c", than="d", more_than={"better": "a", "than": "b"})
    assert judge(back, "is", scores).verdict == "not reproduced"


def test_the_teacher_pairs_with_every_seed() -> None:
    scores = {"teacher": {0: 10.0}, "b": {5: 7.0, 6: 7.2}}
    assert judge(claim(better="teacher"), "is", scores).seeds == [5, 6]


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": []},
        {"metrics": ["beauty"]},
        {"as_good": True, "more_than": {"better": "c", "than": "d"}},
        {"metrics": ["share"]},
        {"figure": "toy"},
        {"figure": "swapped-conditon", "metrics": ["share"]},
        {"figure": "toy", "metrics": ["share"], "as_good": True},
        {"figure": "toy", "metrics": ["share"], "unequal_share": True},
        {"near_t": 50},
    ],
)
def test_claims_that_make_no_sense(changes: dict) -> None:
    with pytest.raises(ValidationError):
        claim(**changes)


P = {"fifth": {"kind": "exponential", "rate": 5.0}, "as much": {"kind": "constant", "share": 0.2},
     "half": {"kind": "measured", "share": 0.5}, "none": None}  # fmt: skip


@pytest.mark.parametrize(
    ("runs", "unequal"),
    [
        (("fifth", "half"), True),
        (("fifth", "as much"), False),  # 0.198 and 0.2
        (("half", "none"), False),
        (("none", "none"), False),
        (("half", "teacher"), False),
        (("fifth", "none", "half", "none"), True),  # a gain against another
        (("fifth", "none", "as much", "none"), False),
        (("fifth", "not there"), None),
    ],
)
def test_a_claim_at_unequal_share_has_to_say_so(runs: tuple[str, ...], unequal: bool | None) -> None:
    known = {name: Run(random_conditioning=p) for name, p in P.items()}
    more = {"more_than": {"better": runs[2], "than": runs[3]}} if len(runs) > 2 else {}
    silent, said = (claim(better=runs[0], than=runs[1], unequal_share=says, **more) for says in (False, True))
    refused, allowed = (silent, said) if unequal else (said, silent)
    allowed.check_shares(known)
    if unequal is None:
        refused.check_shares(known)
        return
    with pytest.raises(UserError, match="claims: 'x' .*unequal_share") as caught:
        refused.check_shares(known)
    assert "\n" not in str(caught.value)


UNEQUAL = ["p-constant-100", "share-020-exponential", "share-050-exponential", "p-linear", "p-linear"]


@pytest.mark.parametrize(
    ("file", "claims", "unequal"),
    [
        ("experiments", "claims", UNEQUAL),
        ("paper_experiments", "claims", UNEQUAL),
        ("sd21_experiments", "claims", UNEQUAL),
        ("beyond_experiments", "beyond_claims", ["seen-rc-pool"] * 2),
        ("artists-flow_experiments", "artists-flow_claims", []),
    ],
)
def test_claims_say_where_shares_are_unequal(file: str, claims: str, unequal: list[str]) -> None:
    runs, found = load_experiments(Path(f"config/{file}.yaml")).runs, load_claims(Path(f"config/{claims}.yaml")).every
    for one in found:
        one.check_shares(runs)
    assert [one.than for one in found if one.unequal_share] == unequal


def test_no_claim_judges_unseen_concepts_by_their_inception_score() -> None:
    for file in Path("config").glob("*claims.yaml"):
        for one in load_claims(file).every:
            assert not ("is" in one.metrics and "unseen" in one.split), f"{file}: {one.text}"


def test_in_the_full_grid_claims_have_their_seeds() -> None:
    experiments = load_experiments("config/experiments.yaml")
    full = check_config(yaml.safe_load(Path("config/full.yaml").read_text()))
    ledger = load_claims(Path("config/claims.yaml"))
    claimed, asked = ({run for one in some for run in one.runs} for some in (ledger.claims, ledger.questions))
    table4 = {row.run for row in experiments.tables["table4"].rows if row.run in experiments.runs}
    scored = [*experiments.runs, *experiments.more]
    assert {run for run in scored if full.seeds_of(run) == [0, 1, 2, 3, 4]} == claimed | {
        *("seen-plain-random", "seen-rc-animals-random", "p-linear", "half-trajectories-linear")
    }
    assert {run for run in scored if len(full.seeds_of(run)) >= 3} == claimed | asked | table4
    default = experiments.of_grid("default")
    assert all(Config().seeds_of(run) == [0] for run in default.runs)
    assert {"table1", "table2", "table3", "faster"} == set(default.tables)
    assert not default.series
    assert set(experiments.tables) == set(default.tables) | {
        *("table4", "probability", "shares", "features", "fewer", "transfer", "beyond")
    }


@pytest.mark.parametrize("which", ["", "beyond_", "faster_", "artists-flow_"])
def test_every_claim_names_runs_that_there_are(which: str) -> None:
    claims = load_claims(Path(f"config/{which}claims.yaml"))
    known = load_experiments(Path(f"config/{which}experiments.yaml"))
    assert {run for one in claims.every for run in one.runs} <= {*known.runs, *known.more}


@pytest.mark.parametrize(
    ("text", "named"),
    [("[]", "must hold claims"), ("claims: [{text: a}]", "claims.0"), ("claims: {", "not valid YAML")],
)
def test_bad_claims_are_one_line(text: str, named: str, tmp_path: Path) -> None:
    file = tmp_path / "claims.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=named) as caught:
        load_claims(file)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such file"):
        load_claims(tmp_path / "none.yaml")
