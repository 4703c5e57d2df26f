"""Loads a version of a switcher: models on the devices, checked, every shape compiled and timed."""

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from conf.errors import EdgewiseError
from conf.schema import Config
from infer.serve.compilations import COMPILATIONS
from infer.serve.queue import TakenBatch, TokenQueue
from infer.switcher.find import FoundSwitcher, find_switcher
from infer.switcher.policy import Policy
from train.data.batches import ScoringBatch
from train.data.template import fill_template, template_fields
from train.data.tokens import Encoded


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
        names: what its stages are called.
        thresholds: natural logarithms, of the last stage infinity; `natural_thresholds` has, for each stage that may
            answer, the one that decided, in the score's own unit: None where that is infinite.
        queue: what waits for it.
        fields: the columns of the policy's template.
        certified: whether it was chosen with a promise that holds with a stated probability.

    """

    def __init__(self, found: FoundSwitcher, engine: BatchEngine, patience: float):
        """Takes a switcher and an engine that has compiled its shapes; times each once. `patience` in seconds."""
        self.ref, self.digest, self.policy, self.engine = found.ref, found.digest, found.policy, engine
        self.version = found.digest[:12] if found.artifact is None else str(found.artifact.version)
        self.fields = template_fields(self.policy.template)
        self.names = [stage.name for stage in self.policy.stages]
        self.thresholds = [np.inf if stage.threshold is None else stage.threshold for stage in self.policy.stages]
        self.natural_thresholds = [
            _natural(self.thresholds[min(k, len(self.names) - 2)]) for k in range(len(self.names))
        ]
        self.certified = any(
            isinstance(promise, Mapping) and promise.get("at_most") is not None
            for promise in self.policy.certificate.values()
        )
        stages = range(len(self.policy.stages))
        counts = [{length: engine.row_counts(k, length) for length in engine.lengths} for k in stages]
        self.queue = TokenQueue(engine.lengths, counts, patience)
        self._seconds = np.array([[self._timed(k, n, counts[k][n][0]) for n in engine.lengths] for k in stages])
        expected = self.policy.expected.get("answered") or []
        reached = np.cumsum([float(share["value"]) for share in expected][::-1])[::-1]
        self._reached = reached if len(reached) == len(self.policy.stages) else np.ones(len(self.policy.stages))

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

    def expected_wait(self, more: int = 0, small: bool = False) -> float:
        """Estimates in how many seconds the last input in the queue will be answered, with `more` inputs behind it.

        By the seconds that full batches took when the shapes were compiled, and the shares of examples that reached
        each stage when the switcher was chosen. `small`: of inputs that the first stage alone answers.
        """
        waiting = np.array(self.queue.waiting(), float)  # [stages, lengths]
        per_input = self._seconds
        wait = 0.0
        for k in range(len(waiting)):
            here = float(waiting[k] @ per_input[k])
            mean = here / waiting[k].sum() if waiting[k].sum() else float(per_input[k].mean())
            wait += here + (more * mean if k == 0 else 0.0)
            coming = waiting[:k].sum() + more if not small else waiting[:k].sum()
            if k:
                wait += coming * self._reached[k] / max(self._reached[0], 1e-9) * float(per_input[k].mean())
        return wait

    def _timed(self, k: int, length: int, count: int) -> float:
        """Returns the seconds an input takes in a full batch of this shape."""
        full = Encoded(np.ones(length, np.int32), np.array([0, length]), 0)
        shape = ScoringBatch(np.zeros(1, np.int64), length, count)
        started = time.perf_counter()
        self.engine.run_batch(k, full, shape)
        return (time.perf_counter() - started) / count


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
    engine = load_engine(found, config)
    engine.compile_shapes()
    return Deployment(found, engine, config.serve.patience_ms / 1000)
