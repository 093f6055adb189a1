"""Archives of others: images in the order of their numbers, and captions of which none is lost or mistaken."""

import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paper_world import table

from randcond.jobs.errors import UserError
from randcond.worlds.archives import Archive, numbered_images, parse_captions


def zipped(path: Path, *names: str, content: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def zips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zips")


@given(st.data())
@settings(max_examples=30)
def test_images_come_in_the_order_of_their_numbers(zips: Path, data: st.DataObject) -> None:
    archives, start = [], 0
    for shard, size in enumerate(data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))):
        names = data.draw(st.permutations([f"some/{start + i:01d}.png" for i in range(size)]))
        archives.append(zipped(zips / f"{shard}.zip", "some/", *names))
        start += size
    found = numbered_images(data.draw(st.permutations(archives)))
    assert [path for path, _ in found] == archives
    assert [name for _, names in found for name in names] == [f"some/{i:01d}.png" for i in range(start)]


@pytest.mark.parametrize(
    ("shards", "said"),
    [
        ([["0.png", "1.png"], ["3.png"]], "1.zip: 3.png stands where image 2 should"),
        ([["0.png", "2.png"], ["1.png"]], "0.zip: 2.png stands where image 1 should"),
        ([["0.png"], ["0.png"]], "1.zip: 0.png stands where image 1 should"),
        ([["1.png"]], "0.zip: 1.png stands where image 0 should"),
        ([["0.png", "b.png"]], "0.zip: b.png is no image's number"),
        ([["0.png"], []], "1.zip: holds no images"),
    ],
)
def test_no_image_is_missing_or_taken_for_another(shards: list[list[str]], said: str, tmp_path: Path) -> None:
    archives = [zipped(tmp_path / f"{i}.zip", *names) for i, names in enumerate(shards)]
    with pytest.raises(UserError, match=said):
        numbered_images(archives)


def test_two_files_of_one_name_are_not_mistaken(tmp_path: Path) -> None:
    metadata = table([("a/1.jpg", "a dog"), ("b/1.jpg", "a bus")])
    with zipfile.ZipFile(tmp_path / "captions.zip", "w") as file:
        for name, content in {"a/1.jpg": "x", "b/1.jpg": "y", "2.jpg": "z", "metadata.csv": metadata}.items():
            file.writestr(name, content)
    archive = Archive(tmp_path / "captions.zip")
    for asked in (lambda: archive.read("1.jpg"), archive.captions):
        with pytest.raises(UserError, match=r"a/1\.jpg and b/1\.jpg are both called 1\.jpg"):
            asked()
    assert archive.read("2.jpg") == b"z"


HEAD = "file_name,text\n"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ('1.jpg,"a dog\n2.jpg,a cat\n3.jpg,a bus\n', "line 4: unexpected end of data; correct its quotes"),
        ('1.jpg,"a dog\n2.jpg,"a cat"\n3.jpg,a bus\n', "line 3: .*correct its quotes"),
        ('1.jpg,"a dog\n2.jpg,a cat\n3.jpg,a bus"\n', "line 4: the text of 1.jpg holds the row of another file"),
        ('1.jpg,"a dog\n2.jpg,"\n3.jpg,a bus\n', "line 3: the text of 1.jpg holds the row of another file"),
        ("1.jpg,a dog, running\n2.jpg,a cat\n", "line 2: has more columns"),
        ("1.jpg,a dog\n2.jpg\n", "line 3: has fewer columns"),
        (f"1.jpg,{'a' * 200_000}\n", "line 2: field larger"),
    ],
)
def test_no_caption_is_swallowed(rows: str, said: str) -> None:
    with pytest.raises(UserError, match=f"captions.csv: {said}") as caught:
        parse_captions((HEAD + rows).encode(), "captions.csv")
    assert len(str(caught.value)) < 200


def test_captions_of_several_lines_and_with_quotes_stay() -> None:
    rows = [("1.jpg", 'a "big" dog,\nrunning\n'), ("2.jpg", "a cat, 3.png,"), ("3.jpg", " "), ("4", "a\n5.jpg,bus")]
    expected = [("1.jpg", 'a "big" dog, running'), ("2.jpg", "a cat, 3.png,"), ("4", "a 5.jpg,bus")]
    assert parse_captions(table(rows).encode(), "captions.csv") == expected


@given(st.lists(st.tuples(st.uuids().map("{}.jpg".format), st.text()), unique_by=lambda row: row[0]))
@settings(max_examples=30)
def test_captions_that_were_written_are_read(rows: list[tuple[str, str]]) -> None:
    whole = table(rows).encode("utf-8", "replace")
    expected = [(name, " ".join(text.split())) for name, text in rows if text.split()]
    assert parse_captions(whole, "captions.csv") == expected
