"""Gathers what the tables of one dataset need, size by size, while each size's scores are at hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, SizeView
from metrics.beyond import (
    certified,
    comparison,
    cost,
    ensemble,
    peak,
    post_hoc,
    quality,
    selective,
    subgroups,
    tokens,
)
from metrics.beyond.few import first_few
from metrics.bootstrap import SwitcherSamples
from metrics.bootstrap.resampling import Resampling
from metrics.grid.runs import Grid, SizeRuns
from metrics.statistics.switcher import DeferralOrder
from metrics.tables.paper import Row

Found = dict[str, tuple[list[Row], list[str]]]  # table name -> rows and notes


@dataclass
class _Context:
    """What was gathered in one context of the uncertainty; of classes there is one, None."""

    resampling: Resampling
    quality: dict[str, np.ndarray]  # size -> [B]
    samples: dict[str, SwitcherSamples] = field(default_factory=dict)  # by small size
    distinct: dict[str, dict[str, list[str]]] = field(default_factory=dict)  # small size -> score -> those like it
    peaks: dict[tuple[str, str, str], peak.Peak] = field(default_factory=dict)
    thresholds: dict[tuple[str, str, str], tuple[Row, list[Row]]] = field(default_factory=dict)
    learned: dict[tuple[str, str], post_hoc.PostHoc] = field(default_factory=dict)
    of_tokens: dict[str, tokens.TokenSwitchers] = field(default_factory=dict)
    risks: dict[str, selective.SizeRisks] = field(default_factory=dict)
    columns: list[subgroups.Subgroups] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # of subgroups


class Collector:
    """Of one dataset: `watch` is shown each size by `analyse`, then `found` has the tables' rows."""

    def __init__(self, grid: Grid, config: Metrics):
        self.grid, self.config = grid, config
        self._contexts: dict[str | None, _Context] = {}
        # of every context alike
        self._perfect: dict[tuple[str, str], np.ndarray] = {}
        self._ensembles: dict[str, ensemble.Ensembles] = {}
        if self._judged and grid.pairs and grid.examples >= post_hoc.FEWEST:
            post_hoc.load_in_background()

    @property
    def _judged(self) -> bool:
        """Whether each example is right or wrong; a translation isn't."""
        return self.grid.task != "translation"

    def watch(self, view: SizeView) -> None:
        """Takes from a size's scores what the tables need."""
        size = view.size
        context = self._contexts.setdefault(view.context, _Context(view.resampling, view.quality))
        if view.samples is not None:
            context.samples[size.name] = view.samples
        groups, orders = view.distinct, view.orders
        context.distinct[size.name] = groups
        if size is self.grid.sizes[0]:
            context.columns = subgroups.subgroups_of(self.grid, orders["margin"], context.notes)
        few = first_few(view.resampling)
        if view.context is not None and view.larger:
            context.of_tokens[size.name] = tokens.token_switchers(size, view.larger, view.context, few)
        if not self._judged:
            return
        alike = {other: score for score, others in groups.items() for other in others}
        risks = selective.size_risks(size, orders, few, view.parallel_map)
        context.risks[size.name] = selective.SizeRisks(
            {score: risks.runs[alike[score]] for score in view.scores},
            {score: risks.samples[alike[score]] for score in view.scores},
        )
        self._learned(context, view, few)
        for large in view.larger:
            if (size.name, large.name) not in self._perfect:
                self._perfect[size.name, large.name] = quality.perfect_samples(size, large, view.resampling)
            self._thresholds(context, view, large)
            self._peaks(context, view, large, orders, groups)
        if view.larger and len(size.seeds) >= 2 and size.name not in self._ensembles:
            self._ensembles[size.name] = ensemble.ensembles_of(self.grid, size, view.resampling, view.parallel_map)

    def _peaks(
        self,
        context: _Context,
        view: SizeView,
        large: SizeRuns,
        orders: dict[str, list[DeferralOrder]],
        groups: dict[str, list[str]],
    ) -> None:
        if self.grid.examples < peak.FEWEST:
            return
        halves = peak.halves_of(self.grid.examples, self.config.seed)
        scores, first = [score for alike in groups.values() for score in alike], len(context.peaks)

        def found(score: str) -> peak.Peak:
            seed = (self.config.seed, first + scores.index(score))
            return peak.held_out_peak(orders[score], view.size, large, halves, view.resampling, seed)

        for score, of_score in zip(groups, view.parallel_map(found, groups), strict=True):
            for other in groups[score]:
                context.peaks[view.size.name, large.name, other] = of_score

    def _thresholds(self, context: _Context, view: SizeView, large: SizeRuns) -> None:
        """Of use where no label is known, so not of gold context."""
        n, size, config = self.grid.examples, view.size, self.config
        if view.context == "gold" or n < certified.FEWEST:
            return
        half = certified.calibration_half(n, config.seed)
        scores = view.scores

        def found(score: str) -> tuple[Row, list[Row]]:
            return certified.certified_of(scores, score, size, large, half, config)

        for score, of_score in zip(scores, view.parallel_map(found, scores), strict=True):
            context.thresholds[size.name, large.name, score] = of_score

    def _learned(self, context: _Context, view: SizeView, few: Resampling) -> None:
        """Of use where no label is known, so not of gold context."""
        size, config = view.size, self.config
        if view.context == "gold" or not view.larger or self.grid.examples < post_hoc.FEWEST:
            return
        given = post_hoc.features(size, view.scores, config.length_normalized)
        for large in view.larger:
            seed = (config.seed, len(context.learned))
            context.learned[size.name, large.name] = post_hoc.post_hoc_of(
                size, large, view.scores, given, few, seed, view.parallel_map
            )

    def found(self, analysis: Analysis) -> Found:
        """Rows and notes of every table, of both contexts where there are two."""
        result = self._of_context(analysis, first=True)
        if analysis.other_context is not None:
            for name, (rows, _) in self._of_context(analysis.other_context, first=False).items():
                result[name][0].extend(rows)
        return result

    def _of_context(self, analysis: Analysis, first: bool) -> Found:
        context, confidence = self._contexts[analysis.context], self.config.confidence
        deployable = analysis.context != "gold"
        notes = self._notes()
        by_subgroup: list[Row] = []
        left_out: list[str] = []
        if first:  # sizes are as good as they are in either context; the buckets are of the first one's margin
            by_subgroup, left_out = subgroups.subgroups(analysis, context.columns, context.resampling, confidence)
        summed, single = certified.certified(analysis, context.thresholds)
        means, runs = selective.selective(analysis, context.risks, confidence) if self._judged else ([], [])
        several = self._ensembles if deployable else {}
        samples = context.samples
        found: Mapping[str, list[Row]] = {
            "deferral_quality": quality.deferral_quality(analysis, samples, context.quality, self._perfect, confidence),
            "score_comparison": comparison.score_comparison(analysis, samples, context.distinct, confidence),
            "held_out_peak": peak.held_out_peaks(analysis, context.peaks, confidence),
            "certified": summed,
            "certified_runs": single,
            "cost": cost.costs(analysis, samples, confidence) if deployable else [],
            "ensembles": ensemble.ensembles(analysis, several, samples, confidence),
            "post_hoc": post_hoc.post_hoc(analysis, context.learned, samples, confidence),
            "token_quantiles": tokens.token_quantiles(analysis, context.of_tokens, confidence),
            "selective": means,
            "selective_runs": runs,
            "subgroups": by_subgroup,
        }
        notes["subgroups"] += context.notes + left_out
        return {name: (rows, notes[name]) for name, rows in found.items()}

    def _notes(self) -> dict[str, list[str]]:
        """What the tables of this dataset lack, and why."""
        grid, n = self.grid, self.grid.examples
        names = (
            *("deferral_quality", "score_comparison", "held_out_peak", "certified", "certified_runs", "cost"),
            *("ensembles", "post_hoc", "token_quantiles", "subgroups", "selective", "selective_runs"),
        )
        notes: dict[str, list[str]] = {name: [] for name in names}
        if len(grid.sizes) == 1:
            for name in names[:10]:
                notes[name].append(f"One size only ({grid.sizes[0].name}): there is nothing to defer to.")
            return notes
        if not self.config.resamples:
            notes["score_comparison"].append("metrics.resamples=0: no tests.")
        if grid.task == "classification":
            notes["token_quantiles"].append("Classes have no tokens to take quantiles of: span QA and translation do.")
        notes["cost"] += cost.cost_notes(grid)
        if not self._judged:
            notes["deferral_quality"].append("Translation: BLEU has no perfect router in closed form.")
            for name in ("held_out_peak", "certified", "certified_runs", "ensembles", "post_hoc"):
                notes[name].append("Translation is left out: no sentence is right or wrong.")
            for name in ("selective", "selective_runs"):
                notes[name].append("Translation is left out: no sentence is right or wrong.")
            return notes
        if grid.task == "span_qa":
            for name in ("certified", "certified_runs", "cost", "ensembles", "post_hoc"):
                notes[name].append("In self context alone: gold context reads the label, so it can't be deployed.")
        notes["ensembles"] += cost.cost_notes(grid)
        notes["ensembles"] += [
            f"{size.name} has one seed: no ensembles of it." for size in grid.sizes[:-1] if len(size.seeds) < 2
        ]
        for name, fewest in (
            ("held_out_peak", peak.FEWEST),
            ("certified", certified.FEWEST),
            ("certified_runs", certified.FEWEST),
            ("post_hoc", post_hoc.FEWEST),
        ):
            if n < fewest:
                notes[name].append(f"{n} examples are too few; it takes {fewest}.")
        return notes
