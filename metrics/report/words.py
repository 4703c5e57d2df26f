"""What the numbers say, in sentences. A claim is made only where the whole interval bears it out."""

import math

from metrics.analysis import Analysis, Estimate, SizePair, SliceRow
from metrics.churn import BUCKETS
from metrics.grid import SizeRuns
from metrics.tables import SCORE_TITLES

Passage = tuple[str, list[str]]  # a heading and its sentences


def passages(analysis: Analysis, confidence: float) -> list[Passage]:
    """The overview of one dataset."""
    result: list[Passage] = []
    pair = analysis.widest
    if pair is not None:
        result += [
            ("Where does the larger model help?", where_it_helps(analysis, pair, confidence)),
            ("What does deferral save?", what_deferral_saves(analysis, pair, confidence)),
            ("Which score should decide?", which_score(pair, confidence)),
        ]
    if analysis.churn:
        result.append(("How much do retrained models differ?", how_much_churn(analysis, confidence)))
    result.append(("How sure is that?", how_sure(analysis, confidence)))
    return result


def where_it_helps(analysis: Analysis, pair: SizePair, confidence: float) -> list[str]:
    """Gap, share of the gain by uncertainty, kinds of examples."""
    small, large = analysis.quality[pair.small], analysis.quality[pair.large]
    if analysis.grid.measure == "bleu":
        sentences = [
            f"{pair.large} has {points(large.value)} BLEU on the {analysis.grid.examples:,} sentences and {pair.small} "
            f"{points(small.value)}: {_gap(pair, confidence)}"
        ]
        return sentences + (_slices(analysis, pair, confidence) if analysis.slices else [])
    sentences = [
        (
            f"{pair.large} gets {percent(large.value)} of the {analysis.grid.examples:,} examples right and "
            f"{pair.small} {percent(small.value)}: {_gap(pair, confidence)}"
        ),
        (
            f"Only {pair.large} is right on {percent(pair.bounds.only_large.mean())} of the examples, only "
            f"{pair.small} on {percent(pair.bounds.only_small.mean())}."
        ),
    ]
    half = pair.half_gain["margin"]
    if pair.gap.above_zero and not math.isnan(half.value):
        sentences.append(
            f"Half of the gain comes from the {percent(half.value)} of examples of which {pair.small} is least certain"
            f"{within(half, confidence)}."
        )
    if analysis.slices:
        sentences += _slices(analysis, pair, confidence)
    return sentences


def _gap(pair: SizePair, confidence: float) -> str:
    gap = pair.gap
    size = f"a difference of {points(gap.value)} points{within(gap, confidence)}"
    if gap.above_zero:
        return f"{size}, in favour of {pair.large}."
    if gap.below_zero:
        return f"{size}: here the larger model is the worse one."
    if math.isnan(gap.low):
        return f"{size}, without an interval."
    return f"{size}, which can't be told from none."


def _slices(analysis: Analysis, pair: SizePair, confidence: float) -> list[str]:
    sentences = []
    for column in sorted({row.column for row in analysis.slices}):
        rows = [row for row in analysis.slices if row.column == column]
        gains = {row.value: row.gains[pair.small, pair.large] for row in rows}
        name = slice_name(column)
        better = [value for value in gains if gains[value].above_zero]
        worse = [value for value in gains if gains[value].below_zero]
        open_ = [value for value in gains if value not in better and value not in worse]
        parts = []
        if better:
            ordered = sorted(better, key=lambda value: -gains[value].value)[:5]
            listed = "; ".join(f"{value} by {points(gains[value].value)} points" for value in ordered)
            parts.append(f"{pair.large} gains on {listed}")
        if worse:
            listed = "; ".join(f"{value} by {points(-gains[value].value)} points" for value in worse[:5])
            parts.append(f"{'it' if parts else pair.large} loses on {listed}")
        if open_ and len(rows) <= 12:
            parts.append(f"on {', '.join(open_)} the two can't be told apart")
        sentences.append(f"By {name}: {', and '.join(parts)}. {_most_of_the_gain(rows, pair)}".rstrip())
    return sentences


def _most_of_the_gain(rows: list[SliceRow], pair: SizePair) -> str:
    """Which value holds most of the additional right answers, where there are some and no value loses any."""
    extra = {row.value: row.examples * row.gains[pair.small, pair.large].value for row in rows}
    total = sum(extra.values())
    if len(rows) < 2 or not pair.gap.above_zero or min(extra.values()) < 0:
        return ""
    value = max(extra, key=lambda v: extra[v])
    if not next(row for row in rows if row.value == value).gains[pair.small, pair.large].above_zero:
        return ""
    return f"{value} holds {percent(extra[value] / total, 0)} of the additional right answers."


def what_deferral_saves(analysis: Analysis, pair: SizePair, confidence: float) -> list[str]:
    """Deferral rate that matches the larger model, its cost, the gain over random, the peak."""
    sizes = {size.name: size for size in analysis.grid.sizes}
    area, matching = pair.area["margin"], pair.matching["margin"]
    sentences = []
    over_random = f"on average over all deferral fractions, {points(area.value)} points{within(area, confidence)}"
    if area.above_zero:
        sentences.append(f"Deferring the least certain examples beats deferring as many at random: {over_random}.")
    elif area.below_zero:
        sentences.append(f"Deferring the least certain examples is worse than deferring at random: {over_random}.")
    else:
        sentences.append(
            f"Deferring the least certain examples can't be told from deferring as many at random: {over_random}."
        )
    if not pair.gap.above_zero:
        sentences.append(f"As {pair.large} isn't shown to be the better model, there is nothing of its to match.")
    elif matching.value < 0.995:
        sentences.append(
            f"Deferring {percent(matching.value)} of the examples is enough to match {pair.large}"
            f"{within(matching, confidence)}. {_cost(sizes[pair.small], sizes[pair.large], matching)}"
        )
    else:
        sentences.append(f"No smaller share than all examples matches {pair.large} by margin.")
    peak, floor = pair.peak_gain["margin"], pair.bounds.random_hump.mean()
    sentences.append(
        f"At the best fraction in hindsight the switcher differs from the better of the two models by "
        f"{points(peak.value, sign=True)} points. The peak of a noisy curve is biased upward: between equally good "
        f"models a random score would show about {points(floor)}, which this "
        f"{'exceeds' if peak.value > floor else 'does not exceed'}."
    )
    return sentences


def _cost(small: SizeRuns, large: SizeRuns, deferred: Estimate) -> str:
    if small.flops_per_example <= 0 or large.flops_per_example <= 0:
        return ""
    ratio = small.flops_per_example / large.flops_per_example

    def saving(fraction: float) -> float:
        return 1 - ratio - fraction

    point = saving(deferred.value)
    if point <= 0:
        return f"With {small.name} run on every example that costs more FLOPs than {large.name} alone."
    text = f"With {small.name} run on every example, that saves {percent(point, 0)} of {large.name}'s FLOPs"
    if not math.isnan(deferred.low):
        worst, best = saving(deferred.high), saving(deferred.low)
        text += f" (from {percent(worst, 0)} to {percent(best, 0)} over that interval)"
    return text + "."


def which_score(pair: SizePair, confidence: float) -> list[str]:
    """Each score's gain over random against the margin's, resampled together."""
    if len(pair.scores) == 1:
        return ["Only the margin could be computed; the other scores need more seeds."]
    best = max(pair.area, key=lambda score: pair.area[score].value)
    comes_first = (
        f"By gain over random, {_title(best)} comes first with {points(pair.area[best].value)} points"
        f"{within(pair.area[best], confidence)}"
    )
    if best == "margin":
        sentences = [f"{comes_first}; it needs one model alone."]
    else:
        margin = points(pair.area["margin"].value)
        sentences = [f"{comes_first}; the margin, which needs one model alone, has {margin}."]
    above: list[str] = []
    below: list[str] = []
    open_: list[str] = []
    for score, difference in pair.area_over_margin.items():
        if score == "margin" or (difference.value == 0 and difference.low == difference.high == 0):
            continue
        text = f"{_title(score)} ({points(difference.value, sign=True)}{within(difference, confidence, False)})"
        (above if difference.above_zero else below if difference.below_zero else open_).append(text)
    if above:
        sentences.append(f"Better than the margin: {', '.join(above)}.")
    if below:
        sentences.append(f"Worse than the margin: {', '.join(below)}.")
    if open_:
        sentences.append(f"Can't be told from the margin: {', '.join(open_)}.")
    return sentences


def how_much_churn(analysis: Analysis, confidence: float) -> list[str]:
    """Overall churn, and most against least certain bucket."""
    uncertainty_size, size, point, (low, high) = analysis.churn[0]
    shares = [upper - lower for _, lower, upper in BUCKETS]
    overall = sum(share * churn for share, churn in zip(shares, point.churn))
    first, last = (Estimate(point.churn[i], low[i], high[i]) for i in (0, -1))
    return [
        f"Two runs of {size} that differ in their seed predict differently on {percent(overall)} of the examples.",
        (
            f"Ranked by {uncertainty_size}'s margin, it is {percent(first.value)}{within(first, confidence)} on the "
            f"more certain half and {percent(last.value)}{within(last, confidence)} on the least certain 1 %."
        ),
    ]


def how_sure(analysis: Analysis, confidence: float) -> list[str]:
    """What the intervals carry."""
    seeds = ", ".join(
        f"{len(size.seeds)} seed{'s' if len(size.seeds) > 1 else ''} of {size.name}" for size in analysis.grid.sizes
    )
    sentences = [f"These numbers rest on {analysis.grid.examples:,} examples and {seeds}."]
    if any(not math.isnan(estimate.low) for estimate in analysis.quality.values()):
        sentences.append(
            f"The {100 * confidence:g} % intervals resample seeds and examples together, so they say how far the "
            "numbers may move with other seeds and other examples of the same kind. Few seeds make them too narrow; "
            "they hold one at a time, not all at once."
        )
    else:
        sentences.append("No intervals were computed.")
    return sentences


def slice_name(column: str) -> str:
    """`slice_kind` -> `kind`."""
    return column.removeprefix("slice_").replace("_", " ")


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction as a percentage."""
    return f"{100 * fraction:.{digits}f} %"


def points(fraction: float, sign: bool = False) -> str:
    """A difference of fractions in percentage points; never '-0.00'."""
    rounded = round(100 * fraction, 2) + 0.0
    return f"{rounded:+.2f}" if sign else f"{rounded:.2f}"


def within(estimate: Estimate, confidence: float, named: bool = True) -> str:
    """` (95 % interval 1.23 to 2.34)` in hundredths; empty without an interval."""
    if math.isnan(estimate.low):
        return ""
    limits = f"{points(estimate.low)} to {points(estimate.high)}"
    return f" ({100 * confidence:g} % interval {limits})" if named else f", {limits}"


def _title(score: str) -> str:
    return SCORE_TITLES[score].replace("Cmt.", "committee").lower()
