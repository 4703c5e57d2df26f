"""Finds out whether the process of a run still lives, and which code it runs."""

import functools
import os
import socket
import subprocess
import time
from pathlib import Path

from tracking.database import Row
from tracking.interface import RunRecord

CHECKOUT = Path(__file__).resolve().parent.parent

# Seconds without a sign of life after which a run on another host counts as dead, and may be taken over. A living run
# gives one every 20 s (tracking.heartbeat), by its own host's clock: the rest is for clocks that differ, and for a
# database that is busy or does not answer for a while.
DEAD_AFTER = 300.0


def is_alive(record: RunRecord) -> bool:
    """Returns whether a run's record says `running` and its process is indeed still there.

    On this host the process is looked up; a process that has a dead one's id is recognised by another mark, or where
    the record has none by its later start. On another host the run counts as alive while its heartbeat is younger than
    DEAD_AFTER seconds.
    """
    return _is_alive(record.state, record.host, record.pid, record.heartbeat, record.process)


def is_alive_row(row: Row) -> bool:
    """Returns what `is_alive` does, of a run's row; one that is damaged where this matters counts as dead."""
    pid, heartbeat = row["pid"], row["heartbeat"]
    if not isinstance(pid, int) or not isinstance(heartbeat, float):
        return False
    return _is_alive(row["state"], row["host"], pid, heartbeat, mark_in(row))


def mark_in(row: Row) -> str | None:
    """Returns the mark in a run's row; None where there is none, as in a store of before there were marks."""
    mark = row["process"] if "process" in row.keys() else None  # noqa: SIM118  # a row is searched for values, not keys
    return mark if isinstance(mark, str) else None


def process_mark(pid: int) -> str | None:
    """Returns what tells a living process from every other that its host has ever had; None where there is no /proc.

    That is the id of the host's boot, the process's id, and its start in clock ticks since the boot: none of them
    changes when someone sets the clock.
    """
    fields = _stat(pid)
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return f"{boot} {pid} {fields[19]}" if fields else None


def _is_alive(state: str, host: str, pid: int, heartbeat: float, mark: str | None) -> bool:
    if state != "running":
        return False
    if host != socket.gethostname():
        return time.time() - heartbeat < DEAD_AFTER
    if not _exists(pid):
        return False
    # A mark of another id is that of an earlier process, left by a version of this program that writes none.
    if mark is not None and mark.split(" ")[1:2] == [str(pid)] and (found := process_mark(pid)) is not None:
        return mark == found
    started = _start_time(pid)
    # A process that is younger than the run's last sign of life cannot be the one that gave it (2 s: clock grain).
    return started is None or started <= heartbeat + 2.0


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # someone else's process
    except (OverflowError, OSError):
        return False
    fields = _stat(pid)
    return fields is None or fields[0] not in ("Z", "X")  # a zombie is dead, only not yet reaped


def _stat(pid: int) -> list[str] | None:
    """Returns the fields of Linux's /proc/PID/stat from the third (the state) on; None where there is no such file."""
    try:
        # The second field, the command in brackets, may itself hold spaces and brackets.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _start_time(pid: int) -> float | None:
    """Returns when a process started, in seconds since the epoch; None where there is no /proc."""
    fields = _stat(pid)
    if fields is None:
        return None
    try:
        lines = Path("/proc/stat").read_text().splitlines()
        boot = next(float(line.split()[1]) for line in lines if line.startswith("btime "))
    except (OSError, StopIteration):
        return None
    return boot + int(fields[19]) / os.sysconf("SC_CLK_TCK")


@functools.cache
def code_version() -> str:
    """Returns the checkout's git commit, with `-dirty` if a tracked file differs from it; `unknown` outside git."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    # A repository that merely has this checkout somewhere below it says nothing about this code.
    environment["GIT_CEILING_DIRECTORIES"] = str(CHECKOUT.parent)
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(
            command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return result.stdout.strip() or "unknown"
