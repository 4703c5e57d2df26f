"""Counts what the server does, for Prometheus: https://prometheus.io/docs/instrumenting/exposition_formats/."""

from collections.abc import Callable

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
        self.inputs = Counter("edgewise_inputs", "Inputs that were answered, by model.", ["model"], registry=registry)
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

    def batch(self, deployment: Deployment, batch: TakenBatch, seconds: float) -> None:
        """Counts a batch."""
        stage = deployment.names[batch.stage]
        self.batch_seconds.labels(stage).observe(seconds)
        self.batch_rows.labels(stage).observe(len(batch.items))

    def failed(self, error: Exception) -> None:
        """Counts a batch that failed."""
        self.device_failures.inc()

    def answered(self, ticket: Ticket, seconds: float) -> None:
        """Counts the inputs of a request that was answered within so many seconds."""
        self.latency.observe(seconds)
        stages = ticket.stages
        for k, name in enumerate(ticket.deployment.names):
            if count := stages.count(k):
                self.inputs.labels(name).inc(count)
                if k:
                    self.deferred.inc(count)
        if ticket.small:
            self.degraded.inc(len(stages))

    def text(self) -> bytes:
        """Returns all counts in Prometheus's text format."""
        return generate_latest(self.registry)
