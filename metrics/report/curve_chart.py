"""Makes the data and the controls of the interactive switcher curves of every pair of sizes and every score."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from metrics.analysis.dataset import Analysis
from metrics.analysis.pairs import SizePair
from metrics.analysis.prices import Prices
from metrics.beyond.cost import passes
from metrics.report.measure import quality_of
from metrics.report.packing import Pack, json_block
from metrics.report.words import score_title
from metrics.statistics.switcher import FRACTIONS, Bounds

BUDGET = 3_500_000  # bytes of the page for curves of single pairs of runs, over all datasets
# whose tokens a sequence's uncertainty is of; classes have no context
_CONTEXT_TITLES = {None: "", "gold": "the gold answer (reads the label)", "self": "the model's own output (deployable)"}


def curve_blocks(
    analyses: Sequence[Analysis], confidence: float, prices: Sequence[Prices | None] | None = None
) -> list[str]:
    """Returns one JSON block a dataset, with the ids `curves-0` …; none for a dataset with one size.

    The curves of single pairs of runs are most of a block. Where all blocks together would pass `BUDGET` bytes, the
    margin's curves alone are given pair by pair; where those pass it too, none are. Mean curves are always there.
    `prices` are those of each dataset's sizes, where `metrics.price` says them.
    """
    blocks = []
    of_each = prices or [None] * len(analyses)
    shown = [(analysis, own) for analysis, own in zip(analyses, of_each, strict=True) if analysis.pairs]
    for k, (analysis, own) in enumerate(shown):
        for singles in (True, "margin", False):
            block = _block(analysis, confidence, singles, own)
            if len(block["data"]) <= BUDGET // len(shown):
                break
        blocks.append(json_block(f"curves-{k}", block))
    return blocks


def _block(analysis: Analysis, confidence: float, singles: bool | str, prices: Prices | None) -> dict[str, Any]:
    """Returns a dataset's block; `singles` says of which scores single pairs of runs are given: all, none, or one."""
    grid, quality, pack = analysis.grid, quality_of(analysis.grid), Pack()
    return pack.block(
        dataset=grid.dataset,
        split=grid.split,
        examples=grid.examples,
        confidence=confidence,
        quality={"name": quality.name, "axis": quality.axis, "unit": quality.unit, "points": quality.points},
        sizes=[
            {
                "name": size.name,
                "seeds": size.seeds,
                "parameters": size.parameters,
                "flops": size.flops_per_example,
                "price": None if prices is None else prices.of_size[size.name],
            }
            for size in grid.sizes
        ],
        priceUnit=None if prices is None else prices.unit,
        readings=[
            {"title": _CONTEXT_TITLES[one.context], "pairs": _pairs(pack, k, one, singles)}
            for k, one in enumerate(analysis.contexts)
        ],
    )


def _pairs(pack: Pack, context: int, analysis: Analysis, singles: bool | str) -> list[dict[str, Any]]:
    """Returns each pair's sizes and scores; their numbers are packed in columns named `CONTEXT.PAIR.SCORE.PART`.

    Scores that order the examples alike share one curve: `same` names the score that has it.
    """
    place = {size.name: k for k, size in enumerate(analysis.grid.sizes)}
    pairs = []
    for k, pair in enumerate(analysis.pairs):
        scores: list[dict[str, Any]] = []
        for score, statistics in pair.scores.items():
            same = next((one["name"] for one in scores if pair.scores[one["name"]].curve is statistics.curve), None)
            with_singles = singles is True or singles == score
            scores.append(
                {
                    "name": score,
                    "title": score_title(score),
                    "passes": passes(score, pair.committee),
                    "same": same,
                    "singles": with_singles,
                }
            )
            if same is None:
                _add_curve(pack, f"{context}.{k}.{score}", pair, score, with_singles)
        perfect = perfect_router(pair.curve["margin"][0], pair.bounds)
        has_perfect = bool(np.isfinite(perfect).all())
        if has_perfect:
            pack.add(f"{context}.{k}.perfect", perfect.astype(np.float32))
        pairs.append({"small": place[pair.small], "large": place[pair.large], "scores": scores, "perfect": has_perfect})
    return pairs


def _add_curve(pack: Pack, name: str, pair: SizePair, score: str, with_singles: bool) -> None:
    """Packs one score's curves of a pair of sizes.

    The columns are `mean`, `low` and `high`, [101] float32, and with `with_singles` also `range`, [2] float64, and
    `every`, [R_small, R_large, 101] uint16: the curve of each pair of runs as steps, modulo 2¹⁶, from one level to the
    next. A level is 1/65535 of the range, far below the two digits that are shown. Steps compress to about half of
    what levels do.
    """
    low, high = pair.band[score]
    for part, values in (("mean", pair.curve[score]), ("low", low), ("high", high)):
        pack.add(f"{name}.{part}", values.astype(np.float32))
    if with_singles:
        curves = pair.scores[score].curve
        least, most = float(curves.min()), float(curves.max())
        levels = np.rint((curves - least) / ((most - least) or 1.0) * 65535).astype(np.int64)
        steps = np.diff(levels, axis=2, prepend=0) % 2**16
        pack.add(f"{name}.every", steps.astype(np.uint16))
        pack.add(f"{name}.range", np.array([least, most]))


def perfect_router(start: float, bounds: Bounds) -> np.ndarray:
    """Returns the mean curve [101] of a router that knows both models' answers, from the quality `start` on.

    It defers first the fraction w where only the larger model is right, then those where both are alike, and last the
    fraction l' where only the smaller is: the curve rises by w, stays level, and falls by l'. Mean over pairs of runs.
    NaN for BLEU, which has no closed form.
    """
    only_large, only_small = bounds.only_large[..., None], bounds.only_small[..., None]
    gained = np.minimum(FRACTIONS, only_large)
    lost = np.maximum(FRACTIONS - (1 - only_small), 0)
    curve: np.ndarray = start + (gained - lost).mean(axis=(0, 1))  # [R_small, R_large, 101] -> [101]
    return curve


CONTROLS = """
<form class="controls" id="curve-controls" aria-label="What the curves show">
<label data-several>Dataset <select name="dataset"></select></label>
<label>Pair of sizes <select name="pair"></select></label>
<label data-readings>Uncertainty of <select name="reading"></select></label>
<label>Horizontal axis <select name="x"><option value="fraction">examples deferred, %</option>
<option value="cost">cost, FLOPs per example</option>
<option value="price">price per example</option></select></label>
<label>Vertical axis <select name="y"><option value="absolute"></option>
<option value="scaled">scaled: larger model = 1</option></select></label>
<label>Runs <select name="runs"><option value="interval">mean, with interval</option>
<option value="range">mean, with range of all pairs of runs</option>
<option value="every">every pair of runs</option><option value="one">one pair of runs</option></select></label>
<label class="seed">Small seed <select name="small_seed"></select></label>
<label class="seed">Large seed <select name="large_seed"></select></label>
<span class="two"><label>Deferred from, % <input name="from" type="number" min="0" max="99" step="1" value="0"></label>
<label>to, % <input name="to" type="number" min="1" max="100" step="1" value="100"></label></span>
<fieldset><legend>Deferred by</legend><span id="curve-scores"></span></fieldset>
<fieldset><legend>Beside it</legend>
<label class="check"><input type="checkbox" name="random" checked>
<svg class="sample" width="26" height="10" aria-hidden="true"><line x2="26" y1="5" y2="5" stroke-dasharray="4 4"/></svg>
deferral at random</label>
<label class="check" data-perfect><input type="checkbox" name="perfect">
<svg class="sample" width="26" height="10" aria-hidden="true"><line x2="26" y1="5" y2="5" stroke-dasharray="1 3"/></svg>
a perfect router</label></fieldset>
</form>
"""


def curve_section() -> str:
    """Returns the HTML of the controls, the empty chart and its table; the script fills them."""
    return (
        '<p class="soft unscripted">The interactive curves need JavaScript. Figures 4 and 5 show the margin\'s, and '
        "curves/switcher.parquet holds them all.</p>"
        '<div id="curve-view" hidden>' + CONTROLS + '<p class="soft" id="curve-title"></p>'
        '<div class="chart" id="curve-chart"></div>'
        '<label class="cursor">Read off at <input type="range" id="curve-cursor" min="0" max="100" step="1" value="20">'
        ' <output id="curve-at"></output></label>'
        '<div class="wide" role="region" tabindex="0" aria-label="Numbers at the cursor">'
        '<table id="curve-readout"></table></div>'
        '<p class="reading" id="curve-reading"></p>'
        "<details><summary>The curves as a table</summary>"
        '<div class="wide" role="region" tabindex="0" aria-label="The curves as a table">'
        '<table id="curve-table"></table></div>'
        '<p><button type="button" id="curve-csv">Save what is shown as CSV</button></p></details></div>'
    )
