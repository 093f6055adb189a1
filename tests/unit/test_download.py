"""A download that goes on is of one file: whatever changes between tries, and whatever the server answers."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_server import Answer, Server

from randcond.assets.download import download
from randcond.jobs.errors import UserError

OLD, NEW = b"old" * 1000, b"new" * 1000
REST = {"Content-Length": "2000"}


def get(url: str, folder: Path, most: int = 10_000, hashed: bool = False) -> bytes:
    download(url, folder / "a", most, hashed, pause=lambda _: None)
    return (folder / "a").read_bytes()


def begun(server: Server, folder: Path) -> str:
    """The URL of a file of which the first 1000 bytes have come."""
    server.files, server.cuts = {"/a": OLD}, [1000, 0, 0, 0]
    with pytest.raises(UserError, match="broke off after 1000 bytes"):
        get(f"{server.url}/a", folder)
    server.asked.clear()
    return f"{server.url}/a"


def test_a_file_that_changed_is_begun_anew(server: Server, tmp_path: Path) -> None:
    url = begun(server, tmp_path)
    server.files = {"/a": NEW}
    assert get(url, tmp_path) == NEW


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 1000-2999/3000", "ETag": '"another"'},
        {"Content-Range": "bytes 500-2499/3000"},
        {"Content-Range": "bytes 1000-2999/4000"},
        {},
    ],
)
def test_a_part_of_something_else_is_begun_anew(server: Server, tmp_path: Path, headers: dict[str, str]) -> None:
    url = begun(server, tmp_path)
    server.answers, server.files = [Answer(206, REST | headers, NEW[1000:])], {"/a": NEW}
    assert get(url, tmp_path) == NEW
    assert server.ranges() == ["bytes=1000-", None]


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}])
def test_what_cannot_be_told_apart_is_begun_anew(server: Server, tmp_path: Path, headers: dict[str, str]) -> None:
    server.answers = [Answer(200, headers | {"Content-Length": "3000"}, OLD[:1000])]
    server.files = {"/a": NEW}
    assert get(f"{server.url}/a", tmp_path) == NEW
    assert server.ranges() == [None, None]


def test_a_date_tells_files_apart(server: Server, tmp_path: Path) -> None:
    date = {"Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT"}
    server.answers = [
        Answer(200, date | {"Content-Length": "3000"}, OLD[:1000]),
        Answer(206, date | REST | {"Content-Range": "bytes 1000-2999/3000"}, OLD[1000:]),
    ]
    assert get(f"{server.url}/a", tmp_path) == OLD
    assert server.asked[1].headers["If-Range"] == date["Last-Modified"]


def test_another_url_is_begun_anew(server: Server, tmp_path: Path) -> None:
    begun(server, tmp_path)
    server.files = {"/a": OLD, "/b": OLD[:1500] + NEW}
    assert get(f"{server.url}/b", tmp_path) == server.files["/b"]
    assert get(f"{server.url}/a", tmp_path) == OLD  # also where the other one is whole
    server.asked.clear()
    assert get(f"{server.url}/a", tmp_path) == OLD
    assert server.asked == []


def test_whole_but_not_in_place(server: Server, tmp_path: Path) -> None:
    url = begun(server, tmp_path)
    (tmp_path / "a.partial").write_bytes(OLD)
    assert get(url, tmp_path) == OLD
    assert server.asked == []
    (tmp_path / "a").unlink()
    (tmp_path / "a.partial").write_bytes(OLD + b"more")
    assert get(url, tmp_path) == OLD


@pytest.mark.parametrize(
    "again",
    [
        Answer(503),
        Answer(416),
        Answer(200, {"Transfer-Encoding": "chunked", "ETag": '"x"'}, "50\r\nbroken"),
        Answer(200, {"Content-Length": "3000"}, b""),
        Answer(302, {"Location": "http://a..b/"}),
    ],
)
def test_tried_again(server: Server, tmp_path: Path, again: Answer) -> None:
    server.answers, server.files = [again], {"/a": NEW}
    assert get(f"{server.url}/a", tmp_path, hashed=True) == NEW


def test_another_url_is_another_file(server: Server, tmp_path: Path) -> None:
    """Even if it was published at the same second and is as long."""
    date = {"Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT", "Content-Length": "3000"}
    rest = date | REST | {"Content-Range": "bytes 1000-2999/3000"}
    server.answers = [Answer(200, date, OLD[:1000]), *[Answer(404)] * 3]
    with pytest.raises(UserError, match="answers 404"):
        get(f"{server.url}/a", tmp_path)
    server.asked.clear()
    server.answers = [Answer(200, date, NEW), Answer(206, rest, NEW[1000:])]
    assert get(f"{server.url}/b", tmp_path) == NEW
    assert server.ranges() == [None]


def test_no_more_is_read_than_may_come(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("randcond.assets.download._CHUNK", 100)
    read: list[int] = []
    monkeypatch.setattr("randcond.assets.download.Progress.at", lambda _, done: read.append(done))
    server.answers = [Answer(200, {"ETag": '"x"'}, OLD)]  # of a length that is not told
    with pytest.raises(UserError, match="600 bytes or more, .* no more than 500 may come"):
        get(f"{server.url}/a", tmp_path, most=500, hashed=True)
    assert len(read) <= 5


def test_too_large(server: Server, tmp_path: Path) -> None:
    server.files = {"/a": OLD}
    server.answers = [Answer(200, {"ETag": '"x"'}, OLD)]  # of a length that is not told
    for _ in range(2):
        with pytest.raises(UserError, match="3000 bytes or more, .* no more than 2999 may come.*gigabytes"):
            get(f"{server.url}/a", tmp_path, most=2999, hashed=True)
    assert len(server.asked) == 2
    assert not list(tmp_path.glob("a*"))
    assert get(f"{server.url}/a", tmp_path, most=3000) == OLD


def test_neither_length_nor_hash(server: Server, tmp_path: Path) -> None:
    server.answers = [Answer(200, {}, OLD)] * 2
    with pytest.raises(UserError, match="does not say how long it is, and no SHA-256.*give its sha256"):
        get(f"{server.url}/a", tmp_path)
    assert not list(tmp_path.glob("a*"))
    assert get(f"{server.url}/a", tmp_path, hashed=True) == OLD


@settings(max_examples=10)
@given(
    st.lists(st.tuples(st.sampled_from([b"x", b"y"]), st.sampled_from("ab"), st.integers(0, 40)), max_size=4),
    st.tuples(st.sampled_from([b"x", b"y"]), st.sampled_from("ab")),
)
def test_whatever_happened_before(one_server: Server, before: list[tuple[bytes, str, int]], last: tuple) -> None:
    def publish(content: bytes) -> None:
        one_server.reset()
        one_server.files = {"/a": content * 30, "/b": content.upper() * 30}

    with tempfile.TemporaryDirectory() as name:
        for content, place, cut in before:
            publish(content)
            one_server.cuts = [cut, 0, 0, 0]
            try:
                get(f"{one_server.url}/{place}", Path(name))
            except UserError:
                continue
            Path(name, "a").unlink()  # whole, and put in place
        publish(last[0])
        assert get(f"{one_server.url}/{last[1]}", Path(name)) == one_server.files[f"/{last[1]}"]
