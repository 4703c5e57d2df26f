"""Vocabularies: trained, read, cached; and texts as flat ids."""

from pathlib import Path

import numpy as np
import pytest

from conf.errors import EdgewiseError
from conf.schema import Tokenizer
from tests.support import shared_data
from train.data.splits import Split
from train.data.tokens import ENCODE_FEW, EOS, PAD, UNK, Encoded, Vocabulary, check_targets, get_vocabulary

SHARED = shared_data()
TEXTS = [f"the {noun} was {word}" for noun in ("plot", "cast", "film") for word in ("good", "bad", "dull", "fine")] * 4


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.train([*TEXTS, *["negative", "positive"] * 12], 80)


def split(inputs: list[str], targets: list[str], fingerprint: str = "f" * 64) -> Split:
    return Split("toy", "train", [str(i) for i in range(len(inputs))], inputs, targets, {}, fingerprint)


def test_training_is_deterministic_and_has_t5s_ids(vocabulary: Vocabulary) -> None:
    again = Vocabulary.train([*TEXTS, *["negative", "positive"] * 12], 80)
    assert again.model == vocabulary.model and again.digest == vocabulary.digest
    assert Vocabulary.from_bytes(vocabulary.model).digest == vocabulary.digest
    assert vocabulary.size == 80
    assert vocabulary.encode([""], 4).flat.tolist() == [EOS]
    assert UNK in vocabulary.encode(["ζ"], 4).flat
    assert vocabulary.encode(["the plot was good"], 9).lengths.tolist() == [5]  # a frequent word is one piece
    assert vocabulary.encode(["negative"], 9).lengths.tolist() == [2]


def test_training_takes_fewer_pieces_where_the_text_has_no_more() -> None:
    assert 5 < Vocabulary.train(["good film", "bad film"], 5000).size < 100


def test_capital_letters_are_read_as_small_ones_where_that_is_asked_for() -> None:
    texts = ["Where is it", "where was It", "WHERE to"] * 4
    folded = Vocabulary.train(texts, 60, lower_case=True)
    ids = [folded.encode([text], 20)[0].tolist() for text in ("Where IS it", "where is IT")]
    assert ids[0] == ids[1] and UNK not in ids[0]
    assert folded.decode(ids[0]) == "where is it"
    plain = Vocabulary.train(texts, 60)
    assert plain.encode(["Where"], 20)[0].tolist() != plain.encode(["where"], 20)[0].tolist()


def test_labels_are_whole_pieces_where_that_is_asked_for() -> None:
    texts, labels = ["my card has not arrived", "a PIN that I lost"] * 4, ["Card arrival", "lost PIN", "card"]
    for lower_case in (False, True):
        vocabulary = Vocabulary.train([*texts, *labels], 90, labels, lower_case, labels)
        encoded = [ids.tolist() for ids in vocabulary.encode(labels, 20)]
        assert len({ids[0] for ids in encoded}) == 3 and all(ids[1:] == [EOS] for ids in encoded)
        said = [vocabulary.decode(ids) for ids in encoded]
        assert said == ([label.lower() for label in labels] if lower_case else labels)
    plain = Vocabulary.train([*texts, *labels], 90, labels)
    assert len(plain.encode(["Card arrival"], 20)[0]) > 2


def test_training_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    Vocabulary.train(TEXTS, 60)
    with pytest.raises(EdgewiseError):
        Vocabulary.train(TEXTS, 5)
    with pytest.raises(EdgewiseError):
        Vocabulary.from_bytes(b"junk" * 100)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("size", [-1, 0, 1, 5])
def test_a_size_too_small_is_said(size: int) -> None:
    with pytest.raises(EdgewiseError, match=rf"tokenizer\.vocabulary_size={size}: "):
        Vocabulary.train(TEXTS, size)


def test_training_without_text_is_said() -> None:
    with pytest.raises(EdgewiseError, match="every text is empty"):
        Vocabulary.train(["", " \n"], 60)


def test_long_and_odd_texts_are_trained_on() -> None:
    trained = Vocabulary.train(["wxyz " * 3000 + "\n\t\0 end", *TEXTS], 80)
    assert trained.encode(["wxyz"], 9).lengths.tolist() == [2]


def test_encode_cuts_to_max_length_with_eos(vocabulary: Vocabulary) -> None:
    encoded = vocabulary.encode(["the plot was good", "good", ""], 3)
    assert encoded.lengths.tolist() == [3, 2, 1]
    assert encoded.truncated == 1
    assert [int(encoded[i][-1]) for i in range(3)] == [EOS] * 3
    assert (encoded.flat.dtype, encoded.offsets.tolist()) == (np.int32, [0, 3, 5, 6])
    assert vocabulary.encode(["the plot was good"], 5).truncated == 0
    empty = vocabulary.encode([], 3)
    assert (len(empty), empty.flat.dtype, empty.offsets.tolist()) == (0, np.int32, [0])
    with pytest.raises(ValueError, match="max_length=0"):
        vocabulary.encode(["a"], 0)


def test_encode_in_chunks_equals_encode_at_once(vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = vocabulary.encode(TEXTS, 4)
    monkeypatch.setattr("train.data.tokens.ENCODE_CHUNK", 7)
    monkeypatch.setattr("train.data.tokens.ENCODE_FEW", 0)
    parts = vocabulary.encode(TEXTS, 4)
    assert np.array_equal(whole.flat, parts.flat) and np.array_equal(whole.offsets, parts.offsets)
    assert whole.truncated == parts.truncated == len(TEXTS)


@pytest.mark.parametrize("max_length", [1, 3, 4, 5, 64])
def test_few_texts_are_encoded_as_many_are(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch, max_length: int
) -> None:
    texts = ["the plot was good", "", "good", " ", "\0", "żółć 漢字", *TEXTS][:ENCODE_FEW]
    few = vocabulary.encode(texts, max_length)
    monkeypatch.setattr("train.data.tokens.ENCODE_FEW", 0)
    many = vocabulary.encode(texts, max_length)
    assert few.flat.tolist() == many.flat.tolist() and few.flat.dtype == many.flat.dtype
    assert few.offsets.tolist() == many.offsets.tolist() and few.offsets.dtype == many.offsets.dtype
    assert few.truncated == many.truncated


def test_decode_stops_at_eos_and_skips_what_has_no_piece(vocabulary: Vocabulary) -> None:
    ids = vocabulary.encode(["the plot was good"], 9)[0]
    assert vocabulary.decode(ids) == "the plot was good"
    assert vocabulary.decode([PAD, *ids[:-1], 99_999, EOS, *ids]) == "the plot was good"
    assert vocabulary.decode(np.zeros(3, np.int32)) == ""


def test_padded() -> None:
    encoded = Encoded(np.arange(2, 8, dtype=np.int32), np.array([0, 1, 1, 4, 6]), 0)
    padded = encoded.padded(np.array([2, 0, 1, 3, 2]), 4)
    expected = [[3, 4, 5, 0], [2, 0, 0, 0], [0, 0, 0, 0], [6, 7, 0, 0], [3, 4, 5, 0]]
    assert padded.dtype == np.int32 and padded.tolist() == expected
    assert encoded.padded(np.array([3]), 2, n_rows=3).tolist() == [[6, 7], [0, 0], [0, 0]]
    assert encoded.padded(np.array([], np.int64), 2, n_rows=1).tolist() == [[0, 0]]
    with pytest.raises(ValueError, match="3 tokens does not fit into length=2"):
        encoded.padded(np.array([2]), 2)
    with pytest.raises(ValueError, match="2 rows, but room for n_rows=1"):
        encoded.padded(np.array([0, 1]), 2, n_rows=1)


def test_from_file_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(EdgewiseError, match=r"tokenizer\.path=.*nothing\.model: No such file"):
        Vocabulary.from_file(tmp_path / "nothing.model")
    for content in (b"", b"not a model"):
        (tmp_path / "bad.model").write_bytes(content)
        with pytest.raises(EdgewiseError, match=r"bad\.model: not a SentencePiece model"):
            Vocabulary.from_file(tmp_path / "bad.model")


def test_from_file_refuses_other_ids(tmp_path: Path) -> None:
    import sentencepiece

    prefix = tmp_path / "other"  # SentencePiece's own defaults: unk 0, bos 1, eos 2
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_prefix=str(prefix), vocab_size=60, hard_vocab_limit=False, minloglevel=3
    )
    with pytest.raises(EdgewiseError, match=r"ids \(-1, 2, 0\); expected T5's \(0, 1, 2\)"):
        Vocabulary.from_file(prefix.with_suffix(".model"))


def test_get_vocabulary_trains_once_and_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = split(TEXTS, ["fine"] * 24 + ["żle"] * 24)
    tokenizer = Tokenizer(vocabulary_size=80)
    first = get_vocabulary(tokenizer, train, tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    check_targets(first, {0: "fine", 1: "żle"})
    with monkeypatch.context() as patch:
        patch.setattr(Vocabulary, "train", None)
        assert get_vocabulary(tokenizer, train, tmp_path / "cache").digest == first.digest
    file.write_bytes(first.model[:100])  # damaged
    assert get_vocabulary(tokenizer, train, tmp_path / "cache").digest == first.digest
    assert file.read_bytes() == first.model
    get_vocabulary(Tokenizer(vocabulary_size=70), train, tmp_path / "cache")
    get_vocabulary(tokenizer, split(TEXTS, ["fine"] * 48, "0" * 64), tmp_path / "cache")
    get_vocabulary(Tokenizer(vocabulary_size=80, lower_case=True), train, tmp_path / "cache")
    get_vocabulary(Tokenizer(vocabulary_size=80, whole_labels=True), train, tmp_path / "cache")
    assert get_vocabulary(Tokenizer(vocabulary_size=80, model_type="word"), train, tmp_path / "cache").of_words
    assert len(list((tmp_path / "cache").iterdir())) == 6
    from_file = get_vocabulary(Tokenizer(path=str(file)), train, tmp_path / "unused")
    assert from_file.digest == first.digest and not (tmp_path / "unused").exists()


def test_check_targets(vocabulary: Vocabulary) -> None:
    check_targets(vocabulary, {0: "negative", 1: "positive"})
    with pytest.raises(EdgewiseError, match=r"label 1, target string 'ζ': the vocabulary has no pieces"):
        check_targets(vocabulary, {0: "negative", 1: "ζ"})
    with pytest.raises(EdgewiseError, match=r"label 'b'.*as it does label 'a'"):
        check_targets(vocabulary, {"a": "good", "b": "ｇｏｏｄ"})  # full-width letters are normalised


@pytest.mark.slow
@pytest.mark.skipif(SHARED is None, reason="needs EDGEWISE_SHARED, the folder of real text")
def test_t5s_vocabulary_gives_t5s_ids() -> None:
    t5 = Vocabulary.from_file(SHARED / "t5/spiece.model")
    assert t5.size == 32_000
    ids = [13959, 1566, 12, 2968, 10, 37, 629, 19, 1627, 5, EOS]
    assert t5.encode(["translate English to German: The house is wonderful."], 512).flat.tolist() == ids
    labels = {"negative": [2841], "positive": [1465], "toxic": [12068], "not toxic": [59, 12068], "1": [209]}
    encoded = t5.encode(list(labels), 512)
    assert [encoded[i].tolist() for i in range(len(labels))] == [[*ids, EOS] for ids in labels.values()]
    check_targets(t5, dict(enumerate(labels)))
