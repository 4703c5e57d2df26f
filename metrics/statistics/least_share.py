"""Finds the least share of examples to defer for a quality goal, and how sure that share is.

With S(f) the mean accuracy when a share f is deferred, a = S(0) the small model's and b = S(1) the larger model's, two
goals are asked for: S(f) ≥ a + τ (b − a), a part τ of the gain (RouteLLM's call-performance threshold: Ong et al.
2024, arXiv 2406.18665, section 4), and S(f) ≥ b − ε, no worse than ε below the larger model. Both are linear in S(f),
a and b, so that the excess over the goal, D(f), is a mean over pairs of runs with a variance from components (see
`components.py`) at every f.

The interval of the least share f* inverts pointwise limits of D. It goes from the first f at which the upper limit of D
reaches 0 to the last f at which the lower limit is below 0. As D(f*) = 0, it misses f* only if the limits at the one
point f* miss 0: it covers as often as they do, whatever the shape of the curve, even one that is flat near its goal.
"""

import functools
from dataclasses import dataclass

import numpy as np

from metrics.statistics.switcher import FRACTIONS, DeferralOrder, parts_deferred

# Places in FRACTIONS at which examples' influence is taken; its variance is smooth, so it is interpolated between them.
PLACES = np.array([0, 2, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 100])
# A standard deviation of 1e-7 is an example in ten million: below it the excess is a constant, as at f = 1 that over b,
# and its degrees of freedom are those of rounding errors.
_NO_VARIANCE = 1e-14
_SLOPE_RANKS = 25  # ranks to either side of a cut that tell the slope there, as in Table 2's variance


@dataclass(frozen=True)
class Goal:
    """Defines a goal as S(f) − small · a − large · b + allowance ≥ 0; `small` + `large` is 1."""

    small: float
    large: float
    allowance: float = 0.0

    @classmethod
    def part_of_gain(cls, part: float) -> "Goal":
        """Returns the goal S(f) ≥ a + part · (b − a)."""
        return cls(1.0 - part, part)

    @classmethod
    def within(cls, epsilon: float) -> "Goal":
        """Returns the goal S(f) ≥ b − ε."""
        return cls(0.0, 1.0, epsilon)

    def excess(self, curves: np.ndarray) -> np.ndarray:
        """Returns how far each curve is above the goal: curves at FRACTIONS along the last axis, [..., 101]."""
        over: np.ndarray = curves - self.small * curves[..., :1] - self.large * curves[..., -1:] + self.allowance
        return over


def deferred_at_places(deferral: DeferralOrder, rows: np.ndarray) -> np.ndarray:
    """Returns the chance that each of some examples [m] is deferred at PLACES: [F, m] float32."""
    return parts_deferred(deferral, rows, FRACTIONS[PLACES]).astype(np.float32)


def curve_influence(deferral: DeferralOrder, gains: np.ndarray, curve: np.ndarray, deferred: np.ndarray) -> np.ndarray:
    """Returns the influence of some examples on S(f) − a at PLACES, with each of J large runs: [J, F, m] float32.

    `gains` are d of those examples, [J, m]; `curve` [J, 101] is S at FRACTIONS; `deferred` [F, m] is what
    `deferred_at_places` gives of the examples, which is the same for all larger sizes.

    With w the part of an example that is deferred at f (0 or 1, and between them in the tie block that the cut is in)
    the influence is (d − S'(f)) w minus its mean, as of a Lorenz curve whose cut is a quantile (Cowell and Flachaire
    2015, section 4). Inside a tie block S'(f) is the block's mean of d; elsewhere it is that of the examples within 1 %
    of the cut, or 25 examples.
    """
    slope = _slopes(deferral, curve)  # [J, F]
    mean = curve[:, PLACES] - curve[:, :1] - slope * FRACTIONS[PLACES]
    influence: np.ndarray = (gains[:, None, :] - slope[:, :, None].astype(np.float32)) * deferred
    influence -= mean[:, :, None].astype(np.float32)
    return influence


def _slopes(deferral: DeferralOrder, curve: np.ndarray) -> np.ndarray:
    """Returns S'(f) at PLACES of curves [J, 101]: [J, F]."""
    n, last = deferral.examples, len(FRACTIONS) - 1
    window = int(np.ceil(max(1.0, _SLOPE_RANKS / n * last)))  # steps of FRACTIONS
    low, high = np.maximum(PLACES - window, 0), np.minimum(PLACES + window, last)
    cut = FRACTIONS[PLACES] * n
    block = np.searchsorted(deferral.knots, cut, side="left").clip(1)
    start, end = (deferral.knots[at] * last / n for at in (block - 1, block))  # of the cut's tie block, in steps
    inside = end - start > 2 * window  # a block that long holds a step to one side of the cut or to both
    low = np.where(inside, np.maximum(low, np.ceil(start - 1e-9)), low).astype(int)
    high = np.where(inside, np.minimum(high, np.floor(end + 1e-9)), high).astype(int)
    slopes: np.ndarray = (curve[:, high] - curve[:, low]) / (FRACTIONS[high] - FRACTIONS[low])
    return slopes


class CurveMoments:
    """Adds up, small run by small run, how (S(f) − a, a, b) vary over examples, for variances of goals at PLACES.

    Every covariance is of a mean over n examples, [F, 3, 3].
    """

    def __init__(self, examples: int, clusters: np.ndarray | None = None):
        """Starts without runs; `clusters` [m] int says which examples are drawn together, None each by itself."""
        self._examples, self._clusters = examples, clusters
        self._own: list[np.ndarray] = []  # of each small run's own influence
        self._gained = self._small = np.zeros(0, dtype=np.float32)  # [J, F, m] and [m], sums over small runs
        self._large = self._small  # [J, m]

    def add(self, gained: np.ndarray, small: np.ndarray, large: np.ndarray) -> None:
        """Adds one small run: its influences on S(f) − a [J, F, m], on its a [m], and on the large runs' b [J, m]."""
        self._own.append(self._covariance(_joined(gained.mean(axis=0), small, large.mean(axis=0))))
        self._large = large
        if len(self._own) == 1:
            self._gained, self._small = gained.copy(), small.copy()
        else:
            self._gained += gained
            self._small += small

    @functools.cached_property
    def covariances(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Returns covariances [F, 3, 3] of the mean over all runs, over own small runs and own large runs; and units.

        To be read once all runs are added.

        The second is a mean over small runs of that of each run's own influence, the third the same over large runs.
        The units are what is drawn: examples or clusters.
        """
        runs = len(self._own)
        gained, small = self._gained / runs, self._small / runs
        of_large = [self._covariance(_joined(gained[run], small, self._large[run])) for run in range(len(gained))]
        of_all = self._covariance(_joined(gained.mean(axis=0), small, self._large.mean(axis=0)))
        units = len(small) if self._clusters is None else int(self._clusters.max()) + 1
        return of_all, np.mean(self._own, axis=0), np.mean(of_large, axis=0), units

    def _covariance(self, influence: np.ndarray) -> np.ndarray:
        """Returns the covariance of means over n examples from influences [F, 3, m]: [F, 3, 3] float64."""
        m = influence.shape[-1]
        centred = (influence - influence.mean(axis=-1, keepdims=True)).astype(np.float64)
        units = m
        if self._clusters is not None:
            units = int(self._clusters.max()) + 1
            belongs = np.zeros((m, units))
            belongs[np.arange(m), self._clusters] = 1
            centred = centred @ belongs  # sums within each cluster
        covariance: np.ndarray = np.matmul(centred, centred.transpose(0, 2, 1)) / (m * self._examples)
        return covariance * (units / (units - 1) if units > 1 else 0.0)


def _joined(gained: np.ndarray, small: np.ndarray, large: np.ndarray) -> np.ndarray:
    """Puts influences on S(f) − a [F, m], a [m] and b [m] side by side: [F, 3, m]."""
    return np.stack([gained, np.broadcast_to(small, gained.shape), np.broadcast_to(large, gained.shape)], axis=1)


def excess_variance(excess: np.ndarray, goal: Goal, moments: CurveMoments) -> tuple[np.ndarray, np.ndarray]:
    """Returns the variance of the mean excess over a goal at FRACTIONS, [101], and its degrees of freedom, [101].

    `excess` [R_S, R_L, 101] is that of each pair of runs. The components are those of `components.combined`, at every
    fraction at once.
    """
    small, large = excess.shape[:2]
    of_all, of_small, of_large, units = moments.covariances
    weights = np.array([1.0, 1.0 - goal.small, -goal.large])  # of S(f) − a, a and b
    by_examples, own_small, own_large = (
        np.interp(np.arange(len(FRACTIONS)), PLACES, np.einsum("fij,i,j->f", one, weights, weights))
        for one in (of_all, of_small, of_large)
    )
    terms = [(by_examples, units - 1)]
    floors = [by_examples]
    for axis, runs, own in ((1, small, own_small), (0, large, own_large)):
        if runs < 2:
            continue
        of_runs = excess.mean(axis=axis).var(axis=0, ddof=1) / runs
        floors.append(of_runs)
        terms += [(of_runs, runs - 1), (-(own - by_examples) / (runs - 1), (runs - 1) * (units - 1))]
    if small > 1 and large > 1:
        residual = excess - excess.mean(axis=1, keepdims=True) - excess.mean(axis=0, keepdims=True)
        residual += excess.mean(axis=(0, 1))
        freedom = (small - 1) * (large - 1)
        terms.append((-(residual**2).sum(axis=(0, 1)) / freedom / (small * large), freedom))
    total = np.maximum(sum(variance for variance, _ in terms), np.maximum.reduce([*floors, np.zeros_like(by_examples)]))
    spread = sum(variance**2 / freedom for variance, freedom in terms if freedom > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = np.where(spread > 0, total**2 / spread, np.inf)
    return total, degrees


def t_limits(mean: np.ndarray, variance: np.ndarray, freedom: np.ndarray, tail: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the limits that a mean lies below, and above, with probability `tail` each: [101] each.

    The quantile is that of Student's t with `freedom` [101] degrees of freedom. Where nothing varies the limits are the
    mean.
    """
    from scipy.special import stdtrit

    half = np.zeros_like(mean)
    varies = variance > _NO_VARIANCE
    half[varies] = stdtrit(np.maximum(freedom[varies], 1e-6), 1 - tail) * np.sqrt(variance[varies])
    return mean - half, mean + half


def percentile_limits(samples: np.ndarray, tail: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the quantiles `tail` and 1 − `tail` of samples [101, B], [101] each; NaN without samples."""
    if not samples.shape[1]:
        missing = np.full(len(samples), np.nan)
        return missing, missing
    low, high = np.quantile(samples, [tail, 1 - tail], axis=1)
    return low, high


def first_reaching_zero(excess: np.ndarray) -> float:
    """Returns the least fraction at which [101] values at FRACTIONS reach 0, linear between them; 1 if none does."""
    reached = excess >= -1e-12  # values may touch 0 from below by their rounding alone
    if not reached.any():
        return 1.0
    right = int(reached.argmax())
    return _crossing(excess, right) if right else 0.0


def last_below_zero(excess: np.ndarray) -> float:
    """Returns the greatest fraction up to which [101] values are below 0 somewhere near, linear between them.

    From there on to 1 all are at least 0. It is 1 where the last is below 0, and 0 where none is.
    """
    below = np.flatnonzero(excess < -1e-12)
    if not len(below):
        return 0.0
    right = int(below[-1]) + 1
    return _crossing(excess, right) if right < len(excess) else 1.0


def _crossing(excess: np.ndarray, right: int) -> float:
    """Returns where the line from the point before `right`, which is below 0, to `right` reaches 0."""
    low, high = float(excess[right - 1]), float(excess[right])
    part = min(1.0, max(0.0, -low / (high - low))) if high > low else 1.0
    return float(FRACTIONS[right - 1] + part * (FRACTIONS[right] - FRACTIONS[right - 1]))


def least_share_interval(lower: np.ndarray, upper: np.ndarray) -> tuple[float, float]:
    """Returns the interval of the least share that reaches a goal, from the limits of the excess at FRACTIONS.

    NaN without limits.
    """
    if np.isnan(lower).any():
        return float("nan"), float("nan")
    return first_reaching_zero(upper), last_below_zero(lower)
