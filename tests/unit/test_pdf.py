"""Printing the report: only through a browser that is there and that writes a PDF."""

from argparse import Namespace
from pathlib import Path

import pytest

from randcond.jobs.errors import UserError
from randcond.report import pdf


@pytest.fixture
def arguments(tmp_path: Path) -> Namespace:
    (tmp_path / "report").mkdir()
    (tmp_path / "report/index.html").write_text("<p>report</p>")
    return Namespace(report=tmp_path / "report", output=tmp_path / "report.pdf")


def fake_browser(folder: Path, script: str) -> str:
    program = folder / "browser"
    program.write_text(f"#!/bin/sh\nfor a; do case $a in --print-to-pdf=*) out=${{a#*=}};; esac; done\n{script}\n")
    program.chmod(0o755)
    return str(program)


def test_no_browser(arguments: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER", "no-such-browser")
    with pytest.raises(UserError, match="no-such-browser is not there"):
        pdf.main(arguments)


def test_a_browser_that_writes_something_else(arguments: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER", fake_browser(arguments.report, "echo no page > $out; echo cannot print >&2"))
    with pytest.raises(UserError, match="wrote no PDF .*cannot print"):
        pdf.main(arguments)
    assert not arguments.output.exists()


def test_the_pdf_is_what_the_browser_wrote(arguments: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER", fake_browser(arguments.report, "printf '%%PDF-1.4 page' > $out"))
    pdf.main(arguments)
    assert arguments.output.read_bytes() == b"%PDF-1.4 page"


def test_no_report(arguments: Namespace) -> None:
    (arguments.report / "index.html").unlink()
    with pytest.raises(UserError, match="make the report first"):
        pdf.main(arguments)
