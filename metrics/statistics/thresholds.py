"""Finds thresholds that are certified to lose at most ε against the larger model, and what becomes of them elsewhere.

Learn then Test (Angelopoulos et al. 2021, arXiv 2110.01052): thresholds are hypotheses "this one loses more than ε",
tested one after the other on a calibration half from the safest on, each at level δ, until one can't be rejected. The
last rejected is certified: whatever the data, with probability at least 1 - δ over the calibration half it loses no
more than ε in the population. The other half says what it does there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metrics.statistics.certificates import examples_needed, loses_no_more, rejected_by_limits
from metrics.statistics.cluster_certificates import Clusters
from metrics.statistics.ranked_sums import RankedSums
from metrics.statistics.switcher import FRACTIONS, DeferralOrder, deferral_order, sums_before


@dataclass
class Certified:
    """Holds the certified thresholds of one small run towards J larger runs. Fractions, 0-1."""

    threshold: np.ndarray  # [J], in the score's own units: defer where it is at least that; -inf: all
    chosen: np.ndarray  # [J], share of the calibration half it defers
    deferred: np.ndarray  # [J], share of the evaluation half it defers
    loss: np.ndarray  # [J], the larger model's accuracy minus the mixture's, on the evaluation half

    def parts(self, runs: Sequence[int]) -> "list[Certified]":
        """Splits the J larger runs into those of several sizes, of which each has so many `runs`, in order."""
        ends = np.cumsum(runs)[:-1]
        columns = zip(*(np.split(values, ends) for values in vars(self).values()), strict=True)
        return [Certified(*of_size) for of_size in columns]

    @property
    def loss_among_kept(self) -> np.ndarray:
        """Returns the loss of those that the smaller model answers alone: [J], NaN where it answers none."""
        kept = 1 - self.deferred
        loss: np.ndarray = np.divide(self.loss, kept, out=np.full_like(self.loss, np.nan), where=kept > 0)
        return loss


@dataclass
class Candidates:
    """Holds the thresholds to test of one small run, from the safest on, and what each keeps of the calibration half.

    Thresholds are the evaluation half's scores at its deferral fractions 1, .99 … 0, so they don't depend on what tests
    them; that half's correctness isn't looked at.
    """

    thresholds: np.ndarray  # [T + 1] ascending, the last inf
    examples: int  # m, how many calibrate
    ranked: np.ndarray  # the evaluation half's scores, ascending
    kept: np.ndarray  # [T + 1] int, how many of the calibration half are below each threshold
    wins: np.ndarray  # [J, T + 1] int, on how many of these only each larger run is right
    losses: np.ndarray  # [J, T + 1] int, on how many only the small run is
    gains: RankedSums  # of J rows, d = l - s over the evaluation half in the order of `ranked`
    in_clusters: "GainsInClusters | None" = None  # where the calibration half's examples come in clusters

    @classmethod
    def of_run(
        cls,
        score: np.ndarray,
        small: np.ndarray,
        large: np.ndarray,
        calibration: np.ndarray,
        clusters: Clusters | None = None,
    ) -> "Candidates":
        """Returns a run's, from its score [n], correctness [n] and [J, n], and which examples calibrate [n] bool.

        `clusters` are those of the examples that calibrate; None where each is drawn by itself.
        """
        gains = large.view(np.int8) - small.view(np.int8)
        return SplitScores.of_halves(score, calibration, clusters).candidates(gains, np.abs(gains))

    def certified(self, epsilon: float, delta: float) -> Certified:
        """Certifies for each larger run a threshold t with R(t) = E (l - s) 1[score < t] ≤ ε."""
        if self.in_clusters is not None:
            passes = self.in_clusters.loses_no_more(len(self.thresholds), epsilon, delta, among_kept=False)
        else:
            passes = loses_no_more(self.wins, self.losses, self.examples, epsilon, delta)
        return self._with_last(np.logical_and.accumulate(passes, axis=1).sum(axis=1))

    def certified_among_kept(self, epsilon: float, delta: float) -> Certified:
        """Certifies for each larger run a threshold t with E (l - s | score < u) ≤ ε at every threshold u up to t.

        The loss of those that the smaller model keeps is bounded however few it keeps, down to twice as many examples
        as can show a loss of at most ε: a wrong answer among those it is surest of isn't made good by others (Ringel et
        al. 2024, arXiv 2402.00857). Thresholds are tested from the first that keeps that many on, each at level δ by
        two limits, until one fails; where the first fails all examples are deferred. Of clusters both certificates
        bet on their sums (`cluster_certificates.py`).
        """
        if self.in_clusters is not None:
            passes = self.in_clusters.loses_no_more(len(self.thresholds), epsilon, delta, among_kept=True)
            fewest = self.in_clusters.clusters.fewest_examples(epsilon, delta)
        else:
            passes = self._pass_by_limits(epsilon, delta)
            fewest = fewest_kept(epsilon, delta)
        first = int(np.searchsorted(self.kept, fewest, side="left"))
        count = np.logical_and.accumulate(passes[:, first:], axis=1).sum(axis=1)
        return self._with_last(np.where(count > 0, first + count, 0))

    def _pass_by_limits(self, epsilon: float, delta: float) -> np.ndarray:
        """Returns whether "the loss among those kept is above ε" is rejected at each threshold: bool [J, T + 1].

        Limits, which take long, are computed where the loss itself is at most ε: elsewhere they can't reject.
        """
        kept = np.broadcast_to(np.maximum(self.kept, 1), self.wins.shape)
        passes: np.ndarray = self.wins - self.losses <= epsilon * kept + 1e-9
        passes[passes] = rejected_by_limits(self.wins[passes], self.losses[passes], kept[passes], epsilon, delta)
        return passes

    def _with_last(self, count: np.ndarray) -> Certified:
        """Returns what the last of the first `count` [J] thresholds does on both halves; with none, all is deferred."""
        threshold = np.concatenate([[-np.inf], self.thresholds])[count]
        calibrated = np.concatenate([[0], self.kept])[count]
        below = np.searchsorted(self.ranked, threshold, side="left")
        return Certified(
            threshold=threshold,
            chosen=1 - calibrated / self.examples,
            deferred=1 - below / len(self.ranked),
            loss=self.gains.before(below).diagonal() / len(self.ranked),
        )


@dataclass(frozen=True)
class SplitScores:
    """Holds one small run's score on both halves, sorted, which is the same whichever runs are larger."""

    thresholds: np.ndarray  # [T + 1] ascending, the last inf
    kept: np.ndarray  # [T + 1] int, how many of the calibration half are below each threshold
    ranked: np.ndarray  # the evaluation half's scores, ascending
    evaluates: np.ndarray  # the evaluation half's examples in that order
    calibrates: np.ndarray  # the calibration half's examples by ascending score
    # the first threshold that each of the calibration half is below, in the order of examples; None without clusters
    place: np.ndarray | None
    clusters: Clusters | None

    @classmethod
    def of_halves(
        cls,
        score: np.ndarray,
        calibration: np.ndarray,
        clusters: Clusters | None = None,
        deferral: DeferralOrder | None = None,
    ) -> "SplitScores":
        """Sorts a run's score [n] on the examples that calibrate, [n] bool, and on the others; `clusters` as above.

        `deferral` is the order of all examples by that score, where it is at hand.
        """
        # of equal scores in any order: a threshold keeps all of them or none
        ascending = (deferral_order(score) if deferral is None else deferral).order[::-1]
        of_calibration = calibration.take(ascending)
        calibrates, evaluates = ascending[of_calibration], ascending[~of_calibration]
        ranked = score.take(evaluates)
        # defer fractions 1, 0.99 … 0.01: where the score is at least the ⌈f m⌉-th highest; then nothing
        at = np.ceil(FRACTIONS[:0:-1] * len(ranked) - 1e-9).astype(int) - 1
        thresholds = np.append(np.unique(ranked[::-1][at]).astype(np.float64), np.inf)
        return cls(
            thresholds=thresholds,
            kept=np.searchsorted(score.take(calibrates), thresholds, side="left"),
            ranked=ranked,
            evaluates=evaluates,
            calibrates=calibrates,
            place=None if clusters is None else np.searchsorted(thresholds, score[calibration], side="right"),
            clusters=clusters,
        )

    def candidates(self, gains: np.ndarray, differences: np.ndarray) -> Candidates:
        """Returns the thresholds to test towards J larger runs, from what each gains on all examples.

        `gains` are d [J, n] int8, and `differences` their absolute values |d|.
        """
        more, differing = (
            RankedSums.of_order(self.calibrates, values).before(self.kept) for values in (gains, differences)
        )
        in_clusters = None
        if self.clusters is not None and self.place is not None:
            in_order = gains.take(np.sort(self.calibrates), axis=1)
            in_clusters = GainsInClusters(self.clusters, self.place, in_order)
        return Candidates(
            thresholds=self.thresholds,
            examples=len(self.calibrates),
            ranked=self.ranked,
            kept=self.kept,
            wins=(differing + more) // 2,
            losses=(differing - more) // 2,
            gains=RankedSums.of_order(self.evaluates, gains),
            in_clusters=in_clusters,
        )


@dataclass(frozen=True)
class GainsInClusters:
    """Holds what the larger runs gain on the calibration half, for tests that draw whole clusters of its examples."""

    clusters: Clusters
    place: np.ndarray  # [m] int, the first threshold that each example is below
    gains: np.ndarray  # [J, m] int8, d = l - s

    def loses_no_more(self, thresholds: int, epsilon: float, delta: float, among_kept: bool) -> np.ndarray:
        """Returns whether "the loss is above ε" is rejected at level δ of each threshold: bool [J, thresholds].

        The loss is over all examples, or over those kept below the threshold alone.
        """
        counts = self.clusters.sums_below(self.place, thresholds) if among_kept else self.clusters.sizes
        return np.stack(
            [
                self.clusters.rejects(self.clusters.sums_below(self.place, thresholds, own), counts, epsilon, delta)
                for own in self.gains
            ]
        )


def fewest_kept(epsilon: float, delta: float) -> int:
    """Returns how many examples the smaller model has to keep before the loss among them is tested."""
    return 2 * examples_needed(epsilon, delta)


def _gains(small: np.ndarray, large: np.ndarray, examples: np.ndarray) -> np.ndarray:
    """Returns d = l - s of some examples [m], in their order, from correctness [n] and [J, n] bool: [J, m] int8."""
    return large.take(examples, axis=1).view(np.int8) - small.take(examples).view(np.int8)


def losses_of_reuse(scores: np.ndarray, small: np.ndarray, large: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Returns what every pair of runs loses at every pair's threshold: [R, J, R', J'] float64.

    Args:
        scores: [R, m], each small run's score of some examples.
        small: [R, m] bool, the small runs' correctness on them.
        large: [J, m] bool, the larger runs'.
        thresholds: [R', J'], or [R, R', J'] where each small run has its own: defer where the score is at least that.

    Returns: at [k, l, i, j] the accuracy of larger run l minus that of small run k deferring to l at the threshold
        of (i, j).

    """
    runs, examples = scores.shape
    each = np.broadcast_to(thresholds, (runs, *thresholds.shape[-2:]))
    result: np.ndarray = np.empty((runs, len(large), *each.shape[1:]))
    for k in range(runs):
        values, place = np.unique(each[k], return_inverse=True)
        order = np.argsort(scores[k])
        kept = np.searchsorted(scores[k].take(order), values, side="left")  # how many are below each threshold
        result[k] = (
            sums_before(_gains(small[k], large, order), kept).take(place.ravel(), axis=1).reshape(result.shape[1:])
        )
    result /= examples
    return result
