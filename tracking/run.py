"""Writes a run in progress into the embedded store: what it logs and uses, each call one transaction."""

import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tracking.artifact import StoredArtifact
from tracking.blobs import Blobs
from tracking.database import Database
from tracking.drafts import check_aliases, check_draft, check_lines, check_table, number
from tracking.heartbeat import Heartbeat
from tracking.interface import RUN_STATES, Artifact, ArtifactDraft, Run, TrackingError
from tracking.json_text import encode
from tracking.versions import Versions, add_edge, check_type, insert_version, move_aliases, row_id


class StoredRun(Run):
    """Represents a run in progress in the store at `root`. Raises TrackingError when used after it has finished."""

    def __init__(self, database: Database, blobs: Blobs, root: Path, run_id: str, summary: Mapping[str, Any]) -> None:
        self.id = run_id
        self._database, self._blobs, self._root = database, blobs, root
        self._versions = Versions(database, blobs)
        self._summary = dict(summary)
        self._finished = False
        self._heartbeat = Heartbeat(database, run_id)
        weakref.finalize(self, self._heartbeat.stop)  # nothing works on a run that nobody holds; and at exit

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Logs a point as `Run` says; every value also becomes the summary's.

        Raises TrackingError for a value that is no number.
        """
        self._check_running()
        point = {key: number(key, value) for key, value in values.items()}
        self._write_summary(point, (self.id, int(step), encode(point, "the metrics")))

    def set_summary(self, values: Mapping[str, Any]) -> None:
        """Merges values into the summary. Raises TrackingError for one that JSON cannot hold."""
        self._check_running()
        self._write_summary(values, None)

    def _write_summary(self, values: Mapping[str, Any], point: tuple[str, int, str] | None) -> None:
        summary = {**self._summary, **values}
        encoded = encode(summary, f"the summary of run {self.id}")
        with self._database.write(durable=False) as connection:
            if point:
                connection.execute(
                    "INSERT INTO history (run, step, point) VALUES (?, ?, ?) "
                    "ON CONFLICT (run, step) DO UPDATE SET point = excluded.point",
                    point,
                )
            connection.execute(
                "UPDATE runs SET summary = ?, heartbeat = ? WHERE id = ?", (encoded, time.time(), self.id)
            )
        self._summary = summary

    def log_table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Keeps a table as `Run` says.

        Raises TrackingError for too many rows and for a row of another length than the columns'.
        """
        check_table(key, columns, rows)
        self._log_media(key, "table", {"columns": list(columns), "rows": [list(row) for row in rows]})

    def log_lines(
        self, key: str, x: Sequence[float], lines: Mapping[str, Sequence[float]], *, title: str, x_name: str
    ) -> None:
        """Keeps a chart as `Run` says. Raises TrackingError for a line of another length than `x`."""
        check_lines(key, x, lines)
        content = {"x": list(x), "lines": {name: list(line) for name, line in lines.items()}}
        self._log_media(key, "lines", {**content, "title": title, "x_name": x_name})

    def log_image(self, key: str, path: Path) -> None:
        """Keeps a PNG as `Run` says."""
        self._log_media(key, "image", {}, path)

    def log_html(self, key: str, path: Path) -> None:
        """Keeps a page as `Run` says."""
        self._log_media(key, "html", {}, path)

    def _log_media(self, key: str, kind: str, content: dict[str, Any], path: Path | None = None) -> None:
        self._check_running()
        encoded = encode(content, f"{kind} {key}")
        while True:
            file = self._blobs.put({key: path})[key] if path is not None else None
            with self._database.write() as connection:
                if file is not None and not self._blobs.holds(file):  # `gc` took it: see log_artifact
                    continue
                values = (self.id, key, kind, encoded, *((file.size, file.md5) if file else (None, None)))
                connection.execute(
                    "INSERT OR REPLACE INTO media (run, key, kind, content, size, md5) VALUES (?, ?, ?, ?, ?, ?)",
                    values,
                )
                return

    def use_artifact(self, artifact: Artifact | str) -> StoredArtifact:
        """Records a use as `Run` says. Raises NotFound for an artifact that this store does not hold."""
        self._check_running()
        found = self._versions.get(artifact if isinstance(artifact, str) else artifact.ref)
        if not isinstance(artifact, str) and artifact.digest != found.digest:
            raise TrackingError(
                f"{artifact.ref} with digest {artifact.digest} is from another store; the one at {self._root} holds "
                f"{found.digest} by that name: use an artifact that came from this store"
            )
        with self._database.write() as connection:
            add_edge(connection, "used", self.id, row_id(connection, found))
        return found

    def log_artifact(self, draft: ArtifactDraft, aliases: Iterable[str] = ("latest",)) -> StoredArtifact:
        """Commits a draft as `Run` says.

        `latest` moves to this version whatever `aliases` says; a version that is there already keeps its metadata.
        Raises TrackingError for a bad name, alias, file or metadata, and for a name that is taken by another type.
        """
        self._check_running()
        check_draft(draft)
        moved = ["latest", *check_aliases(aliases)]
        metadata = encode(draft.metadata, f"the metadata of artifact {draft.name}")
        with self._database.read() as connection:
            check_type(connection, draft)  # before anything large is copied
        while True:
            files = self._blobs.put(draft.files)
            with self._database.write() as connection:
                # `gc` removes files under this same lock: what is there now stays. What it took before is put again.
                if not all(self._blobs.holds(file) for file in files.values()):
                    continue
                check_type(connection, draft)
                id = insert_version(connection, draft, files, metadata)
                move_aliases(connection, draft.name, moved, id)
                add_edge(connection, "logged", self.id, id)
                return self._versions.load(connection, [id])[id]

    def finish(self, state: str = "finished", error: str | None = None) -> None:
        """Ends the run as `Run` says. Raises TrackingError for a state in which a run cannot end."""
        if self._finished:
            return
        if state not in RUN_STATES or state == "running":
            raise TrackingError(f"a run cannot end in state {state!r}: expected finished, failed or stopped")
        if error is not None:
            error = error.encode("utf-8", "backslashreplace").decode()
        now = time.time()
        with self._database.write() as connection:
            connection.execute(
                "UPDATE runs SET state = ?, error = ?, ended = ?, heartbeat = ? WHERE id = ?",
                (state, error, now, now, self.id),
            )
        self._finished = True
        self._heartbeat.stop(wait=True)

    def _check_running(self) -> None:
        if self._finished:
            raise TrackingError(f"run {self.id} has ended: start it again (start_run) to add to it")
