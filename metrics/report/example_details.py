"""Makes the second data block of the example browser: what each example says, and how sure each size is of it.

Texts are most of it: they have what the numbers leave of a budget, and are cut where they do not fit; the page says
after how many characters. Of probabilities there is a mean over the runs of a size: of every class where there are few,
otherwise of the likeliest.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from conf.machine import cores
from conf.schema import Metrics
from metrics.analysis.dataset import Analysis
from metrics.analysis.prices import prices_of
from metrics.grid.runs import SizeRuns
from metrics.report.packing import Pack
from metrics.report.picture import recommended_share
from metrics.scores import indices
from metrics.statistics.uncertainty import log_margin, log_probabilities, sequence_margin

DETAILS_BUDGET = 6_500_000  # bytes of the page, over all datasets
LONGEST_TEXT = 4_000  # characters of an example's text, wherever there is room
_SHORTEST_TEXT = 20
_SAMPLE = 2_000  # texts that are packed to foresee how small all of them get
FEW_CLASSES = 4  # up to so many, the page has the probability of each
_LIKELIEST = 3  # of more classes, it has those of so many
_STEPS = 1_000  # of a probability and a margin: three digits, as the page shows them
_FRACTIONS = np.arange(101) / 100


@dataclass
class Sureness:
    """Holds how sure the runs of one size are of m examples, as means over the runs."""

    margin: np.ndarray  # [m] float64, p₁ - p₂; of sequences a mean over tokens
    thresholds: np.ndarray | None  # [101] float64, the margin up to which 0, 1, … 100 % of the examples are deferred
    probabilities: np.ndarray | None  # [m, K] float64; None of sequences

    def take(self, places: np.ndarray) -> "Sureness":
        """Returns the same of some of the examples; the thresholds stay those of all."""
        probabilities = None if self.probabilities is None else self.probabilities[places]
        return Sureness(self.margin[places], self.thresholds, probabilities)


def details_block(
    analysis: Analysis, sureness: Sequence[Sureness], texts: Sequence[str] | None, budget: int, config: Metrics
) -> dict[str, Any]:
    """Returns the content of a dataset's block.

    `sureness` is that of each size on the examples shown, `texts` are theirs, None where there are none to show.
    Texts are cut so that the block takes about `budget` bytes of the page.
    """
    pack = Pack()
    for k, size in enumerate(sureness):
        _add_sureness(pack, k, size)
    longest = None
    if texts is not None:
        longest = longest_that_fits(texts, budget - len(pack.block()["data"]))
        pack.add_joined("text", [clipped(text, longest) for text in texts])
    return pack.block(
        dataset=analysis.grid.dataset,
        longest=longest,
        cut=longest is not None and any(len(text) > longest for text in texts or ()),
        classes=len(analysis.grid.classes),
        likeliest=_LIKELIEST if len(analysis.grid.classes) > FEW_CLASSES else None,
        thresholds=all(size.thresholds is not None for size in sureness),
        recommended=_recommended(analysis, config),
    )


def _recommended(analysis: Analysis, config: Metrics) -> float | None:
    """Returns the share of examples, 0-1, that the overview recommends to defer from the smallest to the largest size.

    None where it recommends none.
    """
    analysis = analysis.deployable
    prices = prices_of(config, analysis.grid)
    share = math.nan if analysis.widest is None else recommended_share(analysis, analysis.widest, prices)
    return None if math.isnan(share) else share


def shown_texts(analysis: Analysis, rows: np.ndarray) -> list[str] | None:
    """Returns the input texts of the examples at `rows` [m], "" for one without; None where no scores hold any."""
    column = analysis.grid.text()
    return None if column is None else [text or "" for text in column.take(indices(rows)).to_pylist()]


def longest_that_fits(texts: Sequence[str], budget: int) -> int:
    """Returns the most characters of a text, up to `LONGEST_TEXT`, with which all texts take at most `budget` bytes.

    It is never less than 20 characters, whatever the budget.
    """
    lengths = np.minimum([len(text) for text in texts], LONGEST_TEXT)
    longest = int(max(lengths.max(initial=0), _SHORTEST_TEXT))
    sampled = [texts[int(k)] for k in np.linspace(0, len(texts) - 1, min(_SAMPLE, len(texts)))]
    while longest > _SHORTEST_TEXT:
        packed = _packed_bytes(sampled, longest) * len(texts) / max(1, len(sampled))
        if packed <= budget:
            break
        wanted = np.minimum(lengths, longest).sum() * 0.97 * budget / packed  # characters
        longest = max(_SHORTEST_TEXT, min(longest - 1, _cut_to(lengths, wanted)))
    return longest


def clipped(text: str, longest: int) -> str:
    """Returns the text, cut after `longest` characters where it has more, with a word on how many it has."""
    return text if len(text) <= longest else f"{text[:longest]} … ({len(text):,} characters in all)"


def sureness_of(analysis: Analysis, config: Metrics) -> list[Sureness]:
    """Returns how sure each size is of the examples that the report may show, `analysis.rows`, sizes in order.

    Scores are read again, a run at a time on each core. Of sequences, the tokens are those that the deployable
    uncertainty is of. Where the report may not show all examples, no thresholds are given: they are of all.
    """
    rows, context = analysis.rows, analysis.deployable.context
    whole = len(rows) == analysis.grid.examples

    def of_run(size: SizeRuns, run: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns one run's margins [m], and the probabilities of its classes [m, K]."""
        if context is not None:
            return 1.0 - np.exp(sequence_margin(size.tokens(context, run)))[rows], None
        log_p = log_probabilities(size, run, config.length_normalized, rows)
        return 1.0 - np.exp(log_margin(log_p)), np.exp(log_p)

    def mean_over_runs(size: SizeRuns) -> Sureness:
        margins, thresholds, probabilities = np.zeros(len(rows)), np.zeros(len(_FRACTIONS)), None
        runs: Iterator[tuple[np.ndarray, np.ndarray | None]]
        runs = pool.map(lambda run: of_run(size, run), range(len(size.seeds)))
        for margin, of_classes in runs:
            margins += margin
            thresholds += thresholds_of(margin)
            if of_classes is not None:
                probabilities = of_classes if probabilities is None else probabilities + of_classes
        count = len(size.seeds)
        return Sureness(
            margin=margins / count,
            thresholds=thresholds / count if whole else None,
            probabilities=None if probabilities is None else probabilities / count,
        )

    with ThreadPoolExecutor(cores()) as pool:
        return [mean_over_runs(size) for size in analysis.grid.sizes]


def thresholds_of(margin: np.ndarray) -> np.ndarray:
    """Returns the margins up to which 0, 1, … 100 % of n examples [n] are deferred: [101] float64.

    At fraction f these are the ⌈f n⌉ examples of least margin, so the threshold is the ⌈f n⌉-th least one; at 0, where
    none is deferred, it is 0.
    """
    ordered = np.sort(margin)
    places = np.ceil(np.round(_FRACTIONS * len(ordered), 9)).astype(int)
    return np.where(places > 0, ordered[np.maximum(places, 1) - 1], 0.0)


def _add_sureness(pack: Pack, k: int, size: Sureness) -> None:
    """Packs the columns of size number `k`.

    They are `K.margin` [m] in thousandths, `K.thresholds` [101], and `K.probability` [c, m] in thousandths: of all
    classes, or of the likeliest, which `K.class` [c, m] names.
    """
    pack.add(f"{k}.margin", np.rint(_STEPS * np.clip(size.margin, 0, 1)).astype(np.uint16))
    if size.thresholds is not None:
        pack.add(f"{k}.thresholds", size.thresholds.astype(np.float32))
    probabilities = size.probabilities
    if probabilities is None:
        return
    classes = probabilities.shape[1]
    if classes > FEW_CLASSES:
        likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, :_LIKELIEST]
        pack.add_codes(f"{k}.class", likeliest.T, classes)
        probabilities = np.take_along_axis(probabilities, likeliest, axis=1)
    pack.add(f"{k}.probability", np.rint(_STEPS * probabilities.T).astype(np.uint16))


def _packed_bytes(texts: Sequence[str], longest: int) -> int:
    """Returns how many bytes of the page some texts take, each cut after `longest` characters."""
    pack = Pack()
    pack.add_joined("text", [clipped(text, longest) for text in texts])
    return len(pack.block()["data"])


def _cut_to(lengths: np.ndarray, wanted: float) -> int:
    """Returns the greatest length with which texts of `lengths` [n], cut there, have at most `wanted` characters."""
    ordered = np.sort(lengths)
    n = len(ordered)
    # cut at the k-th length: those before it are whole, the others as long as it
    totals = np.concatenate([[0], np.cumsum(ordered)[:-1]]) + ordered * (n - np.arange(n))
    k = int(np.searchsorted(totals, wanted, side="right"))
    if k == n:
        return int(ordered[-1])
    whole = float(ordered[:k].sum())
    return math.floor((wanted - whole) / (n - k))
