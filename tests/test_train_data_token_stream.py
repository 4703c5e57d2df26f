import numpy as np
import pytest

from conf.schema import Dataset, Tokenizer
from train.data.source import Source
from train.data.text_vocabulary import sampled, text_vocabulary
from train.data.token_stream import encode_text
from train.data.tokens import EOS, Vocabulary

WORDS = ["film", "good", "bad", "long", "the", "a", "is", "was", "scene", "never"]


def texts_of(count, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(3, 30))) + f" {number}" for number in range(count)]


@pytest.fixture
def source(tmp_path):
    """A folder with 500 documents, of which a tenth is held out."""
    (tmp_path / "train.txt").write_text("\n".join(texts_of(500)) + "\n")
    return Source(Dataset(name="wiki", task="text", path=str(tmp_path), validation_share=0.1))


def encoded(source, tmp_path, vocabulary=None):
    vocabulary = vocabulary or Vocabulary.train(texts_of(100), 200)
    return vocabulary, encode_text(vocabulary, source.dataset, source.digest, tmp_path / "cache")


def ids_of(stream):
    return stream.read_rows(np.arange(stream.tokens), 1)[:, 0]


def test_the_ids_are_those_of_all_documents_with_eos_between(source, tmp_path):
    vocabulary, text = encoded(source, tmp_path)
    documents = {}
    for name, stream in (("train", text.train), ("validation", text.validation)):
        ids = ids_of(stream)
        ends = np.flatnonzero(ids == EOS)
        assert len(ends) == stream.documents and ends[-1] == stream.tokens - 1
        documents[name] = [vocabulary.decode(part) for part in np.split(ids, ends[:-1] + 1)]
    assert sorted(documents["train"] + documents["validation"]) == sorted(texts_of(500))
    assert 20 < len(documents["validation"]) < 80
    assert text.left_out == {}


def test_rows_are_full_and_cross_documents(source, tmp_path):
    _, text = encoded(source, tmp_path)
    stream, length = text.train, 64
    rows = stream.read_rows(np.array([3, 0]), length)
    assert rows.dtype == np.int32 and rows.shape == (2, length)
    ids = ids_of(stream)
    np.testing.assert_array_equal(rows, [ids[3 * length : 4 * length], ids[:length]])
    assert stream.rows(length) == len(ids) // length
    assert stream.file.stat().st_size == 2 * stream.tokens  # a small vocabulary's ids take 2 bytes
    with pytest.raises(ValueError, match="beyond its end"):
        stream.read_rows(np.array([stream.rows(length)]), length)


def test_an_encoding_is_kept_and_made_again_where_it_is_damaged(source, tmp_path):
    vocabulary, text = encoded(source, tmp_path)
    written = text.train.file.stat().st_mtime_ns
    assert encoded(source, tmp_path, vocabulary)[1] == text
    assert text.train.file.stat().st_mtime_ns == written
    whole = text.train.file.read_bytes()
    text.train.file.write_bytes(whole[:-2])
    again = encoded(source, tmp_path, vocabulary)[1]
    assert again == text and text.train.file.read_bytes() == whole
    another = encoded(source, tmp_path, Vocabulary.train(texts_of(100), 100))[1]
    assert another.train.file != text.train.file
    assert len(list((tmp_path / "cache").iterdir())) == 2  # no half-written folder stays


def test_a_validation_file_is_what_is_held_out(tmp_path):
    (tmp_path / "train.txt").write_text("\n".join(texts_of(50)))
    (tmp_path / "validation.txt").write_text("\n".join(texts_of(20, seed=1)))
    source = Source(Dataset(name="wiki", task="text", path=str(tmp_path)))
    text = encoded(source, tmp_path)[1]
    assert (text.train.documents, text.validation.documents) == (50, 20)
    assert "validation_share" not in source.provenance


def test_the_digest_follows_from_files_and_from_what_is_held_out(source, tmp_path):
    def digest(**fields):
        return Source(Dataset(name="wiki", task="text", path=str(tmp_path), **fields)).digest

    assert digest(validation_share=0.1) == source.digest
    assert len({source.digest, digest(validation_share=0.2), digest(validation_share=0.1, split_seed=1)}) == 3
    (tmp_path / "train-1.txt").write_text("more")
    assert digest(validation_share=0.1) != source.digest


def test_a_sample_is_bounded_and_does_not_depend_on_the_order():
    texts = [f"document number {number}" for number in range(5000)]
    sample = sampled(iter(texts), 20_000)
    assert 5_000 < sum(map(len, sample)) <= 20_000
    assert set(sample) == set(sampled(reversed(texts), 20_000))
    assert set(sample) < set(texts)
    assert sorted(sampled(texts[:10], 20_000)) == sorted(texts[:10])
    assert len(sampled(["x" * 10_000], 20_000)[0]) == 4096


def test_the_vocabulary_is_trained_once_with_room_for_sentinels(source, tmp_path):
    cache = tmp_path / "tokenizers"
    vocabulary = text_vocabulary(Tokenizer(vocabulary_size=150), source.dataset, source.digest, cache)
    assert 50 < vocabulary.size <= 150
    [kept] = cache.iterdir()
    again = text_vocabulary(Tokenizer(vocabulary_size=150), source.dataset, source.digest, cache)
    assert again.digest == vocabulary.digest
    kept.write_bytes(b"damaged")
    assert text_vocabulary(Tokenizer(vocabulary_size=150), source.dataset, source.digest, cache).digest == again.digest
    given = text_vocabulary(Tokenizer(path=str(kept)), source.dataset, source.digest, tmp_path / "unused")
    assert given.digest == again.digest and not (tmp_path / "unused").exists()
