"""A job that is lost is said, and ends no other, whichever launcher runs it."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from conf.errors import EdgewiseError
from sweeps.cell import run_job
from sweeps.launchers import check_launcher
from sweeps.launching import EnduringJob, EnduringLauncher, LostJobs
from tests.support import REPO
from tests.training import SMALL
from train.stopping import Stopped

JOBS = [["dataset=demo", "size=nano", "seed=0"], ["dataset=demo", "size=nano", "seed=1"]]


def returned(number, error=None):
    job = JobReturn(overrides=JOBS[number], hydra_cfg=OmegaConf.create({"hydra": {"job": {"num": number}}}))
    job.return_value = error
    job.status = JobStatus.COMPLETED if error is None else JobStatus.FAILED
    return job


def test_a_job_that_raised_is_said_and_does_not_count(capsys):
    launcher = SimpleNamespace(launch=lambda jobs, initial_job_idx: [returned(0), returned(1, OSError("odd\nmore"))])
    through = EnduringLauncher(launcher).launch(JOBS, 0)
    assert [job.overrides for job in through] == [JOBS[0]]
    assert capsys.readouterr().err == "lost: job #1 (seed=1): OSError: odd\n"


def test_a_launcher_that_raises_leaves_the_summary_to_the_sweep(capsys):
    def launch(jobs, initial_job_idx):
        raise RuntimeError("the cluster is gone\nTraceback …")

    assert EnduringLauncher(SimpleNamespace(launch=launch)).launch(JOBS, 0) == []
    assert capsys.readouterr().err == (
        "error: SimpleNamespace ended before its jobs: RuntimeError: the cluster is gone\n"
    )


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "Job 7 with path /x\nhas not produced any output (state: FINISHED)\nlog",
            "ended without a result (",
        ),
        (
            "Job 7 with path /x\nhas not produced any output (state: TIMEOUT)",
            "without a result (TIMEOUT) (",
        ),
        ("Job failed with trace:\n----------\nTraceback\nValueError: no\n----------\nlogs", "): ValueError: no ("),
        ("another", "): another ("),
    ],
)
def test_a_job_of_submitit_without_a_result_is_said_with_its_log(message, said, capsys):
    def results():
        raise RuntimeError(message)

    job = SimpleNamespace(results=results, paths=SimpleNamespace(stderr="/logs/7.err"))
    assert EnduringJob(job, 1, LostJobs(JOBS, 10)).results() == [None]
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("lost: job #11 (seed=1): ") and said in line and line.endswith("(log: /logs/7.err)")


@pytest.mark.parametrize(
    ("key", "value"), [("batch_size", 2), ("timeout", 10.0), ("n_jobs", 0), ("n_jobs", "many"), ("odd", 1)]
)
def test_a_key_of_joblib_that_would_change_nothing_is_refused(key, value):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher.config")
    target = {"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", "n_jobs": 2}
    check_launcher(OmegaConf.create(target))
    with pytest.raises(EdgewiseError, match=rf"hydra\.launcher\.{key}={value}: expected"):
        check_launcher(OmegaConf.create(target | {key: value}))


def test_the_keys_of_other_launchers_are_theirs():
    check_launcher(OmegaConf.create({"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}))


def test_a_signal_reaches_the_cell_while_it_is_scored_too(compose, tmp_path, monkeypatch):
    """What `infer.scoring` does with it is its own: the run is stopped, not failed."""
    seen = []

    def finish_cell(config, tracker, devices, stop):
        os.kill(os.getpid(), signal.SIGTERM)
        seen.append(stop.received)
        stop.check()

    monkeypatch.setattr("sweeps.cell.finish_cell", finish_cell)
    with pytest.raises(Stopped):
        run_job(compose(*SMALL, f"tracking.root={tmp_path}"))
    assert seen == [signal.SIGTERM]


def test_a_signal_outside_of_any_cell_ends_the_process_as_an_error_does():
    code = (
        "import os, signal; from train.stopping import raise_at_signals; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "raise_at_signals()\ntry:\n  os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGTERM)\n"
        "finally:\n  print('ended')"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (128 + signal.SIGTERM, "ended\n", "")
