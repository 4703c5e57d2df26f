"""Whether a run's process lives, and which code it runs."""

import os
import socket
import subprocess
import sys
import time

import pytest

from tracking import process
from tracking.interface import RunRecord
from tracking.process import code_version, is_alive, process_mark


def record(**values) -> RunRecord:
    now = time.time()
    given = {"state": "running", "host": socket.gethostname(), "pid": os.getpid(), "heartbeat": now, "started": now}
    empty = {"config": {}, "summary": {}, "tags": [], "code_version": "", "ended": None, "error": None, "group": None}
    return RunRecord(**{"id": "r", "job_type": "train", "name": "r", **empty, **given, **values})


def test_this_process_is_alive_while_its_run_is_running():
    assert is_alive(record())
    assert not any(is_alive(record(state=state)) for state in ("finished", "failed", "stopped"))


def test_a_dead_process_is_dead_reaped_or_not():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert is_alive(record(pid=child.pid))
    child.kill()
    deadline = time.monotonic() + 10
    while is_alive(record(pid=child.pid)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(record(pid=child.pid))  # a zombie
    child.communicate()
    assert not is_alive(record(pid=child.pid))
    assert not is_alive(record(pid=2**40))


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="start times are read from Linux's /proc")
def test_a_younger_process_with_the_same_id_is_not_the_runs():
    before = time.time()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        assert is_alive(record(pid=child.pid, heartbeat=time.time()))
        assert not is_alive(record(pid=child.pid, heartbeat=before - 10, started=before - 20))
    finally:
        child.kill()
        child.wait()


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="marks are read from Linux's /proc")
def test_a_process_lives_whatever_happens_to_the_clock():
    mark, long_ago = process_mark(os.getpid()), time.time() - 10**6
    assert is_alive(record(heartbeat=long_ago, process=mark))  # someone has set the clock forward
    boot, pid, start = mark.split(" ")
    assert not is_alive(record(process=f"{boot} {pid} {int(start) + 1}"))  # a later process with a dead one's id
    assert not is_alive(record(process=f"another-boot {pid} {start}"))
    for other in (None, f"{boot} {int(pid) + 1} {start}", "", "x"):  # none of this process: its start decides
        assert is_alive(record(process=other)) and not is_alive(record(heartbeat=long_ago, process=other))
    assert process_mark(2**40) is None


def test_on_another_host_the_heartbeat_decides():
    assert is_alive(record(host="elsewhere", heartbeat=time.time() - 200))
    assert not is_alive(record(host="elsewhere", heartbeat=time.time() - 400))


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    folder = tmp_path / "outer/checkout"
    folder.mkdir(parents=True)
    monkeypatch.setattr(process, "CHECKOUT", folder)
    code_version.cache_clear()
    yield folder
    code_version.cache_clear()


def git(folder, *command: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *who, *command], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_code_version_is_the_commit_and_says_when_files_differ(checkout, monkeypatch):
    monkeypatch.setenv("GIT_DIR", "/not/this/one")  # as inside a git hook
    assert code_version() == "unknown"
    code_version.cache_clear()
    monkeypatch.delenv("GIT_DIR")
    git(checkout.parent, "init")
    (checkout / "file").write_text("1")
    git(checkout.parent, "add", ".")
    git(checkout.parent, "commit", "-m", "outer")
    assert code_version() == "unknown"  # the outer repository is not this checkout's
    code_version.cache_clear()
    git(checkout, "init")
    assert code_version() == "unknown"  # no commit yet
    code_version.cache_clear()
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "first")
    git(checkout, "tag", "v1")
    commit = git(checkout, "rev-parse", "HEAD")
    assert len(commit) == 40 and code_version() == commit
    (checkout / "file").write_text("2")
    assert code_version() == commit  # once a process
    code_version.cache_clear()
    assert code_version() == f"{commit}-dirty"


def test_code_version_without_git(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert code_version() == "unknown"
