"""Counts what the server does, for Prometheus: https://prometheus.io/docs/instrumenting/exposition_formats/."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from infer.serve.deployment import Deployment
from infer.serve.queue import TakenBatch
from infer.serve.ticket import Ticket

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
MEDIA_TYPE = CONTENT_TYPE_LATEST


class Measures:
    """Holds the counts of one process, in a registry of its own; safe for several threads. Never holds text."""

    def __init__(self) -> None:
        disable_created: Callable[[], None] = disable_created_metrics
        disable_created()  # a second series for each, of when it began
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "edgewise_requests",
            "Requests that were answered, by path and status.",
            ["path", "status"],
            registry=registry,
        )
        self._requests: dict[tuple[str, int], Counter] = {}  # of each path and status, as looking one up takes time
        self.inputs = Counter("edgewise_inputs", "Inputs that were answered, by model.", ["model"], registry=registry)
        self._inputs: dict[str, Counter] = {}  # of each model
        self.deferred = Counter(
            "edgewise_deferred_inputs", "Inputs that the smallest model passed on.", registry=registry
        )
        self.bad_inputs = Counter("edgewise_bad_inputs", "Inputs that can't be answered.", registry=registry)
        self.degraded = Counter(
            "edgewise_degraded_inputs", "Inputs answered by the smallest model for want of time.", registry=registry
        )
        self.latency = Histogram(
            "edgewise_request_seconds",
            "Seconds from a request's last byte to its answer.",
            buckets=SECONDS,
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "edgewise_batch_seconds",
            "Seconds that a batch took, by stage.",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.batch_rows = Histogram(
            "edgewise_batch_inputs", "Inputs in a batch, by stage.", ["stage"], buckets=ROWS, registry=registry
        )
        self.device_failures = Counter("edgewise_device_failures", "Batches that failed.", registry=registry)
        self.waiting = Gauge("edgewise_waiting_inputs", "Inputs in the queue.", registry=registry)
        self.ready = Gauge("edgewise_ready", "Whether requests are answered.", registry=registry)
        self.certified = Gauge(
            "edgewise_certified", "Whether the switcher has a promise and no alarm of the watch.", registry=registry
        )
        self.watched = Gauge(
            "edgewise_watch", "What the watch sees; alarm is 1 after one.", ["what"], registry=registry
        )
        self.switcher = Gauge(
            "edgewise_switcher_info", "Which switcher answers.", ["switcher", "digest"], registry=registry
        )
        self.loads = Counter("edgewise_switcher_loads", "Switchers that were loaded.", registry=registry)
        self.failed_loads = Counter(
            "edgewise_switcher_load_failures", "Switchers that could not be loaded.", registry=registry
        )
        self.compilations = Gauge(
            "edgewise_compilations", "Programs compiled since the process was ready: 0 is expected.", registry=registry
        )

    def using(self, deployment: Deployment) -> None:
        """Notes which switcher answers."""
        self.loads.inc()
        self.switcher.clear()
        self.switcher.labels(deployment.ref, deployment.digest).set(1)

    def watch(self, gauges: Mapping[str, float]) -> None:
        """Sets what the watch sees, by name."""
        for name, value in gauges.items():
            self.watched.labels(name).set(value)

    def batch(self, deployment: Deployment, batch: TakenBatch, seconds: float) -> None:
        """Counts a batch."""
        stage = deployment.names[batch.stage]
        self.batch_seconds.labels(stage).observe(seconds)
        self.batch_rows.labels(stage).observe(len(batch.items))

    def failed(self, error: Exception) -> None:
        """Counts a batch that failed."""
        self.device_failures.inc()

    def requested(self, path: str, status: int) -> None:
        """Counts a request that was answered with a status."""
        counter = self._requests.get((path, status))
        if counter is None:
            counter = self._requests[path, status] = self.requests.labels(path, str(status))
        counter.inc()

    def answered(self, ticket: Ticket, bad: int, seconds: float) -> None:
        """Counts the inputs of a request that was answered within so many seconds, and `bad` ones that can't be."""
        self.latency.observe(seconds)
        self.bad(bad)
        stages, failed = ticket.stages, len(ticket.errors)
        for k, name in enumerate(ticket.deployment.names):
            count = stages.count(k)
            if k == 0:
                count -= failed  # an input that failed has the stage 0
            if count:
                counter = self._inputs.get(name)
                if counter is None:
                    counter = self._inputs[name] = self.inputs.labels(name)
                counter.inc(count)
                if k:
                    self.deferred.inc(count)
        if ticket.small:
            self.degraded.inc(len(stages) - failed)

    def bad(self, count: int) -> None:
        """Counts inputs that can't be answered."""
        if count:
            self.bad_inputs.inc(count)

    def text(self) -> bytes:
        """Returns all counts in Prometheus's text format."""
        return generate_latest(self.registry)
