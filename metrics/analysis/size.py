"""Analyses the runs of one size: what follows from the orders in which they defer, by each score."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from conf.schema import SCORES
from metrics.analysis.intervals import InfluentialExamples
from metrics.bootstrap import RunSamples, ScoreSamples, SwitcherSamples, switcher_samples
from metrics.bootstrap.resampling import Resampling
from metrics.bootstrap.threads import ParallelMap
from metrics.grid.runs import SizeRuns
from metrics.statistics.bleu_chance import bleu_chance_peaks
from metrics.statistics.bleu_switcher import bleu_statistics_of_switchers
from metrics.statistics.chance import (
    MOST_PERMUTED,
    Chance,
    RankCells,
    chance_peaks,
    correlated_noise,
    covariance_of_correctness,
)
from metrics.statistics.components import ExampleInfluence, area_influence
from metrics.statistics.least_share import CurveMoments, curve_influence, deferred_at_places
from metrics.statistics.ranked_sums import RankedSums
from metrics.statistics.switcher import (
    DeferralOrder,
    PairStatistics,
    SwitcherStatistics,
    deferral_order,
    pair_statistics,
    percentiles,
    switcher_statistics,
)

# The scores of a sequence that depend on the context, gold or self, of its tokens. The others are of predictions alone.
CONTEXT_SCORES = tuple(score for score in SCORES if "churn" not in score)


@dataclass
class SizeScores:
    """Holds the scores of one size's runs in one context, and the larger sizes that they may defer to."""

    size: SizeRuns
    larger: list[SizeRuns]
    scores: dict[str, np.ndarray]  # [R, n] each

    @property
    def distinct(self) -> dict[str, list[str]]:
        """Groups scores that order the examples alike: the first of each group -> the group, itself first."""
        return distinct_scores(self.scores)


@dataclass
class Execution:
    """Says how a size is analysed: on which threads, who is told of progress, and what is kept of the orders."""

    parallel_map: ParallelMap
    report_progress: Callable[[str], None]  # called after each run
    keep_orders: bool  # whether to keep the orders of every score; without, those of the margin alone


@dataclass
class ScoreResult:
    """Holds what follows from the orders in which one size's runs defer by one score."""

    orders: list[DeferralOrder]  # one a run; [] unless they are kept
    percentiles: np.ndarray | None  # [m] uint16, hundredths of a percentile, 0-10000, of the rows asked for
    switchers: dict[str, PairStatistics]  # larger size -> statistics of each pair of runs
    samples: ScoreSamples | None  # None of the largest size
    influence: dict[str, ExampleInfluence]  # larger size -> on the area of Table 3; {} where none is asked for
    chance: dict[str, Chance]  # larger size -> what Table 1 shows of a score that knows nothing; {} the same
    curve_moments: dict[str, CurveMoments]  # larger size -> of the switcher curves; {} where none is asked for


@dataclass
class SizeResult:
    """Holds what follows from the orders in which one size's runs defer, by every score."""

    scores: dict[str, ScoreResult]  # in the order of SCORES; scores that order alike have the same result
    samples: SwitcherSamples | None  # of all scores; None of the largest size
    gains: list[np.ndarray]  # by run, as `_gains_of_run` returns them; [] unless orders are kept

    @property
    def margin_orders(self) -> list[DeferralOrder]:
        """Returns the orders in which the margins of the runs defer."""
        return self.scores["margin"].orders


@dataclass
class _RunResult:
    """Holds what follows from the order in which one run defers by one score."""

    order: DeferralOrder | None  # None unless it is kept
    percentiles: np.ndarray | None  # [m] float64, 0-100
    statistics: list[SwitcherStatistics]  # of each larger size
    influence: list[np.ndarray]  # of each larger size, [R_large, m] on the area of Table 3; [] where none is asked for
    cells: RankCells | None  # None where nothing is compared with chance


def analyse_size(
    scored: SizeScores,
    rows: np.ndarray | None,
    resampling: Resampling,
    execution: Execution,
    computed: Mapping[str, ScoreResult],
    influential: InfluentialExamples | None = None,
    on_curves: InfluentialExamples | None = None,
) -> SizeResult:
    """Computes what follows from the orders in which a size's runs defer.

    Every score is sorted once. The scores of a run are computed side by side, the runs one after the other, so that
    sums over runs are always in the same order and give the same bits.

    Args:
        scored: the size and its scores.
        rows: [m] int, the examples whose percentiles are wanted. None if none are, as of the largest of several sizes:
            then, unless orders are kept, the margin alone is sorted, which Table 2 needs of every size.
        resampling: the draws of the samples.
        execution: how to compute, and which orders to keep.
        computed: results by scores that no context changes, where another context has them already.
        influential: the examples whose influence on the area of Table 3 is wanted; None if none is.
        on_curves: those whose influence on the points of the curves is wanted; None if none is.

    """
    size, larger = scored.size, scored.larger
    distinct = scored.distinct if rows is not None or execution.keep_orders else {"margin": ["margin"]}
    missing = [score for score in distinct if score not in computed]
    samples = switcher_samples(size, larger, resampling) if larger else None
    orders: dict[str, list[DeferralOrder]] = {score: [] for score in missing}
    sums = {score: np.zeros(len(rows)) for score in missing} if rows is not None else {}
    statistics: dict[str, list[list[SwitcherStatistics]]] = {score: [] for score in missing}  # by run, by larger size
    influence: dict[str, list[list[np.ndarray]]] = {score: [] for score in missing}  # the same
    cells: dict[str, list[RankCells]] = {score: [] for score in missing}  # by run
    moments = {
        score: {
            large.name: CurveMoments(_examples(size), on_curves.clusters) for large in larger if on_curves is not None
        }
        for score in missing
    }
    gains: list[np.ndarray] = []
    for run, seed in enumerate(size.seeds):
        drawn = samples.run(run) if samples is not None else None
        of_run = _gains_of_run(scored, run)
        if of_run is not None and execution.keep_orders:
            gains.append(of_run)
        analyse_score = partial(
            _analyse_run,
            scored,
            run,
            of_run,
            rows,
            drawn,
            execution.keep_orders,
            influential,
            on_curves,
            moments,
        )
        for score, result in zip(missing, execution.parallel_map(analyse_score, missing), strict=True):
            if result.order is not None:
                orders[score].append(result.order)
            if result.percentiles is not None:
                sums[score] += result.percentiles
            statistics[score].append(result.statistics)
            influence[score].append(result.influence)
            if result.cells is not None:
                cells[score].append(result.cells)
        execution.report_progress(f"analysed {size.name} seed {seed}, one of {len(size.seeds)}")
    chance = _chance_of_scores(scored, cells, resampling.seed, execution.parallel_map)
    found = {score: computed[score] for score in distinct if score in computed}
    for score in missing:
        found[score] = ScoreResult(
            orders=orders[score],
            percentiles=_mean_percentiles(sums[score], len(size.seeds)) if rows is not None else None,
            switchers={
                large.name: pair_statistics(size.name, large.name, score, [run[place] for run in statistics[score]])
                for place, large in enumerate(larger)
            },
            samples=samples.score_samples(score) if samples is not None else None,
            influence={
                large.name: ExampleInfluence.of_runs(
                    (run[place] for run in influence[score]), _examples(size), influential.clusters
                )
                for place, large in enumerate(larger)
                if influential is not None
            },
            chance=chance.get(score, {}),
            curve_moments=moments[score],
        )
    return SizeResult(_of_every_score(found, distinct, samples), samples, gains)


def _chance_of_scores(
    scored: SizeScores, cells: Mapping[str, Sequence[RankCells]], seed: int, parallel_map: ParallelMap
) -> dict[str, dict[str, Chance]]:
    """Returns what Table 1 would show of each score's values dealt out at random: score -> larger size -> it.

    {} where there are no cells: without intervals, and of the largest size.
    """
    by_score = {score: of_runs for score, of_runs in cells.items() if of_runs}
    if not scored.larger or not by_score:
        return {}
    small, bleu_stats = scored.size.correct, scored.size.bleu_stats
    larger = [size.correct for size in scored.larger if size.correct is not None]
    larger_stats = [size.bleu_stats for size in scored.larger if size.bleu_stats is not None]
    covariance = covariance_of_correctness([small, *larger]) if small is not None else np.zeros((0, 0))

    def draws() -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(31,)))

    noise = None
    if small is not None and small.shape[1] > MOST_PERMUTED:
        noise = correlated_noise(len(small), covariance, small.shape[1], draws())

    def of_score(of_runs: Sequence[RankCells]) -> dict[str, Chance]:
        """Returns what chance gives one score, from the same draws as every other score."""
        rng = draws()
        if small is not None:
            found = chance_peaks(of_runs, small, larger, covariance, rng, noise)
        else:
            assert bleu_stats is not None
            found = bleu_chance_peaks(of_runs, bleu_stats, larger_stats, rng)
        return {size.name: chance for size, chance in zip(scored.larger, found, strict=True)}

    return dict(zip(by_score, parallel_map(of_score, by_score.values()), strict=True))


def _examples(size: SizeRuns) -> int:
    return int(size.prediction.shape[1])


def _analyse_run(
    scored: SizeScores,
    run: int,
    gains: np.ndarray | None,
    rows: np.ndarray | None,
    drawn: RunSamples | None,
    keep_orders: bool,
    influential: InfluentialExamples | None,
    on_curves: InfluentialExamples | None,
    moments: Mapping[str, Mapping[str, CurveMoments]],
    score: str,
) -> _RunResult:
    """Sorts one run's examples by one score and computes what follows.

    Adds to the samples and to the `moments`, score -> larger size, of that score alone.
    """
    order = deferral_order(scored.scores[score][run])
    if drawn is not None:
        drawn.add(score, order)
    statistics, influence = _statistics_and_influence(order, scored, run, gains, influential)
    if on_curves is not None and scored.larger:
        deferred = deferred_at_places(order, on_curves.rows)
        for large, of_large in zip(scored.larger, statistics, strict=True):
            own = moments[score][large.name]
            _add_moments(own, order, deferred, scored.size, run, large, of_large.curve, on_curves.rows)
    return _RunResult(
        order=order if keep_orders or score == "margin" else None,
        percentiles=percentiles(order, rows) if rows is not None else None,
        statistics=statistics,
        influence=influence,
        cells=RankCells.of_order(order) if drawn is not None and drawn.has_resamples and order.examples > 1 else None,
    )


def _statistics_and_influence(
    order: DeferralOrder,
    scored: SizeScores,
    run: int,
    gains: np.ndarray | None,
    influential: InfluentialExamples | None,
) -> tuple[list[SwitcherStatistics], list[np.ndarray]]:
    """Returns one small run's statistics to each larger size, and the `influential` examples' influence on its areas.

    The influence is [R_large, m] for each larger size; there is none where none is asked for. `gains` are those of
    `_gains_of_run`, so that examples are sorted once for all larger sizes.
    """
    if gains is None:
        return [statistics_of(order, scored.size, run, large) for large in scored.larger], []
    assert scored.size.correct is not None
    correct = [large.correct for large in scored.larger if large.correct is not None]
    ranked = RankedSums.of_order(order.order, gains)
    together = switcher_statistics(order, scored.size.correct[run], np.concatenate(correct), ranked)
    runs_of_sizes = [len(runs) for runs in correct]
    statistics = together.parts(runs_of_sizes)
    if influential is None:
        return statistics, []
    influence = area_influence(order, gains, together.area, influential.rows, ranked)
    return statistics, np.split(influence, np.cumsum(runs_of_sizes)[:-1])


def _gains_of_run(scored: SizeScores, run: int) -> np.ndarray | None:
    """Returns d = l - s of one small run and every run of every larger size: [J, n] int8, an example's side by side.

    None of the largest size and of translations.
    """
    small = scored.size.correct
    larger = [large.correct for large in scored.larger if large.correct is not None]
    if small is None or not larger:
        return None
    gains = np.concatenate(larger).view(np.int8) - small[run].view(np.int8)
    return np.ascontiguousarray(gains.T).T


def _add_moments(
    moments: CurveMoments,
    order: DeferralOrder,
    deferred: np.ndarray,
    small: SizeRuns,
    run: int,
    large: SizeRuns,
    curve: np.ndarray,
    rows: np.ndarray,
) -> None:
    """Adds one small run's influences on its curves [R_large, 101] and on both sizes' quality."""
    assert small.correct is not None and large.correct is not None
    own, theirs = (correct.astype(np.float32) for correct in (small.correct[run, rows], large.correct[:, rows]))
    moments.add(
        curve_influence(order, theirs - own, curve, deferred),
        own - np.float32(small.quality[run]),
        theirs - large.quality[:, None].astype(np.float32),
    )


def _mean_percentiles(sums: np.ndarray, runs: int) -> np.ndarray:
    """Averages sums of percentiles over runs: [m] float64 -> [m] uint16, hundredths of a percentile."""
    return np.rint(sums * (100 / runs)).astype(np.uint16)


def _of_every_score(
    found: Mapping[str, ScoreResult], distinct: Mapping[str, Sequence[str]], samples: SwitcherSamples | None
) -> dict[str, ScoreResult]:
    """Gives each score the result of the score that orders the examples alike, and so their samples too."""
    results = {}
    for first, alike in distinct.items():
        result = found[first]
        for score in alike:
            switchers = {large: statistics.renamed(score) for large, statistics in result.switchers.items()}
            results[score] = replace(result, switchers=switchers)
            if samples is not None and result.samples is not None:
                samples.set_score_samples(score, result.samples)
    return {score: results[score] for score in SCORES if score in results}


def statistics_of(deferral: DeferralOrder, small: SizeRuns, run: int, large: SizeRuns) -> SwitcherStatistics:
    """Computes the statistics of one small run's switchers to each run of a larger size, of accuracy or BLEU / 100."""
    if small.bleu_stats is not None and large.bleu_stats is not None:
        return bleu_statistics_of_switchers(deferral, small.bleu_stats[run], large.bleu_stats)
    assert small.correct is not None and large.correct is not None
    return switcher_statistics(deferral, small.correct[run], large.correct)


def distinct_scores(scores: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """Groups scores that are one array, as margin and entropy of two classes are: the first -> all, itself first."""
    groups: dict[str, list[str]] = {}
    for score, values in scores.items():
        first = next((other for other in groups if scores[other] is values), score)
        groups.setdefault(first, []).append(score)
    return groups
