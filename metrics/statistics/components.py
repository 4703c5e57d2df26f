"""Gives means over pairs of runs an interval from variance components, without resampling.

A table's cell is a mean over runs of a small size (A), runs of a large size (B) and examples (E), all drawn at random.
With the cell of each pair of runs θ_ij and each example's influence on it, the variance of the mean is

    V = V_A + V_B − V_AB + V_E − V_AE − V_BE

because the spread of the row means already holds the noise of the interaction and of the examples that only one run
sees. The terms are the usual mean squares of a crossed design (Searle, Casella and McCulloch 1992, chapter 4), with
examples as one more crossed factor (two-way clustering: Cameron, Gelbach and Miller 2011, "Robust inference with
multiway clustering", eq. 2.13). The interval takes Student's t with Satterthwaite's degrees of freedom (1946).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metrics.statistics.ranked_sums import RankedSums
from metrics.statistics.switcher import DeferralOrder, tie_blocks


@dataclass(frozen=True)
class Component:
    """Holds one term of a variance: its estimate, which may be negative, and its degrees of freedom."""

    variance: float
    freedom: float


@dataclass(frozen=True)
class Variance:
    """Holds the variance of a mean and the degrees of freedom of its estimate; `runs` says whether runs are in it."""

    variance: float
    freedom: float
    runs: bool = True

    def half_width(self, confidence: float) -> float:
        """Returns half the width of the t interval at `confidence`, such as 0.95; NaN where nothing varies freely."""
        from scipy.stats import t

        if not self.freedom > 0:
            return float("nan")
        return float(t.ppf((1 + confidence) / 2, self.freedom)) * float(np.sqrt(self.variance))

    def p_value(self, mean: float) -> float:
        """Returns the two-sided p of a mean whose true value is 0, by Student's t.

        NaN where the spread of runs is not known, so that nothing can be said of other runs, and where nothing varies
        but the mean is not 0.
        """
        from scipy.stats import t

        if not self.runs or not self.freedom > 0:
            return float("nan")
        if self.variance == 0:
            return 1.0 if mean == 0 else float("nan")
        return float(2 * t.sf(abs(mean) / np.sqrt(self.variance), self.freedom))


def run_component(values: np.ndarray) -> Component | None:
    """Returns the variance of the mean of R runs' `values` [R]; None of fewer than two runs, which can't tell it."""
    if len(values) < 2:
        return None
    return Component(float(np.var(values, ddof=1)) / len(values), len(values) - 1)


def interaction_component(cells: np.ndarray) -> Component | None:
    """Returns the part of the mean's variance that is of pairs alone, from `cells` [R_S, R_L].

    None unless both sizes have two runs. It is the interaction mean square over R_S · R_L.
    """
    small, large = cells.shape
    if small < 2 or large < 2:
        return None
    residual = cells - cells.mean(axis=1, keepdims=True) - cells.mean(axis=0, keepdims=True) + cells.mean()
    freedom = (small - 1) * (large - 1)
    return Component(float((residual**2).sum()) / freedom / (small * large), freedom)


def combined(
    runs: Sequence[Component | None],
    interaction: Component | None,
    examples: Component,
    shared: Sequence[float],
) -> Variance:
    """Returns the variance of a mean from its components.

    Args:
        runs: of each factor of runs, `run_component`; None where it has one run only.
        interaction: of the pairs of runs, or None.
        examples: of the mean influence of each example, `ExampleInfluence.component`.
        shared: of each factor of runs, the mean over its runs of the variance over examples of that run's own
            influence, divided by n; it holds the noise that `runs` counts a second time.

    The sum is floored at the largest component, since a difference of estimates may fall below any of them.

    """
    terms = [examples]
    for factor, own in zip(runs, shared, strict=True):
        if factor is None:
            continue
        precise = factor.freedom * examples.freedom  # a mean square over runs and examples
        terms += [factor, Component(-(own - examples.variance) / factor.freedom, precise)]
    if interaction is not None:
        terms.append(Component(-interaction.variance, interaction.freedom))
    present = [factor for factor in runs if factor is not None]
    total = max(sum(term.variance for term in terms), examples.variance, *(f.variance for f in present), 0.0)
    spread = sum(term.variance**2 / term.freedom for term in terms if term.freedom > 0)
    freedom = total**2 / spread if spread > 0 else float("inf")
    return Variance(total, freedom, runs=len(present) == len(runs))


@dataclass
class ExampleInfluence:
    """Holds what each of m examples contributes to a mean over pairs of runs of a statistic of n examples.

    The examples may be a random part of the n, or all of them.
    """

    of_small: np.ndarray  # [R_S, m], each small run's influences, means over the large runs
    of_large: np.ndarray  # [R_L, m], each large run's, means over the small runs
    examples: int  # n
    clusters: np.ndarray | None = None  # [m] int, 0 … G − 1, which examples are drawn together; None: each by itself

    @classmethod
    def of_runs(
        cls, by_run: Iterable[np.ndarray], examples: int, clusters: np.ndarray | None = None
    ) -> "ExampleInfluence":
        """Returns the influences from those of each small run in turn: [R_L, m], on each large run's statistic."""
        of_small, of_large = [], None
        for influence in by_run:
            of_small.append(influence.mean(axis=0))
            if of_large is None:
                of_large = influence.copy()
            else:
                of_large += influence
        if of_large is None:
            raise ValueError("expected the influences of one small run or more")
        return cls(np.array(of_small), of_large / len(of_small), examples, clusters)

    def minus(self, other: "ExampleInfluence") -> "ExampleInfluence":
        """Returns the influences on the difference of two statistics of the same runs and examples."""
        return replace(self, of_small=self.of_small - other.of_small, of_large=self.of_large - other.of_large)

    def component(self) -> Component:
        """Returns the variance of the mean that comes of drawing the examples, or the clusters of them."""
        return example_component(self.of_small.mean(axis=0), self.examples, self.clusters)

    def shared(self) -> tuple[float, float]:
        """Returns the mean over small runs, and over large runs, of the variance of each run's own mean influence."""
        small, large = (
            mean_example_variance(rows, self.examples, self.clusters) for rows in (self.of_small, self.of_large)
        )
        return small, large


def example_variance(influence: np.ndarray, examples: int, clusters: np.ndarray | None = None) -> float:
    """Returns the variance of a mean over n `examples` with these influences [m], m of the n or all of them.

    With `clusters` [m] the influences are summed within each cluster first (Liang and Zeger 1986); the m examples are
    then those of whole clusters.
    """
    if units(influence, clusters) < 2:
        return 0.0  # one draw tells nothing of how draws differ
    if clusters is None:
        return float(np.var(influence, ddof=1)) / examples
    sums: np.ndarray = np.bincount(clusters, weights=influence - influence.mean())
    return float((sums**2).sum()) / (len(influence) * examples) * len(sums) / (len(sums) - 1)


def example_component(influence: np.ndarray, examples: int, clusters: np.ndarray | None = None) -> Component:
    """Returns the part of a mean's variance that comes of n `examples`, from influences as `example_variance` takes."""
    return Component(example_variance(influence, examples, clusters), units(influence, clusters) - 1)


def mean_example_variance(influence: np.ndarray, examples: int, clusters: np.ndarray | None = None) -> float:
    """Returns the mean over rows of influences [R, m] of `example_variance`."""
    return float(np.mean([example_variance(row, examples, clusters) for row in influence]))


def units(influence: np.ndarray, clusters: np.ndarray | None = None) -> int:
    """Returns how many units are drawn: the examples [m], or the clusters that they are in."""
    return len(influence) if clusters is None else int(clusters.max()) + 1


def variance_of_pairs(cells: np.ndarray, influence: ExampleInfluence) -> Variance:
    """Returns the variance of the mean of `cells` [R_S, R_L], each a pair of runs' statistic, and of its examples."""
    return combined(
        [run_component(cells.mean(axis=1)), run_component(cells.mean(axis=0))],
        interaction_component(cells),
        influence.component(),
        influence.shared(),
    )


def variance_of_resamples(cells: np.ndarray, samples: np.ndarray) -> Variance:
    """Returns the variance of the mean of `cells` [R_S, R_L] from its multi-bootstrap `samples` [B], NaN left out.

    Drawing R of R runs with replacement shows (R - 1) / R of the variance between runs; the rest is added from the
    cells: V = var(samples) + V_A / R_S + V_B / R_L. It serves statistics whose examples have no simple influence, such
    as the peak of a curve, or BLEU. The noise of examples is in V_A and V_B too, so that V is rather too large.
    """
    usable = samples[~np.isnan(samples)]
    if len(usable) < 2:
        return Variance(float("nan"), float("nan"), runs=False)
    resampled = float(np.var(usable, ddof=1))
    factors = [run_component(cells.mean(axis=1)), run_component(cells.mean(axis=0))]
    present = [factor for factor in factors if factor is not None]
    total = resampled + sum(factor.variance / (factor.freedom + 1) for factor in present)
    spread = sum(factor.variance**2 / factor.freedom for factor in present) + resampled**2 / (len(usable) - 1)
    freedom = total**2 / spread if spread > 0 else float("inf")
    return Variance(total, freedom, runs=len(present) == len(factors))


def variance_of_runs(
    values: np.ndarray, influence: np.ndarray, examples: int, clusters: np.ndarray | None = None
) -> Variance:
    """Returns the variance of the mean of R runs' `values` [R] over the same `examples`, n of them.

    `influence` [R, m] is that of m of the examples, or of all.
    """
    return combined(
        [run_component(values)],
        None,
        example_component(influence.mean(axis=0), examples, clusters),
        [mean_example_variance(influence, examples, clusters)],
    )


def variance_of_quality(correct: np.ndarray, rows: np.ndarray, clusters: np.ndarray | None = None) -> Variance:
    """Returns the variance of the mean over runs of accuracy.

    `correct` is [R, n] bool; `rows` [m] int are the examples whose influence is taken.
    """
    accuracy = correct.mean(axis=1)
    return variance_of_runs(accuracy, correct[:, rows] - accuracy[:, None], correct.shape[1], clusters)


def variance_of_ensembles(
    right: np.ndarray, correct: np.ndarray, rows: np.ndarray, clusters: np.ndarray | None = None
) -> Variance:
    """Returns the variance of the mean accuracy of ensembles of k of R runs.

    `right` [E, n] is each ensemble's chance of being right, `correct` [R, n] bool that of the runs; `rows` [m] int are
    the examples whose influence is taken. Ensembles share runs, and of R runs there is but one ensemble of all: how
    they differ from each other says too little of how others would. So a run is taken to move an ensemble of k by a
    k-th of what it moves its own accuracy, as it does where runs differ by a shift of all their scores: the first-order
    term of a U-statistic (van der Vaart 1998, section 12.1) is then that of the runs' own mean accuracy.
    """
    n, accuracy = correct.shape[1], correct.mean(axis=1)
    own = correct[:, rows] - accuracy[:, None]
    examples = example_component(right[:, rows].mean(axis=0, dtype=np.float64), n, clusters)
    counted_twice = mean_example_variance(own, n, clusters) - example_variance(own.mean(axis=0), n, clusters)
    return combined([run_component(accuracy)], None, examples, [counted_twice + examples.variance])


def variance_of_gap(
    small: np.ndarray, large: np.ndarray, rows: np.ndarray, clusters: np.ndarray | None = None
) -> Variance:
    """Returns the variance of mean accuracy over large runs minus that over small runs: [R_S, n] and [R_L, n] bool."""
    of_small, of_large = (runs[:, rows] - runs.mean(axis=1, keepdims=True) for runs in (small, large))
    influence = ExampleInfluence(
        of_large.mean(axis=0) - of_small, of_large - of_small.mean(axis=0), small.shape[1], clusters
    )
    return variance_of_pairs(large.mean(axis=1)[None, :] - small.mean(axis=1)[:, None], influence)


def area_influence(
    deferral: DeferralOrder, gains: np.ndarray, area: np.ndarray, rows: np.ndarray, ranked: RankedSums | None = None
) -> np.ndarray:
    """Returns the influence of some examples on the area of Table 3, with each of J large runs: [J, m] float64.

    `gains` are d [J, n] int8, `area` [J] the areas, `rows` [m] int the examples asked for, `ranked` the sums of d in
    the order of deferral, where they are at hand.

    With F the share of examples that are less uncertain (ties counting half) and area = Cov(d, F), the influence of an
    example with uncertainty s is (d − d̄)(F − ½) + E_j[(d_j − d̄) 1(s_j > s)] − 2 · area, ties again counting half: the
    first-order term of the U-statistic (van der Vaart 1998, section 12.1). Its mean over examples is 0.
    """
    n = deferral.examples
    if ranked is None:
        ranked = RankedSums.of_order(deferral.order, gains)
    own = np.ascontiguousarray(gains.T.take(rows, axis=0).T)  # where an example's gains lie side by side: faster
    starts, ends = tie_blocks(deferral, rows)
    at_start = ranked.before(starts)
    at_end = ranked.before(ends) if deferral.tied else at_start + own
    above_middle = 0.5 - (starts + ends) / (2 * n)  # [m], F − ½
    influence = np.empty(own.shape)
    for j, row in enumerate(influence):  # run by run, so that what is computed on the way fits a core's cache
        mean = ranked.total[j] / n  # d̄
        np.multiply(own[j] - mean, above_middle, out=row)
        # of Σ (d_j − d̄) before and after it
        row += ((at_start[j] - mean * starts) + (at_end[j] - mean * ends)) / (2 * n)
        row -= 2 * area[j]
    return influence
