"""Everything that is said about one dataset's grid: point estimates, their intervals and what the figures show."""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from conf.errors import EdgewiseError
from conf.machine import cores
from conf.schema import CONTEXTS, SCORES, Metrics
from metrics.analysis.buckets import BucketQuality, Outcomes, outcomes
from metrics.analysis.shown_examples import shown_rows
from metrics.analysis.size import Orders, Table2, distinct_scores
from metrics.analysis.slices import SliceRow, slice_rows
from metrics.bootstrap import SwitcherSamples, disagreement_samples, quality_samples
from metrics.bootstrap.resampling import Estimate, Resampling, estimate, interval, one_thread_a_product
from metrics.grid.runs import Grid, SizeRuns
from metrics.statistics.bleu_switcher import bleu_bounds
from metrics.statistics.churn import BucketChurn
from metrics.statistics.switcher import (
    FRACTIONS,
    Bounds,
    DeferralOrder,
    PairStatistics,
    bounds,
    deferral_order,
    disagreement,
)
from metrics.statistics.uncertainty import uncertainties

_SECONDS_BETWEEN_WORDS = 5.0

WHOSE_TOKENS = {
    "gold": "the gold answer's tokens, as in the paper, which reads the label and can't be deployed",
    "self": "the tokens of the model's own output, which needs no label and can be deployed",
}

Say = Callable[[str], None]
Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]  # `map`, or one that calls side by side


@dataclass
class SizeView:
    """One size's scores while they are at hand: of all sizes at once they may not fit memory, so they aren't kept."""

    context: str | None
    size: SizeRuns
    larger: list[SizeRuns]
    scores: dict[str, np.ndarray]  # [R, n] each
    distinct: dict[str, list[str]]  # score -> the scores that order as it does, itself first
    orders: dict[str, list[DeferralOrder]]  # each of `distinct` -> a deferral order a run
    samples: SwitcherSamples | None  # filled in; None of the largest size
    quality: dict[str, np.ndarray]  # size -> [B]
    resampling: Resampling
    each: Each  # on a thread a core


Watch = Callable[[SizeView], None]


@dataclass
class SizePair:
    """One (small, large) pair of sizes. Qualities, gains and fractions are 0-1, means over pairs of runs."""

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
    matching: dict[str, Estimate]  # least fraction deferred that reaches the larger model's quality
    half_gain: dict[str, Estimate]  # least fraction deferred that reaches half of b - a
    disagreements: np.ndarray  # [R_small, R_large]
    gaps: np.ndarray  # [R_small, R_large]
    near_hump: Estimate  # hump and disagreement, means over pairs of runs whose gap is Figure 6's
    near_disagreement: Estimate


@dataclass
class Analysis:
    """One dataset's results."""

    grid: Grid
    context: str | None  # of the uncertainty of sequences, gold or self; None for classification
    quality: dict[str, Estimate]  # size -> mean over runs of accuracy, or of corpus BLEU / 100
    pairs: list[SizePair]
    churn: list[tuple[str, str, BucketChurn, tuple[np.ndarray, np.ndarray]]]  # (uncertainty size, size, …, interval)
    slices: list[SliceRow]
    buckets: BucketQuality
    outcomes: Outcomes
    rows: np.ndarray  # [m] int, ascending: the examples that the report may show, all n or the most telling
    percentiles: dict[str, dict[str, np.ndarray]]  # size that can defer -> score -> [m] uint16, see `Percentiles`
    overall_churn: Estimate | None = None  # of the size that Table 2 is of
    notes: list[str] = field(default_factory=list)
    other_context: "Analysis | None" = None  # the same by the other context's uncertainty

    @property
    def widest(self) -> SizePair | None:
        """Smallest against largest size; None with one size."""
        ends = (self.grid.sizes[0].name, self.grid.sizes[-1].name)
        return next((pair for pair in self.pairs if (pair.small, pair.large) == ends), None)

    @property
    def deployable(self) -> "Analysis":
        """The same by an uncertainty that needs no label: of sequences, that of a model's own output."""
        other = self.other_context
        return other if other is not None and other.context == "self" else self

    @property
    def contexts(self) -> list["Analysis"]:
        """In every context there is, the deployable one first."""
        both = [self] if self.other_context is None else [self, self.other_context]
        return sorted(both, key=lambda analysis: analysis is not self.deployable)


def analyse(grid: Grid, config: Metrics, say: Say = lambda text: None, watch: Watch | None = None) -> Analysis:
    """Point estimates and their intervals; of span QA and translation in both contexts, the config's first.

    `say` hears of progress every few seconds; `watch` is shown each size, in order, in each context. Raises
    EdgewiseError if nothing at all can be said.
    """
    if len(grid.sizes) < 2 and len(grid.sizes[0].seeds) < 2:
        raise EdgewiseError(
            f"{grid.dataset}: one run only ({grid.sizes[0].name} seed {grid.sizes[0].seeds[0]}); a switcher needs two "
            "sizes and churn needs two seeds. Score another size or seed."
        )
    with one_thread_a_product(), ThreadPoolExecutor(min(len(SCORES), cores())) as pool:
        orders: dict[str, Orders] = {}
        result = _analyse(grid, config, orders, pool, say, watch)
        if grid.task != "classification":
            other = replace(config, context=other_context(config))
            result.other_context = _analyse(grid, other, orders, pool, say, watch, result.rows)
    if result.other_context is not None:
        result.notes.append(
            f"Uncertainty is of {WHOSE_TOKENS[config.context]} (metrics.context={config.context}). Tables 1 and 3 by "
            "both contexts: tables/contexts."
        )
    return result


def other_context(config: Metrics) -> str:
    """The context that `config` doesn't put first."""
    return next(context for context in CONTEXTS if context != config.context)


def _analyse(
    grid: Grid,
    config: Metrics,
    of_sizes: dict[str, Orders],
    pool: Executor,
    say: Say,
    watch: Watch | None,
    rows: np.ndarray | None = None,
) -> Analysis:
    """In one context; `rows` are the examples to show, if they are chosen already.

    `of_sizes` has what the other context found, and takes what this one finds.
    """
    notes = list(grid.notes)
    context = None if grid.task == "classification" else config.context
    if not config.resamples:
        notes.append("metrics.resamples=0: no intervals.")
    runs = {size.name: len(size.seeds) for size in grid.sizes}
    resampling = Resampling(runs, grid.examples, config.resamples, config.seed)
    if resampling.unit is not None and config.resamples:
        notes.append(resampling.note)
    quality = {size.name: quality_samples(size, resampling) for size in grid.sizes}
    table2 = Table2(grid, resampling, notes)
    buckets = BucketQuality({size.name: np.zeros(100) for size in grid.sizes}, {})
    pairs, ranked, shown, told = [], {}, None, time.monotonic()
    for place, small in enumerate(grid.sizes):
        larger = grid.sizes[place + 1 :]
        scores = uncertainties(small, config)
        if larger and len(scores) < len(SCORES):
            notes.append(_lacking(small, scores))
        if place == 0:
            shown = outcomes(grid, scores["margin"], config)
            rows = shown_rows(grid, scores["margin"]) if rows is None else rows
        assert rows is not None
        known = of_sizes.get(small.name)
        orders = of_sizes[small.name] = Orders(grid, place, scores, resampling, table2, buckets, rows, known)
        for run in range(len(small.seeds)):
            orders.add(run, pool)
            if time.monotonic() - told > _SECONDS_BETWEEN_WORDS:
                say(f"{grid.dataset}: {small.name} seed {small.seeds[run]} of {len(small.seeds)} seeds")
                told = time.monotonic()
        samples = orders.samples
        if samples is not None:
            orders.share()
            for large in larger:
                statistics = orders.point.pair(large, orders.distinct)
                pairs.append(_pair(small, large, statistics, samples, quality, resampling, config.confidence))
        if larger or place == 0:
            ranked[small.name] = orders.ranks.means(orders.distinct)
        if place == 0:
            _add_bands(buckets, grid, samples, config.confidence)
        if watch is not None:
            groups = distinct_scores(scores)
            made = {score: list(pool.map(deferral_order, scores[score])) for score in groups}
            watch(SizeView(context, small, larger, scores, groups, made, samples, quality, resampling, pool.map))
        orders.let_go()
        del scores
    assert shown is not None and rows is not None
    return Analysis(
        grid=grid,
        context=context,
        quality={
            size.name: estimate(size.quality.mean(), quality[size.name], config.confidence) for size in grid.sizes
        },
        pairs=pairs,
        churn=table2.rows(config.confidence),
        slices=[
            row for name in sorted(grid.slices) for row in slice_rows(grid, name, resampling, config.confidence, notes)
        ],
        buckets=buckets,
        outcomes=shown,
        rows=rows,
        percentiles=ranked,
        overall_churn=table2.overall(config.confidence),
        notes=notes,
    )


def _lacking(size: SizeRuns, scores: Mapping[str, np.ndarray]) -> str:
    seeds = len(size.seeds)
    lacking = ", ".join(score for score in SCORES if score not in scores)
    return f"{size.name} has {seeds} seed{'s' if seeds > 1 else ''}: no {lacking} to defer by."


def _add_bands(buckets: BucketQuality, grid: Grid, samples: SwitcherSamples | None, confidence: float) -> None:
    for size in grid.sizes:
        none = np.zeros((100, 0))
        buckets.band[size.name] = interval(samples.buckets[size.name] if samples else none, confidence)


def _pair(
    small: SizeRuns,
    large: SizeRuns,
    scores: dict[str, PairStatistics],
    samples: SwitcherSamples,
    quality: Mapping[str, np.ndarray],
    resampling: Resampling,
    confidence: float,
) -> SizePair:
    name = large.name
    curve = {score: statistics.curve.mean(axis=(0, 1)) for score, statistics in scores.items()}
    curves = {score: samples.curve[name, score] for score in scores}
    gaps = large.quality[None, :] - small.quality[:, None]
    disagreements = disagreement(small.prediction, large.prediction)
    apart = disagreement_samples(small, large, resampling)
    near = near_gap(gaps)
    if small.bleu_stats is not None and large.bleu_stats is not None:
        limits = bleu_bounds(small.bleu_stats, large.bleu_stats)
    else:
        assert small.correct is not None and large.correct is not None
        limits = bounds(small.correct, large.correct)

    def over_pairs(values: np.ndarray, of_pairs: np.ndarray, kept: np.ndarray) -> Estimate:
        if not kept.any():
            return Estimate(float("nan"))
        means = resampling.mean_over_pairs(small.name, name, of_pairs, kept)
        return estimate(values[kept].mean(), means, confidence)

    return SizePair(
        small=small.name,
        large=name,
        gap=estimate(gaps.mean(), quality[name] - quality[small.name], confidence),
        disagreement=over_pairs(disagreements, apart, np.ones_like(near)),
        bounds=limits,
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
        near_disagreement=over_pairs(disagreements, apart, near),
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
