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
from itertools import combinations

import numpy as np

from metrics.statistics.churn import CUT_PERCENT
from metrics.statistics.switcher import DeferralOrder, percentiles, sums_before


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
            of_large = influence.copy() if of_large is None else of_large + influence
        if of_large is None:
            raise ValueError("expected the influences of one small run or more")
        return cls(np.array(of_small), of_large / len(of_small), examples, clusters)

    def minus(self, other: "ExampleInfluence") -> "ExampleInfluence":
        """Returns the influences on the difference of two statistics of the same runs and examples."""
        return replace(self, of_small=self.of_small - other.of_small, of_large=self.of_large - other.of_large)

    def component(self) -> Component:
        """Returns the variance of the mean that comes of drawing the examples, or the clusters of them."""
        mean = self.of_small.mean(axis=0)
        return Component(example_variance(mean, self.examples, self.clusters), units(mean, self.clusters) - 1)

    def shared(self) -> tuple[float, float]:
        """Returns the mean over small runs, and over large runs, of the variance of each run's own mean influence."""
        small, large = (
            float(np.mean([example_variance(row, self.examples, self.clusters) for row in rows]))
            for rows in (self.of_small, self.of_large)
        )
        return small, large


def example_variance(influence: np.ndarray, examples: int, clusters: np.ndarray | None = None) -> float:
    """Returns the variance of a mean over n `examples` with these influences [m], m of the n or all of them.

    With `clusters` [m] the influences are summed within each cluster first (Liang and Zeger 1986).
    """
    if units(influence, clusters) < 2:
        return 0.0  # one draw tells nothing of how draws differ
    if clusters is None:
        return float(np.var(influence, ddof=1)) / examples
    sums: np.ndarray = np.bincount(clusters, weights=influence - influence.mean())
    return float((sums**2).sum()) / len(influence) ** 2 * len(sums) / (len(sums) - 1)


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


def variance_of_quality(correct: np.ndarray, rows: np.ndarray, clusters: np.ndarray | None = None) -> Variance:
    """Returns the variance of the mean over runs of accuracy.

    `correct` is [R, n] bool; `rows` [m] int are the examples whose influence is taken.
    """
    accuracy = correct.mean(axis=1)
    influence = correct[:, rows] - accuracy[:, None]
    mean = influence.mean(axis=0)
    n = correct.shape[1]
    return combined(
        [run_component(accuracy)],
        None,
        Component(example_variance(mean, n, clusters), units(mean, clusters) - 1),
        [float(np.mean([example_variance(row, n, clusters) for row in influence]))],
    )


def variance_of_gap(
    small: np.ndarray, large: np.ndarray, rows: np.ndarray, clusters: np.ndarray | None = None
) -> Variance:
    """Returns the variance of mean accuracy over large runs minus that over small runs: [R_S, n] and [R_L, n] bool."""
    of_small, of_large = (runs[:, rows] - runs.mean(axis=1, keepdims=True) for runs in (small, large))
    influence = ExampleInfluence(
        of_large.mean(axis=0) - of_small, of_large - of_small.mean(axis=0), small.shape[1], clusters
    )
    return variance_of_pairs(large.mean(axis=1)[None, :] - small.mean(axis=1)[:, None], influence)


def area_influence(deferral: DeferralOrder, gains: np.ndarray, area: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns the influence of some examples on the area of Table 3, with each of J large runs: [J, m] float64.

    `gains` are d [J, n] int8, `area` [J] the areas, `rows` [m] int the examples asked for.

    With F the share of examples that are less uncertain (ties counting half) and area = Cov(d, F), the influence of an
    example with uncertainty s is (d − d̄)(F − ½) + E_j[(d_j − d̄) 1(s_j > s)] − 2 · area, ties again counting half: the
    first-order term of the U-statistic (van der Vaart 1998, section 12.1). Its mean over examples is 0.
    """
    n = deferral.examples
    rank = np.empty(n, dtype=np.int64)
    rank[deferral.order] = np.arange(n)
    block = np.searchsorted(deferral.knots, rank[rows], side="right") - 1
    starts, ends = deferral.knots[block], deferral.knots[block + 1]  # [m], of each example's tie block
    ordered = gains.take(deferral.order, axis=1)
    sums, total = np.split(sums_before(ordered, np.concatenate([starts, ends, [n]])), [2 * len(rows)], axis=1)
    mean = total / n  # [J, 1], d̄
    before_start, before_end = np.split(sums - mean * np.concatenate([starts, ends]), 2, axis=1)  # Σ (d_j − d̄)
    influence: np.ndarray = (gains.take(rows, axis=1) - mean) * (0.5 - (starts + ends) / (2 * n))
    influence += (before_start + before_end) / (2 * n)
    influence -= 2 * area[:, None]
    return influence


def churn_variance(
    prediction: np.ndarray,
    ranking: Sequence[DeferralOrder],
    same_size: bool,
    rows: np.ndarray | None = None,
    clusters: np.ndarray | None = None,
) -> list[Variance]:
    """Returns the variance of churn in each of Table 2's five buckets.

    A bucket's churn is a U-statistic of order 2 over the churning size's runs, and a mean over the runs that rank. Runs
    are left out one at a time (the jackknife of a U-statistic: Arvesen 1969); where a size ranks its own churn, a run
    leaves both at once. Of two runs, which are one pair, no spread over runs is known: `runs` of the result is False.

    Args:
        prediction: [R, n] int, answers of the churning size's runs, R ≥ 2.
        ranking: how each ranking run's margin defers, U of them; of the same runs in the same order if `same_size`.
        same_size: whether the ranking runs are those of `prediction`.
        rows: [m] int, a random part of the examples, whose influence is taken; None for all n.
        clusters: [m] int, which of `rows` are drawn together; None that each is drawn by itself.

    """
    runs, n = prediction.shape
    rows = np.arange(n) if rows is None else rows
    differing, leaving = _pairs_of_runs(prediction)  # [P, n], [1 + R, P]
    of_rows = leaving @ differing[:, rows]  # [1 + R, m]: mean over all pairs, then over those without each run
    churn = np.empty((len(ranking), len(leaving), 5))
    influence = np.empty((len(ranking), len(leaving), 5, len(rows)), dtype=np.float32)
    for u, deferral in enumerate(ranking):
        churn[u], influence[u] = _bucket_influence(deferral, differing, leaving, of_rows, rows)
    result = []
    for bucket in range(5):
        values, of_examples = churn[..., bucket], influence[..., bucket, :]
        factors = []  # (values [levels], influence [levels, m]) of each factor of runs
        if same_size and runs > 2:
            others = [np.arange(runs) != run for run in range(runs)]
            left = np.array([values[others[k], 1 + k].mean() for k in range(runs)])
            left_influence = np.array([of_examples[others[k], 1 + k].mean(axis=0) for k in range(runs)])
            factors.append(_pseudo(values[:, 0].mean(), left, of_examples[:, 0].mean(axis=0), left_influence))
        elif not same_size:
            if runs > 2:
                means = values.mean(axis=0), of_examples.mean(axis=0)
                factors.append(_pseudo(means[0][0], means[0][1:], means[1][0], means[1][1:]))
            factors.append((values[:, 0], of_examples[:, 0]))
        examples = of_examples[:, 0].mean(axis=0)
        found = combined(
            [run_component(of_runs) for of_runs, _ in factors],
            None,
            Component(example_variance(examples, n, clusters), units(examples, clusters) - 1),
            [float(np.mean([example_variance(row, n, clusters) for row in own])) for _, own in factors],
        )
        result.append(replace(found, runs=found.runs and runs > 2))
    return result


def _pairs_of_runs(prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns whether each pair of R runs differs, [P, n] int8, and weights of pairs, [1 + R, P].

    The first row of weights averages all pairs, the next ones those without each run; of two runs there is only the
    first row.
    """
    runs = len(prediction)
    pairs = list(combinations(range(runs), 2))
    differing = np.array([prediction[k] != prediction[m] for k, m in pairs]).view(np.int8)
    weights = [np.full(len(pairs), 1 / len(pairs))]
    if runs > 2:
        for run in range(runs):
            weights.append(np.array([run not in pair for pair in pairs]) * 2 / ((runs - 1) * (runs - 2)))
    return differing, np.array(weights)


def _bucket_influence(
    deferral: DeferralOrder, differing: np.ndarray, leaving: np.ndarray, of_rows: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns churn in the buckets of one ranking run, [W, 5], and each row's influence on it, [W, 5, m].

    With L(q) the mean of D 1(F ≤ q), D how much an example differs and F its place by ascending uncertainty, a bucket's
    churn is (L(high) − L(low)) / (high − low). Its cuts are quantiles, so that the influence on L(q) is
    (D − D(q)) 1(F ≤ q) + q D(q) − L(q) with D(q) the mean of D at the cut, as of a Lorenz curve (Cowell and
    Flachaire 2015, section 4).
    """
    n, shares = deferral.examples, np.diff(CUT_PERCENT) / 100
    cuts = CUT_PERCENT[1:-1] / 100
    window = max(25.0, 0.01 * n)  # of ranks to either side of a cut: as many as tell a mean, few enough to be near it
    from_cuts = (100 - CUT_PERCENT[::-1]) * n / 100
    ends = np.stack([(1 - cuts) * n - window, (1 - cuts) * n + window]).clip(0, n)
    sums = _sums_at_few(deferral, differing, np.concatenate([from_cuts, *ends]))  # [P, 6 + 4 + 4], most uncertain first
    at_cuts, before, after = np.split(sums, [6, 10], axis=1)
    lorenz = leaving @ (at_cuts[:, -1:] - at_cuts)[:, ::-1] / n  # [W, 6], L at 0, 50 … 100 %
    inside = (after - before) / np.diff(ends, axis=0)[0]
    level = leaving @ inside  # [W, 4], D at each cut
    place = percentiles(deferral)[rows] / 100
    below = place[None, :] <= cuts[:, None]  # [4, m]
    moving = (of_rows[:, None] - level[..., None]) * below + (level * cuts - lorenz[:, 1:-1])[..., None]  # [W, 4, m]
    whole = (of_rows - lorenz[:, -1:])[:, None]  # [W, 1, m]
    edges = np.concatenate([np.zeros_like(whole), moving, whole], axis=1)
    return np.diff(lorenz, axis=1) / shares, np.diff(edges, axis=1) / shares[:, None]


def _sums_at_few(deferral: DeferralOrder, values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Returns what `sums_at` does, [P, n] int8 and [F] -> [P, F] float64, without the sums at every other knot."""
    right = np.searchsorted(deferral.knots, positions, side="left").clip(1)
    left_knot, right_knot = deferral.knots[right - 1], deferral.knots[right]
    sums = sums_before(values.take(deferral.order, axis=1), np.concatenate([left_knot, right_knot]))
    low, high = np.split(sums, 2, axis=1)
    expected: np.ndarray = low + (positions - left_knot) / (right_knot - left_knot) * (high - low)
    return expected


def _pseudo(
    whole: float, left: np.ndarray, whole_influence: np.ndarray, left_influence: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the jackknife's pseudo-values R θ − (R − 1) θ_(−k), [R], and the same of the influences, [R, m]."""
    runs = len(left)
    return runs * whole - (runs - 1) * left, runs * whole_influence - (runs - 1) * left_influence
