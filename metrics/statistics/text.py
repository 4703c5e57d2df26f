"""Compares an output with its reference: SQuAD's exact match and F1, and BLEU from its sufficient statistics.

SQuAD's normalisation, exact match and F1 are those of its published evaluation (Rajpurkar et al. 2016). BLEU (Papineni
et al. 2002) is sacreBLEU's: its code counts n-grams; corpus BLEU of sums of the counts is computed here, on whole
arrays of sums at once. sacreBLEU is imported only in the functions that need it.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

TOKENIZE = "intl"  # sacreBLEU's tokenizer of the WMT results that T5 reports

_ORDERS = 4  # BLEU counts 1- to 4-grams
_ALMOST_NOTHING = 1e-6  # an expected count below this is 0 and rounding
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
    """Normalises an answer as SQuAD does: lower case, no ASCII punctuation, no article (a, an, the), single spaces."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def exact_match(prediction: str, golds: Sequence[str]) -> bool:
    """Tells whether the prediction is one of the gold answers, all normalised. Raises ValueError without a gold."""
    return bool(_best_over_golds(lambda gold: float(normalized(prediction) == normalized(gold)), golds))


def f1(prediction: str, golds: Sequence[str]) -> float:
    """Computes F1 of the words that prediction and gold answer share, 0-1, all normalised; the best over the golds.

    Where normalising leaves no word of one side, F1 is 0, or 1 if it leaves none of either (as in SQuAD 2.0's
    evaluation). Raises ValueError without a gold.
    """
    words = normalized(prediction).split()

    def f1_with(gold: str) -> float:
        expected = normalized(gold).split()
        if not words or not expected:
            return float(words == expected)
        shared = sum((Counter(words) & Counter(expected)).values())
        # 2PR / (P + R) with P = shared / |words| and R = shared / |expected|
        return 2.0 * shared / (len(words) + len(expected))

    return _best_over_golds(f1_with, golds)


def _best_over_golds(score: Callable[[str], float], golds: Sequence[str]) -> float:
    if isinstance(golds, str) or not golds:
        raise ValueError(f"golds={golds!r}: expected a sequence of one gold answer or more")
    return max(map(score, golds))


def bleu_statistics(
    hypotheses: Sequence[str], references: Sequence[str | Sequence[str]], tokenize: str = TOKENIZE
) -> np.ndarray:
    """Counts each sentence's sufficient statistics of corpus BLEU, by sacreBLEU: [n, 10] int32.

    A row is the hypothesis' length, the reference's length, matches of 1- to 4-grams and totals of 1- to 4-grams, in
    tokens of sacreBLEU's tokenizer `tokenize`. Case matters. `references` has one text a hypothesis, or several: then
    the length is that of the closest one, and an n-gram matches as often as it occurs in the one that has most of it.
    Raises ValueError unless there are references for each hypothesis.
    """
    from sacrebleu.metrics.bleu import BLEU

    # `effective_order` doesn't change the counts; without it sacreBLEU warns about sentences' scores, unused here.
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
    """Computes corpus BLEU, 0-100, from sums of sentences' statistics: [..., 10] -> [...] float64.

    The formula is sacreBLEU's default (Papineni et al. 2002): exponential smoothing (the k-th order without a match
    counts 1 / 2^k matches), no effective order (a corpus without a single 4-gram scores 0). Sums may be fractional, as
    the expected sums of a random mixture of two systems are. Then an order with fewer matches than its smoothing would
    give it counts as one without a match, so that the score doesn't jump where rounding turns 0 into a tiny number.
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
    """Computes BLEU, 0-100, of single sentences from their statistics: [..., 10] -> [...] float64.

    The formula is that of sacreBLEU's sentence score: smoothed as in `corpus_bleu`, over the orders of n-grams that the
    hypothesis is long enough for.
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


def check_tokenizer(tokenize: str) -> None:
    """Raises ValueError where sacreBLEU has no such tokenizer, or lacks what the tokenizer takes: a package, a file."""
    from sacrebleu.metrics.bleu import BLEU

    if tokenize not in BLEU.TOKENIZERS:
        raise ValueError(f"expected one of sacreBLEU's tokenizers, {', '.join(BLEU.TOKENIZERS)}")
    try:
        BLEU(tokenize=tokenize)
    except (RuntimeError, ImportError, OSError) as error:  # some need a package, or a file from the network
        raise ValueError(f"sacreBLEU can't use this tokenizer here: {' '.join(str(error).split())}") from None


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
