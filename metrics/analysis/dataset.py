"""Analyses one dataset's grid: point estimates, their intervals and what the figures show.

The sizes are analysed one after the other, each in both contexts of the uncertainty where there are two, as the scores
of all sizes at once may not fit memory. `analyse` puts together what each size gives.

"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from conf.errors import EdgewiseError
from conf.machine import cores
from conf.schema import CONTEXTS, SCORES, Metrics
from metrics.analysis.buckets import BucketQuality, Outcomes, bucket_quality, outcomes
from metrics.analysis.churn import (
    ChurningRuns,
    RankedChurn,
    churn_notes,
    churning_runs,
    overall_churn,
    ranked_churn,
)
from metrics.analysis.intervals import (
    MOST_ON_CURVES,
    ExampleChoice,
    InfluentialExamples,
    example_choice,
    quality_estimate,
    resamples_notes,
)
from metrics.analysis.majority import MajorityClass, majority_class
from metrics.analysis.pairs import SizePair, size_pair
from metrics.analysis.progress import every_few_seconds
from metrics.analysis.shown_examples import shown_rows
from metrics.analysis.size import CONTEXT_SCORES, Execution, ScoreResult, SizeResult, SizeScores, analyse_size
from metrics.analysis.slices import SliceRow, slice_rows
from metrics.analysis.subgroups import Subgroups, subgroup_gains, uncertainty_buckets
from metrics.bootstrap import SwitcherSamples, quality_samples
from metrics.bootstrap.resampling import Estimate, Resampling, interval
from metrics.bootstrap.threads import ParallelMap, one_thread_a_product
from metrics.grid.runs import Grid, SizeRuns
from metrics.statistics.churn import BucketChurn
from metrics.statistics.switcher import DeferralOrder
from metrics.statistics.uncertainty import uncertainties

WHOSE_TOKENS = {
    "gold": "the gold answer's tokens, as in the paper, which reads the label and can't be deployed",
    "self": "the tokens of the model's own output, which needs no label and can be deployed",
}


@dataclass
class SizeView:
    """Shows one size's scores, and what followed from them, while they are in memory.

    The scores and orders of all sizes at once may not fit memory, so the analysis keeps neither.
    """

    context: str | None  # of the uncertainty of sequences, gold or self; None for classification
    size: SizeRuns
    larger: list[SizeRuns]
    scores: dict[str, np.ndarray]  # [R, n] each
    distinct: dict[str, list[str]]  # score -> the scores that order the examples as it does, itself first
    orders: dict[str, list[DeferralOrder]]  # each of `distinct` -> a deferral order a run
    # by run: d = l - s of every run of every larger size in turn, [J, n] int8; [] of the largest and of translations
    gains: list[np.ndarray]
    results: dict[str, ScoreResult]  # score -> what followed from its orders
    samples: SwitcherSamples | None  # of all scores; None of the largest size
    influential: InfluentialExamples | None  # whose influence the results hold; None where they hold none
    quality: dict[str, np.ndarray]  # size -> [B]
    resampling: Resampling
    parallel_map: ParallelMap  # on a thread a core


Watch = Callable[[SizeView], None]


@dataclass
class Analysis:
    """Holds one dataset's results, by the uncertainty of one context."""

    grid: Grid
    context: str | None  # of the uncertainty of sequences, gold or self; None for classification
    quality: dict[str, Estimate]  # size -> mean over runs of accuracy, or of corpus BLEU / 100
    pairs: list[SizePair]
    churn: list[tuple[str, str, BucketChurn, tuple[np.ndarray, np.ndarray]]]  # (uncertainty size, size, …, interval)
    slices: list[SliceRow]
    subgroups: Subgroups  # what the larger sizes gain in slices, targets and buckets, corrected for their number
    buckets: BucketQuality
    outcomes: Outcomes
    rows: np.ndarray  # [m] int, ascending: the examples that the report may show, all n or the most telling
    # size that can defer -> score -> [m] uint16, mean percentile of those examples, hundredths, 0-10000
    percentiles: dict[str, dict[str, np.ndarray]]
    overall_churn: Estimate | None = None  # of the size that Table 2 is of
    majority: MajorityClass | None = None  # of a task with classes
    notes: list[str] = field(default_factory=list)
    other_context: "Analysis | None" = None  # the same by the other context's uncertainty

    @property
    def widest(self) -> SizePair | None:
        """Returns the pair of the smallest and the largest size; None with one size."""
        ends = (self.grid.sizes[0].name, self.grid.sizes[-1].name)
        return next((pair for pair in self.pairs if (pair.small, pair.large) == ends), None)

    @property
    def deployable(self) -> "Analysis":
        """Returns the results by an uncertainty that needs no label: of sequences, that of a model's own output."""
        other = self.other_context
        return other if other is not None and other.context == "self" else self

    @property
    def contexts(self) -> list["Analysis"]:
        """Returns the results in every context there is, the deployable one first."""
        both = [self] if self.other_context is None else [self, self.other_context]
        return sorted(both, key=lambda analysis: analysis is not self.deployable)


def analyse(
    grid: Grid,
    config: Metrics,
    report_progress: Callable[[str], None] = lambda text: None,
    watch: Watch | None = None,
) -> Analysis:
    """Analyses a grid; one of span QA or translation in both contexts, of which the config's comes first.

    `report_progress` is called with a line every few seconds; `watch` is shown each size in each context, sizes in
    order. Raises EdgewiseError if the grid has one run only, of which nothing can be said.
    """
    if len(grid.sizes) < 2 and len(grid.sizes[0].seeds) < 2:
        raise EdgewiseError(
            f"{grid.dataset}: one run only ({grid.sizes[0].name} seed {grid.sizes[0].seeds[0]}); a switcher needs two "
            "sizes and churn needs two seeds. Score another size or seed."
        )
    configs = [config]
    if grid.task != "classification":
        configs.append(replace(config, context=other_context(config)))
    with one_thread_a_product(), ThreadPoolExecutor(min(len(SCORES), cores())) as pool:
        progress = every_few_seconds(lambda text: report_progress(f"{grid.dataset}: {text}"))
        execution = Execution(pool.map, progress, keep_orders=watch is not None)
        result, *others = _analyse_in_contexts(grid, configs, execution, watch)
    if others:
        result.other_context = others[0]
        result.notes.append(
            f"Uncertainty is of {WHOSE_TOKENS[config.context]} (metrics.context={config.context}). Tables 1 and 3 by "
            "both contexts: tables/contexts."
        )
    return result


def other_context(config: Metrics) -> str:
    """Returns the context, gold or self, that the config doesn't put first."""
    return next(context for context in CONTEXTS if context != config.context)


@dataclass
class _Dataset:
    """Holds what the analyses of every size in every context share."""

    grid: Grid
    resampling: Resampling
    quality: dict[str, np.ndarray]  # size -> [B]
    churning: ChurningRuns | None
    choice: ExampleChoice | None  # of the examples whose influence makes t intervals; None where there are none
    influential: InfluentialExamples | None  # the chosen of all examples
    on_curves: InfluentialExamples | None  # fewer of them, for every point of the curves
    execution: Execution
    watch: Watch | None


@dataclass
class _SizePart:
    """Holds what one size gives to the results in one context."""

    pairs: list[SizePair]  # from this size to each larger one
    percentiles: dict[str, np.ndarray]  # score -> [m]; empty for the largest of several sizes
    churn: RankedChurn | None  # by this size's margins
    rows: np.ndarray  # [m]
    notes: list[str]
    # of the smallest size alone
    buckets: BucketQuality | None
    outcomes: Outcomes | None
    uncertainty: np.ndarray | None  # [n] int8, Table 2's bucket of each example


def _analyse_in_contexts(
    grid: Grid, configs: Sequence[Metrics], execution: Execution, watch: Watch | None
) -> list[Analysis]:
    """Analyses a grid by the configs, which differ in their context alone: one result each.

    A size is analysed in all contexts before the next size is. Of the results by a score that no context changes, those
    in the first context are passed on to the others.
    """
    resampling = Resampling(
        {size.name: len(size.seeds) for size in grid.sizes},
        grid.examples,
        configs[0].resamples,
        configs[0].seed,
        grid.clusters,
    )
    quality = {size.name: quality_samples(size, resampling) for size in grid.sizes}
    choice = example_choice(grid, configs[0])
    influential = choice.among(np.arange(grid.examples)) if choice is not None else None
    on_curves = choice.among(np.arange(grid.examples), MOST_ON_CURVES) if choice is not None else None
    churning = churning_runs(grid, resampling)
    dataset = _Dataset(grid, resampling, quality, churning, choice, influential, on_curves, execution, watch)
    parts: list[list[_SizePart]] = [[] for _ in configs]  # by context, by size
    rows = None
    for place in range(len(grid.sizes)):
        without_context: dict[str, ScoreResult] = {}
        for config, of_context in zip(configs, parts, strict=True):
            part, without_context = _analyse_size(dataset, place, config, rows, without_context)
            rows = part.rows
            of_context.append(part)
    slices, slice_notes = _slices(dataset, configs[0].confidence)
    uncertainty = parts[0][0].uncertainty
    assert uncertainty is not None
    subgroups = Subgroups()  # of no use without their table or slices to write of
    if configs[0].beyond or grid.slices:
        subgroups = subgroup_gains(grid, uncertainty, resampling, choice, configs[0].confidence)
    return [
        _joined(dataset, config, of_context, slices, slice_notes, subgroups)
        for config, of_context in zip(configs, parts, strict=True)
    ]


def _analyse_size(
    dataset: _Dataset, place: int, config: Metrics, rows: np.ndarray | None, computed: Mapping[str, ScoreResult]
) -> tuple[_SizePart, dict[str, ScoreResult]]:
    """Analyses the size at `place` in the grid in one context.

    `rows` are the examples to show, None if they are yet to be chosen; `computed` are results by scores that no context
    changes, from another context, if there was one. Returns what the size gives, and its results by those scores.
    """
    found = _analyse_scores(dataset, place, config, rows, computed)
    result, orders = found.result, found.result.margin_orders
    churning, parallel_map = dataset.churning, dataset.execution.parallel_map
    part = _SizePart(
        pairs=_pairs(dataset, result, config),
        percentiles={score: one.percentiles for score, one in result.scores.items() if one.percentiles is not None},
        churn=ranked_churn(churning, dataset.grid.sizes[place], orders, parallel_map, dataset.influential)
        if churning is not None
        else None,
        rows=found.rows,
        notes=found.notes,
        buckets=_bucket_quality(dataset, orders, result.samples, config.confidence) if place == 0 else None,
        outcomes=found.outcomes,
        uncertainty=uncertainty_buckets(orders) if place == 0 else None,
    )
    return part, {score: one for score, one in result.scores.items() if score not in CONTEXT_SCORES}


@dataclass
class _FromScores:
    """Holds what is computed from a size's scores, which are dropped then: they are most of what is in memory."""

    result: SizeResult
    rows: np.ndarray  # [m]
    outcomes: Outcomes | None  # of the smallest size
    notes: list[str]


def _analyse_scores(
    dataset: _Dataset, place: int, config: Metrics, rows: np.ndarray | None, computed: Mapping[str, ScoreResult]
) -> _FromScores:
    """Computes a size's scores and what needs them, and shows them to whoever watches; arguments as `_analyse_size`."""
    grid, size, larger = dataset.grid, dataset.grid.sizes[place], dataset.grid.sizes[place + 1 :]
    scored = SizeScores(size, larger, uncertainties(size, config, dataset.execution.parallel_map))
    margins = scored.scores["margin"]
    shown = outcomes(grid, margins, config) if place == 0 else None
    rows = shown_rows(grid, margins) if rows is None else rows
    ranked = bool(larger) or place == 0  # the largest of several sizes defers to none, so its ranks are not shown
    result = analyse_size(
        scored,
        rows if ranked else None,
        dataset.resampling,
        dataset.execution,
        computed,
        dataset.influential,
        dataset.on_curves,
    )
    if dataset.watch is not None:
        dataset.watch(_view(dataset, scored, result, None if grid.task == "classification" else config.context))
    return _FromScores(result, rows, shown, _missing_scores(scored, config))


def _pairs(dataset: _Dataset, result: SizeResult, config: Metrics) -> list[SizePair]:
    """Estimates what is said of the pairs of a size and each larger one; none of the largest."""
    samples = result.samples
    if samples is None:
        return []
    results, quality, influential = result.scores, dataset.quality, dataset.influential

    def pair_with(large: SizeRuns) -> SizePair:
        return size_pair(samples, large, results, quality, influential, config)

    return list(dataset.execution.parallel_map(pair_with, samples.larger))


def _bucket_quality(
    dataset: _Dataset, orders: Sequence[DeferralOrder], samples: SwitcherSamples | None, confidence: float
) -> BucketQuality:
    """Makes Figure 3 from the orders in which the smallest size's margins defer; no bands with one size."""
    no_samples = np.zeros((100, 0))
    return BucketQuality(
        quality=bucket_quality(dataset.grid, orders, dataset.execution.parallel_map),
        band={
            size.name: interval(samples.buckets[size.name] if samples is not None else no_samples, confidence)
            for size in dataset.grid.sizes
        },
    )


def _missing_scores(scored: SizeScores, config: Metrics) -> list[str]:
    """Notes which scores a size that could defer has too few seeds for."""
    missing = ", ".join(score for score in SCORES if score not in scored.scores)
    if not scored.larger or not missing:
        return []
    seeds = len(scored.size.seeds)
    fewer = f", fewer than metrics.committee_size={config.committee_size}" if config.committee_size else ""
    return [f"{scored.size.name} has {seeds} seed{'s' if seeds > 1 else ''}{fewer}: no {missing} to defer by."]


def _view(dataset: _Dataset, scored: SizeScores, result: SizeResult, context: str | None) -> SizeView:
    distinct = scored.distinct
    return SizeView(
        context=context,
        size=scored.size,
        larger=scored.larger,
        scores=scored.scores,
        distinct=distinct,
        orders={score: result.scores[score].orders for score in distinct},
        gains=result.gains,
        results=result.scores,
        samples=result.samples,
        influential=dataset.influential,
        quality=dataset.quality,
        resampling=dataset.resampling,
        parallel_map=dataset.execution.parallel_map,
    )


def _slices(dataset: _Dataset, confidence: float) -> tuple[list[SliceRow], list[str]]:
    """Returns the rows of every slice column, and notes on values that are left out."""
    rows: list[SliceRow] = []
    notes: list[str] = []
    for name in sorted(dataset.grid.slices):
        rows += slice_rows(dataset.grid, name, dataset.resampling, dataset.choice, confidence, notes)
    return rows, notes


def _joined(
    dataset: _Dataset,
    config: Metrics,
    parts: Sequence[_SizePart],
    slices: list[SliceRow],
    slice_notes: Sequence[str],
    subgroups: Subgroups,
) -> Analysis:
    """Puts together what the sizes give in one context; `parts` are in the order of the grid's sizes."""
    grid, churning, confidence = dataset.grid, dataset.churning, config.confidence
    smallest = parts[0]
    assert smallest.buckets is not None and smallest.outcomes is not None
    by_size = {size.name: part for size, part in zip(grid.sizes, parts, strict=True)}
    churn = {name: part.churn for name, part in by_size.items() if part.churn is not None}
    notes = list(grid.notes)
    notes += resamples_notes(config.resamples, confidence)
    if config.resamples and dataset.resampling.unit is not None:
        notes.append(dataset.resampling.note)
    notes += churn_notes(grid)
    notes += [note for part in parts for note in part.notes]
    notes += slice_notes
    return Analysis(
        grid=grid,
        context=None if grid.task == "classification" else config.context,
        quality={
            size.name: quality_estimate(size, dataset.quality[size.name], dataset.influential, confidence)
            for size in grid.sizes
        },
        pairs=[pair for part in parts for pair in part.pairs],
        churn=[
            (name, churning.size.name, one.point, one.interval(confidence))
            for name, one in churn.items()
            if churning is not None
        ],
        slices=slices,
        subgroups=subgroups,
        buckets=smallest.buckets,
        outcomes=smallest.outcomes,
        rows=smallest.rows,
        percentiles={name: part.percentiles for name, part in by_size.items() if part.percentiles},
        overall_churn=overall_churn(churning, churn[churning.size.name], dataset.influential, confidence)
        if churning is not None
        else None,
        majority=majority_class(grid, dataset.quality, dataset.resampling, confidence),
        notes=notes,
    )
