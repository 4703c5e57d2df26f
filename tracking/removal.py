"""Removes artifact versions from a store: those that a person names, and those that nothing has used for long.

A version that something was made from stays, so that lineage has no holes. Versions go in one transaction; their
content, which no version names any more, is removed after it: a kill in between leaves only what `gc` collects.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tracking.artifact import StoredArtifact
from tracking.database import Connection
from tracking.interface import TrackingError
from tracking.process import is_alive_row
from tracking.store import Store
from tracking.upkeep import remove_unnamed
from tracking.versions import delete_version, move_aliases, row_id


@dataclass
class Removal:
    """Holds what was removed, or would be: references, the bytes freed, and who is the latest in their place.

    `latest` maps each name whose latest version went to the reference of the version that is it now; `aliases` lists
    the references by alias, such as `model-x:best`, that name nothing any more; `users` the ids of runs that used a
    version without making anything, whose inputs no longer name it.
    """

    versions: list[str] = field(default_factory=list)
    bytes: int = 0
    latest: dict[str, str] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)
    users: list[str] = field(default_factory=list)


def remove(store: Store, refs: Sequence[str]) -> Removal:
    """Removes the versions that these references name, in their order: all of them, or none where one can't go.

    Where a version is the latest, the one before it becomes that. Raises NotFound for an unknown reference, and
    TrackingError, naming what stands in the way, for a version that something was made from or that is in use.
    """
    result = Removal()
    artifacts = {(artifact := store.artifact(ref)).ref: artifact for ref in refs}
    with store.database.write() as connection:
        for artifact in artifacts.values():
            id = row_id(connection, artifact)
            result.users += _users(connection, id, artifact.ref)
            _pass_latest_on(connection, id, artifact.name, result)
            query = "SELECT name || ':' || alias FROM aliases WHERE artifact = ? ORDER BY alias"
            result.aliases += [row[0] for row in connection.execute(query, (id,))]
            delete_version(connection, id)
    result.versions = [*artifacts]
    _, result.bytes = remove_unnamed(store, _blobs(store, artifacts.values()))
    return result


def remove_unused(store: Store, older_than: float, *, dry_run: bool = False) -> Removal:
    """Removes the versions that no run has used and that have no alias; with `dry_run` it only says which.

    So neither the latest of a name nor a version to which a person gave an alias goes. A version must have been made
    more than `older_than` seconds ago, and each run that logged it, also one that logged the same content again, must
    have ended before that.
    """
    before = time.time() - older_than
    with store.database.read() if dry_run else store.database.write() as connection:
        unused = store.load_versions(connection, _unused_ids(connection, before))
        for id in () if dry_run else unused:
            delete_version(connection, id)
    artifacts = sorted(unused.values(), key=lambda artifact: (artifact.name, artifact.version))
    _, size = remove_unnamed(store, _blobs(store, artifacts), without=[*unused], dry_run=dry_run)
    return Removal([artifact.ref for artifact in artifacts], size)


def _blobs(store: Store, artifacts: Iterable[StoredArtifact]) -> list[Path]:
    """Returns the paths of all that these versions hold, each once."""
    md5s = dict.fromkeys(file.md5 for artifact in artifacts for file in artifact.files.values())
    return [store.blobs.path(md5) for md5 in md5s]


def _users(connection: Connection, id: int, ref: str) -> list[str]:
    """Returns the runs that used a version and made nothing from it, or nothing that is still there.

    Raises TrackingError where something was made from it, or a run that may go on uses or has logged it.
    """
    users = []
    query = (
        "SELECT r.*, e.kind FROM edges e JOIN runs r ON e.run = r.id WHERE e.artifact = ? ORDER BY e.kind DESC, e.rowid"
    )
    for run in connection.execute(query, (id,)).fetchall():
        if run["kind"] == "logged":
            if is_alive_row(run):
                raise TrackingError(
                    f"{ref} can't be removed: run {run['id']}, which logged it, goes on; wait for its end"
                )
            continue
        query = (
            "SELECT DISTINCT v.name || ':v' || v.version FROM edges e JOIN versions v ON e.artifact = v.id "
            "WHERE e.run = ? AND e.kind = 'logged' AND v.id != ? ORDER BY e.rowid"
        )
        made = [row[0] for row in connection.execute(query, (run["id"], id))]
        if made:
            verb, one = ("was", "that") if len(made) == 1 else ("were", "those")
            raise TrackingError(
                f"{ref} can't be removed: {', '.join(made)} {verb} made from it by run {run['id']}; remove {one} "
                "first, in the same command if you like"
            )
        if run["state"] in ("running", "stopped"):
            raise TrackingError(
                f"{ref} can't be removed: run {run['id']} ({run['state']}) uses it and may go on: run its command to "
                "the end first"
            )
        users.append(run["id"])
    return users


def _pass_latest_on(connection: Connection, id: int, name: str, result: Removal) -> None:
    """Gives `latest`, where a version has it, to the version before it; where there is none, to the newest."""
    query = "SELECT 1 FROM aliases WHERE artifact = ? AND alias = 'latest'"
    if connection.execute(query, (id,)).fetchone() is None:
        return
    result.latest.pop(name, None)
    query = (
        "SELECT other.id, other.version FROM versions other JOIN versions own ON other.name = own.name "
        "WHERE own.id = ?1 AND other.id != ?1 ORDER BY other.version < own.version DESC, other.version DESC"
    )
    if (row := connection.execute(query, (id,)).fetchone()) is not None:
        move_aliases(connection, name, ["latest"], row["id"])
        result.latest[name] = f"{name}:v{row['version']}"


def _unused_ids(connection: Connection, before: float) -> list[int]:
    """Returns the row ids of the versions without a use and an alias that nobody has logged since `before`."""
    query = (
        "SELECT v.id FROM versions v WHERE v.created < ?1 "
        "AND NOT EXISTS (SELECT 1 FROM aliases WHERE artifact = v.id) "
        "AND NOT EXISTS (SELECT 1 FROM edges WHERE artifact = v.id AND kind = 'used')"
    )
    found = [row["id"] for row in connection.execute(query, (before,))]
    query = "SELECT r.* FROM edges e JOIN runs r ON e.run = r.id WHERE e.artifact = ? AND e.kind = 'logged'"

    def is_left(id: int) -> bool:
        runs = connection.execute(query, (id,)).fetchall()
        return not any(is_alive_row(run) or (run["ended"] or run["heartbeat"]) >= before for run in runs)

    return [id for id in found if is_left(id)]
