"""Checks a store against its digests, and collects the files that no version names."""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracking.artifact import StoredArtifact
from tracking.blobs import age
from tracking.digest import hash_file
from tracking.interface import ArtifactFile, TrackingError
from tracking.json_text import encode
from tracking.store import Store


@dataclass
class Problem:
    """Names something in a store that is not what was logged. `file` is None where it concerns no single file."""

    artifact: str | None
    file: str | None
    problem: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.artifact, self.file, self.problem) if part)


@dataclass
class Verification:
    """Holds how much `verify` read and what it found wrong."""

    artifacts: int = 0
    files: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)


@dataclass
class Collection:
    """Counts what `collect` removed: temporary files of dead writers, blobs that no version names, and their bytes."""

    temporary: int = 0
    blobs: int = 0
    bytes: int = 0


def verify(store: Store, advance: Callable[[int, int], None] = lambda done, total: None) -> Verification:
    """Hashes every file of every version and checks every digest, row and edge; damage is reported, never raised.

    `advance(done, total)` is called with bytes as the work goes on.
    """
    result = Verification(problems=[Problem(None, None, f"store.db: {text}") for text in store.database.damage()])
    try:
        _verify_artifacts(store, result, advance)
        _verify_rows(store, result)
        _verify_edges(store, result)
    except (TrackingError, ValueError, TypeError) as error:
        if not result.problems:
            result.problems.append(Problem(None, None, f"store.db: {error}"))
    return result


def _verify_artifacts(store: Store, result: Verification, advance: Callable[[int, int], None]) -> None:
    artifacts = store.versions()
    total = sum({file.md5: file.size for artifact in artifacts for file in artifact.files.values()}.values())
    read: dict[str, ArtifactFile | str] = {}  # a blob that several versions share is read once
    for artifact in artifacts:
        result.artifacts += 1
        try:
            artifact.check_entries()
        except TrackingError as error:
            result.problems.append(Problem(artifact.ref, None, str(error)))
        for name, expected in artifact.files.items():
            result.files += 1
            if expected.md5 not in read:
                read[expected.md5] = _read(artifact, expected)
                result.bytes += expected.size
                advance(result.bytes, total)
            found = read[expected.md5]
            if isinstance(found, str):
                result.problems.append(Problem(artifact.ref, name, found))
            elif found != expected:
                result.problems.append(Problem(artifact.ref, name, f"altered: {expected} was logged, {found} is there"))


def _verify_rows(store: Store, result: Verification) -> None:
    """Adds the rows whose checksum does not fit, and those that fit but hold what cannot be decoded."""
    refs: dict[Any, str] = {row_id: f"{name}:v{version}" for row_id, name, version in store.version_rows()}
    seen = {problem.artifact for problem in result.problems}
    for table, key in store.database.damaged_rows():
        named = ", ".join(f"{column} {value}" for column, value in key.items())
        ref = refs.get(key.get("id", key.get("artifact"))) if table in ("versions", "files") else None
        if ref is None:
            text = f"store.db: {table}: the row of {named} was altered: its checksum does not fit"
            result.problems.append(Problem(None, None, text))
        elif ref not in seen:  # else its content has shown it
            text = "altered: its row in store.db no longer has the checksum it was written with"
            result.problems.append(Problem(ref, key.get("name"), text))
    seen |= {problem.artifact for problem in result.problems}
    for table, name, text in store.undecodable_rows():
        if table != "versions":
            result.problems.append(Problem(None, None, f"store.db: {table}: {name}: {text}"))
        elif name not in seen:
            result.problems.append(Problem(name, None, f"altered: its metadata in store.db: {text}"))


def _verify_edges(store: Store, result: Verification) -> None:
    """Adds the runs whose edges are others than were recorded, and the artifacts whose named inputs no run used."""
    for run in store.database.runs_with_other_edges():
        text = f"run {run}: its edges in store.db are not those that were recorded: some are lost, or were added"
        result.problems.append(Problem(None, None, text))
    for artifact in store.versions():
        inputs = artifact.metadata.get("inputs")
        makers = store.logged_by(artifact) if isinstance(inputs, dict) else []
        used = {used.digest for maker in makers for used in store.inputs(maker.id)}
        for name, digest in inputs.items() if makers and isinstance(inputs, dict) else ():
            if digest not in used:
                text = f"its metadata names the input {name} ({digest}), and no run that logged it has the edge"
                result.problems.append(Problem(artifact.ref, None, text))


def _read(artifact: StoredArtifact, expected: ArtifactFile) -> ArtifactFile | str:
    try:
        path = artifact.blobs.path(expected.md5)
        return hash_file(path)
    except FileNotFoundError:
        return f"missing: {path} is not there"
    except OSError as error:
        return f"unreadable: {error}"
    except TrackingError as error:
        return str(error)


def collect(store: Store, grace: float = 3600.0, *, dry_run: bool = False) -> Collection:
    """Removes what dead writers left: temporary files, and blobs older than `grace` seconds that no version names.

    With `dry_run` it only counts them. Safe beside living writers: see `remove_unnamed`.
    """
    strays = store.blobs.collect_strays(grace, dry_run=dry_run)
    old = [path for path in store.blobs.all() if age(path) >= grace]
    blobs, size = remove_unnamed(store, old, grace, dry_run=dry_run)
    return Collection(temporary=len(strays), blobs=blobs, bytes=sum(strays) + size)


def remove_unnamed(
    store: Store, blobs: Iterable[Path], grace: float = 0.0, *, without: Sequence[int] = (), dry_run: bool = False
) -> tuple[int, int]:
    """Removes those of some blobs that no version names and that are older than `grace` seconds.

    Returns how many and their bytes. With `dry_run` it only counts, as if the versions with the row ids `without` were
    gone. Safe beside living writers: a blob is removed under the lock under which a writer checks its blobs and
    commits.
    """
    count, size = 0, 0
    with store.database.read() if dry_run else store.database.write() as connection:
        query = "SELECT md5 FROM files WHERE artifact NOT IN (SELECT value FROM json_each(?))"
        if store.database.has("media"):
            query += " UNION SELECT md5 FROM media WHERE md5 IS NOT NULL"
        rows = connection.execute(query, (encode(list(without), "row ids"),))
        named = {os.fspath(store.blobs.path(row["md5"])) for row in rows}
        for path in blobs:
            # Asked again under the lock: a writer may have put the same content a moment ago.
            if os.fspath(path) in named or (grace and age(path) < grace):
                continue
            with suppress(FileNotFoundError):  # another process may be at it
                of_blob = path.stat().st_size
                if not dry_run:
                    path.unlink()
                count, size = count + 1, size + of_blob
    return count, size
