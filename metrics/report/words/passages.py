"""Puts the overview's questions in order and answers each in a few sentences."""

import math

from metrics.analysis.dataset import Analysis
from metrics.bootstrap.resampling import Estimate
from metrics.report.words.gains import where_it_helps
from metrics.report.words.phrases import example_count, percent, within
from metrics.report.words.savings import uncertainty_by_context, what_deferral_saves, which_score
from metrics.statistics.churn import BUCKETS

Passage = tuple[str, list[str]]  # a heading and its sentences


def passages(analysis: Analysis, confidence: float) -> list[Passage]:
    """Writes the overview of one dataset: each question with the sentences that answer it."""
    result: list[Passage] = []
    *other_contexts, analysis = reversed(analysis.contexts)
    pair = analysis.widest
    if pair is not None:
        saves = what_deferral_saves(analysis, pair) + uncertainty_by_context(analysis, pair, other_contexts)
        result += [
            ("Where does the larger model help?", where_it_helps(analysis, pair)),
            ("What does deferral save?", saves),
            ("Which score should decide?", which_score(analysis, pair)),
        ]
    if analysis.churn:
        result.append(("How much do retrained models differ?", how_much_churn(analysis)))
    result.append(("How sure is that?", how_sure(analysis, confidence)))
    return result


def how_much_churn(analysis: Analysis) -> list[str]:
    """Writes how much two runs differ, over all examples and in the most and the least certain bucket."""
    uncertainty_size, size, point, (low, high) = analysis.churn[0]
    shares = [upper - lower for _, lower, upper in BUCKETS]
    overall = analysis.overall_churn or Estimate(sum(share * churn for share, churn in zip(shares, point.churn)))
    first, last = (Estimate(point.churn[i], low[i], high[i]) for i in (0, -1))
    pairs = f"{point.pairs} pair{'s' if point.pairs != 1 else ''}"
    return [
        (
            f"Two runs of {size} that differ in their seed predict differently on {percent(overall.value)}"
            f"{within(overall, 1)} of the {analysis.grid.examples:,} examples, over {pairs} of runs."
        ),
        (
            f"Ranked by {uncertainty_size}'s margin, it is {percent(first.value)}{within(first, 1)} on the "
            f"more certain half and {percent(last.value)}{within(last, 1)} on the least certain 1 % "
            f"{example_count(point.examples[-1])}."
        ),
    ]


def how_sure(analysis: Analysis, confidence: float) -> list[str]:
    """Writes how many examples and seeds the numbers rest on, and what their intervals take into account."""
    seeds = ", ".join(
        f"{len(size.seeds)} seed{'s' if len(size.seeds) > 1 else ''} of {size.name}" for size in analysis.grid.sizes
    )
    sentences = [f"These numbers rest on {analysis.grid.examples:,} examples and {seeds}."]
    if any(not math.isnan(estimate.low) for estimate in analysis.quality.values()):
        sentences.append(
            f"The {100 * confidence:g} % intervals take in both seeds and examples, so they say how far the numbers "
            "may move with other seeds and other examples of the same kind. Those that are resampled, of curves "
            "and deferral fractions, are too narrow with few seeds. All hold one at a time, not all at once; those by "
            "subgroup hold for all subgroups together."
        )
        alone = [size.name for size in analysis.grid.sizes if len(size.seeds) == 1]
        if alone:
            sentences.append(
                f"With one seed of {' and of '.join(alone)} they say nothing of other seeds, which may move the "
                "numbers further."
            )
    else:
        sentences.append("No intervals were computed.")
    return sentences
