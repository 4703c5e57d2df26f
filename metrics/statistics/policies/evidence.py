"""Says what some examples prove of a path's thresholds: by counts of examples, or by whole clusters of them.

Both kinds of evidence answer the same questions. Counts have exact tests and limits (`promises.py`); where examples
come in clusters and are not independent, bets on the clusters' sums take their place (`cluster_certificates.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from metrics.statistics.cluster_certificates import Clusters
from metrics.statistics.policies import promises
from metrics.statistics.policies.routing import Member, PathOutcome, mixed, stage_reached


class Evidence(Protocol):
    """Answers what holds of the places of a path, each statement with probability at least 1 - δ by itself."""

    def certified_place(self, epsilon: float, delta: float) -> int:
        """Returns the last place of which "loses more than ε" is rejected, all before it too; 0 for none."""

    def budget_place(self, budget: float, delta: float) -> int:
        """Returns the first place of which "defers more than the budget" is rejected, all after it too."""

    def loss_limit(self, place: int, delta: float) -> float:
        """Returns the limit that the loss at a place is below."""

    def deferred_limit(self, place: int, delta: float) -> float:
        """Returns the limit that the share deferred at a place is below."""

    def least_epsilon(self, delta: float) -> float:
        """Returns an ε with which a place beyond the first can be certified."""

    def fewest_examples(self, epsilon: float, delta: float) -> int | None:
        """Returns how many examples would certify ε; None where no number is known."""


@dataclass(frozen=True)
class ByExamples:
    """Judges by counts of examples that are drawn one by one."""

    outcome: PathOutcome

    def certified_place(self, epsilon: float, delta: float) -> int:
        """Returns what `promises.certified_place` does."""
        outcome = self.outcome
        return promises.certified_place(outcome.worse, outcome.better, outcome.examples, epsilon, delta)

    def budget_place(self, budget: float, delta: float) -> int:
        """Returns what `promises.budget_place` does."""
        return promises.budget_place(self.outcome, budget, delta)

    def loss_limit(self, place: int, delta: float) -> float:
        """Returns what `promises.loss_limit` does of a place."""
        outcome = self.outcome
        return float(promises.loss_limit(outcome.worse[place], outcome.better[place], outcome.examples, delta))

    def deferred_limit(self, place: int, delta: float) -> float:
        """Returns the upper Clopper-Pearson limit of the share that leaves the first stage."""
        deferred = self.outcome.examples - int(self.outcome.answered[place, 0])
        return float(promises.share_limit(deferred, self.outcome.examples, delta))

    def least_epsilon(self, delta: float) -> float:
        """Returns what `promises.least_epsilon` does."""
        return promises.least_epsilon(self.outcome, delta)

    def fewest_examples(self, epsilon: float, delta: float) -> int | None:
        """Returns what `promises.fewest_examples` does."""
        return promises.fewest_examples(self.outcome, epsilon, delta)


@dataclass(frozen=True)
class ByClusters:
    """Judges by the sums of whole clusters at each of T places."""

    clusters: Clusters
    lost: np.ndarray  # [T, G] int, in each cluster how many more answers of the last stage are right
    deferred: np.ndarray  # [T, G] int, how many examples leave the first stage

    @classmethod
    def of_path(
        cls, chain: Sequence[Member], score: str, path: np.ndarray, rows: np.ndarray, clusters: np.ndarray, seed: int
    ) -> Self:
        """Returns what a chain does to the examples `rows` [m] on a path [T, K - 1]; `clusters` [n] are of all."""
        drawn = Clusters.of_examples(clusters, rows, seed)
        scores = [member.uncertainty[score][rows] for member in chain[:-1]]
        qualities = [member.quality[rows] for member in chain]
        right_or_wrong = qualities[-1].shape[1] == 1
        lost = np.zeros((len(path), drawn.count))
        deferred = np.zeros((len(path), drawn.count))
        for place, thresholds in enumerate(path):
            stage = stage_reached(scores, thresholds)
            deferred[place] = drawn.sums(stage > 0)
            if right_or_wrong:
                mixture = mixed(qualities, stage)[:, 0]
                lost[place] = drawn.sums(qualities[-1][:, 0].astype(np.int8) - mixture)
        return cls(drawn, lost, deferred)

    def certified_place(self, epsilon: float, delta: float) -> int:
        """Returns the last place that passes, all before it too; at place 0 the last stage answers all."""
        passes = self.clusters.rejects(self.lost, self.clusters.sizes, epsilon, delta)
        passes[0] = True
        return int(np.logical_and.accumulate(passes).sum()) - 1

    def budget_place(self, budget: float, delta: float) -> int:
        """Returns the first place that passes, all after it too; at the last place nothing is deferred."""
        if budget >= 1:
            return 0
        passes = self.clusters.rejects(self.deferred, self.clusters.sizes, budget, delta)
        passes[-1] = True
        return len(passes) - int(np.logical_and.accumulate(passes[::-1]).sum())

    def loss_limit(self, place: int, delta: float) -> float:
        """Returns `Clusters.upper_limit` of the loss."""
        return self.clusters.upper_limit(self.lost[place], self.clusters.sizes, delta)

    def deferred_limit(self, place: int, delta: float) -> float:
        """Returns `Clusters.upper_limit` of the share deferred."""
        return self.clusters.upper_limit(self.deferred[place], self.clusters.sizes, delta)

    def least_epsilon(self, delta: float) -> float:
        """Returns the limit of the loss at the first place beyond 0, which is tested first."""
        return self.loss_limit(min(1, len(self.lost) - 1), delta)

    def fewest_examples(self, epsilon: float, delta: float) -> int | None:
        """Returns None: how much a further cluster would say depends on how clusters differ."""
        return None
