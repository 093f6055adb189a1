"""Is every asset still where the list says, and of the size it had? Asks for headers alone; nothing is downloaded."""

import argparse
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from randcond.assets.listing import Asset, File, locked, read_assets
from randcond.jobs.errors import UserError
from randcond.jobs.keys import key_from
from randcond.jobs.progress import log
from randcond.jobs.stage import run_stage

_TIMEOUT = 30  # seconds


@dataclass(frozen=True)
class Found:
    """What was found of a file.

    Attributes:
        bytes: Its size there; None if it is not there or the server does not say.
        recorded: Its size when it was first fetched; None before.
        trouble: What is wrong, or ``""``.
    """

    asset: str
    path: str
    bytes: int | None
    recorded: int | None
    trouble: str


def check(assets: dict[str, Asset], lock: Path) -> list[Found]:
    """Ask for every file of the assets.

    Args:
        assets: The list.
        lock: The lock file, with sizes of the first fetch.
    """
    found = []
    for name, asset in assets.items():
        known = locked(lock, name)
        for file in asset.files:
            recorded = known["files"].get(file.path, {}).get("bytes")
            size, trouble = _ask(_url(asset, file, known["revision"] or asset.revision))
            if not trouble and None not in (size, recorded) and size != recorded:
                trouble = "of another size than when it was fetched"
            found.append(Found(name, file.path, size, recorded, trouble))
        together = [one.bytes for one in found if one.asset == name]
        total = sum(size for size in together if size is not None)
        if None not in together and not asset.least_bytes <= total <= asset.most_bytes:
            found.append(Found(name, "all", None, None, f"{total / 1e9:.1f} GB, the list says {asset.gigabytes:g}"))
    return found


def _url(asset: Asset, file: File, revision: str) -> str:
    if asset.repository is None:
        return str(file.url)
    from huggingface_hub import hf_hub_url

    return hf_hub_url(asset.repository, file.path, repo_type=asset.kind, revision=revision)


def _ask(url: str) -> tuple[int | None, str]:
    """Size of what is at a URL, and what is wrong."""
    request = urllib.request.Request(url, method="HEAD")
    token, hub = key_from("HF_TOKEN"), os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    if token and url.startswith(f"{hub}/"):
        request.add_unredirected_header("Authorization", f"Bearer {token}")  # not to where the hub keeps its files
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            length = response.headers.get("X-Linked-Size") or response.headers.get("Content-Length")
    except urllib.error.HTTPError as error:
        what = {401: "wants an account", 403: "refused or gated", 404: "gone", 410: "gone"}
        return None, f"{what.get(error.code, 'the server fails')} ({error.code})"
    except (OSError, HTTPException, ValueError) as error:
        return None, f"not reached ({getattr(error, 'reason', error)})"
    return (int(length) if length and length.isdecimal() else None), ""


def table(found: list[Found]) -> str:
    """One line a file."""
    width = max(len(f"{one.asset}/{one.path}") for one in found)
    lines = [f"{'file':{width}}  {'bytes':>15}  {'at first fetch':>15}  state"]
    for one in found:
        sizes = "  ".join(f"{size if size is not None else '-':>15}" for size in (one.bytes, one.recorded))
        lines.append(f"{one.asset + '/' + one.path:{width}}  {sizes}  {one.trouble or 'there'}")
    return "\n".join(lines)


def _main(arguments: argparse.Namespace) -> None:
    found = check(read_assets(arguments.assets), arguments.lock)
    print(table(found))
    trouble = [one for one in found if one.trouble]
    if trouble:
        first = trouble[0]
        raise UserError(
            f"{arguments.assets}: {len(trouble)} of {len(found)} are not as listed, e.g. {first.asset}: {first.path}:"
            f" {first.trouble}; correct the list"
        )
    log.info("assets: all %d files are there", len(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=Path, default=Path("config/assets.yaml"))
    parser.add_argument("--lock", type=Path, default=Path("config/assets.lock.json"))
    run_stage(_main, parser)
