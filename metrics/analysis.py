"""Everything that is said about one dataset's grid: point estimates, their intervals and what the figures show."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from conf.errors import SwitchyardError
from conf.schema import SCORES, Metrics
from metrics.churn import BucketChurn, bucket_churn
from metrics.grid import Grid, SizeRuns
from metrics.intervals import Estimate, Resampling, estimate, interval
from metrics.resampled import (
    ChurnSamples,
    DisagreementSamples,
    GroupSamples,
    OutcomeSamples,
    Samples,
    SwitcherSamples,
)
from metrics.slices import SliceColumn, SliceRow
from metrics.switcher import (
    FRACTIONS,
    Bounds,
    DeferralOrder,
    PairStatistics,
    bounds,
    deferral_order,
    disagreement,
    pair_statistics,
    sums_at,
    sums_at_knots,
)
from metrics.uncertainty import log_probabilities, log_second, uncertainties

THRESHOLDS = 61  # of Figure 2
_BAND_RESAMPLES = 200  # of Figure 2's bands, as its caption says: enough for a band

_SECONDS_BETWEEN_WORDS = 5.0


@dataclass
class SizePair:
    """One (small, large) pair of sizes. Accuracies, gains and fractions are 0-1, means over pairs of runs."""

    small: str
    large: str
    gap: Estimate  # b - a
    disagreement: Estimate
    bounds: Bounds  # [R_small, R_large]
    scores: dict[str, PairStatistics]
    peak_gain: dict[str, Estimate]
    area: dict[str, Estimate]
    area_over_margin: dict[str, Estimate]  # area of a score minus the margin's, resampled together
    curve: dict[str, np.ndarray]  # [101], mean curve
    band: dict[str, tuple[np.ndarray, np.ndarray]]  # [101] each
    matching: dict[str, Estimate]  # least fraction deferred that reaches the larger model's accuracy
    half_gain: dict[str, Estimate]  # least fraction deferred that reaches half of b - a
    disagreements: np.ndarray  # [R_small, R_large]
    gaps: np.ndarray  # [R_small, R_large]
    near_hump: Estimate  # hump and disagreement, means over pairs of runs whose gap is Figure 6's
    near_disagreement: Estimate


@dataclass
class BucketAccuracy:
    """Figure 3: accuracy of every size in 100 equal-count buckets of the smallest size's margin, ascending."""

    accuracy: dict[str, np.ndarray]  # [100]
    band: dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass
class Outcomes:
    """Figures 1 and 2, of the smallest and the largest size."""

    log_second: np.ndarray  # [n] float64, natural log of p₂, of the smallest size's first seed
    small_right: np.ndarray  # [n] bool, of that run
    large_right: np.ndarray | None  # [n] bool, of the largest size's first seed
    thresholds: np.ndarray  # [T], descending margins
    fraction: np.ndarray | None  # [T, 4]: both right, both wrong, only the larger, only the smaller
    band: tuple[np.ndarray, np.ndarray] | None  # [T, 4] each
    examples: np.ndarray | None  # [T], mean over small runs of how many examples are at least as uncertain


@dataclass
class Resampled:
    """What estimates and intervals were taken from, kept for statistics that build on them (metrics/beyond/)."""

    scores: dict[str, dict[str, np.ndarray]]  # size -> score -> [R, n]
    deferrals: dict[str, dict[str, list[DeferralOrder]]]  # size -> score -> order of each run
    resampling: Resampling
    switchers: dict[str, SwitcherSamples]  # of each size but the largest
    overall: GroupSamples  # one group: all examples


@dataclass
class Analysis:
    """One dataset's results."""

    grid: Grid
    resampled: Resampled
    accuracy: dict[str, Estimate]
    pairs: list[SizePair]
    churn: list[tuple[str, str, BucketChurn, tuple[np.ndarray, np.ndarray]]]  # (uncertainty size, size, …, interval)
    slices: list[SliceRow]
    buckets: BucketAccuracy
    outcomes: Outcomes
    notes: list[str] = field(default_factory=list)

    @property
    def widest(self) -> SizePair | None:
        """Smallest against largest size; None with one size."""
        ends = (self.grid.sizes[0].name, self.grid.sizes[-1].name)
        return next((pair for pair in self.pairs if (pair.small, pair.large) == ends), None)


def analyse(grid: Grid, config: Metrics, say: Callable[[str], None] = lambda text: None) -> Analysis:
    """Point estimates and, from one pass over the resamples, their intervals.

    `say` hears of progress every few seconds. Raises SwitchyardError if nothing at all can be said.
    """
    notes = list(grid.notes)
    if len(grid.sizes) < 2 and len(grid.sizes[0].seeds) < 2:
        raise SwitchyardError(
            f"{grid.dataset}: one run only ({grid.sizes[0].name} seed {grid.sizes[0].seeds[0]}); a switcher needs two "
            "sizes and churn needs two seeds. Score another size or seed."
        )
    scores = {size.name: uncertainties(size, config) for size in grid.sizes}
    notes += _missing_scores(grid, scores)
    deferrals = _deferrals(scores)
    resamples = config.resamples
    if not resamples:
        notes.append("metrics.resamples=0: no intervals.")

    families: list[Samples] = []
    switchers = {}
    for i, small in enumerate(grid.sizes[:-1]):
        switchers[small.name] = SwitcherSamples(small, grid.sizes[i + 1 :], deferrals[small.name], resamples)
    apart = {(a.name, b.name): DisagreementSamples(a, b, resamples) for a, b in grid.pairs}
    overall = GroupSamples(grid.sizes, np.zeros(grid.examples, dtype=int), 1, resamples)
    slices = {name: SliceColumn(grid, name, resamples, notes) for name in sorted(grid.slices)}
    churning = next((size for size in reversed(grid.sizes) if len(size.seeds) >= 2), None)
    churn = {}
    if churning is None:
        notes.append("No size has two seeds: no churn, so Table 2 is empty.")
    else:
        churn = {
            size.name: ChurnSamples(churning, size, deferrals[size.name]["margin"], resamples) for size in grid.sizes
        }
        notes += _churn_notes(grid, churning)
    families += [*switchers.values(), *apart.values(), overall, *(s.samples for s in slices.values()), *churn.values()]
    outcomes, outcome_samples = _outcomes(grid, scores, config)
    runs = {size.name: len(size.seeds) for size in grid.sizes}
    resampling = Resampling(runs, grid.examples, resamples, config.seed)
    told = time.monotonic()
    for chunk in resampling.chunks():
        for family in families:
            family.add(chunk)
        if time.monotonic() - told > _SECONDS_BETWEEN_WORDS:
            say(f"{grid.dataset}: {chunk.index.stop:,} of {resamples:,} resamples")
            told = time.monotonic()
    if outcome_samples is not None and resamples:
        fewer = min(resamples, _BAND_RESAMPLES)
        for chunk in Resampling(runs, grid.examples, fewer, config.seed).chunks():
            outcome_samples.add(chunk)
        outcomes.band = interval(outcome_samples.fraction, config.confidence)

    pairs = [
        _pair(
            small,
            large,
            deferrals[small.name],
            switchers[small.name],
            apart[small.name, large.name],
            overall,
            resampling,
            config.confidence,
        )
        for small, large in grid.pairs
    ]
    rows = []
    if churning is not None:
        for size in grid.sizes:
            point = bucket_churn(churning.prediction, scores[size.name]["margin"])
            rows.append((size.name, churning.name, point, interval(churn[size.name].churn, config.confidence)))
    return Analysis(
        grid=grid,
        resampled=Resampled(scores, deferrals, resampling, switchers, overall),
        accuracy={
            size.name: estimate(size.accuracy.mean(), overall.accuracy[size.name][0], config.confidence)
            for size in grid.sizes
        },
        pairs=pairs,
        churn=rows,
        slices=[row for group in slices.values() for row in group.rows(config.confidence)],
        buckets=_buckets(grid, deferrals, switchers, config),
        outcomes=outcomes,
        notes=notes,
    )


def _deferrals(scores: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, list[DeferralOrder]]]:
    """size -> score -> order of each run; scores that are one array keep one list."""
    result: dict[str, dict[str, list[DeferralOrder]]] = {}
    for size, of_size in scores.items():
        result[size] = {}
        for score, values in of_size.items():
            same = next((known for known in result[size] if of_size[known] is values), None)
            result[size][score] = result[size][same] if same else [deferral_order(run) for run in values]
    return result


def _missing_scores(grid: Grid, scores: dict[str, dict[str, np.ndarray]]) -> list[str]:
    """What the smaller sizes of a pair can't be ranked by."""
    return [
        f"{size.name} has {len(size.seeds)} seed{'s' if len(size.seeds) > 1 else ''}: "
        f"no {', '.join(s for s in SCORES if s not in scores[size.name])} to defer by."
        for size in grid.sizes[:-1]
        if len(scores[size.name]) < len(SCORES)
    ]


def _churn_notes(grid: Grid, churning: SizeRuns) -> list[str]:
    notes = []
    if churning is not grid.sizes[-1]:
        notes.append(
            f"{grid.sizes[-1].name} has one seed, so Table 2 is of {churning.name}, the largest size with two or more."
        )
    if len(churning.seeds) == 2:
        notes.append(
            f"{churning.name} has two seeds, hence one pair: Table 2's intervals resample its examples, not the pair."
        )
    return notes


def _pair(
    small: SizeRuns,
    large: SizeRuns,
    deferrals: dict[str, list[DeferralOrder]],
    samples: SwitcherSamples,
    apart: DisagreementSamples,
    overall: GroupSamples,
    resampling: Resampling,
    confidence: float,
) -> SizePair:
    name = large.name
    scores: dict[str, PairStatistics] = {}
    for score, orders in deferrals.items():
        same = next((known for known in scores if deferrals[known] is orders), None)
        if same is None:
            scores[score] = pair_statistics(small.name, name, score, orders, small.correct, large.correct)
        else:
            scores[score] = scores[same].renamed(score)
    curve = {score: statistics.curve.mean(axis=(0, 1)) for score, statistics in scores.items()}
    accuracy_small, accuracy_large = overall.accuracy[small.name][0], overall.accuracy[name][0]
    curves = {s: accuracy_small + samples.large_sums[name, s] - samples.small_sums[name, s] for s in scores}
    gaps = large.accuracy[None, :] - small.accuracy[:, None]
    disagreements = disagreement(small.prediction, large.prediction)
    near = near_gap(gaps)

    def over_pairs(values: np.ndarray, of_pairs: np.ndarray, kept: np.ndarray) -> Estimate:
        if not kept.any():
            return Estimate(float("nan"))
        means = resampling.mean_over_pairs(small.name, name, of_pairs, kept)
        return estimate(values[kept].mean(), means, confidence)

    return SizePair(
        small=small.name,
        large=name,
        gap=estimate(gaps.mean(), accuracy_large - accuracy_small, confidence),
        disagreement=over_pairs(disagreements, apart.disagreement, np.ones_like(near)),
        bounds=bounds(small.correct, large.correct),
        scores=scores,
        peak_gain={s: estimate(scores[s].peak_gain.mean(), samples.peak_gain[name, s], confidence) for s in scores},
        area={s: estimate(scores[s].area.mean(), samples.area[name, s], confidence) for s in scores},
        area_over_margin={
            s: estimate(
                scores[s].area.mean() - scores["margin"].area.mean(),
                samples.area[name, s] - samples.area[name, "margin"],
                confidence,
            )
            for s in scores
        },
        curve=curve,
        band={s: interval(curves[s], confidence) for s in scores},
        matching={s: _reaching(curve[s], curves[s], 1.0, confidence) for s in scores},
        half_gain={s: _reaching(curve[s], curves[s], 0.5, confidence) for s in scores},
        disagreements=disagreements,
        gaps=gaps,
        near_hump=over_pairs(scores["margin"].hump, samples.hump[name], near),
        near_disagreement=over_pairs(disagreements, apart.disagreement, near),
    )


def near_gap(gaps: np.ndarray) -> np.ndarray:
    """Figure 6's pairs of runs: 0.5 % ≤ b - a ≤ 1 %. The bounds give by a rounding error, as gaps are k / n."""
    return (gaps >= 0.005 - 1e-12) & (gaps <= 0.01 + 1e-12)


def _reaching(curve: np.ndarray, curves: np.ndarray, share: float, confidence: float) -> Estimate:
    """The least fraction deferred at which a mean curve [101] reaches S(0) + share · (S(1) - S(0)), linear between.

    NaN unless S(1) > S(0). The interval takes the same of resampled curves [101, B], over those with S(1) > S(0).
    """
    point = _first_reaching(curve[:, None], share)[0]
    if np.isnan(point) or not curves.shape[1]:
        return Estimate(float(point))
    return estimate(point, _first_reaching(curves, share), confidence)


def _first_reaching(curves: np.ndarray, share: float) -> np.ndarray:
    """[101, B] -> [B]."""
    goal = curves[0] + share * (curves[-1] - curves[0])
    # a curve may touch the goal from below by its rounding alone
    reached = curves >= goal - 1e-12
    right = reached.argmax(axis=0)
    left = np.maximum(right - 1, 0)
    columns = np.arange(curves.shape[1])
    step = curves[right, columns] - curves[left, columns]
    inside = np.where(step > 0, (goal - curves[left, columns]) / np.where(step > 0, step, 1), 1.0)
    fraction = FRACTIONS[left] + (FRACTIONS[right] - FRACTIONS[left]) * np.clip(inside, 0, 1)
    return np.where(curves[-1] > curves[0], fraction, np.nan)


def _buckets(
    grid: Grid,
    deferrals: dict[str, dict[str, list[DeferralOrder]]],
    switchers: dict[str, SwitcherSamples],
    config: Metrics,
) -> BucketAccuracy:
    small, n = grid.sizes[0], grid.examples
    positions = np.arange(101) * n / 100
    accuracy, band = {}, {}
    for size in grid.sizes:
        runs = []
        for run, deferral in enumerate(deferrals[small.name]["margin"]):
            right = (small.correct[run : run + 1] if size is small else size.correct).T
            sums = sums_at(deferral, sums_at_knots(deferral, right.astype(np.int8)), positions).mean(axis=1)
            runs.append(np.diff(sums)[::-1] / (n / 100))  # ascending uncertainty
        accuracy[size.name] = np.mean(runs, axis=0)
        if switchers:
            of = switchers[small.name]
            samples = (
                of.small_sums[grid.sizes[-1].name, "margin"] if size is small else of.large_sums[size.name, "margin"]
            )
            band[size.name] = interval(np.diff(samples, axis=0)[::-1] * 100, config.confidence)
        else:
            band[size.name] = (np.full(100, np.nan), np.full(100, np.nan))
    return BucketAccuracy(accuracy, band)


def _outcomes(
    grid: Grid, scores: dict[str, dict[str, np.ndarray]], config: Metrics
) -> tuple[Outcomes, OutcomeSamples | None]:
    small, large = grid.sizes[0], grid.sizes[-1]
    second = log_second(log_probabilities(small, config.length_normalized)[0])
    log_margins = scores[small.name]["margin"] / np.log(10.0)
    finite = log_margins[np.isfinite(log_margins)]
    lowest = np.floor(finite.min()) if len(finite) else -1.0
    # margins end at 1 (all classes alike); a grid of equal steps in log₁₀, from there down to the most certain example
    thresholds = np.linspace(0.0, max(lowest, -12.0), THRESHOLDS)
    one = Outcomes(
        log_second=second,
        small_right=small.correct[0],
        large_right=large.correct[0] if large is not small else None,
        thresholds=10.0**thresholds,
        fraction=None,
        band=None,
        examples=None,
    )
    if large is small:
        return one, None
    pooled, at_least = np.zeros((THRESHOLDS, 4)), np.zeros(THRESHOLDS)
    mean_large = large.correct.mean(axis=0)
    for own, right in zip(log_margins, small.correct):
        order = np.argsort(-own, kind="stable")
        at = np.searchsorted(-own[order], -thresholds, side="right")  # how many examples are above each threshold
        columns = np.stack([right, mean_large, right * mean_large])[:, order]
        rights, larger, both = np.concatenate([np.zeros((3, 1)), np.cumsum(columns, axis=1)], axis=1)[:, at]
        pooled += np.stack([both, at - rights - larger + both, larger - both, rights - both], axis=1)
        at_least += at
    with np.errstate(invalid="ignore"):
        one.fraction = pooled / np.where(at_least > 0, at_least, np.nan)[:, None]
    one.examples = at_least / len(small.seeds)
    resamples = min(config.resamples, _BAND_RESAMPLES)
    return one, OutcomeSamples(small, large, log_margins, thresholds, resamples)
