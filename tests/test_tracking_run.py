"""Many processes at one store, and processes that are killed while they write."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tracking import is_alive
from tracking.interface import ArtifactDraft
from tracking.store import Store
from tracking.upkeep import collect, verify

REPOSITORY = Path(__file__).resolve().parent.parent


def spawn(script: str, *arguments) -> subprocess.Popen:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def outputs(children: list[subprocess.Popen]) -> list[str]:
    """Their standard outputs, once they have all ended well."""
    ended = [child.communicate(timeout=60) for child in children]
    assert [(child.returncode, error) for child, (_, error) in zip(children, ended, strict=True)] == [
        (0, "") for _ in children
    ]
    return [output for output, _ in ended]


# ---- several writers

WRITER = """
import os, sys, time
from pathlib import Path
from tracking.interface import ArtifactDraft
from tracking.store import Store
root, folder, me, count, start = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
time.sleep(max(0.0, start - time.time()))
store = Store(root)
with store.start_run(f"run-{me}", job_type="train", config={"me": me}) as run:
    for number in range(count):
        run.log({"loss": number, "me": float(me)}, number)
        own, shared = folder / f"{me}-{number}", folder / f"shared-{me}-{number}"
        own.write_text(f"{me} {number}")
        shared.write_text(f"shared {number}")
        for name, path in (("m", own), ("shared", shared)):
            artifact = run.log_artifact(ArtifactDraft(name, "model", files={"content": path}), aliases=[f"by-{me}"])
            print(artifact.ref, artifact.digest)
"""


def test_processes_that_create_and_write_one_store_at_once_lose_nothing(tmp_path):
    processes, count = 4, 12
    (tmp_path / "sources").mkdir()
    start = time.time() + 0.5
    arguments = (tmp_path / "runs", tmp_path / "sources")
    printed = outputs([spawn(WRITER, *arguments, me, count, start) for me in range(processes)])
    store = Store(tmp_path / "runs")
    versions = store.versions("m")
    assert [artifact.version for artifact in versions] == list(range(processes * count))
    assert {artifact.file("content").read_text() for artifact in versions} == {
        f"{me} {number}" for me in range(processes) for number in range(count)
    }
    assert len(store.versions("shared")) == count
    kept = {f"{artifact.ref} {artifact.digest}" for artifact in store.versions()}
    assert set("".join(printed).split("\n")) - {""} == kept
    assert sum("latest" in artifact.aliases for artifact in versions) == 1
    for me in range(processes):
        assert store.artifact(f"m:by-{me}").file("content").read_text() == f"{me} {count - 1}"
        assert store.history(f"run-{me}") == [{"step": n, "loss": n, "me": me} for n in range(count)]
        assert len(store.outputs(f"run-{me}")) == 2 * count
    assert all(len(store.logged_by(artifact)) == processes for artifact in store.versions("shared"))
    assert {run.state for run in store.runs()} == {"finished"}
    assert not verify(store).problems
    store.close()


CREATOR = """
import sys, time
from tracking.store import Store
for number in range(int(sys.argv[2])):
    start = float(sys.argv[3]) + number * 0.05
    time.sleep(max(0.0, start - time.time()))
    Store(f"{sys.argv[1]}/{number}").start_run(f"run-{sys.argv[4]}", job_type="train", config={}).finish()
"""


def test_fresh_stores_created_by_several_processes_in_the_same_moment(tmp_path):
    processes, stores = 4, 15
    start = time.time() + 0.5
    outputs([spawn(CREATOR, tmp_path, stores, start, me) for me in range(processes)])
    for number in range(stores):
        store = Store(tmp_path / str(number))
        assert {run.id for run in store.runs(state="finished")} == {f"run-{me}" for me in range(processes)}
        store.close()


COLLECTOR = """
import os, sys
from tracking.store import Store
from tracking.upkeep import collect
store = Store(sys.argv[1], create=False)
print("ready", flush=True)
while not os.path.exists(sys.argv[2]):
    collect(store, grace=-1.0)
"""


def test_gc_beside_writers_takes_nothing_of_theirs(tmp_path):
    # The grace period is off: what holds here is the lock alone.
    (tmp_path / "sources").mkdir()
    store = Store(tmp_path / "runs")
    collector = spawn(COLLECTOR, store.root, tmp_path / "stop")
    try:
        collector.stdout.readline()
        outputs([spawn(WRITER, store.root, tmp_path / "sources", me, 15, 0) for me in range(2)])
    finally:
        (tmp_path / "stop").touch()
    outputs([collector])
    assert len(store.versions()) == 3 * 15
    assert not verify(store).problems
    store.close()


def test_a_writer_whose_blob_was_collected_before_its_transaction_puts_it_again(tmp_path, monkeypatch):
    store = Store(tmp_path / "runs")
    (tmp_path / "x").write_text("x")
    put, seen = store.blobs.put, []

    def collected_at_first(files):
        entries = put(files)
        seen.append(collect(store, grace=-1.0 if not seen else 3600.0).blobs)
        return entries

    monkeypatch.setattr(store.blobs, "put", collected_at_first)
    with store.start_run("r", job_type="train", config={}) as run:
        artifact = run.log_artifact(ArtifactDraft("m", "model", files={"x": tmp_path / "x"}))
    assert seen == [1, 0] and artifact.file("x").read_text() == "x"
    store.close()


# ---- kills

# Each kills its process at one point inside log_artifact.
KILL = """
import os, signal, sys
from pathlib import Path
from tracking import blobs, run as runs
from tracking.interface import ArtifactDraft
from tracking.store import Store
from tracking.versions import Versions

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def die_at(module, name, call):
    real, left = getattr(module, name), [call]
    def wrapped(*arguments, **values):
        left[0] -= 1
        if not left[0]:
            die()
        return real(*arguments, **values)
    setattr(module, name, wrapped)

root, point, folder = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
store = Store(root)
run = store.start_run("r", job_type="train", config={})
for step in range(100):
    run.log({"loss": float(step)}, step)
match point:
    case "temporary file written": die_at(os, "fsync", 1)
    case "first file in place": die_at(blobs, "copy_hashed", 2)
    case "files in place": die_at(store.database, "write", 1)
    case "row inserted": die_at(runs, "add_edge", 1)
    case "row read back": die_at(Versions, "load", 1)
run.log_artifact(ArtifactDraft("m", "model", files={"big": folder / "big", "small": folder / "small"}))
die()
"""


@pytest.mark.parametrize(
    "point",
    ["temporary file written", "first file in place", "files in place", "row inserted", "row read back", "returned"],
)
def test_a_kill_while_logging_leaves_the_version_whole_or_absent(tmp_path, point):
    (tmp_path / "big").write_bytes(os.urandom(2**21))
    (tmp_path / "small").write_text("small")
    child = spawn(KILL, tmp_path / "runs", point, tmp_path)
    _, error = child.communicate(timeout=60)
    assert (child.returncode, error) == (-signal.SIGKILL, "")
    store = Store(tmp_path / "runs")
    assert not verify(store).problems
    assert [artifact.ref for artifact in store.artifacts()] == (["m:v0"] if point == "returned" else [])
    assert len(store.history("r")) == 100  # every point that was logged, though nothing was finished
    assert store.run("r").state == "running" and not is_alive(store.run("r"))
    assert len(store.outputs("r")) == (1 if point == "returned" else 0)
    # What the dead writer left goes; what a version names, or a living writer may be about to name, stays.
    collect(store)
    assert not list(store.blobs.scratch.iterdir())
    collect(store, grace=0.0)
    assert len(list(store.blobs.all())) == (2 if point == "returned" else 0)
    with store.start_run("r", job_type="train", config={}) as run:
        draft = ArtifactDraft("m", "model", files={"big": tmp_path / "big", "small": tmp_path / "small"})
        assert run.log_artifact(draft).ref == "m:v0"
    assert not verify(store).problems
    store.close()


LOOP = """
import os, sys
from pathlib import Path
from tracking.interface import ArtifactDraft
from tracking.store import Store
root, source = Path(sys.argv[1]), Path(sys.argv[2])
run = Store(root).start_run("r", job_type="train", config={})
number = int(sys.argv[3])
while True:
    run.log({"loss": float(number)}, number)
    source.write_bytes(os.urandom(2**19))
    small = source.with_suffix(".small")
    small.write_text(str(number))
    draft = ArtifactDraft("m", "model", {"n": number}, {"big": source, "small": small})
    artifact = run.log_artifact(draft, [f"n{number}"])
    print(artifact.ref, artifact.digest, number, flush=True)
    number += 1
"""


def test_kills_at_random_moments_lose_nothing_that_was_returned(tmp_path):
    random.seed(0)
    store = Store(tmp_path / "runs")
    number = 0
    for _ in range(6):
        child = spawn(LOOP, store.root, tmp_path / "source", number)
        first = child.stdout.readline()
        time.sleep(random.uniform(0.0, 0.15))
        child.kill()
        rest, error = child.communicate()
        lines = [line.split() for line in (first + rest).splitlines() if line.count(" ") == 2]
        assert error == "" and lines
        assert not verify(store).problems
        for ref, digest, logged in lines:
            artifact = store.artifact(ref)
            assert artifact.digest == digest and artifact.file("small").read_text() == logged
            assert store.artifact(f"m:n{logged}").ref == ref
        # At most one more than was printed: committed, and killed before the print.
        number = int(lines[-1][2]) + 1
        versions = store.versions("m")
        assert len(versions) - number in (0, 1)
        assert len(store.history("r")) - number in (0, 1)
        number = len(versions)
    collect(store, grace=-1.0)
    assert not list(store.blobs.scratch.iterdir())
    named = {file.md5 for artifact in store.versions() for file in artifact.files.values()}
    assert len(list(store.blobs.all())) == len(named)
    store.close()


# ---- cost


def test_logging_costs_the_same_few_statements_at_every_step_and_keeps_the_heartbeat_fresh(tmp_path):
    store = Store(tmp_path / "runs")
    run = store.start_run("r", job_type="train", config={})
    run.log({"loss": 0.0}, 0)
    statements: list[list[str]] = []
    with store.database.read() as connection:
        pass
    connection.set_trace_callback(lambda statement: statements[-1].append(statement.split()[0]))
    for step in range(1, 500):
        statements.append([])
        before = time.time()
        run.log({"loss": 1.0 / step, "rate": 1e-3, "tokens": step * 512}, step)
    connection.set_trace_callback(None)
    # No PRAGMA: nothing is forced to the disk, which is what would take milliseconds.
    own = [[word for word, _ in itertools.groupby(each)] for each in statements]  # one with its triggers counts once
    assert all(each == ["BEGIN", "INSERT", "UPDATE", "COMMIT"] for each in own)
    assert len({len(each) for each in statements}) == 1
    assert store.run("r").heartbeat >= before
    store.close()


MEMORY = """
import json, resource, sys
from pathlib import Path
from tracking.interface import ArtifactDraft
from tracking.store import Store
store = Store(sys.argv[1])
run = store.start_run("r", job_type="train", config={})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
artifact = run.log_artifact(ArtifactDraft("m", "model", files={"big": Path(sys.argv[2])}))
artifact.file("big")
artifact.download(sys.argv[3])
print(json.dumps([before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


def test_a_large_file_is_never_whole_in_memory(tmp_path):
    with open(tmp_path / "big", "wb") as file:
        file.truncate(100 * 2**20)
    before, after = json.loads(outputs([spawn(MEMORY, tmp_path / "runs", tmp_path / "big", tmp_path / "out")])[0])
    assert after - before < 20 * 1024  # KiB
    assert (tmp_path / "out/big").stat().st_size == 100 * 2**20
