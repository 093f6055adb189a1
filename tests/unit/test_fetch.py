"""Fetching: resumed, checked, locked at the first time, and one line for whatever goes wrong. A local server serves."""

import gzip
import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from local_server import COMMIT, Server

from randcond.assets.check import check, table
from randcond.assets.fetch import fetch
from randcond.assets.listing import FIRST_FETCH, Asset, File, needed, read_assets
from randcond.jobs.errors import UserError

ROOT = Path(__file__).parents[2]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Folder:
    """Where a test fetches to."""

    def __init__(self, path: Path) -> None:
        self.output, self.work, self.lock = path / "out", path / "work", path / "config" / "lock.json"

    def fetch(self, *files: File, **changes: object) -> None:
        values: dict = {"files": list(files), "gigabytes": 1e-5, "licence": "none"}
        fetch("thing", Asset(**values | changes), self.output, self.work, self.lock, lambda _: None)

    def fails(self, named: str, *files: File, **changes: object) -> None:
        with pytest.raises(UserError, match=named) as caught:
            self.fetch(*files, **changes)
        assert "\n" not in str(caught.value)
        assert not self.output.exists()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_fetched_and_locked(server: Server, folder: Folder) -> None:
    server.files = {"/a": b"first", "/b": b"second"}
    files = [
        File(path="a.bin", url=f"{server.url}/a", sha256=digest(b"first")),
        File(path="x/b", url=f"{server.url}/b"),
    ]
    folder.fetch(*files)
    assert (folder.output / "a.bin").read_bytes() == b"first"
    assert (folder.output / "x/b").read_bytes() == b"second"
    assert not folder.work.exists()
    entry = json.loads(folder.lock.read_text())["thing"]
    assert entry["files"]["x/b"] == {"sha256": digest(b"second"), "bytes": 6}
    # what is locked is what must come from now on
    server.files["/b"] = b"changed"
    with pytest.raises(UserError, match=rf"x/b has the SHA-256 {digest(b'changed')}, not {digest(b'second')}"):
        folder.fetch(*files)
    assert (folder.output / "x/b").read_bytes() == b"second"
    server.files["/b"] = b"second"
    folder.fetch(*files)


def test_wrong_hash(server: Server, folder: Folder) -> None:
    server.files = {"/a": b"first"}
    folder.fails("SHA-256", File(path="a", url=f"{server.url}/a", sha256=digest(b"other")))
    assert not folder.lock.exists()


def test_a_broken_download_goes_on(server: Server, folder: Folder) -> None:
    content = bytes(range(256)) * 40
    server.files, server.cuts = {"/a": content}, [3000, 500, 500, 500, 500]
    file = File(path="a", url=f"{server.url}/a")
    folder.fails("broke off after 4500 bytes.*run again", file)
    folder.fetch(file)
    assert server.ranges() == [None, *(f"bytes={have}-" for have in (3000, 3500, 4000, 4500, 5000))]
    assert (folder.output / "a").read_bytes() == content


def test_missing_and_unreachable(server: Server, folder: Folder) -> None:
    folder.fails("answers 404", File(path="a", url=f"{server.url}/nothing"))
    folder.fails("answers 403.*licence", File(path="a", url=f"{server.url}/gated"))
    folder.fails("check the network", File(path="a", url="http://127.0.0.1:9/a"))
    folder.fails("No such file", File(path="a", url="file:///nowhere/a"))


def test_a_file_url(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(b"here")
    folder.fetch(File(path="a", url=(tmp_path / "local").as_uri()))
    assert (folder.output / "a").read_bytes() == b"here"


def test_no_room(server: Server, folder: Folder) -> None:
    with pytest.raises(UserError, match="room for .* GB; make more"):
        folder.fetch(File(path="a", url=f"{server.url}/a"), gigabytes=1e9)
    assert server.asked == []


def test_what_was_downloaded_before_needs_no_room_again(
    server: Server, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files = {"/a": b"x" * 3000}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match="make more"):
        folder.fetch(File(path="a", url=f"{server.url}/a"), gigabytes=3e-6)
    folder.work.mkdir(parents=True)
    (folder.work / "a.part").write_bytes(b"x" * 2000)
    folder.fetch(File(path="a", url=f"{server.url}/a"), gigabytes=3e-6)
    assert (folder.output / "a").read_bytes() == b"x" * 3000


def packed(files: dict[str, bytes]) -> bytes:
    """A .tar.gz."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, one in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(one)
            archive.addfile(info, io.BytesIO(one))
    return content.getvalue()


def test_repacked(server: Server, folder: Folder) -> None:
    server.files = {"/d.tar.gz": packed({"d/metadata.csv": b"file_name,text\n", "d/1.jpg": b"picture"})}
    folder.fetch(File(path="d.tar.gz", url=f"{server.url}/d.tar.gz"), repack="zip")
    with zipfile.ZipFile(folder.output / "d.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "d/metadata.csv": b"file_name,text\n", "d/1.jpg": b"picture",
        }  # fmt: skip


def test_what_is_whole_stays_where_a_later_file_fails(server: Server, folder: Folder) -> None:
    server.files = {"/a": b"first", "/cut.tar.gz": gzip.compress(b"no archive")}
    files = [File(path="a", url=f"{server.url}/a"), File(path="b.tar.gz", url=f"{server.url}/cut.tar.gz")]
    folder.fails(r"not a whole \.tar\.gz", *files, repack="zip")
    assert not folder.lock.exists()  # or the right file would be refused
    server.files["/cut.tar.gz"] = packed({"d": b"whole"})
    server.asked.clear()
    folder.fetch(*files, repack="zip")
    assert [one.path for one in server.asked] == ["/cut.tar.gz"]
    assert (folder.output / "a").read_bytes() == b"first"
    assert sorted(path.name for path in folder.output.iterdir()) == ["a", "b.zip"]
    assert (folder.output / "a").stat().st_nlink == 1
    assert not folder.work.exists()


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server as if it were the hub."""
    for name, value in {
        "ENDPOINT": server.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
    }.items():  # fmt: skip
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    return server


def test_a_repository_of_the_hub(hub: Server, folder: Folder) -> None:
    hub.files = {f"/some/model/resolve/{r}/unet/config.json": b"{}" for r in ("main", COMMIT)}
    file = File(path="unet/config.json")
    folder.fetch(file, repository="some/model")
    assert (folder.output / "unet/config.json").read_bytes() == b"{}"
    entry = json.loads(folder.lock.read_text())["thing"]
    assert entry == {"revision": COMMIT, "files": {"unet/config.json": {"sha256": digest(b"{}"), "bytes": 2}}}
    # from now on the branch may move
    hub.asked.clear()
    folder.fetch(file, repository="some/model")
    assert all("/main/" not in one.path for one in hub.asked)


@pytest.mark.parametrize(
    ("repository", "named"),
    [
        ("gated/model", "is gated: accept its licence"),
        ("unknown/model", "does not exist"),
        ("some/model", "holds no a"),
        ("large/model", "large/model: a: 20000 bytes or more, .* no more than 15000 may come"),
    ],
)
def test_refusals_of_the_hub_are_one_line(hub: Server, folder: Folder, repository: str, named: str) -> None:
    hub.files = {"/large/model/resolve/main/a": b"0" * 20_000}
    folder.fails(named, File(path="a"), repository=repository)


def test_a_token_that_is_none_is_not_shown(hub: Server, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret\nhf_secret")
    folder.fails("^HF_TOKEN: holds something else than printable ASCII[^_]*$", File(path="a"), repository="some/model")
    asset = Asset.model_validate(
        {"repository": "some/model", "gigabytes": 1.0, "licence": "-", "files": [{"path": "a"}]}
    )
    with pytest.raises(UserError, match="^HF_TOKEN: holds something else than printable ASCII[^_]*$"):
        check({"thing": asset}, folder.lock)
    assert hub.asked == []


def test_a_token_is_for_the_hub_alone(hub: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_ENDPOINT", hub.url[:-1])  # as https://huggingface.co begins https://huggingface.com
    asset = Asset(gigabytes=1.0, licence="-", files=[File(path="a", url=f"{hub.url}/a")])
    check({"a": asset}, tmp_path / "none")
    assert [one.headers.get("Authorization") for one in hub.asked] == [None]


def test_the_list_of_assets() -> None:
    assets = read_assets(ROOT / "config/assets.yaml")
    names = ("paper", "sd21", "sdxl", "sd3", "own_sd")
    configs = [yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()) for name in names]
    used = {name for config in configs for name in needed(assets, config)}
    assert used == set(assets), "an asset that nothing uses, or a path to none"
    for asset in assets.values():
        assert asset.licence
        for file in asset.files:
            assert file.sha256 == FIRST_FETCH or len(file.sha256) == 64


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"files": []}, "files"),
        ({"files": [{"path": "../x", "url": "https://x/y"}]}, "leaves"),
        ({"files": [{"path": "a"}]}, "needs either"),
        ({"files": [{"path": "a", "url": "https://x/y", "sha256": "abc"}]}, "sha256"),
        ({"files": [{"path": "a", "url": "https://x/y"}] * 2}, "twice"),
        ({"size": 3}, "size"),
        ({"files": [{"path": "a", "url": "https://user:word@x/y"}]}, "url: [^@]* without user and password[^@]*$"),
    ],
)
def test_bad_lists(change: dict, named: str, tmp_path: Path) -> None:
    good = {"gigabytes": 1.0, "licence": "x", "files": [{"path": "a", "url": "https://x/y"}]}
    file = tmp_path / "assets.yaml"
    file.write_text(yaml.safe_dump({"thing": good}))
    read_assets(file)
    file.write_text(yaml.safe_dump({"thing": good | change}))
    with pytest.raises(UserError, match=named) as caught:
        read_assets(file)
    assert "\n" not in str(caught.value)


def test_assets_are_asked_for_without_a_download(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    server.files = {"/a": b"12345", "/b": b"123", "/big": b"0" * 4000, "/small": b"0" * 400, "/right": b"0" * 1000}
    urls = {"a": ["/a", "/b", "/gone"], "big": ["/big"], "small": ["/small"], "right": ["/right"]}
    assets = {
        name: Asset.model_validate(
            {"gigabytes": 1e-6, "licence": "none",
             "files": [{"path": f"f{path[1:]}", "url": server.url + path} for path in paths]}
        )
        for name, paths in urls.items()
    }  # fmt: skip
    assets["far"] = Asset.model_validate(
        {"gigabytes": 1.0, "licence": "none", "files": [{"path": "x", "url": "http://127.0.0.1:1/x"}]}
    )
    lock = tmp_path / "lock.json"
    entry = {"revision": None, "files": {"fa": {"sha256": "0", "bytes": 5}, "fb": {"sha256": "0", "bytes": 4}}}
    lock.write_text(json.dumps({"a": entry}))
    found = {(one.asset, one.path): one for one in check(assets, lock)}
    assert found["a", "fa"].trouble == ""
    assert found["a", "fb"].trouble == "of another size than when it was fetched"
    assert found["a", "fgone"].trouble == "gone (404)"
    assert found["big", "fbig"].trouble == ""
    for name in ("big", "small"):
        assert found[name, "all"].trouble.startswith("0.0 GB, the list says")
    assert ("right", "all") not in found
    assert found["far", "x"].trouble.startswith("not reached")
    assert len(table(list(found.values())).splitlines()) == 1 + len(found)
    assert {one.method for one in server.asked} == {"HEAD"}


def test_a_repository_is_asked_for(hub: Server, tmp_path: Path) -> None:
    hub.files = {"/some/model/resolve/main/config.json": b"{}"}
    values = {"repository": "some/model", "gigabytes": 2e-9, "licence": "none", "files": [{"path": "config.json"}]}
    (one,) = check({"model": Asset.model_validate(values)}, tmp_path / "none.json")
    assert (one.bytes, one.trouble) == (2, "")


def test_a_lock_with_a_merges_marks_is_not_to_be_deleted(server: Server, folder: Folder) -> None:
    folder.lock.parent.mkdir(parents=True)
    for content in ("<<<<<<< ours\n{}\n", "[]"):
        folder.lock.write_text(content)
        told = r"lock\.json: not .*; correct it, or take git's: git checkout -- .*lock\.json"
        folder.fails(told, File(path="a", url=f"{server.url}/a"))
    assert server.asked == []
