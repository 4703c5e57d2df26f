"""Delivers runs in the order of lineage: what a run used is at W&B before the run records that it used it.

This works in the courier, a process of its own, in a `working_directory`.
"""

import fcntl
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tracking.artifact import StoredArtifact
from tracking.delivery import Ledger
from tracking.interface import TrackingError
from tracking.store import Store
from tracking.wandb.account import remember
from tracking.wandb.causes import cause_of
from tracking.wandb.confirmation import Undelivered, confirm_moved_aliases
from tracking.wandb.sdk import RUN_TIMEOUT, Unreachable, keep_files_in, restart_service, server_address, start_service
from tracking.wandb.server import Server
from tracking.wandb.session import Session

_DOWN = 20.0  # seconds for which a server that did not answer is not asked again
_LOCK_WAIT = 60.0  # seconds for which another process may be sending a run that this one needs there


class Deliverer:
    """Sends runs of one store to one project. Not for several threads."""

    def __init__(self, store: Store, server: Server, folder: Path, *, check_content: bool = False):
        """Prepares to send from `folder`; with `check_content` what W&B has is downloaded and, if damaged, replaced."""
        self.store, self.server = store, server
        self._check_content = check_content
        self._ledger: Ledger | None = None
        self._folder = folder
        self._open: dict[str, tuple[Session, IO[str]]] = {}  # with the lock that each holds
        self._abandoned: dict[str, threading.Thread] = {}
        self._causes: dict[str, str] = {}  # of runs that could not be started
        self._problem: str | None = None
        self._down_until = 0.0

    @property
    def ledger(self) -> Ledger:
        """Returns the delivery record of the project, for whose entity W&B is asked once. Raises Unreachable."""
        if self._ledger is None:
            self._ledger = Ledger(self.store, remember(self.server.project, self.store, self.server.entity).key)
        return self._ledger

    # ---- a run that goes on

    def follow(self, run_id: str) -> None:
        """Sends what there is of a run, and leaves it open. Raises Unreachable or Undelivered."""
        self._check_reachable()
        try:
            if run_id not in self._open:
                lock = _lock(self.store, run_id, 0.0)
                if lock is None:
                    return  # another process sends it
                self._begin(run_id, lock)
            self._send(self._open[run_id][0], set())
        except Exception as error:
            self.drop(run_id)
            raise self._explained(error, run_id) from error

    def finish(self, run_id: str) -> None:
        """Sends what is left of a run, ends it at W&B and has it confirmed. Raises Unreachable or Undelivered."""
        if self._ledger is not None and not self.ledger.pending([run_id]):
            self.drop(run_id)
            return
        self._check_reachable()
        try:
            self._send_moved_aliases(run_id)
            if run_id in self._open or self.ledger.pending([run_id]):
                self._finish(run_id, set())
        except Exception as error:
            self.drop(run_id)
            raise self._explained(error, run_id) from error

    def drop(self, run_id: str) -> None:
        """Gives up a run that could not be followed; it may be begun again."""
        if run_id in self._open:
            session, lock = self._open.pop(run_id)
            self._abandoned[run_id] = session.abandon()
            lock.close()

    def _begin(self, run_id: str, lock: IO[str]) -> None:
        if run_id in self._abandoned:  # the SDK holds a run only once
            self._abandoned.pop(run_id).join(2 * RUN_TIMEOUT)
        if run_id in self._causes and not self._open:  # the SDK's process would take the id for one in use
            restart_service()
            self.server.close()
            del self._causes[run_id]
        session = Session(self.store, self.ledger, self.server, run_id, self._folder, check_content=self._check_content)
        self._open[run_id] = session, lock
        try:
            session.begin()
        except Exception as error:
            if run_id not in self._causes:
                self._causes[run_id] = cause_of(error, server_address(self.server.project), self._folder)
            raise

    def _finish(self, run_id: str, above: set[str]) -> None:
        if run_id not in self._open:
            lock = _lock(self.store, run_id, _LOCK_WAIT)
            if lock is None:
                raise Undelivered(f"run {run_id}: another process has been sending it for {_LOCK_WAIT:.0f} s")
            if not self.ledger.pending([run_id]):  # while this one waited
                lock.close()
                return
            self._begin(run_id, lock)
        session, lock = self._open[run_id]
        self._send(session, above)
        session.end()
        del self._open[run_id]
        lock.close()

    def _send_moved_aliases(self, run_id: str) -> None:
        """Sends the aliases that were moved, since W&B confirmed them, to versions that the run logged."""
        for kind, artifact in self.store.edges(run_id):
            if kind == "logged" and self.ledger.version(artifact) is not None:
                confirm_moved_aliases(self.ledger, self.server, artifact)

    def _send(self, session: Session, above: set[str]) -> None:
        """Sends points, then edges in order; `above` are the runs that wait for this one."""
        session.send_points()
        edges = session.edges()
        own = {artifact.ref for kind, artifact in edges if kind == "logged"}
        # What a run both logs and uses, it must have logged first: equal content is one version, so there are such.
        for kind, artifact in sorted(edges, key=lambda edge: edge[0] == "used" and edge[1].ref in own):
            if kind == "used":
                self._ensure_delivered(artifact, above | {session.run_id})
            session.send_edge(kind, artifact)

    def _ensure_delivered(self, artifact: StoredArtifact, above: set[str]) -> None:
        """Makes sure that a version is at the project."""
        if self.ledger.version(artifact) is not None:
            return
        found = self.server.find_version(artifact)
        if found is not None:
            self.ledger.confirm_artifact(artifact, found.version, found.aliases)
            return
        runs = [record for record in self.store.logged_by(artifact) if record.id not in above]
        if not runs:
            raise Undelivered(
                f"{artifact.ref}: no run in this store logged it, so nothing there can have; pull the run that did"
            )
        maker = runs[0]
        if maker.id in self._open and maker.state == "running":
            self._send(self._open[maker.id][0], above)
        else:
            self._finish(maker.id, above)

    def _check_reachable(self) -> None:
        """Raises Unreachable while there is no server, which is asked once in a while and not once a run."""
        if time.monotonic() >= self._down_until and not self._open:
            self._probe()
        if self._problem is not None and time.monotonic() < self._down_until:
            raise Unreachable(self._problem)

    def _probe(self) -> None:
        self._problem = self.server.problem()
        if self._problem is not None:
            self._down_until = time.monotonic() + _DOWN

    def _explained(self, error: Exception, run_id: str) -> TrackingError:
        if isinstance(error, Undelivered):
            return error
        self._probe()
        if self._problem is not None:
            return Unreachable(self._problem)
        address = server_address(self.server.project)
        if isinstance(error, TrackingError):
            return Unreachable(cause_of(error, address))
        cause = self._causes.get(run_id) or cause_of(error, address, self._folder)
        return Unreachable(f"run {run_id}: {cause}")


def _lock(store: Store, run_id: str, seconds: float) -> IO[str] | None:
    """Returns a lock on the sending of a run, released on closing or death; None if it is not free in time."""
    folder = store.root / "locks"
    folder.mkdir(exist_ok=True)
    file = open(folder / run_id, "a")  # noqa: SIM115  # open for as long as the lock is held
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError:
            if time.monotonic() >= deadline:
                file.close()
                return None
            time.sleep(0.2)


@contextmanager
def working_directory(store: Store) -> Iterator[Path]:
    """Makes and enters the directory in which a process sends; it is removed afterwards, for all that counts is stored.

    The SDK writes into an artifact's manifest, which it uploads, where on this machine each file lay. So files are
    named relative to this directory, which has the store's `blobs` in it; the SDK's service process must be started
    here too.
    """
    with (directory := store.temporary_directory()) as folder:
        (folder / "blobs").symlink_to(store.blobs.folder)
        for name in ("staging", "tmp"):
            (folder / name).mkdir()
        for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_ARTIFACT_DIR"):
            os.environ[variable] = str(folder)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")  # of the SDK's service process, too
        os.chdir(folder)
        keep_files_in(directory)
        start_service()
        _name_files_relatively()
        yield folder


def _name_files_relatively() -> None:
    """Has the SDK name an artifact's files relative to the current directory, as its manifest is uploaded with them."""
    from wandb.sdk.artifacts import artifact as module

    # The SDK has no setting for either, and exports no such names.
    module.get_staging_dir = lambda: "staging"  # type: ignore[attr-defined]
    add = module.Artifact._add_local_file

    def add_relatively(*arguments: Any, **options: Any) -> Any:
        entry = add(*arguments, **options)
        if entry.local_path is not None:
            entry.local_path = os.path.relpath(entry.local_path)
        return entry

    module.Artifact._add_local_file = add_relatively  # type: ignore[method-assign]
