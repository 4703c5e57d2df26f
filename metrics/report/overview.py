"""Writes the top of the page: the picture, the answer beside it, four numbers, the questions, and the sizes."""

import math
import re
from collections.abc import Sequence
from html import escape

from metrics.analysis.dataset import Analysis
from metrics.analysis.least_share import LeastShares
from metrics.analysis.pairs import SizePair
from metrics.analysis.prices import Prices
from metrics.bootstrap.resampling import Estimate
from metrics.report.measure import quality_of
from metrics.report.picture import picture, recommended_share, saved_part, sparkline
from metrics.report.words import (
    answer,
    context_note,
    deploy_command,
    deploy_sentence,
    loss_allowed,
    passages,
    percent,
    percent_rounded_up,
    points,
)
from metrics.tables.cells import Cell, count_cell, estimate_cell, number_cell
from metrics.tables.html import table
from metrics.tables.table import Head


def overview(
    analyses: Sequence[Analysis],
    confidence: float,
    prices: Sequence[Prices | None] | None = None,
    models_stored: bool = True,
) -> str:
    """Writes the overview: all datasets side by side where there are several, then each by itself.

    `prices` are those of each dataset's sizes, where `metrics.price` says them. Where the scores' models are in a
    store, `models_stored`, the command is named that deploys what is recommended.
    """
    of_each = prices or [None] * len(analyses)
    parts = [_across(analyses, confidence)] if len(analyses) > 1 else []
    for k, analysis in enumerate(analyses):
        heading = f"<h3>{escape(analysis.grid.dataset)}</h3>" if len(analyses) > 1 else ""
        parts.append(
            f'<div class="dataset" id="dataset-{k}">{heading}'
            f"{_dataset(analysis, confidence, k, of_each[k], models_stored)}</div>"
        )
    return "".join(parts)


def marked(text: str) -> str:
    """Returns a sentence as HTML with its intervals, such as `[1.23, 2.34]`, marked to be shown in a paler colour."""
    return re.sub(r" (\[[^\[\]]*\])", r' <span class="ci">\1</span>', escape(text))


def _dataset(analysis: Analysis, confidence: float, k: int, prices: Prices | None, models_stored: bool) -> str:
    beside = [f'<p class="answer">{marked(answer(analysis))}</p>']
    deployable = analysis.deployable
    if deployable.widest is not None:
        beside.append(_tiles(deployable, deployable.widest, prices))
        if models_stored:
            beside.append(_deployment(deployable, deployable.widest, prices))
    parts = [
        f'<div class="first">{picture(analysis, confidence, prices)}<div class="said">{"".join(beside)}</div></div>'
    ]
    for heading, sentences in passages(analysis, confidence):
        parts.append(f"<h4>{escape(heading)}</h4><p>{marked(' '.join(sentences))}</p>")
    return "".join(parts) + _sizes(analysis, confidence, k)


def _tiles(analysis: Analysis, pair: SizePair, prices: Prices | None) -> str:
    quality, area, shares = quality_of(analysis.grid), pair.area["margin"], pair.least_share["margin"]
    tiles = [
        (f"{points(pair.gap.value, sign=True)} {quality.points}", f"{pair.large} over {pair.small}", pair.gap),
        (f"{points(area.value, sign=True)} {quality.points}", f"deferral by {_margin(analysis)} over random", area),
    ]
    loss, by = loss_allowed(analysis, pair), _margin(analysis)
    if shares.saves:
        share = percent_rounded_up(shares.within_epsilon, 0)
        tiles.append((share, f"deferred by {by} lose at most {loss}", Estimate(math.nan)))
    elif not math.isnan(shares.within_epsilon):
        tiles.append(
            ("all examples", f"have to be deferred by {by} to be shown to lose at most {loss}", Estimate(math.nan))
        )
    saved = saved_part(analysis, pair, recommended_share(analysis, pair, prices), prices)
    if saved > 0:
        what = "cheaper" if prices is not None else "fewer FLOPs"
        tiles.append((percent(saved, 0), f"{what} than {pair.large} alone, with that deferred", Estimate(math.nan)))
    else:
        tiles.append((percent(pair.disagreement.value), "of predictions differ between them", pair.disagreement))
    return '<div class="tiles">' + "".join(_tile(*tile) for tile in tiles) + "</div>"


def _deployment(analysis: Analysis, pair: SizePair, prices: Prices | None) -> str:
    """Returns the command that deploys the recommended share as HTML; "" where no share is recommended."""
    share = recommended_share(analysis, pair, prices)
    if math.isnan(share):
        return ""
    command = escape(deploy_command(analysis, pair, share))
    return f'<p class="deploy">{escape(deploy_sentence(analysis))} <code>{command}</code></p>'


def _margin(analysis: Analysis) -> str:
    return {None: "margin", "gold": "margin in the gold answer's context", "self": "margin of its own output"}[
        analysis.context
    ]


def _tile(number: str, meaning: str, estimate: Estimate) -> str:
    limits = "" if math.isnan(estimate.low) else f"[{points(estimate.low)}, {points(estimate.high)}]"
    return f'<div class="tile"><b>{escape(number)}</b><span>{escape(meaning)}</span><span>{limits}</span></div>'


def _sizes(analysis: Analysis, confidence: float, k: int) -> str:
    grid, quality = analysis.grid, quality_of(analysis.grid)
    columns = [Head("Size", text=True), Head("Parameters"), Head("FLOPs", "per example"), Head("Seeds")]
    name = quality.name[0].upper() + quality.name[1:]
    columns += [Head(name, "" if quality.unit.strip() == name else quality.unit.strip())]
    columns += [Head("Lowest run"), Head("Highest run")]
    rows: list[list[Cell | str]] = []
    for size in grid.sizes:
        low, high = (100 * limit for limit in (size.quality.min(), size.quality.max()))
        rows.append(
            [
                size.name,
                count_cell(size.parameters),
                number_cell(size.flops_per_example or math.nan, ".3g"),
                count_cell(len(size.seeds)),
                estimate_cell(analysis.quality[size.name]),
                Cell(f"{low:.2f}", order=low),
                Cell(f"{high:.2f}", order=high),
            ]
        )
    caption = f"Sizes of {grid.dataset}, {grid.examples:,} examples of split {grid.split}"
    reading = f"{name}: mean over seeds and its {100 * confidence:g} % interval."
    return table(f"sizes-{k}", caption, reading, columns, rows)


def _share_cell(shares: LeastShares) -> Cell:
    share = 100 * shares.within_epsilon
    return Cell("–" if math.isnan(share) else f"{share:.1f}", order=share)


def _across(analyses: Sequence[Analysis], confidence: float) -> str:
    columns = [Head("Dataset", text=True), Head("Examples"), Head("Sizes", text=True)]
    columns += [Head("Smaller"), Head("Larger"), Head("Difference", "points"), Head("Over random", "points")]
    columns.append(Head("Curve", text=True))
    columns += [Head("Half the gain", "% deferred"), Head("Within ε", "% deferred"), Head("Disagree", "%")]
    rows: list[list[Cell | str]] = []
    for k, analysis in enumerate(analyses):
        name = analysis.grid.dataset
        cells: list[Cell | str] = [
            Cell(name, quality_of(analysis.grid).axis, name, drawing=f'<a href="#dataset-{k}">{escape(name)}</a>'),
            count_cell(analysis.grid.examples),
        ]
        pair = analysis.deployable.widest
        if pair is None:
            cells += [analysis.grid.sizes[0].name, estimate_cell(analysis.quality[analysis.grid.sizes[0].name])]
            cells += [Cell("–", order=math.nan)] * 7
        else:
            cells += [
                f"{pair.small} → {pair.large}",
                estimate_cell(analysis.quality[pair.small]),
                estimate_cell(analysis.quality[pair.large]),
                estimate_cell(pair.gap, sign=True),
                estimate_cell(pair.area["margin"], sign=True),
                Cell("", order=pair.area["margin"].value, drawing=sparkline(pair)),
                estimate_cell(pair.least_share["margin"].half, 1) if pair.gap.above_zero else Cell("–", order=math.nan),
                _share_cell(pair.least_share["margin"]),
                estimate_cell(pair.disagreement, 1),
            ]
        rows.append(cells)
    reading = (
        f"Smallest against largest size, ranked by margin, with {100 * confidence:g} % intervals. Over random: "
        "Table 3. Half the gain: the least share deferred that has half of the difference, where there is one. "
        "Within ε: the least that is shown to be at most metrics.epsilon below the larger model."
    )
    if any(analysis.context for analysis in analyses):
        reading += f" {context_note([analysis.deployable for analysis in analyses])}"
    return table("datasets", "Every dataset at a glance", reading, columns, rows)
