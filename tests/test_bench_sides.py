"""The two sides of `just bench-torch`: limits, failures, and what is compared where a job has no answer."""

import sys

import pytest

from bench.__main__ import BENCH, compare, table_rows
from bench.sides import JobFailed, Worker, memory_limits

JOBS = """
import os, sys, time
sys.path.insert(0, "bench")
from workers import serve
def fail():
    raise RuntimeError("no kernel\\nfor this")
serve({
    "quick": lambda: {"examples": 2, "share": os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION")},
    "slow": lambda: time.sleep(60) or {},
    "failing": fail,
    "ending": lambda: os._exit(3),
})
"""


@pytest.fixture
def worker():
    worker = Worker(sys.executable, "-c", JOBS, folder=BENCH.parent, environment=memory_limits("cuda", 0.45))
    yield worker
    worker.close()


def test_a_job_that_fails_or_takes_too_long_or_ends_its_process_is_told_and_the_next_is_done(worker):
    assert worker.run("quick", 60)["share"] == "0.45"
    with pytest.raises(JobFailed, match="failing: RuntimeError: for this"):
        worker.run("failing", 60)
    with pytest.raises(JobFailed, match="ending: the process ended, status 3"):
        worker.run("ending", 60)
    with pytest.raises(JobFailed, match="slow: not done in 1 s, its limit"):
        worker.run("slow", 1)
    assert worker.run("quick", 60)["examples"] == 2


def test_memory_is_limited_on_a_gpu_alone():
    assert memory_limits("cpu", 0.45) == {}
    assert memory_limits("cuda", 0.3)["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"


def test_what_torch_fails_at_has_a_row_that_says_so(worker, capsys):
    answers = compare(("quick", "failing"), worker, worker, rounds=2, limit=60)
    assert len(answers["quick"]) == 2 and "failing" not in answers
    assert "failing: RuntimeError: for this" in capsys.readouterr().err
    ours, theirs = table_rows(("quick", "failing"), answers, flops=1.0, peak=1e12)
    assert ours[0] == "quick (ours)" and theirs == ("failing", "none", "", "see above")
    with pytest.raises(JobFailed):
        compare(("failing", "quick"), worker, worker, rounds=1, limit=60)
