"""What two strings say about each other: SQuAD's exact match and F1, and BLEU from its sufficient statistics.

SQuAD's normalisation, exact match and F1 are those of its published evaluation (Rajpurkar et al. 2016). BLEU (Papineni
et al. 2002) is sacreBLEU's: its code counts n-grams; corpus BLEU of sums of the counts is computed here, on whole
arrays of sums at once. sacreBLEU is imported where it is needed alone.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

TOKENIZE = "intl"  # sacreBLEU's tokenizer of the WMT results that T5 reports

_ORDERS = 4
_ALMOST_NOTHING = 1e-6  # of an expected count: above what rounding makes of 0
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
    """SQuAD's normalisation: lower case, no ASCII punctuation, no article (a, an, the), single spaces."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def exact_match(prediction: str, golds: Sequence[str]) -> bool:
    """Whether the prediction is one of the golds, all normalised. ValueError without a gold."""
    return bool(_best(lambda gold: float(normalized(prediction) == normalized(gold)), golds))


def f1(prediction: str, golds: Sequence[str]) -> float:
    """F1 of the words shared with a gold, 0-1, all normalised, max over golds. ValueError without a gold.

    Where either side has no word left, 1 if neither has, else 0 (as SQuAD 2.0's evaluation does).
    """
    words = normalized(prediction).split()

    def of(gold: str) -> float:
        expected = normalized(gold).split()
        if not words or not expected:
            return float(words == expected)
        shared = sum((Counter(words) & Counter(expected)).values())
        # 2PR / (P + R) with P = shared / |words| and R = shared / |expected|
        return 2.0 * shared / (len(words) + len(expected))

    return _best(of, golds)


def _best(of: Callable[[str], float], golds: Sequence[str]) -> float:
    if isinstance(golds, str) or not golds:
        raise ValueError(f"golds={golds!r}: expected a sequence of one gold answer or more")
    return max(map(of, golds))


def bleu_statistics(
    hypotheses: Sequence[str], references: Sequence[str | Sequence[str]], tokenize: str = TOKENIZE
) -> np.ndarray:
    """Each sentence's sufficient statistics of corpus BLEU, by sacreBLEU: [n, 10] int32.

    A row is the hypothesis' length, the reference's length, matches of 1- to 4-grams and totals of 1- to 4-grams, in
    tokens of sacreBLEU's tokenizer `tokenize`. Case counts. `references` has one text a hypothesis, or several: then
    the length is that of the closest one, and an n-gram matches as often as it occurs in the one that has most of it.
    ValueError unless there are references for each hypothesis.
    """
    from sacrebleu.metrics.bleu import BLEU

    # It doesn't touch the counts, but without it sacreBLEU warns of scores of single sentences, which aren't used.
    bleu = BLEU(tokenize=tokenize, effective_order=True)
    rows = []
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        texts = [reference] if isinstance(reference, str) else list(reference)
        if not texts:
            raise ValueError(f"no reference for the hypothesis {hypothesis!r}: expected one or more")
        score = bleu.sentence_score(hypothesis, texts)
        rows.append((score.sys_len, score.ref_len, *score.counts, *score.totals))
    return np.array(rows, dtype=np.int32).reshape(len(rows), 2 + 2 * _ORDERS)


def corpus_bleu(stats: np.ndarray) -> np.ndarray:
    """Corpus BLEU, 0-100, of sums of sentences' statistics: [..., 10] -> [...] float64.

    As sacreBLEU computes it by default: exponential smoothing (the k-th order without a match counts 1 / 2^k), no
    effective order (a corpus without a single 4-gram scores 0). Sums may be fractional: those of a random mixture of
    two systems, in expectation. Then an order has no match if it has fewer than its smoothing would give it, which
    keeps the score from jumping where a sum's rounding makes almost nothing of nothing.
    """
    stats = np.asarray(stats)
    length, reference = stats[..., 0], stats[..., 1]
    precisions = np.ones(stats.shape[:-1])  # the product of the four
    smoothing = np.ones(stats.shape[:-1])
    with np.errstate(divide="ignore", invalid="ignore"):
        for order in range(_ORDERS):
            matches, totals = stats[..., 2 + order], stats[..., 2 + _ORDERS + order]
            none = matches < smoothing / 2
            if none.any():
                smoothing = np.where(none, smoothing / 2, smoothing)
                matches = np.where(none, smoothing, matches)
            precisions *= np.minimum(matches / totals, 1.0)
        score = 100.0 * np.sqrt(np.sqrt(precisions))  # their geometric mean
        short = length < reference
        if short.any():
            score = np.where(short, score * np.exp(1 - reference / length), score)
    some_match = (stats[..., 2 : 2 + _ORDERS] >= 0.5).any(axis=-1)
    return np.where(some_match & (stats[..., 2 + _ORDERS :] > _ALMOST_NOTHING).all(axis=-1), score, 0.0)


def sentence_bleu(stats: np.ndarray) -> np.ndarray:
    """BLEU, 0-100, of single sentences: [..., 10] -> [...] float64.

    As sacreBLEU's sentence score: smoothed as `corpus_bleu`, over the orders that the hypothesis is long enough for.
    """
    stats = np.asarray(stats)
    length, reference = stats[..., 0].astype(np.float64), stats[..., 1]
    log_precisions, smoothing = np.zeros(stats.shape[:-1]), np.ones(stats.shape[:-1])
    with np.errstate(divide="ignore", invalid="ignore"):
        for order in range(_ORDERS):
            matches, totals = stats[..., 2 + order], stats[..., 2 + _ORDERS + order]
            smoothing = np.where(matches == 0, smoothing / 2, smoothing)
            log_precision = np.log(np.where(matches == 0, smoothing, matches) / totals)
            log_precisions += np.where(totals > 0, log_precision, 0.0)
        orders = (stats[..., 2 + _ORDERS :] > 0).sum(axis=-1)
        brevity = np.where(length < reference, np.exp(1 - reference / length), 1.0)
        score = 100.0 * brevity * np.exp(log_precisions / orders)
    return np.where((stats[..., 2 : 2 + _ORDERS] > 0).any(axis=-1), score, 0.0)


def bleu_signature(tokenize: str = TOKENIZE, reference_counts: Collection[int] = (1,)) -> str:
    """Returns sacreBLEU's signature of what `bleu_statistics` and `corpus_bleu` make, its version included.

    `reference_counts` are the numbers of references that sentences have: `nrefs` is `var` if there are several.
    """
    from sacrebleu.metrics.bleu import BLEU

    # A signature says how many references there are, so it wants to have seen them: one list of sentences a place, and
    # None where a sentence has no reference in that place.
    places: list[list[Any]] = [
        ["" if place < count else None for count in reference_counts] for place in range(max(reference_counts))
    ]
    return str(BLEU(tokenize=tokenize, references=places).get_signature())
