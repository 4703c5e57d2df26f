"""Puts a new directory in the place of an earlier output: whole or not at all, by one process at a time."""

import fcntl
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from conf.errors import EdgewiseError

MARK = "summary.json"  # a directory that holds it is a metrics output, and may be replaced by another
TRAINING_PAGE = "training.html"  # a sweep's own page may stand there too, before and after


class OutputError(EdgewiseError):
    """Says that the output directory can't be written, holds something else, or is being written by another process."""


def check_replaceable(out: Path) -> None:
    """Raises OutputError if `out` exists and is neither an empty directory nor an earlier metrics output.

    A sweep's training page alone counts as empty.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise OutputError(f"metrics.out={out} is a file; expected a directory")
    try:
        held = any(path.name != TRAINING_PAGE for path in out.iterdir())
        something_else = held and not (out / MARK).is_file()
    except OSError as error:
        raise OutputError(f"metrics.out={out} can't be read: {error.strerror}") from error
    if something_else:
        raise OutputError(
            f"metrics.out={out} holds files but no {MARK}, so it is no metrics output and stays as it is; "
            "give an empty directory or another name"
        )


@contextmanager
def replaced(out: Path) -> Iterator[Path]:
    """Yields a private directory beside `out` to write into, which takes the place of `out` if nothing is raised.

    From the first line of the block to the last, no other process can replace `out`. What a killed process left beside
    `out` is removed, and an earlier output that it had moved away is put back. Raises OutputError as
    `check_replaceable` does, where another process is writing the same `out`, and where the file system refuses.
    """
    given, absolute = out, Path(os.path.abspath(out))
    with refusals_as_output_errors(given):
        absolute.parent.mkdir(parents=True, exist_ok=True)
        out = absolute.parent.resolve() / absolute.name
    with _locked(out, given):
        check_replaceable(given)
        with refusals_as_output_errors(given):
            private = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.new."))
        try:
            with refusals_as_output_errors(given):
                whole = private / "whole"
                whole.mkdir()  # not `private` itself, which mkdtemp closes to everyone else
            yield whole
            with refusals_as_output_errors(given):
                _exchange(whole, out, private / "old")
        finally:
            shutil.rmtree(private, ignore_errors=True)


@contextmanager
def refusals_as_output_errors(out: Path) -> Iterator[None]:
    """Raises what the file system refuses inside the block as an OutputError about `out`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"metrics.out={out} can't be written: {error.strerror or error}") from error


def _exchange(whole: Path, out: Path, old: Path) -> None:
    """Moves `whole` to `out`, and what was there to `old`; puts it back where the move fails.

    The training page of a sweep, which is no part of the metrics, is carried over.
    """
    if (out / TRAINING_PAGE).is_file():
        shutil.copy2(out / TRAINING_PAGE, whole / TRAINING_PAGE)
    if out.exists():
        out.rename(old)
    try:
        whole.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise


@contextmanager
def _locked(out: Path, given: Path) -> Iterator[None]:
    """Holds the lock on `out`, a file beside it; the operating system releases it when the process ends or is killed.

    Raises OutputError where another process holds it. Where the file system has no locks, nothing is held.
    """
    path = out.with_name(f".{out.name}.lock")
    with refusals_as_output_errors(given):
        file = None
        while file is None:
            file = _lock(path, given)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # still under the lock, so that nobody holds a file that is gone
        file.close()


def _lock(path: Path, given: Path) -> IO[str] | None:
    """Opens and locks a file; returns None where its last holder removed it in between."""
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - the lock lasts as long as it is open
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise OutputError(
                f"metrics.out={given} is being written by another run of metrics ({file.read() or 'just started'}): "
                "wait until it has ended, or give this one another metrics.out"
            ) from None
        except OSError:  # not every file system has locks
            return file
        if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            file.close()
            return None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        _remove_leftovers(path.parent, path.name.removesuffix(".lock"))
    except BaseException:
        file.close()
        raise
    return file


def _remove_leftovers(folder: Path, hidden: str) -> None:
    """Removes the private directories that killed processes left, and puts back the output that one had moved away.

    `hidden` is the name of the output with a dot before it. Only the holder of the lock may call this.
    """
    for left in folder.iterdir():
        if re.fullmatch(rf"{re.escape(hidden)}\.new\.[a-z0-9_]{{8}}", left.name):
            out = folder / hidden[1:]
            if (left / "old").is_dir() and not out.exists():
                (left / "old").rename(out)
            shutil.rmtree(left, ignore_errors=True)
