"""Download one file; an interrupted download goes on, if it is still the same file."""

import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email.message import Message
from http.client import HTTPException
from pathlib import Path

from randcond.jobs.errors import UserError
from randcond.jobs.files import read_json, write_json
from randcond.jobs.progress import Progress

_CHUNK = 1 << 20
_TIMEOUT = 60  # seconds without a byte
_TRIES = 4
_AGAIN = (416, 429)  # and 5xx: answers after which another try may help


@dataclass(frozen=True)
class _Origin:
    """What a download is of; kept beside it.

    Attributes:
        url: Where it comes from.
        validator: Its ETag, or when it was last modified. None: the server says neither, and no part of it is used.
        bytes: Its size; None where the server does not say.
    """

    url: str
    validator: str | None = None
    bytes: int | None = None


def download(url: str, path: Path, most: int, hashed: bool, pause: Callable[[float], None] = time.sleep) -> None:
    """Download to ``path``; what lies there of another URL goes.

    Args:
        url: Of the file.
        path: Where it is put once it is whole. Beside it lie what there is of it until then, and where that is from.
        most: Bytes; a larger file is refused.
        hashed: Whether its SHA-256 is known. If not, a server that does not say how long it is cannot be believed.
        pause: Waits for some seconds.

    Raises:
        UserError: If the file cannot be had whole.
    """
    partial, note = path.with_name(f"{path.name}.partial"), path.with_name(f".{path.name}.origin.json")
    if path.exists() and _read(note).url == url:
        return
    path.unlink(missing_ok=True)
    tries = 1 if url.startswith("file:") else _TRIES
    for attempt in range(tries):
        if attempt:
            pause(2.0**attempt)
        try:
            if _append(url, partial, note, most, hashed):
                os.replace(partial, path)
                return
            reason = "broke off"
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} ({error.reason})"
            if error.code not in _AGAIN and error.code < 500:
                raise UserError(f"{url}: {reason}; {_advice(error.code)}") from None
            if error.code == 416:
                partial.unlink(missing_ok=True)
        except (OSError, HTTPException, ValueError) as error:  # the last: a redirect to what is no URL
            reason = str(getattr(error, "reason", error))
    have = partial.stat().st_size if partial.exists() else 0
    raise UserError(f"{url}: {reason} after {have} bytes; check the network and run again, it goes on there")


def _advice(code: int) -> str:
    if code in (401, 403):
        return "it wants an account or refuses you; get the file from where its licence says, and put it at the url"
    return "correct the url"


def _append(url: str, partial: Path, note: Path, most: int, hashed: bool) -> bool:
    """Ask once for what is still lacking and write what comes; whether it is whole."""
    kept, have = _read(note), partial.stat().st_size if partial.exists() else 0
    if kept.url != url or kept.validator is None or kept.bytes is None or have > kept.bytes:
        have = 0
    if have and have == kept.bytes:
        return True
    asked = {"Range": f"bytes={have}-", "If-Range": str(kept.validator)} if have else {}
    with urllib.request.urlopen(urllib.request.Request(url, headers=asked), timeout=_TIMEOUT) as response:
        if getattr(response, "status", None) != 206:
            have, kept = 0, _origin(url, response.headers)
            check_size(url, kept.bytes, most, hashed)
            partial.unlink(missing_ok=True)  # first: no byte of it may pass for this one's
            write_json(note, asdict(kept))
        elif not have or not _is_the_rest(response.headers, kept, have):
            partial.unlink(missing_ok=True)
            return False
        total = kept.bytes or most
        progress = Progress(f"fetch {partial.stem}", total, "bytes", have)
        with open(partial, "ab") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                if have > most:
                    break
                progress.at(min(have, total - 1))
    if have > most:
        partial.unlink()
        raise UserError(_too_large(url, have, most))
    return kept.bytes in (None, have)


def _read(note: Path) -> _Origin:
    """What was noted of a download."""
    try:
        return _Origin(**read_json(note))
    except (UserError, TypeError):
        return _Origin("")


def _origin(url: str, headers: Message) -> _Origin:
    length, etag = headers.get("Content-Length", ""), headers.get("ETag", "")
    strong = etag if etag.startswith('"') else headers.get("Last-Modified")  # If-Range takes no weak one
    return _Origin(url, strong, int(length) if length.isdecimal() else None)


def _is_the_rest(headers: Message, kept: _Origin, have: int) -> bool:
    """Whether a part is the one that was asked for, of the file that was begun."""
    validator = _origin(kept.url, headers).validator
    of_it = headers.get("Content-Range") == f"bytes {have}-{(kept.bytes or 0) - 1}/{kept.bytes}"
    return of_it and validator in (None, kept.validator)


def check_size(what: str, size: int | None, most: int, hashed: bool) -> None:
    """Refuse a download that nobody could tell to be whole, or that is larger than it may be.

    Args:
        what: Its URL, or where it comes from.
        size: Bytes; None where the server does not say.
        most: Bytes that may come.
        hashed: Whether its SHA-256 is known.

    Raises:
        UserError: If it is one of the two.
    """
    if size is None and not hashed:
        raise UserError(
            f"{what}: the server does not say how long it is, and no SHA-256 of it is known: cut short it would"
            " pass for whole; give its sha256 in the list of assets"
        )
    if size is not None and size > most:
        raise UserError(_too_large(what, size, most))


def _too_large(what: str, found: int, most: int) -> str:
    return (
        f"{what}: {found} bytes or more, but by the list of assets no more than {most} may come; correct its gigabytes"
        " there if this is the right file"
    )
