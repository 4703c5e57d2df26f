"""Runs the product's own commands and disturbs them: kills, many writers at once, full disks, a W&B that fails."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from bench.torture.outcome import Outcome
from tests.support import REPO
from tests.training import SMALL, SMALL_GRID
from tracking.store import Store
from tracking.upkeep import collect, verify

STAGES = ("train", "infer")
KILLS_OF_A_SWEEP = 8
LONGEST = 600  # seconds that a command may take

# Logs versions of two artifacts, one of them of the same content as the other writers'; prints what was returned.
WRITER = """
import sys
from pathlib import Path
from tracking.interface import ArtifactDraft
from tracking.store import Store
root, folder, me, count = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
with Store(root).start_run(f"run-{me}", job_type="train", config={"me": me}) as run:
    for number in range(count):
        file = folder / me
        file.write_text(f"{me} {number}")
        artifact = run.log_artifact(ArtifactDraft("m", "model", files={"content": file}))
        print(artifact.version, artifact.digest, me, number, flush=True)
"""


# Runs a command, none of whose files may be larger than so many bytes.
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""


def sweep(root: Path, *overrides: str) -> list[str]:
    """Returns the command of a sweep of two sizes and two seeds that keeps everything under `root`."""
    places = (f"tracking.root={root / 'runs'}", f"metrics.out={root / 'out'}", f"hydra.sweep.dir={root / 'hydra'}")
    return [sys.executable, "-m", "sweeps", *SMALL_GRID, "metrics.resamples=5", *places, *overrides]


def started(command: list[str], output: Path) -> subprocess.Popen[bytes]:
    """Starts a command in a process group of its own, its output and errors added to a file."""
    with output.open("ab") as file:
        return subprocess.Popen(command, cwd=REPO, stdout=file, stderr=file, start_new_session=True)


def digests(root: Path) -> dict[str, list[str]]:
    """Returns the digests of all versions of every artifact in a store, by name."""
    store = Store(root)
    found: dict[str, list[str]] = {}
    for artifact in store.versions():
        found.setdefault(artifact.name, []).append(artifact.digest)
    store.close()
    return found


def problems(root: Path) -> list[str]:
    """Returns what `verify` has to say against a store, and the temporary files that `gc` leaves."""
    store = Store(root)
    found = [str(problem) for problem in verify(store).problems]
    collect(store, grace=-1.0)
    found += [f"a temporary file is left: {path.name}" for path in store.blobs.scratch.iterdir()]
    store.close()
    return found


def kills(count: int, folder: Path, seed: int = 0) -> Outcome:
    """Kills a sweep with all its processes at random moments, again and again, and compares its digests at the end.

    The moments are spread evenly over half of the time that an undisturbed sweep takes. After KILLS_OF_A_SWEEP kills,
    or where there was too little left to do for a kill, a sweep may end, and the next begins.
    """
    outcome, rng = Outcome(), random.Random(seed)
    for name in ("undisturbed", "timed"):  # the second has everything compiled, as those that are killed
        begin = time.monotonic()
        subprocess.run(sweep(folder / name), cwd=REPO, check=True, capture_output=True, timeout=LONGEST)
        length = time.monotonic() - begin
    expected = digests(folder / "undisturbed" / "runs")
    finished = 0
    while outcome.tried < count:
        root = folder / f"sweep-{finished}"
        root.mkdir()
        for _ in range(min(KILLS_OF_A_SWEEP, count - outcome.tried)):
            process = started(sweep(root), root / "log")
            try:
                status = process.wait(rng.uniform(0.0, 0.5 * length))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            else:  # too late for a kill
                break
            if found := problems(root / "runs"):
                outcome.add_fault(f"after a kill: {found[0]}")
            else:
                outcome.add("kills that left a store without a fault")
        else:
            status = started(sweep(root), root / "log").wait(LONGEST)
        if status:
            outcome.faults.append(f"a sweep that was killed does not end: status {status}")
        elif digests(root / "runs") != expected:
            outcome.faults.append(f"sweep {finished}: other digests than undisturbed")
        left = [path.name for path in root.iterdir() if path.name not in ("runs", "out", "hydra", "log")]
        outcome.faults += [f"left beside the output: {name}" for name in left]
        finished += 1
    outcome.counts[f"sweeps that ended with the digests of an undisturbed one ({len(expected)} artifacts)"] = finished
    return outcome


def versions(count: int, folder: Path, seed: int = 0) -> Outcome:
    """Has four processes log versions of one artifact at once; every one that was returned must be there, whole."""
    outcome, writers = Outcome(), 4
    children = []
    (folder / "files").mkdir()
    for me in range(writers):
        share = str(count // writers + (me < count % writers))
        command = [sys.executable, "-c", WRITER, str(folder / "runs"), str(folder / "files"), f"w{me}", share]
        children.append(subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    lines: list[str] = []
    for child in children:
        said, errors = child.communicate(timeout=LONGEST)
        lines += said.splitlines()
        if child.returncode:
            outcome.faults.append(f"a writer ended with status {child.returncode}: {errors.strip()[-200:]}")
    store = Store(folder / "runs")
    kept = {artifact.version: artifact for artifact in store.versions("m")}
    for version, digest, writer, number in (line.split() for line in lines):
        artifact = kept.get(int(version))
        if (
            artifact is None
            or artifact.digest != digest
            or artifact.file("content").read_text() != f"{writer} {number}"
        ):
            outcome.add_fault(f"version {version} is not what was returned")
        else:
            outcome.add("kept as returned")
    if sorted(kept) != list(range(count)):
        outcome.faults.append(f"versions are numbered {sorted(kept)[:3]}…{max(kept, default=None)} of {count}")
    store.close()
    outcome.faults += problems(folder / "runs")
    return outcome


class Disk:
    """Stands for a disk of few bytes: a tmpfs where mounting is allowed, else a limit on the size of every file."""

    def __init__(self, root: Path, size: int):
        self.root, self.size = root, size
        root.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(root)]
        self.is_mounted = (
            shutil.which("mount") is not None and not subprocess.run(mount, capture_output=True).returncode
        )
        self.is_full = True

    def run(self, stage: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a command that keeps its runs on the disk."""
        command = [sys.executable, "-m", stage, *arguments, f"tracking.root={self.root / 'runs'}"]
        if self.is_full and not self.is_mounted:
            command = [sys.executable, "-c", LIMITED, str(self.size), *command]
        return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=LONGEST, check=False)

    def grow(self) -> None:
        """Makes room."""
        self.is_full = False
        if self.is_mounted:
            subprocess.run(["mount", "-o", "remount,size=1g", str(self.root)], check=True)

    def close(self) -> None:
        """Gives the disk back."""
        if self.is_mounted:
            subprocess.run(["umount", "--lazy", str(self.root)], check=True)


def disks(count: int, folder: Path, seed: int = 0) -> Outcome:
    """Trains and scores a cell where the disk is full after some kilobytes: it says so, and goes on with room."""
    outcome, rng = Outcome(), random.Random(seed)
    cell = (*SMALL, "size=nano", "seed=0", "train.checkpoint_every=10")
    whole = folder / "whole"
    for stage in STAGES:
        command = [sys.executable, "-m", stage, *cell, f"tracking.root={whole}"]
        subprocess.run(command, cwd=REPO, check=True, capture_output=True, timeout=LONGEST)
    expected = digests(whole)
    needed = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    for number in range(count):
        disk = Disk(folder / f"disk-{number}", int(rng.uniform(0.02, 0.9) * needed))
        try:
            full = next((done for done in (disk.run(stage, *cell) for stage in STAGES) if done.returncode), None)
            disk.grow()
            again = [disk.run(stage, *cell) for stage in STAGES]
            failed = [done for done in again if done.returncode]
            where = f"disk {number} of {disk.size:,} bytes"
            if full and "Traceback" in full.stderr:
                outcome.add_fault(f"{where}: a traceback: {full.stderr.strip().splitlines()[-1][:200]}")
            elif failed:
                outcome.add_fault(f"{where}: it fails with room: {failed[0].stderr.strip()[-200:]}")
            elif digests(disk.root / "runs") != expected:
                outcome.add_fault(f"{where}: other digests than with room from the start")
            elif found := problems(disk.root / "runs"):
                outcome.add_fault(f"{where}: {found[0]}")
            else:
                kind = "a full tmpfs" if disk.is_mounted else "a limit on file sizes"
                outcome.add(f"said so ({kind}) and went on with room" if full else "had room enough")
        finally:
            disk.close()
    return outcome


def wandb(count: int, folder: Path, seed: int = 0) -> Outcome:
    """Runs the tests in which a loopback W&B server fails in every way that it knows, the first `count` of them."""
    files = ["tests/test_tracking_failures.py", "tests/test_tracking_causes.py"]
    pytest = [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow", *files]
    listed = subprocess.run([*pytest, "--collect-only"], cwd=REPO, capture_output=True, text=True, check=False).stdout
    chosen = re.findall(r"^tests/\S+::.+$", listed, re.M)[:count]
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow", f"--junitxml={report}", *chosen]
    subprocess.run(command, cwd=REPO, capture_output=True, timeout=2 * LONGEST, check=False)
    outcome = Outcome()
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.add_fault(f"{case.get('name')}")
        elif case.find("skipped") is None:
            outcome.add("nothing lost, the cause said")
    return outcome
