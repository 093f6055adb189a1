"""DVC and Snakemake agree: on the stages of every world, on what is up to date, after a change and after a restore."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import modify_yaml

from checkout import COLD, ROOT, SMOKE, Checkout, python

RUN = "seen-rc-animals"
CHANGED = {f"student-{RUN}-0", f"sample-{RUN}-0", f"score-{RUN}-0", "report"}  # stages, of another p(t) in RUN
PIPELINE = "versions/smoke/dvc.yaml"
WORLDS = {"artists": [], "smoke": ["config/smoke.yaml"]}


class Versioned(Checkout):
    """A copy of a checkout with its results, under git, to run DVC in."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder = folder
        shutil.copytree(source, folder, symlinks=True, dirs_exist_ok=True)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        names = {f"GIT_{role}_{key}": "test@localhost" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
        environment = os.environ | names | {"PYTHONPATH": str(self.folder / "workflow/src")}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def commit(self) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", "state")

    def versions(self, command: str, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        smoke = ("--configfile", "config/smoke.yaml")
        return self.run(python(), "-m", "randcond.versions", command, *smoke, *options, check=check)

    def status(self) -> set[str]:
        """Stages of the smoke world that DVC does not call up to date."""
        found = json.loads(self.run("dvc", "status", "--json", PIPELINE).stdout)
        return {name.partition(":")[2] for name in found}


def change_probability(checkout: Checkout) -> None:
    experiments = checkout.folder / "config/experiments.yaml"
    text = experiments.read_text()
    old = f"{RUN}: {{rows: seen, random_conditioning: *paper,"
    assert text.count(old) == 1
    experiments.write_text(
        text.replace(old, f"{RUN}: {{rows: seen, random_conditioning: {{kind: linear, share: 0.2}},")
    )


@pytest.fixture(scope="module")
def recorded(smoke: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Versioned:
    """The finished smoke world, recorded and pushed to a folder."""
    checkout = Versioned(tmp_path_factory.mktemp("recorded"), smoke.folder)
    checkout.run("git", "init", "--quiet")
    checkout.commit()
    checkout.versions("share", "--remote", str(tmp_path_factory.mktemp("remote")))
    checkout.commit()
    return checkout


@pytest.fixture
def copy(recorded: Versioned, tmp_path: Path) -> Versioned:
    return Versioned(tmp_path / "copy", recorded.folder)


def jobs(checkout: Versioned, configfiles: list[str], target: str) -> list[dict[str, list[str]]]:
    """Every job that leads to ``target``, as Snakemake prints it: input, output, log, benchmark."""
    options = ["--configfile", *configfiles] if configfiles else []
    output = checkout.snakemake("--cores", "1", "--dry-run", "--forceall", *options, "--", target).stdout
    found: list[dict[str, list[str]]] = []
    for line in output.splitlines():
        if re.match(r"(local)?rule ", line):
            found.append({})
        elif match := re.match(r"    (input|output|log|benchmark): (.+?)(?: \(.*\))?$", line):
            found[-1][match[1]] = match[2].split(", ")
    return [job for job in found if "output" in job]


@pytest.mark.parametrize("world", [*WORLDS, "artists-teacher"])
def test_dvc_and_snakemake_agree(recorded: Versioned, tmp_path: Path, world: str) -> None:
    checkout = Versioned(tmp_path / "world", recorded.folder)
    configfiles, target = (
        WORLDS.get(world, [f"config/{world}.yaml"]),
        "teacher" if world == "artists-teacher" else "all",
    )
    if world != "smoke":
        (checkout.folder / "results" / world / ("make_teacher" if world == "artists-teacher" else "prompts")).mkdir(
            parents=True
        )
    options = ["--configfile", *configfiles] if configfiles else []
    checkout.run(python(), "-m", "randcond.versions", "record", *options)
    own = "dvc.yaml" if world == "artists" else f"versions/{world}/dvc.yaml"
    entries: list[dict[str, list[str]]] = []
    for name in (own, "versions/assets/dvc.yaml"):
        if (checkout.folder / name).is_file() and not (world == "artists-teacher" and "assets" in name):
            entries += yaml.safe_load((checkout.folder / name).read_text())["stages"].values()
    outs = [out for entry in entries for out in (*entry["outs"], *entry.get("metrics", []))]
    assert len(outs) == len(set(outs))
    left, taken = set(), set()
    for job in jobs(checkout, configfiles, target):
        made = [*job["output"], *job.get("log", []), *job.get("benchmark", [])]
        for path in made:
            (holder,) = [out for out in outs if path == out or path.startswith(f"{out}/")]
            left.add(holder)
        (entry,) = [one for one in entries if job["output"][0] in " ".join(one["cmd"].split(" -- ")[1:]).split()]
        for path in job.get("input", []):
            (holder,) = [dep for dep in entry["deps"] if path == dep or path.startswith(f"{dep}/")]
            taken.add((entry["cmd"], holder))
    assert left == set(outs), "DVC keeps what no job makes"
    assert taken == {(entry["cmd"], dep) for entry in entries for dep in entry.get("deps", [])}, (
        "DVC knows other inputs"
    )


def test_the_project_ships_what_the_rules_say(recorded: Versioned, tmp_path: Path) -> None:
    checkout = Versioned(tmp_path / "clean", recorded.folder)
    checkout.run(python(), "-m", "randcond.versions", "record")
    for name in ("dvc.yaml", "versions/artists/settings.json"):
        assert (checkout.folder / name).read_text() == (ROOT / name).read_text(), f"{name} is old: run `make record`"


def test_a_finished_world_is_clean(recorded: Versioned) -> None:
    assert recorded.status() == set()
    lock = (recorded.folder / PIPELINE).with_suffix(".lock").read_bytes()
    assert "0 stages recorded" in recorded.versions("record").stderr
    assert (recorded.folder / PIPELINE).with_suffix(".lock").read_bytes() == lock
    assert recorded.planned() == set()


def test_restore_computes_nothing(recorded: Versioned, tmp_path: Path) -> None:
    recorded.run("git", "clone", "--quiet", str(recorded.folder), str(tmp_path / "clone"))
    clone = Versioned.__new__(Versioned)
    clone.folder = tmp_path / "clone"
    lock = (clone.folder / PIPELINE).with_suffix(".lock")
    whole = lock.read_text()
    with modify_yaml(str(lock)) as known:  # as DVC does: other parsers take 1e-05 for a text
        del known["stages"]["report"]
    assert "not recorded, for snakemake to make: report\n" in clone.versions("restore").stderr
    assert clone.planned() == {"report"}
    lock.write_text(whole)
    clone.versions("restore")
    assert clone.planned() == set()
    patterns = ("smoke/**/*", "assets/*")
    hashes = {name: value for name, value in recorded.hashes(*patterns).items() if "/checkpoints/" not in name}
    assert len(hashes) > 100
    assert clone.hashes(*patterns) == hashes
    change_probability(clone)
    assert clone.planned() == {f"student {RUN}", f"sample {RUN}", f"score {RUN}", "report"}
    assert "not as recorded" in clone.versions("restore", check=False).stderr


@pytest.mark.slow  # test_restore_computes_nothing; there of what `all` makes
def test_a_model_that_was_asked_for_is_recorded_and_restored(copy: Versioned, tmp_path: Path) -> None:
    model = f"results/smoke/models/{RUN}/0"
    options = ("--cores", "2", "--configfile", "config/smoke.yaml", "--", model)
    copy.snakemake(*options)
    assert copy.status() == set()
    copy.versions("share", "--remote", str(tmp_path / "remote"))
    copy.commit()
    copy.run("git", "clone", "--quiet", str(copy.folder), str(tmp_path / "clone"))
    clone = Versioned.__new__(Versioned)
    clone.folder = tmp_path / "clone"
    clone.versions("restore")
    assert clone.hashes("smoke/models/**/*") == copy.hashes("smoke/models/**/*") != {}
    assert clone.run("git", "status", "--porcelain").stdout == ""
    assert "Nothing to be done" in clone.snakemake(*options).stderr


def test_changed_probability(copy: Versioned) -> None:
    change_probability(copy)
    assert copy.status() == CHANGED


@pytest.mark.slow  # what changed is found: above; what is planned then: test_restore_computes_nothing
def test_changed_probability_is_made_anew(copy: Versioned) -> None:
    change_probability(copy)

    # killed half way: nothing half-made is up to date
    with copy.start(*SMOKE) as process:
        assert process.stdout is not None
        assert any(f"{RUN}/0: " in line for line in process.stdout), "the training did not start"
        os.killpg(process.pid, signal.SIGKILL)
    assert copy.status() == CHANGED

    copy.snakemake("--unlock", *SMOKE)
    copy.snakemake(*SMOKE)
    assert copy.status() == set()
    changed = json.loads(copy.run("dvc", "metrics", "diff", "--json").stdout)
    assert list(changed) == [f"results/smoke/scores/{RUN}/0.json"]
    params = copy.run("dvc", "params", "diff").stdout
    assert f"runs.{RUN}.random_conditioning.rate" in params
    text = copy.versions("provenance", "--run", RUN).stdout
    head = copy.run("git", "rev-parse", "HEAD").stdout.strip()
    assert f"at commit {head}, with uncommitted changes" in text
    assert f"results/smoke/students/{RUN}/0/pipeline md5" in text
    assert "torch" in text


@pytest.mark.slow  # test_changed_probability: what changed is found
def test_dvc_repro_runs_what_changed(copy: Versioned) -> None:
    change_probability(copy)
    output = copy.run("dvc", "repro", PIPELINE).stdout
    ran = re.findall(r"Running stage '[^']*:([^':]+)'", output)
    assert ran == [f"student-{RUN}-0", f"sample-{RUN}-0", f"score-{RUN}-0", "report"]
    assert copy.planned() == set()
    assert copy.status() == set()
    plots = json.loads(copy.run("dvc", "plots", "diff", "HEAD", "--json").stdout)["data"]
    for name in ("loss", "probability"):
        points = plots[f"{PIPELINE}::{name}"][0]["content"]["data"]["values"]
        assert {point["rev"] for point in points} == {"HEAD", "workspace"}


def test_damage_is_found_and_mended(copy: Versioned) -> None:
    shard = copy.folder / f"results/smoke/samples/{RUN}/0/00000.zip"
    good = shard.read_bytes()
    shard.write_bytes(good[:100] + bytes([good[100] ^ 1]) + good[101:])
    assert copy.status() == {f"sample-{RUN}-0", f"score-{RUN}-0", "report"}
    assert f"samples/{RUN}/0/00000.zip was changed" in copy.versions("record").stderr
    copy.run("dvc", "checkout", "--force", str(shard.parent))
    assert shard.read_bytes() == good
    assert copy.status() == set()


def test_outputs_stay_writable(copy: Versioned) -> None:
    # what a commit made read-only root could write all the same, were it not for this
    plain = [] if os.getuid() else ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner"]
    (copy.folder / "results/smoke/report/index.html").unlink()
    command = [*plain, sys.executable, "-m", "snakemake", *SMOKE, "--forcerun", "report"]
    environment = os.environ | COLD | {"PYTHONPATH": str(copy.folder / "workflow/src")}
    subprocess.run(command, cwd=copy.folder, env=environment, capture_output=True, check=True)
    assert copy.status() == set()
    files = [path for path in (copy.folder / "results").rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 100
    assert [path for path in files if not path.stat().st_mode & stat.S_IWUSR] == []


def test_without_git_a_run_is_finished_all_the_same(smoke: Checkout, tmp_path: Path) -> None:
    plain = Versioned(tmp_path / "plain", smoke.folder)
    shutil.rmtree(plain.folder / "results/smoke/report")
    done = plain.snakemake(*SMOKE)
    assert [line for line in done.stderr.splitlines() if "not versioned" in line] == [
        "not versioned: no git repository here"
    ]


def test_results_behind_a_link_are_named_before_the_run(tmp_path: Path) -> None:
    plain = Checkout(tmp_path / "plain")
    shutil.move(plain.folder / "results", tmp_path / "disk")
    (plain.folder / "results").symlink_to(tmp_path / "disk")
    lines = plain.snakemake(*SMOKE, "--", "results/smoke/prompts/0/summary.json").stderr.splitlines()
    (said,) = [i for i, line in enumerate(lines) if line.startswith("not versioned: results is a symbolic link")]
    (ran,) = [i for i, line in enumerate(lines) if line.endswith("rule prompts:")]
    assert said < ran
