"""Writes what deferral saves, by which score, and by whose tokens' uncertainty."""

import math
from collections.abc import Sequence

from metrics.analysis.dataset import WHOSE_TOKENS, Analysis
from metrics.analysis.pairs import SizePair
from metrics.bootstrap.resampling import Estimate
from metrics.grid.runs import SizeRuns
from metrics.report.measure import quality_of
from metrics.report.words.phrases import pairs_of_runs, percent, percent_rounded_up, points, score_title, within


def what_deferral_saves(analysis: Analysis, pair: SizePair) -> list[str]:
    """Writes deferral's gain over random, the least shares to defer with their cost, and the peak."""
    return [
        _gain_over_random(analysis, pair),
        *_least_shares(analysis, pair),
        *_peak(analysis, pair),
    ]


def _gain_over_random(analysis: Analysis, pair: SizePair) -> str:
    area = pair.area["margin"]
    amount = (
        f"on average over all deferral fractions, {points(area.value)} {quality_of(analysis.grid).points}"
        f"{within(area)}, over {pairs_of_runs(pair)} and {analysis.grid.examples:,} examples"
    )
    if area.above_zero:
        return f"Deferring the least certain examples beats deferring as many at random: {amount}."
    if area.below_zero:
        return f"Deferring the least certain examples is worse than deferring at random: {amount}."
    if not area.has_interval:
        return f"Deferring the least certain examples gains over deferring as many at random, {amount}, no interval."
    return f"Deferring the least certain examples can't be told from deferring as many at random: {amount}."


def loss_allowed(analysis: Analysis, pair: SizePair) -> str:
    """Writes how much a mixture may lose against the larger model: `1.00 points against large`."""
    return f"{points(pair.least_share['margin'].epsilon)} {quality_of(analysis.grid).points} against {pair.large}"


def _least_shares(analysis: Analysis, pair: SizePair) -> list[str]:
    """Writes what shares to defer for parts of the gain, and to be at most ε below the larger model, and the cost."""
    shares = pair.least_share["margin"]
    sentences = []
    if not pair.gap.has_interval and math.isnan(shares.half.value):
        sentences.append(f"{pair.large} isn't the better model here: there is no gain to have a part of.")
    elif pair.gap.has_interval and not pair.gap.above_zero:
        sentences.append(f"As {pair.large} isn't shown to be the better model, there is no gain to have a part of.")
    else:
        parts = [
            f"{percent(part, 0)} of the gain takes {percent(share.value)}{within(share, 1)}"
            for part, share in shares.reaching.items()
        ]
        sentences.append(f"Of the examples deferred by margin, {', '.join(parts)}.")
    if math.isnan(shares.within_epsilon):
        return sentences
    confidence = f"with {percent(shares.confidence, 0)} confidence"
    if not shares.saves:
        sentences.append(
            f"No share short of all examples is shown to lose at most {loss_allowed(analysis, pair)} {confidence}."
        )
        return sentences
    sizes = {size.name: size for size in analysis.grid.sizes}
    sentences.append(
        f"Deferring {percent_rounded_up(shares.within_epsilon)} loses at most {loss_allowed(analysis, pair)} "
        f"{confidence}. "
        f"{cost(sizes[pair.small], sizes[pair.large], Estimate(shares.within_epsilon))}".rstrip()
    )
    return sentences


def _peak(analysis: Analysis, pair: SizePair) -> list[str]:
    peak, floor = pair.peak_gain["margin"], pair.bounds.random_hump.mean()
    sentences = [
        (
            f"At the best fraction in hindsight the switcher differs from the better of the two models by "
            f"{points(peak.value, sign=True)} {quality_of(analysis.grid).points}{within(peak)}."
        )
    ]
    chance = pair.chance.get("margin")
    if chance is not None:
        verdict = "exceeds" if peak.value > chance.high else "does not exceed"
        sentences.append(
            "The peak of a noisy curve is biased upward: the same margins dealt out to the examples at random would "
            f"show {points(chance.mean, sign=True)}, and in one case of twenty more than "
            f"{points(chance.high, sign=True)}, which this {verdict}."
        )
    elif not math.isnan(floor):
        sentences.append(
            "The peak of a noisy curve is biased upward: between equally good models a random score would show about "
            f"{points(floor)}, which this {'exceeds' if peak.value > floor else 'does not exceed'}."
        )
    return sentences


def flops_known(small: SizeRuns, large: SizeRuns) -> bool:
    """Tells whether the scores of both sizes say how many floating-point operations an example takes."""
    return small.flops_per_example > 0 and large.flops_per_example > 0


def cost(small: SizeRuns, large: SizeRuns, deferred: Estimate) -> str:
    """Writes what deferring the fraction `deferred` saves of the larger model's FLOPs; "" where they aren't known."""
    if not flops_known(small, large):
        return ""
    saved = saving(small, large, deferred)
    amount = f"{percent(saved.value, 0)}{within(saved, 0)} of {large.name}'s FLOPs"
    if saved.value <= 0:
        return f"With {small.name} run on every example that costs more FLOPs than {large.name} alone."
    if saved.low <= 0:
        return f"With {small.name} run on every example, it can't be told whether that saves FLOPs: {amount}."
    return f"With {small.name} run on every example, that saves {amount}."


def saving(small: SizeRuns, large: SizeRuns, deferred: Estimate) -> Estimate:
    """Returns what fraction of the larger model's FLOPs is saved.

    The smaller model runs on every example, the larger one on the fraction `deferred`: 1 - c_small / c_large - f.
    """
    ratio = small.flops_per_example / large.flops_per_example
    return Estimate(1 - ratio - deferred.value, 1 - ratio - deferred.high, 1 - ratio - deferred.low)


def which_score(analysis: Analysis, pair: SizePair) -> list[str]:
    """Writes which score gains most over random, and which are better and worse than the margin.

    Differences from the margin are of the same resamples.
    """
    if len(pair.scores) == 1:
        return ["Only the margin could be computed; the other scores need more seeds."]
    best, margin = max(pair.area, key=lambda score: pair.area[score].value), pair.area["margin"]
    first = (
        f"By gain over random, {score_title(best)} comes first with {points(pair.area[best].value)} "
        f"{quality_of(analysis.grid).points}{within(pair.area[best])}, over {pairs_of_runs(pair)}"
    )
    if best == "margin":
        sentences = [f"{first}; it needs one model alone."]
    else:
        sentences = [f"{first}; the margin, which needs one model alone, has {points(margin.value)}{within(margin)}."]
    sentences += _against_the_margin(pair)
    if "churn" in pair.scores:
        sentences.append(f"Churn and the committee's scores run several seeds of {pair.small} on every example.")
    return sentences


def _against_the_margin(pair: SizePair) -> list[str]:
    """Writes which scores are better than the margin, which worse, and which can't be told from it."""
    scores: dict[str, list[str]] = {"Better than": [], "Worse than": [], "Can't be told from": []}
    for score, difference in pair.area_over_margin.items():
        same = difference.value == difference.low == difference.high == 0
        if score == "margin" or same or not difference.has_interval:
            continue
        verdict = (
            "Better than" if difference.above_zero else "Worse than" if difference.below_zero else "Can't be told from"
        )
        scores[verdict].append(f"{score_title(score)} {points(difference.value, sign=True)}{within(difference)}")
    return [f"{verdict} the margin: {', '.join(named)}." for verdict, named in scores.items() if named]


def uncertainty_by_context(analysis: Analysis, pair: SizePair, other_contexts: Sequence[Analysis]) -> list[str]:
    """Writes whose tokens a sequence's uncertainty was of, and what the other context gives; nothing of classes."""
    if analysis.context is None:
        return []
    sentences = [f"Uncertainty here is of {WHOSE_TOKENS[analysis.context]}."]
    for other in other_contexts:
        assert other.context is not None and other.widest is not None
        area, shares = other.widest.area["margin"], other.widest.least_share["margin"]
        text = (
            f"By {WHOSE_TOKENS[other.context]}: {points(area.value)} {quality_of(analysis.grid).points}{within(area)} "
            "over random"
        )
        if other.widest.gap.above_zero and shares.saves:
            deferred = percent_rounded_up(shares.within_epsilon)
            text += f", and {deferred} deferred lose at most {loss_allowed(other, other.widest)}"
        sentences.append(f"{text}.")
    return sentences
