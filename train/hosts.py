"""Lets several processes, on one or more hosts, train or score one cell together. Alone, all of this does nothing.

Every process runs the same program on the same data, holds a part of the arrays, and takes part in every collective, so
all of them must take the same turns: whatever decides a turn is read at a barrier, or agreed upon. The first process
prints and writes for all; the others read the store, and write nothing to it.
"""

import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from conf.errors import EdgewiseError, first_line
from conf.schema import Hosts
from tracking.interface import Artifact, ArtifactDraft, Run, RunRecord, Tracker

T = TypeVar("T")


def join(hosts: Hosts) -> None:
    """Joins the other processes, before JAX looks at its devices; does nothing where `hosts` names none.

    Raises EdgewiseError when they can't be found or reached.
    """
    if not (hosts.auto or hosts.coordinator) or jax.distributed.is_initialized():
        return
    try:
        if hosts.coordinator and hosts.process:
            _await(hosts.coordinator, hosts.timeout)
        jax.distributed.initialize(
            coordinator_address=hosts.coordinator,
            num_processes=hosts.processes,
            process_id=hosts.process,
            initialization_timeout=hosts.timeout,
        )
    except (RuntimeError, ValueError, OSError) as error:
        setting = f"hosts.coordinator={hosts.coordinator}" if hosts.coordinator else "hosts.auto=true"
        raise EdgewiseError(
            f"{setting}: {first_line(error)}. Expected as many processes as hosts.processes says, started with "
            "the same command and a hosts.process of their own; hosts.auto=true works on Slurm, TPU pods, Open MPI"
        ) from error


def _await(address: str, seconds: float) -> None:
    """Waits until something listens at HOST:PORT: where nothing does, JAX itself aborts the process with a stack trace.

    Raises OSError when the time is up, and ValueError for what is no address.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("expected HOST:PORT")
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise OSError(f"nothing answered there in {seconds} s ({error.strerror or error})") from error
        time.sleep(0.2)


def first() -> bool:
    """Tells whether this process is the first of all, which prints and writes for the others."""
    return jax.process_index() == 0


def alone() -> bool:
    """Tells whether there is no other process."""
    return bool(jax.process_count() == 1)


def together(place: str) -> None:
    """Waits until every process has come to `place`, a text that is the same in all."""
    if not alone():
        multihost_utils.sync_global_devices(place)


def agreed(value: int) -> int:
    """Returns the largest of the processes' values, in all of them."""
    if alone():
        return value
    return int(np.max(multihost_utils.process_allgather(np.int32(value))))


def on_devices(arrays: Any, sharding: jax.sharding.Sharding) -> Any:
    """Puts a tree of numpy arrays, whole in every process, on the devices: each process feeds its own their parts."""
    if alone():
        return jax.device_put(arrays, sharding)
    return jax.tree.map(
        lambda array: jax.make_array_from_callback(np.shape(array), sharding, lambda index: array[index]), arrays
    )


def whole(arrays: Any) -> Any:
    """Returns a tree of arrays as every process can read them: gathered as numpy, where there are several processes."""
    if alone():
        return arrays
    return jax.tree.map(lambda array: multihost_utils.process_allgather(array, tiled=True), arrays)


def shared(tracker: Tracker) -> Tracker:
    """Returns a tracker that all processes may use as if they were one: `tracker` itself where this one is alone."""
    return tracker if alone() else _SharedTracker(tracker)


class _SharedTracker(Tracker):
    """Reads in all processes between two barriers, so that they find the same; runs are the first process's."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def _read(self, read: Callable[[], T]) -> T:
        together("before reading the store")
        try:
            return read()
        finally:
            together("after reading the store")

    def start_run(
        self,
        run_id: str,
        *,
        job_type: str,
        config: Mapping[str, Any],
        name: str | None = None,
        group: str | None = None,
        tags: Iterable[str] = (),
        restart: bool = False,
    ) -> Run:
        run = None
        if first():
            run = self._tracker.start_run(
                run_id, job_type=job_type, config=config, name=name, group=group, tags=tags, restart=restart
            )
        return _SharedRun(run_id, run, self._tracker)

    def run(self, run_id: str) -> RunRecord | None:
        return self._read(lambda: self._tracker.run(run_id))

    def runs(
        self, *, job_type: str | None = None, group: str | None = None, state: str | None = None
    ) -> list[RunRecord]:
        return self._read(lambda: self._tracker.runs(job_type=job_type, group=group, state=state))

    def history(self, run_id: str) -> list[dict[str, float]]:
        return self._read(lambda: self._tracker.history(run_id))

    def artifact(self, ref: str) -> Artifact:
        return self._read(lambda: self._tracker.artifact(ref))

    def artifacts(self, name: str = "*", *, type: str | None = None) -> list[Artifact]:
        return self._read(lambda: self._tracker.artifacts(name, type=type))

    def logged_by(self, artifact: Artifact) -> list[RunRecord]:
        return self._read(lambda: self._tracker.logged_by(artifact))

    def used_by(self, artifact: Artifact) -> list[RunRecord]:
        return self._read(lambda: self._tracker.used_by(artifact))

    def inputs(self, run_id: str) -> list[Artifact]:
        return self._read(lambda: self._tracker.inputs(run_id))

    def outputs(self, run_id: str) -> list[Artifact]:
        return self._read(lambda: self._tracker.outputs(run_id))

    def move_alias(self, artifact: Artifact, alias: str) -> None:
        if first():
            self._tracker.move_alias(artifact, alias)

    def temporary_directory(self) -> AbstractContextManager[Path]:
        return self._tracker.temporary_directory()

    def close(self) -> None:
        self._tracker.close()


class _SharedRun(Run):
    """Writes to the first process's run; `run` is None in the others, which only wait for what it logs."""

    def __init__(self, run_id: str, run: Run | None, tracker: Tracker) -> None:
        self.id = run_id
        self._run, self._tracker = run, tracker

    def log(self, values: Mapping[str, float], step: int) -> None:
        if self._run is not None:
            self._run.log(values, step)

    def set_summary(self, values: Mapping[str, Any]) -> None:
        if self._run is not None:
            self._run.set_summary(values)

    def log_table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        if self._run is not None:
            self._run.log_table(key, columns, rows)

    def log_lines(
        self, key: str, x: Sequence[float], lines: Mapping[str, Sequence[float]], *, title: str, x_name: str
    ) -> None:
        if self._run is not None:
            self._run.log_lines(key, x, lines, title=title, x_name=x_name)

    def log_image(self, key: str, path: Path) -> None:
        if self._run is not None:
            self._run.log_image(key, path)

    def log_html(self, key: str, path: Path) -> None:
        if self._run is not None:
            self._run.log_html(key, path)

    def use_artifact(self, artifact: Artifact | str) -> Artifact:
        if self._run is not None:
            return self._run.use_artifact(artifact)
        return self._tracker.artifact(artifact) if isinstance(artifact, str) else artifact

    def log_artifact(self, draft: ArtifactDraft, aliases: Iterable[str] = ("latest",)) -> Artifact:
        """Logs the artifact in the first process, and returns it in all."""
        logged = self._run.log_artifact(draft, aliases) if self._run is not None else None
        together(f"logged {draft.name}")
        return logged or self._tracker.artifact(f"{draft.name}:latest")

    def finish(self, state: str = "finished", error: str | None = None) -> None:
        if self._run is not None:
            self._run.finish(state, error)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._run is not None:
            self._run.__exit__(kind, value, traceback)
