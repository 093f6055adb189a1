"""Bring recorded results into a checkout, and put them where others can fetch them."""

import os
import shlex
from typing import Any
from urllib.parse import urlsplit

from dvc.repo.index import Index

from randcond.jobs.errors import UserError
from randcond.versions.pipeline import pipeline_file
from randcond.versions.plan import Stage
from randcond.versions.repository import opened, said, stages_of

REMOTE = "shared"
UNSAVED = "Can't remove the following unsaved files"  # so DVC begins; the files follow, a line each


def fetch(planned: list[Stage]) -> None:
    """Fetch what is recorded of a world from the cache or the remote, into the workspace.

    Of its own stages that is all that its dvc.yaml has, which may be more than is planned before it has come: models
    that were asked for. Of what worlds share it is what is planned.

    Args:
        planned: All stages of the world, each after those it depends on.

    Raises:
        UserError: If nothing is recorded, something cannot be had, is not what was recorded, or a dvc.lock is broken.
    """
    world = planned[-1].world
    locks = {one: pipeline_file(one).with_suffix(".lock") for one in {stage.world for stage in planned}}
    shared = {(stage.world, stage.name) for stage in planned if stage.world != world}
    with opened() as repo:
        # left to itself DVC takes the word of most remotes for the hashes of what comes
        repo.config.merge({"remote": {name: {"verify": True} for name in repo.config["remote"]}})
        known = stages_of({one for one, lock in locks.items() if lock.is_file()}, repo)
        whole = {key: stage for key, stage in known.items() if all(out.hash_info for out in stage.outs)}
        if not any(one == world for one, _ in whole):
            raise UserError(f"{locks[world]}: nothing of {world} is recorded there; run snakemake first")
        wanted = [stage for key, stage in whole.items() if key[0] == world or key in shared]
        try:
            _fetch_listings(repo, wanted)
            for step in (repo.fetch, repo.checkout):  # each forgets the index
                repo.index = Index(repo, wanted)  # told stages by name DVC would read all of dvc.yaml for each
                step([None])  # all that the index has
        except Exception as error:  # of any library that a remote is reached by
            raise _unsaved(error) or UserError(
                f"dvc pull: {said(error)}; what the remote lacks, or holds with other bytes than were recorded, whoever"
                " has it can `make share` to an empty place; where no remote is set,"
                f" `dvc remote add -d {REMOTE} <url>`; `dvc pull -v` says more"
            ) from None


def _unsaved(error: Exception) -> UserError | None:
    """What to say if DVC refuses to replace files that nobody has a copy of, as an interrupted run leaves them."""
    text, *files = str(error).split("\n")
    if not text.startswith(UNSAVED) or not files:
        return None
    path = os.path.relpath(min(files))
    others = f" (and {len(files) - 1} more)" if len(files) > 1 else ""
    return UserError(
        f"{path}: not what was recorded, and nowhere else{others}; `dvc checkout --force {shlex.quote(path)}` puts what"
        " was recorded in its place, or move it away; then `make restore`"
    )


def _fetch_listings(repo: Any, stages: list[Any]) -> None:
    """Fetch the listings of recorded folders. DVC would go by them, whatever paths they name, before it checks them."""
    cache = repo.cache.local
    folders = {out.hash_info.value: out for stage in stages for out in stage.outs if out.hash_info.isdir}
    missing = {oid: out for oid, out in folders.items() if not cache.exists(oid)}
    if missing:
        remote = repo.cloud.get_remote_odb()
        cache.add([remote.oid_to_path(oid) for oid in missing], remote.fs, list(missing), verify=True)
    for oid, out in missing.items():
        if not cache.exists(oid):
            raise FileNotFoundError(f"{out}: what is in this folder is not what was recorded")


def clean(planned: list[Stage]) -> list[Stage]:
    """Insist that results, code and configuration are as recorded, for all stages that are.

    Args:
        planned: Stages in agreement with dvc.yaml.

    Returns:
        Those of them that are recorded.

    Raises:
        UserError: Naming the first stage that is not as recorded.
    """
    changed: dict[str, list[object]] = {}
    with opened() as repo:
        known = stages_of({stage.world for stage in planned}, repo)
        recorded = [one for one in planned if any(out.hash_info for out in known[one.world, one.name].outs)]
        for stage in recorded:
            changed |= known[stage.world, stage.name].status(check_updates=True)
    if changed:
        name, why = next(iter(changed.items()))
        raise UserError(
            f"{name}: not as recorded ({_changes(why)}), and {len(changed) - 1} more stages; name the configuration"
            " that they were recorded with (make restore CONFIG=... VALUES=...), check out the commit whose results you"
            " want, or run snakemake to make them anew"
        )
    return recorded


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
