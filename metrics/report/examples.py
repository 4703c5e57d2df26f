"""The examples for the page's browser: what each run said about each, as columns small enough to travel with the page.

All examples if they fit; else those that `metrics/analysis/shown_examples.py` chooses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metrics.analysis.dataset import Analysis
from metrics.analysis.shown_examples import chosen, dispute, example_quality
from metrics.grid.runs import Grid
from metrics.report.measure import quality_of
from metrics.report.packing import Pack, json_block
from metrics.report.words import score_title, slice_name
from metrics.scores import Strings, indices
from metrics.statistics.churn import differing_pairs

Names = Mapping[tuple[str, str, int], str]  # (dataset, size, seed) -> the name of the run's scores

_CONTEXTS = {"gold": "of the gold answer", "self": "of its own output"}  # whose tokens a sequence's uncertainty is of
_BUDGET = 9_000_000  # bytes of the page, over all datasets
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
    grid, count = analysis.grid, len(analysis.rows)
    disputes = dispute(grid, analysis.rows)
    uncertainty = analysis.percentiles[grid.sizes[0].name]["margin"].astype(np.int64)
    said = _said(analysis)
    while True:
        block = _block(analysis, names, said, chosen(disputes, uncertainty, count))
        size = len(block["data"])
        if size <= budget or count <= 1:
            return block
        count = max(1, min(count - 1, int(0.97 * count * budget / size)))


@dataclass
class _Said:
    """What is to be said of the rows to show, and what each run says: places in `texts`, which has each text once."""

    texts: list[str]
    target: np.ndarray  # [m] int
    predictions: list[np.ndarray]  # of each size, [R, m] int

    def take(self, places: np.ndarray) -> "_Said":
        return _Said(self.texts, self.target[places], [of_size[:, places] for of_size in self.predictions])

    def by_row(self) -> "_Said":
        """With the texts that are used, example by example: those of one are much alike, and so pack small."""
        columns = np.concatenate([self.target[None], *self.predictions])  # [1 + runs, m]
        used, first, inverse = np.unique(columns.T, return_index=True, return_inverse=True)
        order = np.argsort(first)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        renumbered = place[inverse.reshape(columns.T.shape)].T
        ends = np.cumsum([len(of_size) for of_size in self.predictions])
        of_sizes = np.split(renumbered[1:], ends[:-1])
        return _Said([self.texts[code] for code in used[order]], renumbered[0], of_sizes)


def _said(analysis: Analysis) -> _Said:
    """Of classes by their number, of other answers in the runs' own words."""
    grid, rows = analysis.grid, analysis.rows
    texts = _Texts(grid.classes)
    target = texts.codes(grid.target.take(rows))
    if grid.classes:
        predictions = [size.prediction[:, rows] for size in grid.sizes]
    else:
        # one run's file at a time
        predictions = [
            np.stack([texts.codes(run.predictions().take(rows)) for run in size.runs]) for size in grid.sizes
        ]
    return _Said(texts, target, predictions)


class _Texts(list[str]):
    """Every text once, classes first."""

    def __init__(self, classes: Sequence[str]):
        super().__init__(classes)
        self._place = {text: code for code, text in enumerate(self)}

    def codes(self, column: Strings) -> np.ndarray:
        """[m] int64, each row's place; texts that are new are added."""
        used, inverse = np.unique(column.codes, return_inverse=True)
        places = []
        for code in used:
            text = column.values[code]
            if text not in self._place:
                self._place[text] = len(self)
                self.append(text)
            places.append(self._place[text])
        return np.array(places, dtype=np.int64)[inverse]


def _block(analysis: Analysis, names: Names, said: _Said, places: np.ndarray) -> dict[str, Any]:
    """`places` [m] are among the analysis' rows."""
    grid, pack, quality = analysis.grid, Pack(), quality_of(analysis.grid)
    rows = analysis.rows[places]
    said = said.take(places)
    if not grid.classes:
        said = said.by_row()
    pack.add("row", rows.astype(np.uint32))
    pack.add_texts("id", [_clipped(text) for text in grid.example_id.take(indices(rows)).to_pylist()])
    pack.add_codes("target", said.target, len(said.texts))
    slices = []
    for k, name in enumerate(sorted(grid.slices)):
        column = grid.slices[name].take(rows)
        values = sorted({column.values[code] for code in np.unique(column.codes) if code >= 0})
        codes = column.recoded(values)
        pack.add_texts(f"slice.{k}.value", [_clipped(value) for value in values])
        pack.add_codes(f"slice.{k}", np.where(codes < 0, len(values), codes), len(values) + 1)
        slices.append({"name": slice_name(name), "values": len(values)})
    sizes = []
    for k in range(len(grid.sizes)):
        pack.add_codes(f"{k}.prediction", said.predictions[k], len(said.texts))
        sizes.append({**_add_size(pack, k, grid, names, rows), "scores": _add_scores(pack, k, analysis, places)})
    pack.add_texts("text", [_clipped(text) for text in said.texts])
    return pack.block(
        dataset=grid.dataset,
        split=grid.split,
        count=len(rows),
        examples=grid.examples,
        quality={"name": quality.name, "graded": quality.graded, "ofAnExample": quality.of_an_example},
        slices=slices,
        sizes=sizes,
    )


def _add_size(pack: Pack, k: int, grid: Grid, names: Names, rows: np.ndarray) -> dict[str, Any]:
    """Columns of one size.

    `K.right` [R, ⌈n/8⌉] bits, the lowest first, or `K.quality` [R, n] hundredths of BLEU; `K.differing` [n] how many
    pairs of runs differ.
    """
    size = grid.sizes[k]
    quality = np.stack([example_quality(size, run, rows) for run in range(len(size.seeds))])
    if quality.dtype == np.bool_:
        pack.add(f"{k}.right", np.packbits(quality, axis=1, bitorder="little"))
    else:
        pack.add(f"{k}.quality", np.rint(10_000 * quality).astype(np.uint16))
    runs = len(size.seeds)
    pairs = runs * (runs - 1) // 2
    pack.add_codes(f"{k}.differing", differing_pairs(size.prediction[:, rows]), pairs + 1)
    named = [{"seed": seed, "scores": names.get((grid.dataset, size.name, seed), "")} for seed in size.seeds]
    return {"name": size.name, "runs": named, "pairs": pairs}


def _add_scores(pack: Pack, k: int, analysis: Analysis, places: np.ndarray) -> list[dict[str, Any]]:
    """`K.score.SCORE` [n] percentiles in hundredths, of a size that can defer; of a sequence in both contexts."""
    size = analysis.grid.sizes[k].name
    scores: list[dict[str, Any]] = []
    known: dict[int, str] = {}
    for reading in analysis.contexts:
        for score, values in reading.percentiles.get(size, {}).items():
            name, title = score, score_title(score)
            if reading.context and not score.endswith("churn"):  # which predictions alone make
                name, title = f"{score}.{reading.context}", f"{title} {_CONTEXTS[reading.context]}"
            elif reading is not analysis.deployable:
                continue
            column = known.setdefault(id(values), f"{k}.score.{name}")
            if column == f"{k}.score.{name}":
                pack.add(column, values[places])
            scores.append({"name": name, "title": title, "column": column})
    return scores


def _clipped(text: str) -> str:
    if len(text) <= _LONGEST_TEXT:
        return text
    return f"{text[:_LONGEST_TEXT]} … ({len(text):,} characters in all)"


CONTROLS = """
<form class="controls" id="example-controls" aria-label="Which examples are listed">
<label data-several>Dataset <select name="dataset"></select></label>
<label>Smaller model <select name="small"></select></label>
<label>Larger model <select name="large"></select></label>
<label><span data-who>Who is right</span> <select name="who"></select></label>
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
