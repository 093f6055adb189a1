"""A tiny pipeline of the real classes, with random weights."""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from local_server import Server
from report_world import World
from tiny_pipelines import Folders

from randcond.teachers.pipelines import load_pipeline, teacher_of
from randcond.teachers.teacher import Teacher

torch.set_num_threads(1)
# who looks at plots, and at what reaches the disk; for all others a report is a third of the work without
PLOTS, DISK = ("test_report_figures", "test_report_page", "test_figures"), ("test_files", "test_stage", "test_rounds")


@pytest.fixture(autouse=True)
def light(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of other things neither draw the report's plots nor wait for the disk."""
    module = request.module.__name__
    if module.startswith("test_report") and not module.startswith(PLOTS):
        monkeypatch.setattr(
            "randcond.report.figures.save", lambda _, path: path.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
        )
    if not module.startswith(DISK):
        monkeypatch.setattr("randcond.jobs.files._sync", lambda _: None)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C is heard, also where the tests were started in the background, whose processes ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def family_folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A tiny pipeline of every family."""
    return Folders(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def pipeline_folder(request: pytest.FixtureRequest, family_folders: Folders) -> Path:
    """A tiny Stable Diffusion, or what a test marked with ``every_family`` is asked for."""
    return family_folders[getattr(request, "param", "stable_diffusion")]


@pytest.fixture
def teacher(pipeline_folder: Path) -> Teacher:
    return teacher_of(load_pipeline(pipeline_folder))


@pytest.fixture(scope="session")
def one_server() -> Iterator[Server]:
    """Started once: to stop one takes half a second."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def server(one_server: Server) -> Server:
    one_server.reset()
    return one_server


@pytest.fixture
def world(tmp_path: Path) -> World:
    """What a report is made from, to be changed."""
    return World(tmp_path, [0])


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A report that tests may read but not change."""
    world = World(tmp_path_factory.mktemp("report"), [0])
    world.build()
    return world


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a git and DVC repository in which every job has run."""
    from recorded_project import begin  # DVC takes a second to import

    monkeypatch.chdir(tmp_path)
    begin()
    return tmp_path


@pytest.fixture
def students(pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a configuration, a teacher, two finished students of one run (its copies) and one begun."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    settings = {"teacher": "teacher", "sampling": {"steps": 2, "seed": 7}}
    (tmp_path / "config/config.yaml").write_text(json.dumps(settings))
    shutil.copytree(pipeline_folder, tmp_path / "teacher")
    for seed in (10, 9):
        shutil.copytree(pipeline_folder, tmp_path / f"results/artists/students/mine/{seed}/pipeline")
    (tmp_path / "results/artists/students/begun/0").mkdir(parents=True)
    return tmp_path
