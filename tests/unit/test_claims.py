"""Verdicts on scores that are clearly true, clearly false, and too noisy to tell."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from scipy import stats

from randcond.jobs.errors import UserError
from randcond.report.verdicts import judge
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


@pytest.mark.parametrize(
    ("value", "verdict"), [(9.7, "reproduced"), (9.3, "not reproduced"), (9.5, "undecided"), (10.2, "reproduced")]
)
def test_as_good_as_allows_a_tolerance(value: float, verdict: str) -> None:
    scores = {"a": {s: value + 0.02 * (s - 1) for s in range(3)}, "b": dict.fromkeys(range(3), 10.0)}
    found = judge(claim(as_good=True), "is", scores)
    assert found.needed == pytest.approx(-0.5)
    assert found.verdict == verdict
    # the interval is the one that decides: of the gain less what is needed
    interval = stats.ttest_1samp([value + 0.02 * (s - 1) - 9.5 for s in range(3)], 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_the_tolerance_is_the_metrics_own() -> None:
    scores = {"a": {s: 9.7 + s / 1000 for s in range(3)}, "b": dict.fromkeys(range(3), 10.0)}
    assert judge(claim(as_good=True), "is", scores).verdict == "reproduced"
    assert judge(claim(as_good=True), "clip", scores).verdict == "not reproduced", "3% less CLIP is more than 2%"


def test_the_tolerances_tell_the_paper_s_method_from_its_absence() -> None:
    rows = {("1", "clip"): 0.2728, ("4", "clip"): 0.2834, ("2", "clip"): 0.2864}  # table 1
    seeds = range(3)
    for row, verdict in (("1", "not reproduced"), ("4", "reproduced")):
        scores = {"a": dict.fromkeys(seeds, rows[row, "clip"]), "b": dict.fromkeys(seeds, rows["2", "clip"])}
        assert judge(claim(as_good=True), "clip", scores).verdict == verdict


def test_tolerance_of_a_metric_that_should_be_low() -> None:
    scores = {"a": {s: 10.4 + s / 100 for s in range(3)}, "b": dict.fromkeys(range(3), 10.0)}
    assert judge(claim(as_good=True), "fid", scores).verdict == "reproduced"
    assert judge(claim(), "fid", scores).verdict == "not reproduced"


def test_the_tolerance_is_of_each_seed() -> None:
    # every seed is within 5% of its partner, though the partners differ more than that
    scores = {"a": {0: 20.9, 1: 31.4, 2: 26.1}, "b": {0: 20.0, 1: 30.0, 2: 25.0}}
    found = judge(claim(as_good=True), "fid", scores)
    assert (found.needed, found.verdict) == (pytest.approx(-1.25), "reproduced")
    worse = {"a": {0: 21.3, 1: 31.8, 2: 26.6}, "b": scores["b"]}
    assert judge(claim(as_good=True), "fid", worse).verdict == "not reproduced"


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


@pytest.mark.parametrize(
    ("file", "claims", "unequal"),
    [
        ("experiments", "claims", ["p-constant-100"]),
        ("paper_experiments", "claims", ["p-constant-100"]),
        ("sd21_experiments", "claims", ["p-constant-100"]),
        ("beyond_experiments", "beyond_claims", ["seen-rc-pool"] * 2),
    ],
)
def test_claims_say_where_shares_are_unequal(file: str, claims: str, unequal: list[str]) -> None:
    runs, found = load_experiments(Path(f"config/{file}.yaml")).runs, load_claims(Path(f"config/{claims}.yaml"))
    for one in found:
        one.check_shares(runs)
    assert [one.than for one in found if one.unequal_share] == unequal


def test_in_the_full_grid_claims_have_their_seeds() -> None:
    experiments = load_experiments("config/experiments.yaml")
    full = check_config(yaml.safe_load(Path("config/full.yaml").read_text()))
    compared = {run for one in load_claims(Path("config/claims.yaml")) for run in one.runs}
    assert {run for run in experiments.runs if full.seeds_of(run) == [0, 1, 2]} == compared
    default = experiments.of_grid("default")
    assert all(Config().seeds_of(run) == [0] for run in default.runs)
    assert {"table1", "table2", "table3"} == set(default.tables)
    assert not default.series
    assert set(experiments.tables) == set(default.tables) | {"table4", "probability", "shares", "features"}


def test_every_claim_names_runs_that_there_are() -> None:
    claims, runs = load_claims(Path("config/claims.yaml")), load_experiments(Path("config/experiments.yaml")).runs
    assert {run for one in claims for run in one.runs} <= set(runs)


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
