"""SQuAD's measures against cases worked by hand, BLEU against sacreBLEU itself."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU

from metrics.statistics.text import (
    bleu_signature,
    bleu_statistics,
    corpus_bleu,
    exact_match,
    f1,
    normalized,
    sentence_bleu,
)
from tests.support import REPO

WORDS = ("the", "Cat", "cat", "sat", "on", "mat", ",", ".", "naïve", "3.5", "«", "U.S.")
sentences = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Cat.", "cat"),
        ("an apple, a day!", "apple day"),
        ("theatre Aachen another", "theatre aachen another"),  # articles are whole words
        ("U.S.", "us"),
        ("the-cat", "thecat"),  # punctuation goes first, so no article is left
        ("\ta\n the ", ""),
        ("Café «a» b", "café « » b"),  # ASCII punctuation alone
    ],
)
def test_normalisation(text, expected):
    assert normalized(text) == expected


def test_exact_match_takes_any_gold():
    assert exact_match("the Denver Broncos", ["Carolina", "Denver Broncos."])
    assert not exact_match("Denver", ["Denver Broncos"])
    assert exact_match("a", ["the"])


def test_f1():
    assert f1("in the Denver area", ["Denver"]) == pytest.approx(2 * (1 / 3) * 1 / (1 / 3 + 1))
    assert f1("to be or not to be", ["be to be"]) == pytest.approx(2 * (3 / 6) * (3 / 3) / (3 / 6 + 1))
    assert f1("blue", ["red", "blue"]) == 1 and f1("blue", ["red"]) == 0
    assert f1("the", ["a"]) == 1 and f1("the", ["cat"]) == 0 and f1("cat", ["the"]) == 0


@given(st.text(max_size=20), st.lists(st.text(max_size=20), min_size=1, max_size=3))
def test_f1_is_1_where_the_match_is_exact(prediction, golds):
    score = f1(prediction, golds)
    assert 0 <= score <= 1
    if exact_match(prediction, golds):
        assert score == 1


@pytest.mark.parametrize("golds", [[], "a string"])
def test_golds_that_are_none(golds):
    for measure in (exact_match, f1):
        with pytest.raises(ValueError, match="expected a sequence of one gold answer or more"):
            measure("x", golds)


def by_sacrebleu(hypotheses, references, tokenize="intl"):
    return BLEU(tokenize=tokenize).corpus_score(hypotheses, [references])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(sentences, sentences), min_size=1, max_size=6), st.sampled_from(["intl", "13a"]))
def test_corpus_bleu_is_sacrebleus(pairs, tokenize):
    hypotheses, references = map(list, zip(*pairs))
    stats = bleu_statistics(hypotheses, references, tokenize)
    expected = by_sacrebleu(hypotheses, references, tokenize)
    assert stats.shape == (len(pairs), 10) and stats.dtype == np.int32
    total = stats.sum(axis=0)
    assert total.tolist() == [expected.sys_len, expected.ref_len, *expected.counts, *expected.totals]
    assert corpus_bleu(total) == pytest.approx(expected.score, abs=1e-9)


@settings(max_examples=80, deadline=None)
@given(sentences, sentences)
def test_sentence_bleu_is_sacrebleus(hypothesis, reference):
    expected = BLEU(tokenize="intl", effective_order=True).sentence_score(hypothesis, [reference]).score
    stats = bleu_statistics([hypothesis], [reference])
    assert sentence_bleu(stats)[0] == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.data()), min_size=1, max_size=5))
def test_corpus_bleu_of_any_counts_at_once(rows):
    counts = []
    for length, reference, data in rows:
        totals = [max(length - k, 0) for k in range(4)]
        counts.append([length, reference, *(data.draw(st.integers(0, total)) for total in totals), *totals])
    stats = np.array(counts, dtype=np.int32)
    expected = [
        BLEU.compute_bleu(c[2:6], c[6:], c[0], c[1], smooth_method="exp").score for c in (row.tolist() for row in stats)
    ]
    np.testing.assert_allclose(corpus_bleu(stats), expected, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(corpus_bleu(stats[None, :, None]), corpus_bleu(stats)[None, :, None])
    np.testing.assert_array_equal(corpus_bleu(stats.astype(float)), corpus_bleu(stats))


@pytest.mark.parametrize(
    ("hypothesis", "reference"),
    [
        ("", "the cat sat on the mat"),
        ("the cat sat", "the cat sat on the mat"),  # shorter than a 4-gram
        ("mat the on sat cat the", "the cat sat on the mat"),  # no 2-gram
        ("the cat sat on a mat", ""),
        ("dog", "cat"),
        ("", ""),
        ("the cat sat on the mat", "the cat sat on the mat"),
        ("the cat on the mat sat", "the cat sat on the mat"),  # no 4-gram match
    ],
)
def test_degenerate_sentences(hypothesis, reference):
    expected = by_sacrebleu([hypothesis], [reference]).score
    assert corpus_bleu(bleu_statistics([hypothesis], [reference])[0]) == pytest.approx(expected, abs=1e-9)


def test_statistics_of_no_sentence_and_of_too_few_references():
    assert bleu_statistics([], []).shape == (0, 10)
    with pytest.raises(ValueError, match="zip"):
        bleu_statistics(["a"], [])


def test_the_signature_is_sacrebleus():
    bleu = BLEU(tokenize="intl")
    bleu.corpus_score(["a cat"], [["a cat"]])
    assert bleu_signature() == str(bleu.get_signature())
    assert "tok:intl|smooth:exp" in bleu_signature()
    assert "tok:13a" in bleu_signature("13a")


def test_sacrebleu_is_imported_where_it_is_needed_alone():
    code = "import sys; from metrics.statistics import text; text.f1('a', ['b']); assert 'sacrebleu' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=REPO, check=True)
