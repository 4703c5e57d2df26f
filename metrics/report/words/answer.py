"""Writes the report's answer in two sentences: how much better the larger model is, and what gets most of that."""

import math

from metrics.analysis.dataset import Analysis
from metrics.analysis.pairs import SizePair
from metrics.report.measure import quality_of
from metrics.report.words.phrases import negated, percent, points, within
from metrics.report.words.savings import ALL_DEFERRED, flops_known, saving
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
            f"{within(negated(gap))}: deferring to it costs {quality.name}."
        )
    if not gap.above_zero:
        return (
            f"On {n}, {pair.large} differs from {pair.small} by {points(gap.value, sign=True)} {quality.points}"
            f"{within(gap)}: no difference is shown, so there is none to win by deferring."
        )
    better = f"On {n}, {pair.large} is better than {pair.small} by {points(gap.value)} {quality.points}{within(gap)}."
    if math.isnan(pair.half_gain["margin"].value):
        return better
    return f"{better} {_where_the_gain_is(analysis, pair)}"


def _where_the_gain_is(analysis: Analysis, pair: SizePair) -> str:
    """Writes what shares of the examples hold half of the gain and all of it, and what the latter saves."""
    half, matching = pair.half_gain["margin"], pair.matching["margin"]
    text = (
        f"Half of that gain comes from the {percent(half.value)}{within(half, 1)} of the examples "
        f"of which {pair.small} is least certain{_BY_CONTEXT[analysis.context]}"
    )
    if matching.value < ALL_DEFERRED:
        text += f", and all of it from the {percent(matching.value)}{within(matching, 1)} least certain"
        small, large = analysis.grid.sizes[0], analysis.grid.sizes[-1]
        if flops_known(small, large):
            saved = saving(small, large, matching)
            if saved.above_zero:
                text += f", at {percent(saved.value, 0)}{within(saved, 0)} fewer FLOPs"
    return f"{text}."
