"""Vocabularies of whole words: marks of punctuation, unknown words, and labels of several words."""

import numpy as np
import pytest

from conf.errors import EdgewiseError
from train.data.tokens import EOS, UNK, Vocabulary
from train.data.words import parted

TEXTS = ["I am not happy with my card.", "is the human happy?", "HUMID, they say: it's humid"] * 3
LABELS = ["hum", "not happy", "Sci/Tech", "c++", "happy"]


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.train([*TEXTS, *LABELS], 200, LABELS, True, LABELS, "word")


def ids(vocabulary, text):
    return vocabulary.encode([text], 50)[0].tolist()


def test_a_mark_of_punctuation_is_a_word_of_its_own(vocabulary) -> None:
    assert vocabulary.of_words
    assert ids(vocabulary, "Happy?") == ids(vocabulary, " happy  ?")
    assert len(ids(vocabulary, "it's my card.")) == 7  # it ' s my card . and EOS
    assert UNK not in ids(vocabulary, "it's my card.")


def test_letters_with_their_accents_are_no_marks() -> None:
    for word in ("naïve", "naïve", "हिन्दी", "ไทย", "snake2"):
        assert parted(word) == word
    assert parted("a_b…€") == "a _ b …  € "


def test_a_word_that_is_not_there_is_unknown_and_several_in_a_row_are_one(vocabulary) -> None:
    card, zebra = ids(vocabulary, "my card"), ids(vocabulary, "my zebra")
    assert zebra == [card[0], UNK, EOS]
    assert ids(vocabulary, "my striped zebra") == zebra
    assert ids(vocabulary, "") == [EOS]


def test_labels_of_several_words_and_marks_are_one_piece(vocabulary) -> None:
    said = [ids(vocabulary, label) for label in LABELS]
    assert all(len(label) == 2 for label in said) and len({label[0] for label in said}) == len(LABELS)
    assert [vocabulary.decode(label) for label in said] == [label.lower() for label in LABELS]
    # in a text they are the words that they are made of
    assert len(ids(vocabulary, "I am not happy")) == 5
    assert len(ids(vocabulary, "with sci/tech")) == 5


def test_a_label_is_not_taken_out_of_the_words_that_begin_with_it(vocabulary) -> None:
    human, humid, hum = (ids(vocabulary, word) for word in ("human", "humid", "hum"))
    assert len({human[0], humid[0], hum[0], UNK}) == 4
    assert len(human) == len(humid) == len(hum) == 2


def test_labels_are_words_where_they_are_not_to_be_whole() -> None:
    vocabulary = Vocabulary.train(TEXTS, 200, LABELS, True, (), "word")
    assert [len(ids(vocabulary, label)) - 1 for label in LABELS] == [1, 2, 3, 3, 1]
    assert not any(UNK in ids(vocabulary, label) for label in LABELS)  # though the texts have no c++


def test_few_texts_and_many_are_encoded_alike(vocabulary) -> None:
    texts = [*TEXTS, *LABELS, "", "a zebra"]
    many = vocabulary.encode(texts * 40, 6)
    few = vocabulary.encode(texts, 6)
    assert many.flat.dtype == few.flat.dtype == np.int32
    assert [row.tolist() for row in many] == [row.tolist() for row in few] * 40
    assert many.truncated == few.truncated * 40 > 0


def test_the_same_texts_give_the_same_bytes_and_the_file_is_all_that_is_needed(vocabulary, tmp_path) -> None:
    again = Vocabulary.train([*TEXTS, *LABELS], 200, LABELS[::-1], True, set(LABELS), "word")
    assert again.model == vocabulary.model
    (tmp_path / "spiece.model").write_bytes(vocabulary.model)
    read = Vocabulary.from_file(tmp_path / "spiece.model")
    assert read.of_words and ids(read, "Sci/Tech") == ids(vocabulary, "sci/tech")


def test_the_most_frequent_words_are_kept_where_the_vocabulary_is_small() -> None:
    vocabulary = Vocabulary.train([*TEXTS, "once"], 8, (), True, (), "word")
    assert vocabulary.size == 8
    assert UNK not in ids(vocabulary, "happy") and UNK in ids(vocabulary, "once")


def test_a_vocabulary_too_small_for_its_labels_is_refused() -> None:
    with pytest.raises(EdgewiseError, match=r"tokenizer\.vocabulary_size=10: expected 15 at least"):
        Vocabulary.train(TEXTS, 10, LABELS, True, LABELS, "word")
    assert Vocabulary.train(TEXTS, 15, LABELS, True, LABELS, "word").size <= 15
