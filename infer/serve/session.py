"""Keeps a server's session as a tracked run: which switcher it used, and counts; never text."""

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from conf.schema import Config
from infer.serve.deployment import Deployment
from tracking import open_tracker
from tracking.interface import Run

LOG = logging.getLogger("edgewise.serve")


class Session:
    """Represents the run of one process. A store that can't be written to is logged, and the server goes on.

    Its summary and history have the counts of `History.counts`, and the alarms by their names. A store may keep its
    caller waiting, for a minute where another process holds its lock: one thread at a time asks, beside the event loop.
    """

    def __init__(self, config: Config):
        self._config = config
        self._run: Run | None = None
        self._steps = 0

    def use(self, deployment: Deployment) -> None:
        """Notes that the process uses a switcher; the run begins with the first. Of a bundle nothing is tracked."""
        if deployment.artifact is None:
            return
        with self._unharmed():
            if self._run is None:
                policy, tracking = deployment.policy, self._config.tracking
                settings = {key: value for key, value in vars(self._config.serve).items() if key not in NOT_KEPT}
                self._run = open_tracker(tracking).start_run(
                    f"serve-{uuid.uuid4().hex[:12]}",
                    job_type="serve",
                    name=f"serve {policy.name}",
                    group=tracking.group,
                    tags=[policy.dataset],
                    config={"switcher": deployment.digest, "serve": settings, "device": deployment.engine.device},
                )
            self._run.use_artifact(deployment.artifact)

    def log(self, counts: Mapping[str, Any], alarms: Sequence[str]) -> None:
        """Logs the counts so far, and the names of the alarms."""
        if self._run is None:
            return
        with self._unharmed():
            self._steps += 1
            self._run.log(_numbers(counts), self._steps)
            self._run.set_summary({**counts, "alarms": list(alarms)})

    def finish(self, counts: Mapping[str, Any], alarms: Sequence[str]) -> None:
        """Logs the last counts and ends the run."""
        self.log(counts, alarms)
        if self._run is not None:
            with self._unharmed():
                self._run.finish()

    @contextmanager
    def _unharmed(self) -> Iterator[None]:
        """Logs what the store can't do, without a message of its own that might hold more than a reason."""
        try:
            yield
        except Exception as error:  # of the store, mostly: whatever it is, the server answers on
            LOG.warning("the run of this session can't be kept: %s", type(error).__name__)


NOT_KEPT = ("host", "port", "token_file", "state")  # of the settings: where this machine has it


def alarms_of(deployment: Deployment | None) -> list[str]:
    """Returns the names of the alarms of the watch."""
    if deployment is None or deployment.watching is None:
        return []
    return [alarm.name for alarm in deployment.watching.watch.alarms]


def _numbers(counts: Mapping[str, Any]) -> dict[str, float]:
    """Returns the counts that are numbers."""
    return {key: float(value) for key, value in counts.items() if isinstance(value, (int, float))}
