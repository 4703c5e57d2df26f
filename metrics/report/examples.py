"""Makes the data and the controls of the page's example browser: what each run predicts for each example.

All examples are in the page if they fit; otherwise those that `metrics/analysis/shown_examples.py` chooses. What an
example says, and how sure the sizes are of it, is in a block of its own: `metrics/report/example_details.py`.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis
from metrics.analysis.shown_examples import chosen, dispute, example_quality
from metrics.grid.runs import Grid
from metrics.report.example_details import (
    DETAILS_BUDGET,
    LONGEST_TEXT,
    clipped,
    details_block,
    shown_texts,
    sureness_of,
)
from metrics.report.measure import quality_of
from metrics.report.packing import Pack, json_block
from metrics.report.words import score_title, slice_name
from metrics.scores import Strings, indices
from metrics.statistics.churn import differing_pairs

ScoresNames = Mapping[tuple[str, str, int], str]  # (dataset, size, seed) -> the name of the run's scores

_CONTEXTS = {"gold": "of the gold answer", "self": "of its own output"}  # whose tokens a sequence's uncertainty is of
BUDGET = 9_000_000  # bytes of the page, over all datasets


def example_blocks(
    analyses: Sequence[Analysis], inputs: Sequence[Mapping[str, Any]], config: Metrics, with_text: bool
) -> list[str]:
    """Returns two JSON blocks a dataset, with the ids `examples-0`, `details-0` and so on.

    The data of the first ones take at most `BUDGET` bytes together. `inputs` are the entries of summary.json, one a
    run, which name its scores. Without `with_text` no block holds what an example says, nor, where answers are text,
    what is answered.
    """
    names = {(one["dataset"], one["size"], one["seed"]): one["name"] for one in inputs}
    left, left_for_details, blocks = BUDGET, DETAILS_BUDGET, {}
    # the small datasets first: what they leave of their share, the large ones get
    order = sorted(range(len(analyses)), key=lambda k: (analyses[k].grid.examples, k))
    for place, k in enumerate(order):
        remaining = len(order) - place
        analysis = analyses[k]
        with ThreadPoolExecutor(1) as beside:  # packing, which is compression, and reading scores again
            sureness = beside.submit(sureness_of, analysis, config)
            block, places = _fitting(analysis, names, left // remaining, with_text)
        left -= len(block["data"])
        rows = analysis.rows[places]
        details = details_block(
            analysis,
            [size.take(places) for size in sureness.result()],
            shown_texts(analysis, rows) if with_text else None,
            left_for_details // remaining,
            config,
        )
        left_for_details -= min(len(details["data"]), left_for_details // remaining)
        blocks[k] = json_block(f"examples-{k}", block) + json_block(f"details-{k}", details)
    return [blocks[k] for k in range(len(analyses))]


def _fitting(analysis: Analysis, names: ScoresNames, budget: int, with_text: bool) -> tuple[dict[str, Any], np.ndarray]:
    """Returns a dataset's block with as many examples as fit `budget` bytes, at least one, and which they are.

    The places [m] index `analysis.rows`.
    """
    grid, count = analysis.grid, len(analysis.rows)
    disputes = dispute(grid, analysis.rows)
    uncertainty = analysis.percentiles[grid.sizes[0].name]["margin"].astype(np.int64)
    answers = _answers_to_shown_rows(analysis)
    while True:
        places = chosen(disputes, uncertainty, count)
        block = _block(analysis, names, answers, places, with_text)
        size = len(block["data"])
        if size <= budget or count <= 1:
            return block, places
        count = max(1, min(count - 1, int(0.97 * count * budget / size)))


@dataclass
class _Answers:
    """Holds m examples' targets and predictions as indices into `texts`, which has each text once."""

    texts: list[str]
    target: np.ndarray  # [m] int
    predictions: list[np.ndarray]  # of each size, [R, m] int

    def take(self, places: np.ndarray) -> "_Answers":
        """Returns the answers of some of the examples; all texts are kept."""
        return _Answers(self.texts, self.target[places], [answers[:, places] for answers in self.predictions])

    def in_example_order(self) -> "_Answers":
        """Returns the same with the texts in use only, example by example: one's are alike, so they compress well."""
        columns = np.concatenate([self.target[None], *self.predictions])  # [1 + runs, m]
        used, first, inverse = np.unique(columns.T, return_index=True, return_inverse=True)
        order = np.argsort(first)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        renumbered = place[inverse.reshape(columns.T.shape)].T
        ends = np.cumsum([len(answers) for answers in self.predictions])
        predictions = np.split(renumbered[1:], ends[:-1])
        return _Answers([self.texts[code] for code in used[order]], renumbered[0], predictions)


def _answers_to_shown_rows(analysis: Analysis) -> _Answers:
    """Returns targets and predictions of the rows to show; the texts are the classes, or the runs' own words."""
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
    return _Answers(texts, target, predictions)


class _Texts(list[str]):
    """Lists every text once, classes first, and knows each one's place."""

    def __init__(self, classes: Sequence[str]):
        super().__init__(classes)
        self._place = {text: code for code, text in enumerate(self)}

    def codes(self, column: Strings) -> np.ndarray:
        """Returns the place of each of m rows, [m] int64; texts that are new are added."""
        used, inverse = np.unique(column.codes, return_inverse=True)
        places = []
        for code in used:
            text = column.values[code]
            if text not in self._place:
                self._place[text] = len(self)
                self.append(text)
            places.append(self._place[text])
        return np.array(places, dtype=np.int64)[inverse]


def _block(
    analysis: Analysis, names: ScoresNames, answers: _Answers, places: np.ndarray, with_text: bool
) -> dict[str, Any]:
    """Returns a dataset's block; `places` [m] index `analysis.rows` and say which of them it holds."""
    grid, pack, quality = analysis.grid, Pack(), quality_of(analysis.grid)
    rows = analysis.rows[places]
    answers = answers.take(places)
    if not grid.classes:
        answers = answers.in_example_order()
    pack.add("row", rows.astype(np.uint32))
    pack.add_joined("id", [_clipped(text) for text in grid.example_id.take(indices(rows)).to_pylist()])
    pack.add_codes("target", answers.target, len(answers.texts))
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
        pack.add_codes(f"{k}.prediction", answers.predictions[k], len(answers.texts))
        sizes.append({**_add_size(pack, k, grid, names, rows), "scores": _add_scores(pack, k, analysis, places)})
    written = answers.texts
    if not grid.classes and not with_text:  # which runs agree is shown all the same
        written = [f"answer {number}" for number in range(1, len(written) + 1)]
    pack.add_texts("text", [_clipped(text) for text in written])
    return pack.block(
        dataset=grid.dataset,
        split=grid.split,
        count=len(rows),
        examples=grid.examples,
        quality={"name": quality.name, "graded": quality.graded, "ofAnExample": quality.of_an_example},
        slices=slices,
        sizes=sizes,
    )


def _add_size(pack: Pack, k: int, grid: Grid, names: ScoresNames, rows: np.ndarray) -> dict[str, Any]:
    """Packs the columns of size number `k` and returns its header.

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
    """Packs each score's percentiles as `K.score.SCORE`, [n] in hundredths, and returns the scores' headers.

    Only sizes that can defer have scores; a sequence's are there in both contexts. Equal columns are packed once.
    """
    size = analysis.grid.sizes[k].name
    scores: list[dict[str, Any]] = []
    packed: dict[int, str] = {}  # id of the values -> name of their column
    for by_context in analysis.contexts:
        for score, values in by_context.percentiles.get(size, {}).items():
            name, title = score, score_title(score)
            if by_context.context and not score.endswith("churn"):  # churn is of predictions, not of tokens
                name, title = f"{score}.{by_context.context}", f"{title} {_CONTEXTS[by_context.context]}"
            elif by_context is not analysis.deployable:
                continue
            column = packed.setdefault(id(values), f"{k}.score.{name}")
            if column == f"{k}.score.{name}":
                pack.add(column, values[places])
            scores.append({"name": name, "title": title, "column": column})
    return scores


def _clipped(text: str) -> str:
    return clipped(text, LONGEST_TEXT)


_TEXT_LEFT_OUT = (
    "The texts of the examples were left out of this page (report.text), and so were answers that are text: a number "
    "stands in their place, the same for the same answer."
)
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
placeholder="text, id, target, prediction, slice"></label>
<label>Sort by <select name="sort"></select></label>
<button type="reset">Reset</button>
</form>
"""


def example_section(with_text: bool) -> str:
    """Returns the HTML of the controls, the empty list and the panel for one example; the script fills them.

    Without `with_text` it says that the texts were left out.
    """
    left_out = "" if with_text else f'<p class="soft" id="no-text">{_TEXT_LEFT_OUT}</p>'
    unscripted = "The example browser needs JavaScript. The scores artifacts hold every example."
    return (
        f'{left_out}<p class="soft unscripted">{unscripted}</p>'
        '<div id="example-view" hidden>' + CONTROLS + '<p id="example-scope" class="soft">'
        '</p><p id="example-count" role="status"></p>'
        '<div id="example-list" class="list" role="region" tabindex="0" aria-label="Examples: arrow keys move, Enter '
        'opens"><table><thead></thead><tbody></tbody></table></div>'
        '<div id="example-detail" class="detail" role="region" aria-label="The chosen example"></div></div>'
    )
