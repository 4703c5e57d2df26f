"""What the numbers say, in sentences. A claim is made only where the whole interval bears it out."""

import math
from collections.abc import Sequence

from metrics.analysis.dataset import WHOSE_TOKENS, Analysis
from metrics.analysis.pairs import SizePair
from metrics.analysis.slices import SliceRow
from metrics.bootstrap.resampling import Estimate
from metrics.grid.runs import SizeRuns
from metrics.report.measure import Quality, quality_of
from metrics.statistics.churn import BUCKETS
from metrics.tables.paper import SCORE_TITLES

Passage = tuple[str, list[str]]  # a heading and its sentences

_BY_CONTEXT = {None: "", "gold": " in the gold answer's context", "self": ", by its own output"}
_ONE_BETTER = (
    ("only the larger right", "the larger better"),
    ("only the smaller right", "the smaller better"),
)
MATCHED = 0.995  # a deferral rate from here on is no saving


def answer(analysis: Analysis) -> str:
    """The whole of it in two sentences: how much better the larger model is, and what gets most of that.

    Like all words here, of sequences by the uncertainty that can be deployed, where it was computed.
    """
    analysis = analysis.deployable
    pair = analysis.widest
    if pair is None:
        return f"One size only ({analysis.grid.sizes[0].name}): there is no larger model to compare it with."
    quality, gap = quality_of(analysis.grid), pair.gap
    n = f"{analysis.grid.examples:,} examples"
    if gap.below_zero:
        return (
            f"On {n}, {pair.large} is the worse model, by {points(-gap.value)} {quality.points}"
            f"{within(Estimate(-gap.value, -gap.high, -gap.low))}: deferring to it costs {quality.name}."
        )
    if not gap.above_zero:
        return (
            f"On {n}, {pair.large} differs from {pair.small} by {points(gap.value, sign=True)} {quality.points}"
            f"{within(gap)}: no difference is shown, so there is none to win by deferring."
        )
    text = f"On {n}, {pair.large} is better than {pair.small} by {points(gap.value)} {quality.points}{within(gap)}."
    matching, half = pair.matching["margin"], pair.half_gain["margin"]
    if not math.isnan(half.value):
        text += f" Half of that gain comes from the {percent(half.value)}{within(half, 1)} of the examples"
        text += f" of which {pair.small} is least certain{_BY_CONTEXT[analysis.context]}"
        if matching.value < MATCHED:
            text += f", and all of it from the {percent(matching.value)}{within(matching, 1)} least certain"
            small, large = analysis.grid.sizes[0], analysis.grid.sizes[-1]
            if small.flops_per_example > 0 and large.flops_per_example > 0:
                saved = saving(small, large, matching)
                if saved.above_zero:
                    text += f", at {percent(saved.value, 0)}{within(saved, 0)} fewer FLOPs"
        text += "."
    return text


def passages(analysis: Analysis, confidence: float) -> list[Passage]:
    """The overview of one dataset."""
    result: list[Passage] = []
    *others, analysis = reversed(analysis.contexts)
    pair = analysis.widest
    if pair is not None:
        result += [
            ("Where does the larger model help?", where_it_helps(analysis, pair)),
            ("What does deferral save?", what_deferral_saves(analysis, pair) + _whose_uncertainty(analysis, others)),
            ("Which score should decide?", which_score(analysis, pair)),
        ]
    if analysis.churn:
        result.append(("How much do retrained models differ?", how_much_churn(analysis)))
    result.append(("How sure is that?", how_sure(analysis, confidence)))
    return result


def where_it_helps(analysis: Analysis, pair: SizePair) -> list[str]:
    """Gap, kinds of examples, share of the gain by uncertainty, slices."""
    quality, n = quality_of(analysis.grid), analysis.grid.examples
    small, large = analysis.quality[pair.small], analysis.quality[pair.large]
    did = "scores" if quality.graded else "gets"
    of = f"on the {n:,} examples" if quality.graded else f"of the {n:,} examples right"
    sentences = [
        (
            f"{pair.large} {did} {quality.value(large.value)}{within(large, 1)} {of}, {pair.small} "
            f"{quality.value(small.value)}{within(small, 1)}: {_gap(pair, quality)}"
        )
    ]
    only_large, only_small = only_one_better(analysis)
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
    half = pair.half_gain["margin"]
    if pair.gap.above_zero and not math.isnan(half.value):
        sentences.append(
            f"Half of the gain comes from the {percent(half.value)} of examples of which {pair.small} is least certain"
            f"{within(half, 1)}: about {round(half.value * n):,} of {n:,}."
        )
    if analysis.slices:
        sentences += _slices(analysis, pair, quality)
    return sentences


def only_one_better(analysis: Analysis) -> tuple[Estimate, Estimate]:
    """On how many examples only the largest, and only the smallest size is right, or better; means over pairs of runs.

    The intervals are Figure 2's where its last threshold takes in every example; else there are none.
    """
    pair, of = analysis.widest, analysis.outcomes
    assert pair is not None and of.fraction is not None and of.examples is not None
    whole = of.band if of.examples[-1] == analysis.grid.examples else None
    result = []
    for known, value in zip(_ONE_BETTER, (pair.bounds.only_large.mean(), pair.bounds.only_small.mean())):
        k = next(k for k, name in enumerate(of.names) if name in known)
        value = of.fraction[-1, k] if math.isnan(value) else value
        result.append(Estimate(value) if whole is None else Estimate(value, whole[0][-1, k], whole[1][-1, k]))
    return result[0], result[1]


def _gap(pair: SizePair, quality: Quality) -> str:
    gap = pair.gap
    size = f"a difference of {points(gap.value)} {quality.points}{within(gap)}"
    if gap.above_zero:
        return f"{size}, in favour of {pair.large}."
    if gap.below_zero:
        return f"{size}: here the larger model is the worse one."
    if math.isnan(gap.low):
        return f"{size}, without an interval."
    return f"{size}, which can't be told from none."


def _slices(analysis: Analysis, pair: SizePair, quality: Quality) -> list[str]:
    sentences = []
    for column in sorted({row.column for row in analysis.slices}):
        rows = [row for row in analysis.slices if row.column == column]
        gains = {row.value: row.gains[pair.small, pair.large] for row in rows}
        examples = {row.value: row.examples for row in rows}
        better = [value for value in gains if gains[value].above_zero]
        worse = [value for value in gains if gains[value].below_zero]
        open_ = [value for value in gains if value not in better and value not in worse]
        parts = []
        if better:
            ordered = sorted(better, key=lambda value: -gains[value].value)[:5]
            told = [f"{value} by {_by(gains[value], examples[value], quality)}" for value in ordered]
            parts.append(f"{pair.large} gains on {'; '.join(told)}")
        if worse:
            losses = {value: Estimate(-gain.value, -gain.high, -gain.low) for value, gain in gains.items()}
            told = [f"{value} by {_by(losses[value], examples[value], quality)}" for value in worse[:5]]
            parts.append(f"{'it' if parts else pair.large} loses on {'; '.join(told)}")
        if open_ and len(rows) <= 12:
            told = [f"{value} {_n(examples[value])}" for value in open_]
            parts.append(f"on {', '.join(told)} the two can't be told apart")
        if parts:
            most = "" if quality.graded else _most_of_the_gain(rows, pair)  # BLEU is no sum over sentences
            sentences.append(f"By {slice_name(column)}: {', and '.join(parts)}. {most}".rstrip())
    return sentences


def _by(gain: Estimate, examples: int, quality: Quality) -> str:
    return f"{points(gain.value)} {quality.points}{within(gain)} {_n(examples)}"


def _n(examples: int) -> str:
    return f"(n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{examples:,})"


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


def what_deferral_saves(analysis: Analysis, pair: SizePair) -> list[str]:
    """Deferral rate that matches the larger model, its cost, the gain over random, the peak."""
    quality, n = quality_of(analysis.grid), analysis.grid.examples
    sizes = {size.name: size for size in analysis.grid.sizes}
    area, matching = pair.area["margin"], pair.matching["margin"]
    sentences = []
    over_random = (
        f"on average over all deferral fractions, {points(area.value)} {quality.points}{within(area)}, "
        f"over {_pairs(pair)} and {n:,} examples"
    )
    if area.above_zero:
        sentences.append(f"Deferring the least certain examples beats deferring as many at random: {over_random}.")
    elif area.below_zero:
        sentences.append(f"Deferring the least certain examples is worse than deferring at random: {over_random}.")
    else:
        sentences.append(
            f"Deferring the least certain examples can't be told from deferring as many at random: {over_random}."
        )
    if not pair.gap.above_zero:
        sentences.append(f"As {pair.large} isn't shown to be the better model, there is nothing to match.")
    elif matching.value < MATCHED:
        sentences.append(
            f"Deferring {percent(matching.value)} of the examples is enough for {pair.large}'s {quality.name}"
            f"{within(matching, 1)}. {cost(sizes[pair.small], sizes[pair.large], matching)}".rstrip()
        )
    else:
        sentences.append(
            f"No smaller share than all examples{within(matching, 1)} reaches {pair.large}'s {quality.name} by margin."
        )
    peak, floor = pair.peak_gain["margin"], pair.bounds.random_hump.mean()
    sentences.append(
        f"At the best fraction in hindsight the switcher differs from the better of the two models by "
        f"{points(peak.value, sign=True)} {quality.points}{within(peak)}."
    )
    if not math.isnan(floor):
        sentences.append(
            "The peak of a noisy curve is biased upward: between equally good models a random score would show about "
            f"{points(floor)}, which this {'exceeds' if peak.value > floor else 'does not exceed'}."
        )
    return sentences


def _pairs(pair: SizePair) -> str:
    count = pair.gaps.size
    return f"{count} pair{'s' if count != 1 else ''} of runs"


def cost(small: SizeRuns, large: SizeRuns, deferred: Estimate) -> str:
    """What deferring so many saves of the larger model's FLOPs; "" where FLOPs aren't known."""
    if small.flops_per_example <= 0 or large.flops_per_example <= 0:
        return ""
    saved = saving(small, large, deferred)
    of = f"{percent(saved.value, 0)}{within(saved, 0)} of {large.name}'s FLOPs"
    if saved.value <= 0:
        return f"With {small.name} run on every example that costs more FLOPs than {large.name} alone."
    if saved.low <= 0:
        return f"With {small.name} run on every example, it can't be told whether that saves FLOPs: {of}."
    return f"With {small.name} run on every example, that saves {of}."


def saving(small: SizeRuns, large: SizeRuns, deferred: Estimate) -> Estimate:
    """What share of the larger model's FLOPs is saved by running the smaller on all and the larger on `deferred`."""
    ratio = small.flops_per_example / large.flops_per_example
    return Estimate(1 - ratio - deferred.value, 1 - ratio - deferred.high, 1 - ratio - deferred.low)


def which_score(analysis: Analysis, pair: SizePair) -> list[str]:
    """Each score's gain over random against the margin's, resampled together."""
    if len(pair.scores) == 1:
        return ["Only the margin could be computed; the other scores need more seeds."]
    quality = quality_of(analysis.grid)
    best = max(pair.area, key=lambda score: pair.area[score].value)
    comes_first = (
        f"By gain over random, {score_title(best)} comes first with {points(pair.area[best].value)} {quality.points}"
        f"{within(pair.area[best])}, over {_pairs(pair)}"
    )
    if best == "margin":
        sentences = [f"{comes_first}; it needs one model alone."]
    else:
        margin = pair.area["margin"]
        sentences = [
            f"{comes_first}; the margin, which needs one model alone, has {points(margin.value)}{within(margin)}."
        ]
    above: list[str] = []
    below: list[str] = []
    open_: list[str] = []
    for score, difference in pair.area_over_margin.items():
        if score == "margin" or (difference.value == 0 and difference.low == difference.high == 0):
            continue
        text = f"{score_title(score)} {points(difference.value, sign=True)}{within(difference)}"
        (above if difference.above_zero else below if difference.below_zero else open_).append(text)
    if above:
        sentences.append(f"Better than the margin: {', '.join(above)}.")
    if below:
        sentences.append(f"Worse than the margin: {', '.join(below)}.")
    if open_:
        sentences.append(f"Can't be told from the margin: {', '.join(open_)}.")
    seeds = len(next(size.seeds for size in analysis.grid.sizes if size.name == pair.small))
    if "churn" in pair.scores:
        sentences.append(f"Churn and the committee's scores run all {seeds} seeds of {pair.small} on every example.")
    return sentences


def _whose_uncertainty(analysis: Analysis, others: Sequence[Analysis]) -> list[str]:
    """Of sequences: which tokens that was by, whether it can be deployed, and what the other context gives."""
    if analysis.context is None:
        return []
    pair, quality = analysis.widest, quality_of(analysis.grid)
    assert pair is not None
    sentences = [f"Uncertainty here is of {WHOSE_TOKENS[analysis.context]}."]
    for other in others:
        assert other.context is not None and other.widest is not None
        area, matching = other.widest.area["margin"], other.widest.matching["margin"]
        text = f"By {WHOSE_TOKENS[other.context]}: {points(area.value)} {quality.points}{within(area)} over random"
        if other.widest.gap.above_zero and matching.value < MATCHED:
            text += f", and {percent(matching.value)}{within(matching, 1)} deferred match {pair.large}"
        sentences.append(f"{text}.")
    return sentences


def how_much_churn(analysis: Analysis) -> list[str]:
    """Overall churn, and most against least certain bucket."""
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
            f"(n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{point.examples[-1]:,.0f})."
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


def context_note(analyses: Sequence[Analysis]) -> str:
    """Whose tokens the uncertainty of sequences is of; "" where there are only classes."""
    of = [analysis for analysis in analyses if analysis.context is not None]
    if not of:
        return ""
    names = "" if len(of) == len(analyses) else f" of {', '.join(analysis.grid.dataset for analysis in of)}"
    return f"Uncertainty{names} is that of {WHOSE_TOKENS[of[0].context or 'gold']}."


def slice_name(column: str) -> str:
    """`slice_kind` -> `kind`."""
    return column.removeprefix("slice_").replace("_", " ")


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction as a percentage."""
    return f"{100 * fraction:.{digits}f}\N{NO-BREAK SPACE}%"


def points(fraction: float, sign: bool = False, digits: int = 2) -> str:
    """A difference of fractions in percentage points, with a real minus; never '-0.00'."""
    rounded = round(100 * fraction, digits) + 0.0
    return f"{rounded:{'+' if sign else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")


def within(estimate: Estimate, digits: int = 2) -> str:
    """` [1.23, 2.34]`, the interval × 100, unbroken; empty without one."""
    if math.isnan(estimate.low):
        return ""
    low, high = points(estimate.low, digits=digits), points(estimate.high, digits=digits)
    return f" [{low},\N{NO-BREAK SPACE}{high}]"


def score_title(score: str) -> str:
    """`committee_margin` -> `committee margin`."""
    return SCORE_TITLES.get(score, score.replace("_", " ")).replace("Cmt.", "committee").lower()
