"""Bring recorded results into a checkout, and put them where others can fetch them."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from randcond.jobs.errors import UserError
from randcond.versions.lock import insist_whole
from randcond.versions.repository import opened, said

REMOTE = "shared"


def fetch(files: list[Path]) -> None:
    """Fetch what is recorded for these dvc.yaml files from the cache or the remote, into the workspace.

    Raises:
        UserError: If something cannot be had, is not what was recorded, or a dvc.lock is broken.
    """
    with opened() as repo:
        # left to itself DVC takes the word of most remotes for the hashes of what comes
        repo.config.merge({"remote": {name: {"verify": True} for name in repo.config["remote"]}})
        try:
            _fetch_listings(repo, files)
            repo.pull([str(file) for file in files])
        except Exception as error:  # of any library that a remote is reached by
            for file in files:
                insist_whole(file.with_suffix(".lock"))
            raise UserError(
                f"dvc pull: {said(error)}; what the remote lacks, or holds with other bytes than were recorded, whoever"
                " has it can `make share` to an empty place; where no remote is set,"
                f" `dvc remote add -d {REMOTE} <url>`; `dvc pull -v` says more"
            ) from None


def _fetch_listings(repo: Any, files: list[Path]) -> None:
    """Fetch the listings of recorded folders. DVC would go by them, whatever paths they name, before it checks them."""
    cache = repo.cache.local
    outs = [out for file in files for stage in repo.stage.load_all(str(file)) for out in stage.outs]
    folders = {out.hash_info.value: out for out in outs if out.hash_info.isdir}
    missing = {oid: out for oid, out in folders.items() if not cache.exists(oid)}
    if missing:
        remote = repo.cloud.get_remote_odb()
        cache.add([remote.oid_to_path(oid) for oid in missing], remote.fs, list(missing), verify=True)
    for oid, out in missing.items():
        if not cache.exists(oid):
            raise FileNotFoundError(f"{out}: what is in this folder is not what was recorded")


def clean(files: list[Path]) -> None:
    """Insist that results, code and configuration are as recorded.

    Raises:
        UserError: Naming the first stage that is not.
    """
    with opened() as repo:
        changed = repo.status([str(file) for file in files])
    if changed:
        name, why = next(iter(changed.items()))
        raise UserError(
            f"{name}: not as recorded ({_changes(why)}), and {len(changed) - 1} more stages; name the configuration"
            " that they were recorded with (make restore CONFIG=... VALUES=...), check out the commit whose results you"
            " want, or run snakemake to make them anew"
        )


def share(remote: str) -> bool:
    """Make ``remote`` the default remote and push everything that is recorded there.

    A remote that holds credentials goes into DVC's local configuration, which git ignores; any other into the one that
    is committed. Whoever fetches from it computes the hashes of what comes.

    Returns:
        Whether it is in the local one.

    Raises:
        UserError: If DVC cannot reach it.
    """
    secret = has_credentials(remote)
    with opened() as repo:
        try:
            _set_remote(repo.config, remote, "local" if secret else "repo")
            repo.push(remote=REMOTE)
        except Exception as error:  # of any library that a remote is reached by
            raise UserError(
                f"dvc push: {said(error).replace(remote, 'the remote')}; `dvc push -r {REMOTE} -v` says more"
            ) from None
    return secret


def _set_remote(config: Any, remote: str, level: str) -> None:
    with config.edit(level) as own:
        own["remote"][REMOTE] = {"url": remote, "verify": True}
        own["core"]["remote"] = REMOTE
    if level == "repo" and "url" in config.load_one("local")["remote"].get(REMOTE, {}):
        with config.edit("local") as local:  # it would come before the one that was given now
            del local["remote"][REMOTE]["url"]


def has_credentials(remote: str) -> bool:
    """Whether a remote's address holds a password, a token for a name, or a query, as signed addresses do."""
    parts = urlsplit(remote)
    token = parts.username is not None and parts.scheme.startswith(("http", "webdav"))
    return parts.password is not None or token or bool(parts.scheme and parts.query)


def _changes(why: list[object]) -> str:
    found = [value for entry in why if isinstance(entry, dict) for value in entry.values()]
    names = [f"{path} {how}" for one in found if isinstance(one, dict) for path, how in one.items()]
    return "; ".join(names) or "its command"
