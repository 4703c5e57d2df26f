"""Loads a version of a switcher: models on the devices, checked, every shape compiled and timed."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from conf.errors import EdgewiseError
from conf.schema import Config
from infer.serve.compilations import COMPILATIONS
from infer.serve.queue import TakenBatch, TokenQueue
from infer.serve.watching import Watching
from infer.switcher.find import FoundSwitcher, find_switcher
from infer.switcher.policy import Policy
from train.data.batches import ScoringBatch
from train.data.template import fill_template, template_fields
from train.data.tokens import Encoded
from train.device_errors import OF_SCORING, device_errors

TIMINGS = 3  # of each shape: the shortest counts
LEARNING = 0.1  # the weight of the last batch in how fast the device is taken to be


class BatchEngine(Protocol):
    """Describes what the server needs of an engine; `infer.engine.engine.Engine` has it."""

    policy: Policy

    @property
    def lengths(self) -> list[int]:
        """Returns the lengths that inputs are padded to, ascending."""

    @property
    def device(self) -> str:
        """Names the devices."""

    def row_counts(self, k: int, length: int) -> list[int]:
        """Returns the numbers of rows that a batch of stage k may have, descending."""

    def vocabulary(self, k: int) -> str:
        """Returns what tells stage k's vocabulary from others."""

    def encode(self, k: int, texts: Sequence[str]) -> Encoded:
        """Returns filled templates as stage k's model reads them."""

    def run_batch(self, k: int, inputs: Encoded, batch: ScoringBatch) -> tuple[np.ndarray, np.ndarray]:
        """Returns stage k's answers and log scores."""

    def compile_shapes(self) -> None:
        """Runs every shape once."""


class Deployment:
    """Holds a loaded version of a switcher, the inputs that wait for it, and what its batches cost.

    Attributes:
        ref, digest, version: which switcher it is; `version` is a number, or a digest's first digits of a bundle.
        policy, engine: how it answers.
        artifact: the switcher's, None of a bundle.
        names: what its stages are called.
        thresholds: natural logarithms, of the last stage infinity; `natural_thresholds` has, for each stage that may
            answer, the one that decided, in the score's own unit: None where that is infinite.
        queue: what waits for it.
        fields: the columns of the policy's template.
        promised: whether it was chosen with a promise that holds with a stated probability.
        watching: what is told of its answers; None where nobody watches.

    """

    def __init__(self, found: FoundSwitcher, engine: BatchEngine, patience: float, watching: Watching | None = None):
        """Takes a switcher and an engine that has compiled its shapes; times each once. `patience` in seconds."""
        self.ref, self.digest, self.policy, self.engine = found.ref, found.digest, found.policy, engine
        self.artifact = found.artifact
        self.version = found.digest[:12] if found.artifact is None else str(found.artifact.version)
        self.fields = template_fields(self.policy.template)
        self.names = [stage.name for stage in self.policy.stages]
        self.thresholds = [np.inf if stage.threshold is None else stage.threshold for stage in self.policy.stages]
        self.natural_thresholds = [
            _natural(self.thresholds[min(k, len(self.names) - 2)]) for k in range(len(self.names))
        ]
        self.watching = watching
        self.promised = any(
            isinstance(promise, Mapping) and promise.get("at_most") is not None
            for promise in self.policy.certificate.values()
        )
        stages = range(len(self.policy.stages))
        timed = [
            {
                length: {count: self._timed(k, length, count) for count in engine.row_counts(k, length)}
                for length in engine.lengths
            }
            for k in stages
        ]
        seconds = [[_full_batch_seconds(timed[k][length]) for length in engine.lengths] for k in stages]
        answered = [float(share["value"]) for share in self.policy.expected.get("answered") or []]
        reached = [sum(answered[k:]) if len(answered) == len(stages) else 1.0 for k in stages]
        self._batch_seconds, self._pace = timed, 1.0
        self._alone = seconds[0]
        self._through = [
            [
                seconds[k][i] + sum(reached[j] * seconds[j][i] for j in stages[k + 1 :])
                for i in range(len(engine.lengths))
            ]
            for k in stages
        ]
        self.queue = TokenQueue(engine.lengths, timed, patience, self._through)

    @property
    def certified(self) -> bool:
        """Tells whether it was chosen with a promise, and no alarm says that it may not hold any more."""
        return self.promised and not (self.watching is not None and self.watching.watch.alarms)

    @property
    def first_stage(self) -> int:
        """Returns which stage new inputs begin at: the last after an alarm, where the settings say so."""
        return len(self.names) - 1 if self.watching is not None and self.watching.larger else 0

    def fill(self, columns: Mapping[str, Sequence[str]]) -> list[str]:
        """Returns the template filled in, for each of n inputs given as columns."""
        return fill_template(self.policy.template, columns, len(columns[self.fields[0]]))

    def encode(self, k: int, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns the tokens of each text for stage k, int32."""
        encoded = self.engine.encode(k, texts)
        return [encoded[i] for i in range(len(encoded))]

    def next_ids(self, k: int, text: str, ids: np.ndarray) -> np.ndarray:
        """Returns the tokens for stage k of a text that stage k - 1 read as `ids`."""
        if self.engine.vocabulary(k) == self.engine.vocabulary(k - 1):
            return ids
        return self.encode(k, [text])[0]

    def run(self, batch: TakenBatch) -> tuple[np.ndarray, np.ndarray]:
        """Returns the answers [b] and log scores [b] of a batch's stage."""
        ids = [item.ids for item in batch.items]
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in ids])])
        shape = ScoringBatch(np.arange(len(ids)), batch.length, batch.row_count)
        return self.engine.run_batch(batch.stage, Encoded(np.concatenate(ids), offsets, 0), shape)

    def expected_wait(self, lengths: Sequence[int] = (), small: bool = False) -> float:
        """Estimates in how many seconds all that waits will be answered, and inputs of these lengths behind it.

        By the seconds that full batches took when the shapes were compiled, how much longer they take now, and the
        shares of examples that reached each stage when the switcher was chosen. `small`: the first stage alone answers
        those inputs.
        """
        wait = self.queue.seconds
        if lengths:
            costs = self._alone if small else self._through[0]
            wait += sum(costs[self.queue.place(length)] for length in lengths)
        return self._pace * wait

    def note(self, batch: TakenBatch, seconds: float) -> None:
        """Learns from what a batch took, where it was at least half full, how fast the device is now."""
        if 2 * len(batch.items) >= batch.row_count:
            expected = self._batch_seconds[batch.stage][batch.length][batch.row_count]
            self._pace += LEARNING * (min(max(seconds / expected, 0.1), 10.0) - self._pace)

    def _timed(self, k: int, length: int, count: int) -> float:
        """Returns the seconds that a batch of this shape takes."""
        full = Encoded(np.ones(length, np.int32), np.array([0, length]), 0)
        shape = ScoringBatch(np.zeros(1, np.int64), length, count)
        seconds = []
        for _ in range(TIMINGS):
            started = time.perf_counter()
            self.engine.run_batch(k, full, shape)
            seconds.append(time.perf_counter() - started)
        return min(seconds)


def _full_batch_seconds(batch_seconds: Mapping[int, float]) -> float:
    """Returns the seconds that an input takes in the largest batch, full; given what batches take, by their rows."""
    count = max(batch_seconds)
    return batch_seconds[count] / count


def _natural(threshold: float) -> float | None:
    """Returns a threshold in the score's own unit; None where it is infinite."""
    return None if threshold == np.inf else float(np.exp(threshold))


def load_deployment(config: Config) -> Deployment:
    """Loads the switcher that `switcher.ref` names now, with every shape compiled.

    Raises EdgewiseError where it can't be used: as `find_switcher` and `load_engine` do, and where `train.dtype` asks
    for another dtype than the scores were made in, which the thresholds belong to.
    """
    found = find_switcher(config.switcher.ref, config.tracking)
    asked = config.train.dtype
    if asked not in ("auto", found.policy.dtype):
        raise EdgewiseError(
            f"train.dtype={asked}: {found.ref} was chosen from scores in {found.policy.dtype}, and its thresholds hold "
            f"there alone; leave train.dtype out, or score and choose again in {asked}"
        )
    from infer.engine.load import load_engine  # JAX starts here
    from train.compilation_cache import keep_compiled

    keep_compiled()
    COMPILATIONS.listen()
    with device_errors(OF_SCORING):
        engine = load_engine(found, config)
        engine.compile_shapes()
    watching = Watching(found.policy, config.serve, state_directory(config))
    return Deployment(found, engine, config.serve.patience_ms / 1000, watching)


def state_directory(config: Config) -> Path | None:
    """Returns where the watch's state is kept: `serve.state`, or a folder of the store for this port.

    None where the system picks the port: no other process would find it again.
    """
    if config.serve.state is not None:
        return Path(config.serve.state)
    return Path(config.tracking.root) / "watch" / str(config.serve.port) if config.serve.port else None
