"""Writes where the larger model helps: the gap, the examples that one model alone gets right, and the slices."""

import math
from collections.abc import Sequence

from metrics.analysis.dataset import Analysis
from metrics.analysis.pairs import SizePair
from metrics.analysis.slices import SliceRow
from metrics.analysis.subgroups import FEWEST, SubgroupGain
from metrics.bootstrap.resampling import Estimate
from metrics.report.measure import Quality, quality_of
from metrics.report.words.phrases import example_count, percent, points, slice_name, within
from metrics.rows import short

# names of the outcomes in which one model alone does better: of right and wrong answers, and of graded ones
_LARGER_ALONE = ("only the larger right", "the larger better")
_SMALLER_ALONE = ("only the smaller right", "the smaller better")
_MOST_NAMED = 5  # values of a slice column that one sentence names as gaining, or as losing
_MOST_COLUMNS = 6  # slice columns that have a sentence
_LONGEST_VALUE = 40  # characters of a slice's value in a sentence
_MOST_OPEN = 12  # a column of more values doesn't list those where the models can't be told apart


def where_it_helps(analysis: Analysis, pair: SizePair) -> list[str]:
    """Writes both models' quality, which examples make the difference, and what slices gain and lose."""
    quality, n = quality_of(analysis.grid), analysis.grid.examples
    small, large = analysis.quality[pair.small], analysis.quality[pair.large]
    verb = "scores" if quality.graded else "gets"
    examples = f"on the {n:,} examples" if quality.graded else f"of the {n:,} examples right"
    sentences = [
        (
            f"{pair.large} {verb} {quality.value(large.value)}{within(large, 1)} {examples}, {pair.small} "
            f"{quality.value(small.value)}{within(small, 1)}: {_difference(pair, quality)}"
        )
    ]
    only_large, only_small = only_one_better(analysis, pair)
    if quality.graded:
        sentences.append(
            f"{pair.large}'s sentence is the better one on {percent(only_large.value)}{within(only_large, 1)} of the "
            f"examples, {pair.small}'s on {percent(only_small.value)}{within(only_small, 1)}."
        )
    else:
        sentences.append(
            f"Only {pair.large} is right on {percent(only_large.value)}{within(only_large, 1)} of the examples, only "
            f"{pair.small} on {percent(only_small.value)}{within(only_small, 1)}."
        )
    half = pair.least_share["margin"].half
    if pair.gap.above_zero and not math.isnan(half.value):
        sentences.append(
            f"Half of the gain comes from the {percent(half.value)} of examples of which {pair.small} is least certain"
            f"{within(half, 1)}: about {round(half.value * n):,} of {n:,}."
        )
    columns = sorted({row.column for row in analysis.slices})
    told = sorted(sorted(columns, key=lambda column: _rank(analysis, column, pair))[:_MOST_COLUMNS])
    for column in told:
        rows = [row for row in analysis.slices if row.column == column]
        large_enough = analysis.subgroups.of_slices(column, pair.small, pair.large)
        sentences += _slice_sentences(column, rows, large_enough, pair, quality)
    if left := len(columns) - len(told):
        sentences.append(f"{left:,} more column{'s' if left > 1 else ''} of subgroups: see Slices.")
    return sentences


def _rank(analysis: Analysis, column: str, pair: SizePair) -> int:
    """Returns how soon a slice column is told of: first where the larger model loses somewhere, then where it gains."""
    found = [gain.simultaneous for gain in analysis.subgroups.of_slices(column, pair.small, pair.large).values()]
    if any(gain.below_zero for gain in found):
        return 0
    return 1 if any(gain.above_zero for gain in found) else 2


def only_one_better(analysis: Analysis, pair: SizePair) -> tuple[Estimate, Estimate]:
    """Returns on what fractions of the examples the larger model alone, and the smaller alone, is right or better.

    Both are means over the pairs of runs of `pair`, the smallest and the largest size. Their intervals are Figure 2's
    where its last threshold takes in every example; otherwise there are none.
    """
    outcomes = analysis.outcomes
    assert outcomes.fraction is not None and outcomes.examples is not None
    band = outcomes.band if outcomes.examples[-1] == analysis.grid.examples else None
    estimates = []
    for names, bound in ((_LARGER_ALONE, pair.bounds.only_large), (_SMALLER_ALONE, pair.bounds.only_small)):
        place = next(k for k, name in enumerate(outcomes.names) if name in names)
        value = bound.mean()
        if math.isnan(value):
            value = outcomes.fraction[-1, place]
        if band is None:
            estimates.append(Estimate(value))
        else:
            estimates.append(Estimate(value, band[0][-1, place], band[1][-1, place]))
    return estimates[0], estimates[1]


def _difference(pair: SizePair, quality: Quality) -> str:
    gap = pair.gap
    text = f"a difference of {points(gap.value)} {quality.points}{within(gap)}"
    if gap.above_zero:
        return f"{text}, in favour of {pair.large}."
    if gap.below_zero:
        return f"{text}: here the larger model is the worse one."
    if math.isnan(gap.low):
        return f"{text}, without an interval."
    return f"{text}, which can't be told from none."


def _slice_sentences(
    column: str, rows: Sequence[SliceRow], large_enough: dict[str, SubgroupGain], pair: SizePair, quality: Quality
) -> list[str]:
    """Writes in which values of one slice column the larger model gains and loses; no sentence if there are none.

    `large_enough` has the gains of the values with enough examples; what is claimed holds for all subgroups together.
    """
    examples = {row.value: row.examples for row in rows}
    gains = {row.value: large_enough[row.value].simultaneous for row in rows if row.value in large_enough}
    of_other_runs = all(gain.of_other_runs for gain in large_enough.values())
    gaining = sorted((value for value in gains if gains[value].above_zero), key=lambda value: -gains[value].value)
    losing = [value for value in gains if gains[value].below_zero]
    # a gain that is the same in every resample has no interval; the two are alike there only if it is none
    undecided = [
        value
        for value, gain in gains.items()
        if value not in gaining and value not in losing and not (math.isnan(gain.low) and abs(gain.value) > 0)
    ]
    without_interval = [value for value in gains if value not in {*gaining, *losing, *undecided}]

    def amounts(values: Sequence[str], estimates: dict[str, Estimate]) -> str:
        return "; ".join(
            f"{short(value, _LONGEST_VALUE)} by {points(estimates[value].value)} {quality.points}"
            f"{within(estimates[value])} {example_count(examples[value])}"
            for value in values[:_MOST_NAMED]
        )

    def named(values: Sequence[str]) -> str:
        return ", ".join(f"{short(value, _LONGEST_VALUE)} {example_count(examples[value])}" for value in values)

    parts = []
    if gaining:
        parts.append(f"{pair.large} gains on {amounts(gaining, gains)}")
    if losing:
        losses = {value: gain.negated for value, gain in gains.items()}
        parts.append(f"{'it' if parts else pair.large} loses on {amounts(losing, losses)}")
    few_enough_to_list = len(rows) <= _MOST_OPEN
    if undecided and few_enough_to_list:
        parts.append(f"on {named(undecided)} the two can't be told apart")
    if without_interval and few_enough_to_list:
        parts.append(f"on {named(without_interval)} nothing is claimed without an interval")
    small_groups = [value for value in examples if value not in gains]
    if small_groups and few_enough_to_list:
        parts.append(f"on {named(small_groups)} nothing is claimed from fewer than {FEWEST} examples")
    if not parts:
        return []
    # corpus BLEU is no sum over sentences, so no slice holds a share of its gain
    most = "" if quality.graded else _most_of_the_gain(rows, gains, pair)
    whose = "" if of_other_runs or not (gaining or losing) else " of these runs"
    return [f"By {slice_name(column)}{whose}: {', and '.join(parts)}. {most}".rstrip()]


def _most_of_the_gain(rows: Sequence[SliceRow], gains: dict[str, Estimate], pair: SizePair) -> str:
    """Writes which value holds most of the additional right answers; "" where there are none or some value loses.

    `gains` are those of the values with enough examples; "" also where the most is not shown to be a gain by them.
    """
    additional = {row.value: row.examples * row.gains[pair.small, pair.large].value for row in rows}
    if len(rows) < 2 or not pair.gap.above_zero or min(additional.values()) < 0:
        return ""
    most = max(rows, key=lambda row: additional[row.value])
    if most.value not in gains or not gains[most.value].above_zero:
        return ""
    share = additional[most.value] / sum(additional.values())
    return f"{short(most.value, _LONGEST_VALUE)} holds {percent(share, 0)} of the additional right answers."
