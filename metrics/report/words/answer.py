"""Writes the report's answer in two sentences: how much better the larger model is, and what gets most of that."""

import math

from metrics.analysis.dataset import Analysis
from metrics.analysis.pairs import SizePair
from metrics.bootstrap.resampling import Estimate
from metrics.report.measure import quality_of
from metrics.report.words.phrases import percent, percent_rounded_up, points, within
from metrics.report.words.savings import flops_known, loss_allowed, saving
from metrics.report.words.weak import too_weak_to_conclude, weak_sentences, weak_sizes

_BY_CONTEXT = {None: "", "gold": " in the gold answer's context", "self": ", by its own output"}


def answer(analysis: Analysis) -> str:
    """Writes one or two sentences that answer the report's question for a dataset's smallest and largest size.

    As everywhere in the report's sentences, sequences are ranked by the uncertainty that can be deployed, where it was
    computed. Sizes that are not shown to be better than always answering the majority class are named; where both of
    these are such, nothing else is answered.
    """
    analysis = analysis.deployable
    pair = analysis.widest
    if pair is None:
        alone = f"One size only ({analysis.grid.sizes[0].name}): there is no larger model to compare it with."
        return f"{alone} {weak_sentences(analysis)}".rstrip()
    if {pair.small, pair.large} <= set(weak_sizes(analysis)):
        return too_weak_to_conclude(analysis)
    return f"{_comparison(analysis, pair)} {weak_sentences(analysis)}".rstrip()


def _comparison(analysis: Analysis, pair: SizePair) -> str:
    """Writes how much better the larger model is, and which examples that comes from."""
    quality, gap = quality_of(analysis.grid), pair.gap
    n = f"{analysis.grid.examples:,} examples"
    if gap.below_zero:
        return (
            f"On {n}, {pair.large} is the worse model, by {points(-gap.value)} {quality.points}"
            f"{within(gap.negated)}: deferring to it costs {quality.name}."
        )
    if not gap.has_interval:
        return (
            f"On {n}, {pair.large} differs from {pair.small} by {points(gap.value, sign=True)} {quality.points}, "
            "without an interval: how much of it is chance can't be told."
        )
    if not gap.above_zero:
        return (
            f"On {n}, {pair.large} differs from {pair.small} by {points(gap.value, sign=True)} {quality.points}"
            f"{within(gap)}: no difference is shown, so there is none to win by deferring."
        )
    better = f"On {n}, {pair.large} is better than {pair.small} by {points(gap.value)} {quality.points}{within(gap)}."
    return f"{better} {_what_to_defer(analysis, pair)}"


def _what_to_defer(analysis: Analysis, pair: SizePair) -> str:
    """Writes what share of the examples to defer so as to lose at most ε, what it saves, and what half of it takes."""
    shares = pair.least_share["margin"]
    least_certain = f"of the examples of which {pair.small} is least certain{_BY_CONTEXT[analysis.context]}"
    if not shares.saves:
        text = (
            f"Half of that gain takes the {percent(shares.half.value)}{within(shares.half, 1)} {least_certain}, and "
            f"95\N{NO-BREAK SPACE}% of it {percent(shares.most.value)}{within(shares.most, 1)}"
        )
        if math.isnan(shares.within_epsilon):
            return f"{text}."
        return f"{text}; no share short of all is shown to lose at most {loss_allowed(analysis, pair)}."
    text = (
        f"Deferring the {percent_rounded_up(shares.within_epsilon)} {least_certain} loses at most "
        f"{loss_allowed(analysis, pair)}, with {percent(shares.confidence, 0)} confidence"
    )
    small, large = (size for size in analysis.grid.sizes if size.name in (pair.small, pair.large))
    if flops_known(small, large):
        saved = saving(small, large, Estimate(shares.within_epsilon))
        if saved.value > 0:
            text += f", at {percent(saved.value, 0)} fewer FLOPs"
    return f"{text}; half of the gain takes {percent(shares.half.value)}{within(shares.half, 1)}."
