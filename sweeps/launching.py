"""Launches the jobs of a sweep, by any of Hydra's launchers, so that one that is lost does not end the others."""

import logging
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from conf.errors import first_line, last_line
from train.stopping import Stopped

log = logging.getLogger(__name__)

Jobs = Sequence[Sequence[str]]


class EnduringLauncher(Launcher):
    """Launches jobs by another launcher. Says which are lost, and leaves it to the sweep's summary what that means."""

    def __init__(self, launcher: Any) -> None:
        """Takes the launcher, which is set up."""
        self.launcher = launcher

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Sets the launcher up anew, by what Hydra gives."""
        self.launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Jobs, initial_job_idx: int) -> list[JobReturn]:
        """Runs the jobs and returns what those came to that went through.

        Raises Stopped where a signal has come.
        """
        kind = type(self.launcher).__module__
        lost = LostJobs(job_overrides, initial_job_idx)
        try:
            if kind.startswith("hydra_plugins.hydra_joblib_launcher"):
                returns = _launch_in_workers(self.launcher, lost)
            elif kind.startswith("hydra_plugins.hydra_submitit_launcher"):
                with _enduring_jobs(lost):
                    returns = self.launcher.launch(job_overrides, initial_job_idx=initial_job_idx)
            else:
                returns = self.launcher.launch(job_overrides, initial_job_idx=initial_job_idx)
        except Exception as error:
            said = f"{type(error).__name__}: {first_line(error)}"
            print(f"error: {type(self.launcher).__name__} ended before its jobs: {said}", file=sys.stderr, flush=True)
            return []
        for job in returns:
            if job is not None and job.status == JobStatus.FAILED:
                assert job.hydra_cfg is not None
                raised = job._return_value  # `return_value` would print a traceback, and end the sweep
                number = job.hydra_cfg.hydra.job.num
                lost.say(number - initial_job_idx, f"{type(raised).__name__}: {first_line(raised)}")
        return [job for job in returns if job is not None and job.status == JobStatus.COMPLETED]


@dataclass(frozen=True)
class LostJobs:
    """Says which of some jobs are lost; `first` is the number of the first of them."""

    jobs: Jobs
    first: int

    def say(self, index: int, why: str) -> None:
        """Prints the line that says that a job is lost, and which cells it was to run."""
        print(f"lost: job #{self.first + index}{self._named(index)}: {why}", file=sys.stderr, flush=True)

    def _named(self, index: int) -> str:
        """Returns those of a job's overrides that tell it from the others, in brackets."""
        own = filter_overrides(self.jobs[index])
        telling = [override for override in own if not all(override in other for other in self.jobs)]
        return f" ({' '.join(telling)})" if telling else ""


def _launch_in_workers(launcher: Any, lost: LostJobs) -> list[JobReturn]:
    """Runs the jobs in processes of this machine, as the joblib plugin does, but for what happens where one dies."""
    from hydra_plugins.hydra_joblib_launcher._core import execute_job
    from joblib import effective_n_jobs

    from sweeps.workers import call_in_workers

    setup_globals()
    configure_log(launcher.config.hydra.hydra_logging, launcher.config.hydra.verbose)
    jobs = list(enumerate(lost.jobs, start=lost.first))
    most = min(effective_n_jobs(launcher.joblib["n_jobs"]), len(jobs))
    log.info(f"Launching {len(jobs)} jobs in processes of this machine, {most} at a time")
    for number, overrides in jobs:
        log.info(f"\t#{number} : {' '.join(filter_overrides(overrides))}")
    shared = (launcher.hydra_context, launcher.config, launcher.task_function, Singleton.get_state())
    calls = [(number, overrides, *shared) for number, overrides in jobs]
    returns: list[JobReturn] = call_in_workers(execute_job, calls, most, lost.say)
    return returns


class EnduringJob:
    """Stands for a job of submitit: one that has no result is said to be lost, and raises nothing."""

    def __init__(self, job: Any, index: int, lost: LostJobs) -> None:
        self.job, self.index, self.lost = job, index, lost

    def results(self) -> list[Any]:
        """Waits for the job and returns its results; [None] where it is lost."""
        try:
            results: list[Any] = self.job.results()
            return results
        except Exception as error:  # of submitit, with the job's log
            self.lost.say(self.index, f"{_cause(error)} (log: {self.job.paths.stderr})")
            return [None]


def _cause(error: Exception) -> str:
    """Returns the line that says why a job of submitit has no result: of a failed one, what its traceback came to."""
    if died := re.search(r"has not produced any output \(state: (.*?)\)", str(error)):
        return "its process ended without a result" + ("" if died[1] == "FINISHED" else f" ({died[1]})")
    trace = re.search(r"^-{9,}\n(.*?)\n-{9,}$", str(error), re.DOTALL | re.MULTILINE)
    return (last_line(trace[1]) if trace else None) or first_line(error)


@contextmanager
def _enduring_jobs(lost: LostJobs) -> Iterator[None]:
    """Has submitit's launcher wait for all of its jobs, whatever becomes of each.

    A signal is passed on to the jobs that are processes of this machine, which are waited for; a cluster's go on.
    """
    import submitit

    real = submitit.AutoExecutor
    submitted: list[EnduringJob] = []

    class Executor(real):  # type: ignore[misc, valid-type]
        """Submits as submitit does."""

        def map_array(self, function: Any, *arguments: Any) -> list[Any]:
            """Submits the jobs, in their order."""
            made = super().map_array(function, *arguments)
            submitted.extend(EnduringJob(job, i, lost) for i, job in enumerate(made))
            return [*submitted]

    # The launcher looks it up there when it launches, and offers no other way in.
    vars(submitit)["AutoExecutor"] = Executor
    try:
        yield
    except (Stopped, KeyboardInterrupt):
        _stop_processes([one.job for one in submitted])
        raise
    finally:
        vars(submitit)["AutoExecutor"] = real


def _stop_processes(jobs: Sequence[Any]) -> None:
    """Passes SIGTERM on to the jobs that are processes of this machine, and waits until they have ended."""
    import submitit

    local = [job for job in jobs if isinstance(job, submitit.LocalJob) and not job.done()]
    for job in local:
        with suppress(ProcessLookupError):
            os.kill(int(job.job_id), signal.SIGTERM)  # a local job's id is its process's
    for job in local:
        job.wait()
    if not all(isinstance(job, submitit.LocalJob) for job in jobs):
        print("the jobs that were submitted go on; sweeps.status shows them", file=sys.stderr)
