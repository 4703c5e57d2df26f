"""The examples for the page's browser: what each run said about each, as columns small enough to travel with the page.

All examples if they fit; else the half of the room goes to those whose right and wrong the sizes and seeds dispute
most, the rest to those the smallest size is least certain of. Which ones is a function of the scores alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metrics.analysis import Analysis
from metrics.churn import differing_pairs
from metrics.grid import Grid, SizeRuns
from metrics.report.packing import Pack, json_block
from metrics.report.quality import quality_of
from metrics.report.words import score_title, slice_name

Names = Mapping[tuple[str, str, int], str]  # (dataset, size, seed) -> the name of the run's scores

_BUDGET = 9_000_000  # bytes of the page, over all datasets
_MOST_EXAMPLES = 150_000  # of one dataset: more never fit, and would be packed in vain
_LONGEST_TEXT = 4_000  # characters of a prediction, a target or an id


def example_blocks(analyses: Sequence[Analysis], inputs: Sequence[Mapping[str, Any]]) -> list[str]:
    """One block of data a dataset, `examples-0` …, within the budget together. `inputs` name each run's scores."""
    names = {(one["dataset"], one["size"], one["seed"]): one["name"] for one in inputs}
    left, blocks = _BUDGET, {}
    # the small ones first: what they don't need of their share, the large ones get
    order = sorted(range(len(analyses)), key=lambda k: (analyses[k].grid.examples, k))
    for place, k in enumerate(order):
        block = _fitting(analyses[k], names, left // (len(order) - place))
        left -= len(block["data"])
        blocks[k] = json_block(f"examples-{k}", block)
    return [blocks[k] for k in range(len(analyses))]


def _fitting(analysis: Analysis, names: Names, budget: int) -> dict[str, Any]:
    count = min(analysis.grid.examples, _MOST_EXAMPLES)
    while True:
        block = _block(analysis, names, chosen(analysis, count))
        size = len(block["data"])
        if size <= budget or count <= 1:
            return block
        count = max(1, min(count - 1, int(0.97 * count * budget / size)))


def chosen(analysis: Analysis, count: int) -> np.ndarray:
    """Rows of the examples to show, ascending: all of them, or `count` by dispute and by uncertainty, half and half."""
    grid = analysis.grid
    if count >= grid.examples:
        return np.arange(grid.examples)
    right = np.mean([size.correct.mean(axis=0) for size in grid.sizes], axis=0)  # [n], sizes count alike
    uncertainty = analysis.percentiles[grid.sizes[0].name]["margin"]
    # the last key decides first; equal ones by uncertainty, then by row
    disputed = np.lexsort((-uncertainty, -right * (1 - right)))[: count - count // 2]
    rest = np.setdiff1d(np.arange(grid.examples), disputed)
    uncertain = rest[np.argsort(-uncertainty[rest], kind="stable")[: count // 2]]
    return np.sort(np.concatenate([disputed, uncertain]))


def _block(analysis: Analysis, names: Names, rows: np.ndarray) -> dict[str, Any]:
    grid, pack, n = analysis.grid, Pack(), len(rows)
    pack.add("row", rows.astype(np.uint32))
    pack.add_texts("id", [_clipped(text) for text in grid.example_id[rows]])
    codes = {text: code for code, text in enumerate(grid.classes)}
    targets = grid.target[rows]
    texts = [*grid.classes, *dict.fromkeys(text for text in targets if text not in codes)]
    codes = {text: code for code, text in enumerate(texts)}
    pack.add_texts("text", [_clipped(text) for text in texts])
    pack.add_codes("target", np.array([codes[text] for text in targets], dtype=np.int64), len(texts))
    slices = []
    for k, name in enumerate(sorted(grid.slices)):
        column = grid.slices[name][rows]
        values = sorted({value for value in column if value is not None})
        numbers = {value: code for code, value in enumerate(values)} | {None: len(values)}
        pack.add_texts(f"slice.{k}.value", [_clipped(value) for value in values])
        pack.add_codes(f"slice.{k}", np.array([numbers[value] for value in column], dtype=np.int64), len(values) + 1)
        slices.append({"name": slice_name(name), "values": len(values)})
    return pack.block(
        dataset=grid.dataset,
        split=grid.split,
        count=n,
        examples=grid.examples,
        quality={"name": quality_of(grid).name, "graded": quality_of(grid).graded},
        slices=slices,
        sizes=[_add_size(pack, k, size, analysis, names, rows) for k, size in enumerate(grid.sizes)],
    )


def _add_size(pack: Pack, k: int, size: SizeRuns, analysis: Analysis, names: Names, rows: np.ndarray) -> dict[str, Any]:
    """Columns of one size.

    `K.prediction` [R, n] indices into `text`; `K.right` [R, ⌈n/8⌉] bits, the lowest first; `K.differing` [n] how many
    pairs of runs differ; `K.score.SCORE` [n] percentiles of uncertainty in hundredths, of the sizes that can defer.
    """
    grid: Grid = analysis.grid
    prediction = size.prediction[:, rows]
    pack.add_codes(f"{k}.prediction", prediction, int(prediction.max(initial=0)) + 1)
    pack.add(f"{k}.right", np.packbits(size.correct[:, rows], axis=1, bitorder="little"))
    runs = len(size.seeds)
    pairs = runs * (runs - 1) // 2
    pack.add_codes(f"{k}.differing", differing_pairs(prediction), pairs + 1)
    scores: list[dict[str, Any]] = []
    known: dict[int, str] = {}
    if size is not grid.sizes[-1] or len(grid.sizes) == 1:
        for score, values in analysis.percentiles[size.name].items():
            column = known.setdefault(id(values), f"{k}.score.{score}")
            if column == f"{k}.score.{score}":
                pack.add(column, np.rint(100 * values[rows]).astype(np.uint16))
            scores.append({"name": score, "title": score_title(score), "column": column})
    named = [{"seed": seed, "scores": names.get((grid.dataset, size.name, seed), "")} for seed in size.seeds]
    return {"name": size.name, "runs": named, "pairs": pairs, "scores": scores}


def _clipped(text: str) -> str:
    if len(text) <= _LONGEST_TEXT:
        return text
    return f"{text[:_LONGEST_TEXT]} … ({len(text):,} characters in all)"


CONTROLS = """
<form class="controls" id="example-controls" aria-label="Which examples are listed">
<label data-several>Dataset <select name="dataset"></select></label>
<label>Smaller model <select name="small"></select></label>
<label>Larger model <select name="large"></select></label>
<label>Who is right <select name="who"><option value="">anyone or no one</option><option value="both">both</option>
<option value="large">only the larger</option><option value="small">only the smaller</option>
<option value="none">none</option></select></label>
<label>Uncertainty by <select name="score"></select></label>
<span class="two">
<label>Percentile from <input name="from" type="number" min="0" max="100" step="any" value="0"></label>
<label>to <input name="to" type="number" min="0" max="100" step="any" value="100"></label></span>
<label>Churn at least, % <input name="churn" type="number" min="0" max="100" step="any" value="0"></label>
<span id="example-slices"></span>
<label class="search">Search <input name="search" type="search" autocomplete="off" spellcheck="false"
placeholder="id, target, prediction, slice"></label>
<label>Sort by <select name="sort"></select></label>
<button type="reset">Reset</button>
</form>
"""


def example_section() -> str:
    """The controls, the empty list and the panel for one example; the script fills them."""
    return (
        '<p class="soft unscripted">The example browser needs JavaScript. The scores artifacts hold every example.</p>'
        '<div id="example-view" hidden>' + CONTROLS + '<p id="example-scope" class="soft">'
        '</p><p id="example-count" role="status"></p>'
        '<div id="example-list" class="list" role="region" tabindex="0" aria-label="Examples: arrow keys move, Enter '
        'opens"><table><thead></thead><tbody></tbody></table></div>'
        '<div id="example-detail" class="detail" role="region" aria-label="The chosen example"></div></div>'
    )
