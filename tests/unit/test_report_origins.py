"""Replicates that were made on another kind of machine than the rest of their run are called what they are."""

import json
from pathlib import Path

from report_world import World

from randcond.report import Files, build, shown
from randcond.report.origins import Elsewhere, Environment, Origin, elsewhere

HERE = {"processor": "Xeon", "cores": "2", "memory": "8 GiB", "GPU": "none", "instructions": "x86_64 6-106 avx2 fma"}
THERE = {**HERE, "instructions": "x86_64 6-143 avx2 avx512f fma"}
RUN = "seen-rc"


def report(folder: Path, machines: dict[int, dict[str, str]]) -> tuple[str, str]:
    """Page and LaTeX of table 2 of a report whose students of each seed were trained on these machines."""
    world, logs = World(folder, list(machines)), []
    for seed, machine in machines.items():
        logs.append(folder / f"logs/student/{RUN}-{seed}.log")
        logs[-1].parent.mkdir(parents=True, exist_ok=True)
        made = {"commit": "abc", "versions": {"torch": "2"}, "machine": machine}
        logs[-1].write_text(f"2026-01-01 00:00:00 made with {json.dumps(made)}\n")
    settings = shown.read_settings(json.dumps({**world.settings, "grids": []}))
    build(settings, Files(scores=world.score_files(), logs=logs), folder / "report")
    return (folder / "report/index.html").read_text(), (folder / "report/tables/table2.tex").read_text()


def test_a_replicate_from_elsewhere_is_named(tmp_path: Path) -> None:
    page, latex = report(tmp_path, {0: HERE, 1: {**HERE, "cores": "64", "memory": "512 GiB"}, 2: THERE})
    record = page.split('<section id="provenance">')[1]
    kinds = f"(on {THERE['instructions']}; the others on {HERE['instructions']})"
    assert f"{RUN}, seed 2, student {kinds}." in record
    assert f"{RUN}, seed 1" not in record
    for table in ("table1", "table2"):
        note = page.split(f'<section id="table-{table}">')[1].split("</p>")[0]
        assert f"Seeds of {RUN} were made on more than one kind of machine" in note
    assert f"Seeds of {RUN} were made on more than one kind of machine" in latex


def test_one_kind_of_machine_needs_no_words(tmp_path: Path) -> None:
    page, latex = report(tmp_path, {0: HERE, 1: {**HERE, "cores": "64"}})
    assert "kind of machine" not in page.split('<section id="tables">')[1] + latex


def test_what_makes_a_kind_of_machine() -> None:
    named = {key: value for key, value in HERE.items() if key != "instructions"}  # as logs were before
    machines = [HERE, THERE, {**HERE, "GPU": "H100"}, {**HERE, "GPU": "H100, H100"}, named]
    environments = [Environment(machine, {}) for machine in machines]

    def found(*used: int | tuple[int, ...]) -> list[Elsewhere]:
        several = [one if isinstance(one, tuple) else (one,) for one in used]
        rows = [Origin("a", seed, "student", "now", "abc", numbers, "md5") for seed, numbers in enumerate(several)]
        return elsewhere(rows, environments)

    assert found(1, (1, 1), ()) == found(3, 4, ()) == found(5, 5) == []
    assert found(2, 1, 1) == [Elsewhere("a", 0, "student", THERE["instructions"], HERE["instructions"])]
    assert [(one.seed, one.usual) for one in found(1, 2)] == [(1, HERE["instructions"])]
    assert [one.kind for one in found(1, 1, 3)] == [f"{HERE['instructions']}, H100"]
    assert [one.kind for one in found(1, 1, 5)] == ["Xeon"]
    resumed = f"{HERE['instructions']}, then {THERE['instructions']}"
    assert [(one.seed, one.kind) for one in found(1, (1, 2), 1)] == [(1, resumed)]
