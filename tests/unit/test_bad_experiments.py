"""Bad runs and tables end in one line that names them and their file."""

from pathlib import Path

import pytest
import yaml
from layered import one_line

from randcond.jobs.errors import UserError
from randcond.settings.experiments import load_experiments

FASTER = "runs: {a: {}, full: {grid: full}}\ntables: {}\nfaster: {"
BAD_RUNS = {
    "unknown student": ({"student": "b-huge"}, "b-huge"),
    "unknown setting": ({"studnet": "b-base"}, "studnet"),
    "unknown init": ({"init": "pretrained"}, "init"),
    "copied for narrowed channels": ({"student": "c-base"}, "c-base"),
    "real images of LLM prompts": ({"prompts": "llm", "images": "real"}, "images"),
    "pool without random conditioning": ({"texts": ["pool"]}, "texts"),
    "unknown texts": ({"texts": ["internet"], "random_conditioning": {"kind": "linear"}}, "texts"),
    "unknown p(t)": ({"random_conditioning": {"kind": "cosine"}}, "cosine"),
    "p above one": ({"random_conditioning": {"kind": "constant", "p": 2.0}}, r"[0, 1]"),
    "p(t) as a name": ({"random_conditioning": "linear"}, "random_conditioning"),
    "p(t) of no known type": ({"random_conditioning": {"kind": ["linear"]}}, "kind"),
    "infinite rate": ({"random_conditioning": {"kind": "exponential", "rate": float("inf")}}, "rate"),
    "texts as a word": ({"texts": "pool", "random_conditioning": {"kind": "linear"}}, "texts"),
    "the LLM's texts beside captions": ({"texts": ["llm"], "random_conditioning": {"kind": "linear"}}, "texts"),
    "nothing": (None, "mine"),
    "channels of a student that has them all": ({"init": "inherited"}, "b-base has the teacher's channels"),
    "layers of a narrower student": ({"student": "c-base"}, "use inherited or random"),
    "more than all trajectories": ({"trajectories": {"share": 1.5}}, "share"),
    "trajectories of length 0": ({"trajectories": {"stride": 0}}, "stride"),
    "nothing to swap": ({"trajectories": {"share": 1.0}, "random_conditioning": {"kind": "linear"}}, "could swap"),
    "images beside none": ({"trajectories": {"share": 1.0}, "images": "real"}, "no images at all"),
    "importance without images": (
        {"trajectories": {"share": 1.0}, "student": "c-base", "init": "inherited"},
        "importance",
    ),
    "unknown parameter of p(t)": ({"random_conditioning": {"kind": "linear", "rate": 1.0}}, "rate"),
}


@pytest.mark.parametrize("case", BAD_RUNS)
def test_bad_run(case: str, tmp_path: Path) -> None:
    values, named = BAD_RUNS[case]
    file = tmp_path / "experiments.yaml"
    file.write_text(yaml.safe_dump({"runs": {"mine": values}, "tables": {}}))
    with pytest.raises(UserError) as caught:
        load_experiments(file)
    one_line(caught.value, named)
    assert "runs.mine" in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("runs: {a: [", "not valid YAML"),
        ("- a", "runs and tables"),
        ("runs: {}\ntables: {t: {title: T, splits: [all], rows: [{run: b, paper: '1', label: B}]}}", "'b'"),
        ("runs: {}\ntables: {}\ngrids: [{title: T, split: all, runs: [c]}]", "'c'"),
        ("runs: {}\ntables: {t: {title: T, splits: [some], rows: []}}", "splits"),
        ("", "runs and tables"),
        ("runs: {}", "tables"),
        ("tables: {}", "runs"),
        ("runs: {}\ntables: {}\nfigures: []", "figures"),
        ("runs: {a: {}, b: {},\n  a: {rows: seen}}\ntables: {}", "line 2: 'a' stands there twice"),
        ("runs: {a: {rows: seen, rows: all}}\ntables: {}", "'rows' stands there twice"),
        ('{"runs": {"a": {}, "a": {}}, "tables": {}}', "'a' stands there twice"),
        ("runs: {a: !!bool maybe}\ntables: {}", "not valid YAML"),
        ("runs: {a: !!timestamp soon}\ntables: {}", "not valid YAML"),
        ("runs: {}\ntables: {t: {title: T, splits: [all], rows: [], note: x}}", "tables.t.note"),
        ("runs: {a: {}}\ntables: {t: {title: T, splits: [all], rows: [{run: a, paper: 1, label: B}]}}", "paper"),
        ("runs: {}\ntables: {}\ngrids: [{title: T, split: all, runs: [], count: 0}]", "grids.0.count"),
        ("runs: {1: {}}\ntables: {}", "runs.1"),
        ("runs: {My Run: {}}\ntables: {}", "My Run"),
        ("runs: {a_b: {}}\ntables: {}", "a_b"),
        ("runs: {--help: {}}\ntables: {}", "--help"),
        ("runs: {'-': {}}\ntables: {}", "runs.-"),
        ("runs: {teacher: {}}\ntables: {}", "teacher"),
        ("runs: {real: {}}\ntables: {}", "a run cannot be called real"),
        ("runs: {}\ntables: {t: {title: T, splits: [all], rows: [{run: real, step: 5, label: B}]}}", "step"),
        ("runs: {}\ntables: {along-table1: {title: T, splits: [all], rows: []}}", "along"),
        ("runs: {}\ntables: {t: {title: T, splits: [all], rows: [{run: teacher, step: 5, label: B}]}}", "step"),
        ("runs: {a: {}}\ntables: {t: {title: T, splits: [all], rows: [{run: a, weights: best, label: B}]}}", "weights"),
        ("runs: {a: {random_conditioning: {kind: sigmoid, centre: .nan}}}\ntables: {}", "centre"),
        (f"{FASTER}b: {{student: c}}}}", "faster.b: there is no run 'c' to start from"),
        (f"{FASTER}b: {{student: teacher}}}}", "no run 'teacher' to start from"),
        (f"{FASTER}b: {{student: a, phases: 5}}}}", "times: 32 cannot be cut into 5 phases"),
        (f"{FASTER}b: {{student: a, phases: 1}}}}", "times: of one phase a divisor of 1000"),
        (f"{FASTER}b: {{student: a, phases: 1, times: 4, steps: 8}}}}", "steps: of one phase at most its 4 times"),
        (f"{FASTER}b: {{student: a, phases: 2, steps: 6}}}}", "steps: the last of 6 would end just above no noise"),
        (f"{FASTER}b: {{student: a}}}}\ndrawn: {{d: {{run: b, steps: 7}}}}", "drawn.d: steps: the last of 7"),
        (f"{FASTER}a: {{student: a}}}}", "a: a name for two"),
        (f"{FASTER}b: {{student: a}}}}\ndrawn: {{b: {{run: a, steps: 4}}}}", "b: a name for two"),
        (f"{FASTER}b: {{student: a}}}}\ndrawn: {{d: {{run: d, steps: 4}}}}", "drawn.d: there is no run 'd'"),
        (f"{FASTER}b: {{student: full}}}}", "faster.b: full is of the full grid only"),
        (f"{FASTER}teacher: {{student: a}}}}", "teacher"),
        (f"{FASTER}}}\ndrawn: {{d: {{run: a, steps: 0}}}}", "drawn.d.steps"),
        (
            "runs: {a: {}}\nfaster: {b: {student: a}}\n"
            "tables: {t: {title: T, splits: [all], rows: [{run: b, step: 5, label: B}]}}",
            "tables.t: b has no steps",
        ),
    ],
)
def test_bad_experiments(text: str, named: str, tmp_path: Path) -> None:
    file = tmp_path / "experiments.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        load_experiments(file)
    one_line(caught.value, named)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("fault", ["missing", "folder", "latin-1"])
def test_unreadable_experiments(fault: str, tmp_path: Path) -> None:
    file = tmp_path / "experiments.yaml"
    if fault == "folder":
        file.mkdir()
    elif fault == "latin-1":
        file.write_bytes("runs: {}\ntables: {} # é".encode("latin-1"))
    with pytest.raises(UserError) as caught:
        load_experiments(file)
    one_line(caught.value, str(file))
