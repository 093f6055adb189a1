"""Fetch one asset: the only stage that needs the network.

Files are downloaded into a folder of their own, where an interrupted download goes on, checked, and only then put in
place. What could not be known beforehand (a hash, the commit behind ``main``) is recorded in the lock file at the first
fetch; from then on everything else is refused.
"""

import argparse
import contextlib
import os
import shutil
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from randcond.assets.download import check_size, download
from randcond.assets.listing import FIRST_FETCH, Asset, File, locked, read_assets, record
from randcond.jobs.errors import UserError
from randcond.jobs.files import atomic_path, files_below, sha256
from randcond.jobs.keys import key_from
from randcond.jobs.progress import log
from randcond.jobs.stage import run_stage


def fetch(
    name: str, asset: Asset, output: Path, work: Path, lock: Path, pause: Callable[[float], None] = time.sleep
) -> None:
    """Download, check, record and put an asset in place.

    Args:
        name: The asset's.
        asset: What it consists of.
        output: Its folder, written whole or not at all.
        work: Where downloads are kept until the asset is in place.
        lock: The lock file.
        pause: Waits for some seconds.

    Raises:
        UserError: If a download fails or is not what it should be.
    """
    known = locked(lock, name)
    here = sum(file.stat().st_size for file in files_below(work)) if work.exists() else 0  # of a fetch that was cut off
    free = (shutil.disk_usage(_existing(work)).free + here) / 1e9
    if free < asset.gigabytes * (2 if asset.repack else 1):
        raise UserError(
            f"{work}: {name} needs about {asset.gigabytes:g} GB, but there is room for {free:.1f} GB; make more"
        )
    revision = known["revision"] or asset.revision
    if asset.revision not in ("main", revision):
        raise UserError(f"{lock}: {name} is locked to revision {revision}, not {asset.revision}; correct one of them")
    files: dict[str, dict[str, Any]] = {}
    commit, left = known["revision"], asset.most_bytes
    for file in asset.files:
        path, before = work / file.path, known["files"].get(file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        hashed = bool(before) or file.sha256 != FIRST_FETCH
        if asset.repository is None:
            download(str(file.url), path, left, hashed, pause)
        else:
            commit = _from_hub(name, asset, file, commit or revision, work, left, hashed)
        files[file.path] = _checked(name, file, path, before, lock)
        left -= files[file.path]["bytes"]
    with atomic_path(output) as partial:
        for file in asset.files:
            _put(work / file.path, partial / file.path, asset.repack)
        record(lock, name, {"revision": commit, "files": files})
    shutil.rmtree(work)


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())


def _checked(name: str, file: File, path: Path, known: dict[str, Any] | None, lock: Path) -> dict[str, Any]:
    """The file's hash and size, if they are what the list and the lock say."""
    found = {"sha256": sha256(path), "bytes": path.stat().st_size}
    wanted = known["sha256"] if known else file.sha256
    if file.sha256 not in (FIRST_FETCH, wanted):
        raise UserError(f"{lock}: {name}: {file.path} is locked to another SHA-256 than the list of assets has")
    if wanted not in (FIRST_FETCH, found["sha256"]):
        path.unlink()  # or the next try would find it whole
        raise UserError(
            f"{name}: {file.path} has the SHA-256 {found['sha256']}, not {wanted}; what is published may have changed:"
            " fetch again, and if it stays so look into it before correcting the list of assets"
        )
    return found


def _from_hub(name: str, asset: Asset, file: File, revision: str, work: Path, most: int, hashed: bool) -> str:
    """Download a repository's file of ``most`` bytes at most; the commit it belongs to."""
    from huggingface_hub import errors as hub
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    place, repository = f"{name}: {asset.repository}", str(asset.repository)
    key_from("HF_TOKEN")  # which the hub's client reads itself
    try:
        url = hf_hub_url(repository, file.path, repo_type=asset.kind, revision=revision)
        there = get_hf_file_metadata(url)
        check_size(f"{place}: {file.path}", there.size, most, hashed)
        commit = there.commit_hash or revision
        hf_hub_download(repository, file.path, repo_type=asset.kind, revision=commit, local_dir=work)
    except UserError:
        raise
    except hub.GatedRepoError:
        raise UserError(
            f"{place} is gated: accept its licence on its page in a browser, set HF_TOKEN to a token of that account,"
            " run again"
        ) from None
    except hub.RepositoryNotFoundError:
        raise UserError(f"{place} does not exist, or needs a token: set HF_TOKEN, or correct its name") from None
    except hub.RevisionNotFoundError:
        raise UserError(f"{place} has no revision {revision}; correct it in the list of assets") from None
    except hub.EntryNotFoundError as error:
        if isinstance(error, hub.LocalEntryNotFoundError):
            raise UserError(f"{place}: the hub cannot be reached; check the network and run again") from None
        raise UserError(f"{place} holds no {file.path} at {revision}; correct the list of assets") from None
    except (hub.HfHubHTTPError, hub.OfflineModeIsEnabled, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{place}: {file.path}: {reason}; run again, it goes on where it stopped") from None
    except Exception as error:  # the client's own network errors come from several libraries
        raise UserError(f"{place}: {file.path}: {type(error).__name__}; check the network and run again") from None
    return str(commit)


def _put(source: Path, target: Path, repack: str | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if repack is None or not source.name.endswith(".tar.gz"):
        try:
            os.link(source, target)  # the download stays until all is in place: a later file may fail
        except OSError:  # another filesystem, or one without links
            shutil.copyfile(source, target)
        return
    target = target.with_name(f"{target.name.removesuffix('.tar.gz')}.zip")
    try:
        with tarfile.open(source, "r|gz") as archive, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as packed:
            for member in archive:
                if member.isfile() and (content := archive.extractfile(member)):
                    packed.writestr(zipfile.ZipInfo(member.name, (1980, 1, 1, 0, 0, 0)), content.read())
    except (tarfile.TarError, EOFError, OSError) as error:
        with contextlib.suppress(FileNotFoundError):
            source.unlink()
        raise UserError(f"{source.name}: not a whole .tar.gz ({error}); fetch again") from None


def _main(arguments: argparse.Namespace) -> None:
    assets = read_assets(arguments.assets)
    if arguments.asset not in assets:
        raise UserError(f"{arguments.assets}: there is no asset {arguments.asset!r}; there are {', '.join(assets)}")
    fetch(arguments.asset, assets[arguments.asset], arguments.output, arguments.work, arguments.lock)
    log.info("fetch: %s is in %s", arguments.asset, arguments.output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--asset", required=True)
    for option in ("--assets", "--output", "--work"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--lock", type=Path, required=True, help="lock file; written")
    run_stage(_main, parser)
