"""Turns text into token ids and back, by a SentencePiece vocabulary from a file or trained on the data."""

import functools
import hashlib
import io
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from conf.errors import EdgewiseError
from conf.machine import cores
from conf.schema import BPE, WORD, Tokenizer
from tracking.files import written_whole
from train.data.splits import Split
from train.data.words import WordReader, parted, with_pieces, words_of

PAD, EOS, UNK = 0, 1, 2
SENTINELS = 100  # of T5's: <extra_id_0> … <extra_id_99>

TRAINER_VERSION = 1  # goes up with every change to how `Vocabulary.train` trains
TRAINING_CHARACTERS = 10_000_000  # enough to settle the pieces; the whole of a large split would take minutes
ENCODE_CHUNK = 256  # texts at a time, for each core
ENCODE_FEW = 32  # texts, which are encoded one by one


@dataclass
class Encoded:
    """Holds the token ids of n texts, one after the other."""

    flat: np.ndarray  # [tokens] int32
    offsets: np.ndarray  # [n + 1] int64: text i is flat[offsets[i]:offsets[i + 1]]
    truncated: int  # how many texts were cut

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        """Returns the ids of text i, [length] int32."""
        return self.flat[self.offsets[i] : self.offsets[i + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Returns the texts' lengths in tokens, EOS included: [n] int64."""
        return np.diff(self.offsets)

    def count_unknown(self) -> int:
        """Counts the texts with an UNK among their tokens: the vocabulary has no piece for something in them."""
        places = np.flatnonzero(self.flat == UNK)
        return len(np.unique(np.searchsorted(self.offsets, places, side="right")))

    def padded(self, rows: np.ndarray, length: int, n_rows: int | None = None) -> np.ndarray:
        """Returns the texts `rows` as [n_rows, length] int32, padded with 0; rows of 0 fill up what they leave.

        Without `n_rows` there are as many as `rows`. Raises ValueError for a text longer than
        `length`, and for more rows than `n_rows`.
        """
        rows = np.asarray(rows, np.int64)
        n_rows = len(rows) if n_rows is None else n_rows
        if len(rows) > n_rows:
            raise ValueError(f"{len(rows)} rows, but room for n_rows={n_rows}")
        starts = self.offsets[rows][:, None]  # [rows, 1]
        lengths = self.offsets[rows + 1][:, None] - starts  # [rows, 1]
        if len(rows) and lengths.max() > length:
            raise ValueError(f"a text of {lengths.max()} tokens does not fit into length={length}")
        position = np.arange(length)  # [length]
        out = np.full((n_rows, length), PAD, np.int32)
        inside = position < lengths  # [rows, length]
        out[: len(rows)][inside] = self.flat[(starts + position)[inside]]
        return out


class Vocabulary:
    """Encodes and decodes text by a SentencePiece model with pad 0, EOS 1 and UNK 2."""

    def __init__(self, model: bytes, source: str = "the vocabulary") -> None:
        """Takes a serialized model. Raises EdgewiseError, naming `source`, for anything else or for other ids."""
        self.model = model
        self.digest = hashlib.sha256(model).hexdigest()
        try:
            if not model:
                raise RuntimeError("it is empty")
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
            self._words = WordReader.of(model, self._processor)
        except RuntimeError:
            raise EdgewiseError(f"{source}: not a SentencePiece model; expected a file such as spiece.model") from None
        self.size: int = self._processor.get_piece_size()
        ids = tuple(getattr(self._processor, name)() for name in ("pad_id", "eos_id", "unk_id"))
        if ids != (PAD, EOS, UNK):
            raise EdgewiseError(
                f"{source}: pad, EOS and UNK have the ids {ids}; expected T5's {(PAD, EOS, UNK)}. "
                "Train it with --pad_id=0 --eos_id=1 --unk_id=2 --bos_id=-1"
            )

    @property
    def of_words(self) -> bool:
        """Tells whether its pieces are whole words and marks of punctuation."""
        return self._words is not None

    @functools.cached_property
    def sentinels(self) -> np.ndarray:
        """Returns the ids of T5's sentinels <extra_id_0>, <extra_id_1>, …: [100] int32.

        They are the model's own pieces where it has them, as mT5's, else the 100 ids after its pieces, which descend:
        <extra_id_99> is the first of them, as T5's own vocabulary has it.
        """
        after = np.arange(self.size + SENTINELS - 1, self.size - 1, -1, dtype=np.int32)
        for spelling in ("<extra_id_{}>", "▁<extra_id_{}>"):
            pieces = [self._processor.piece_to_id(spelling.format(number)) for number in range(SENTINELS)]
            if UNK not in pieces:
                return np.array(pieces, np.int32)
        return after

    @property
    def size_with_sentinels(self) -> int:
        """Returns how many ids there are, those of the sentinels included."""
        return max(self.size, int(self.sentinels.max()) + 1)

    @classmethod
    def from_file(cls, path: str | Path) -> "Vocabulary":
        """Reads a model file. Raises EdgewiseError where there is none, or it isn't one with T5's ids."""
        try:
            model = Path(path).expanduser().read_bytes()
        except OSError as error:
            raise EdgewiseError(
                f"tokenizer.path={path}: {error.strerror}; expected a SentencePiece model file"
            ) from None
        return cls(model, f"tokenizer.path={path}")

    @classmethod
    def from_bytes(cls, model: bytes) -> "Vocabulary":
        """Reads a serialized model. Raises EdgewiseError as `from_file` does."""
        return cls(model)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        size: int,
        required: Collection[str] = (),
        lower_case: bool = False,
        whole: Collection[str] = (),
        model_type: str = BPE,
    ) -> "Vocabulary":
        """Trains a vocabulary of at most `size` pieces, fewer where the text has no more to offer.

        By `model_type` the pieces are BPE's, or the most frequent words and marks of punctuation (WORD). There is no
        unigram, which takes its first pieces from substrings that several distinct words share: on text with few
        distinct words, such as the demo's, it leaves the most frequent words in letters. The same texts and size give
        the same bytes. Every character of `required` gets a piece; of WORD, every word. With `lower_case` the
        vocabulary reads capital letters as small ones. Each text of `whole` is one piece: wherever a word begins with
        it, but of WORD where it is the whole text. Raises EdgewiseError for a size too small for what needs a piece,
        and for texts without characters.
        """
        cleaned = (text.replace("\0", " ") for text in texts)
        sentences = [" ".join((parted(text) if model_type == WORD else text).split()) for text in cleaned]
        sentences = _thinned([sentence for sentence in sentences if sentence])
        if not sentences:
            raise EdgewiseError("no text to train a vocabulary on: every text is empty")
        pieces = {normalised(text, lower_case) for text in whole} - {""}
        if model_type == BPE:
            characters = "".join(sorted({character for text in required for character in "".join(text.split())}))
            more = {"required_chars": characters, "user_defined_symbols": sorted(pieces)}
            return cls(_trained(sentences, size, BPE, lower_case, more))
        pieces = pieces.union(*(words_of(normalised(text, lower_case)) for text in required))
        if size < len(pieces) + 4:
            raise EdgewiseError(
                f"tokenizer.vocabulary_size={size}: expected {len(pieces) + 4} at least: {len(pieces)} of the labels, "
                "pad, EOS, <unk> and a word"
            )
        return cls(with_pieces(_trained(sentences, size - len(pieces), WORD, lower_case, {}), pieces))

    def encode(self, texts: Sequence[str], max_length: int) -> Encoded:
        """Returns the ids of each text, cut to `max_length` tokens, EOS included; an empty text is EOS alone."""
        if max_length < 1:
            raise ValueError(f"max_length={max_length}: EOS alone takes 1")
        if len(texts) <= ENCODE_FEW:
            return self._encode_few(texts, max_length)
        end = np.array([EOS], np.int32)

        def encode_some(start: int) -> tuple[np.ndarray, np.ndarray, int]:
            encoded = self._pieces(list(texts[start : start + ENCODE_CHUNK]))
            full = np.array([len(ids) for ids in encoded], np.int64)
            parts = chain.from_iterable((ids[: max_length - 1], end) for ids in encoded)
            return np.concatenate([*parts]), np.minimum(full + 1, max_length), int((full >= max_length).sum())

        starts = range(0, len(texts), ENCODE_CHUNK)
        if len(starts) > 1:
            with ThreadPoolExecutor(cores()) as pool:  # SentencePiece lets go of the interpreter while it encodes
                done = list(pool.map(encode_some, starts))
        else:
            done = [encode_some(start) for start in starts]
        none = np.zeros(0, np.int32)
        flat = np.concatenate([none, *(some for some, _, _ in done)])
        lengths = np.concatenate([none, *(some for _, some, _ in done)], dtype=np.int64)
        return Encoded(flat, np.concatenate([[0], np.cumsum(lengths)]), sum(cut for _, _, cut in done))

    def _pieces(self, texts: list[str]) -> Sequence[np.ndarray]:
        """Returns the ids of each text, [length] int32 without EOS."""
        if self._words is not None:
            return self._words.encode_all(texts)
        encoded: Sequence[np.ndarray] = self._processor.encode(texts, out_type="numpy")
        return encoded

    def _encode_few(self, texts: Sequence[str], max_length: int) -> Encoded:
        """Returns what `encode` does, text by text: SentencePiece starts threads for every list that it is given."""
        flat: list[int] = []
        offsets, truncated = [0], 0
        for text in texts:
            ids = self._processor.encode(text, out_type=int) if self._words is None else self._words.encode(text)
            truncated += len(ids) >= max_length
            flat += ids[: max_length - 1]
            flat.append(EOS)
            offsets.append(len(flat))
        return Encoded(np.array(flat, np.int32), np.array(offsets, np.int64), truncated)

    def decode(self, ids: Iterable[Any]) -> str:
        """Returns the text up to the first EOS. Leaves out pad and ids without a piece (sentinels, padding rows)."""
        kept: list[int] = []
        for token in map(int, ids):
            if token == EOS:
                break
            if token != PAD and 0 <= token < self.size:
                kept.append(token)
        text: str = self._processor.decode(kept)
        return text


def _trained(sentences: Sequence[str], size: int, model_type: str, lower_case: bool, more: dict[str, Any]) -> bytes:
    """Returns SentencePiece's serialized model of these sentences; `more` are options beside those that all have.

    Raises EdgewiseError for a size too small for the characters.
    """
    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=written,
            model_type=model_type,
            vocab_size=size,
            hard_vocab_limit=False,
            pad_id=PAD,
            eos_id=EOS,
            unk_id=UNK,
            bos_id=-1,
            character_coverage=0.99995,
            normalization_rule_name=_rule(lower_case),
            max_sentence_length=1 << 30,  # bytes; longer texts would be left out without a word
            num_threads=1,
            minloglevel=3,
            **more,
        )
    except RuntimeError as error:
        raise EdgewiseError(
            f"tokenizer.vocabulary_size={size}: SentencePiece can't train on this text: "
            f"{str(error).rpartition('] ')[2].strip()} (the text's distinct characters and 3 more have to fit)"
        ) from None
    return written.getvalue()


def normalised(text: str, lower_case: bool) -> str:
    """Returns a text as a vocabulary that is trained here reads it: as the piece that would be the whole of it."""
    return str(_normalizer(lower_case).normalize(" ".join(text.split())))


@functools.cache
def _normalizer(lower_case: bool) -> sentencepiece.SentencePieceNormalizer:
    """Makes SentencePiece's normalizer by the rule of a vocabulary."""
    return sentencepiece.SentencePieceNormalizer(rule_name=_rule(lower_case))


def _rule(lower_case: bool) -> str:
    """Returns SentencePiece's name of the rule by which texts are normalised."""
    return "nmt_nfkc_cf" if lower_case else "nmt_nfkc"


def get_vocabulary(
    tokenizer: Tokenizer, train_split: Split, cache: Path, free_text: bool = False, classes: Collection[str] = ()
) -> Vocabulary:
    """Returns the vocabulary at `tokenizer.path`; without one, trains it on the training split, once for a `cache`.

    Of whole labels and of words, the target strings `classes` of which no row of the training split is have pieces too.

    Two processes may train at once: they write the same bytes, each to a file of its own that then takes the name.
    Raises EdgewiseError as `Vocabulary.from_file` and `Vocabulary.train` do.
    """
    if tokenizer.path is not None:
        return Vocabulary.from_file(tokenizer.path)
    size = tokenizer.vocabulary_size
    case = (" lower case" if tokenizer.lower_case else "") + (" whole labels" if tokenizer.whole_labels else "")
    case += "" if tokenizer.model_type == BPE else f" {tokenizer.model_type}"
    needs_all = (tokenizer.whole_labels or tokenizer.model_type != BPE) and not free_text
    unseen = sorted(set(classes) - set(train_split.targets)) if needs_all else []
    case += f" {unseen}" if unseen else ""  # else the name is as before there were such
    key = hashlib.sha256(f"{TRAINER_VERSION} {train_split.fingerprint} {size}{case}".encode()).hexdigest()
    file = Path(cache) / f"{train_split.dataset}-{size}-{key[:16]}.model"
    # The target strings are text too, as often as the model has to say them: a label is a piece where it can be, and
    # every character of it can be said. Of free text, all characters may be more than the vocabulary holds.
    labels = set() if free_text else set(train_split.targets)
    return kept_vocabulary(
        file,
        lambda: Vocabulary.train(
            chain(train_split.inputs, train_split.targets),
            size,
            labels.union(unseen),
            tokenizer.lower_case,
            labels.union(unseen) if tokenizer.whole_labels else (),
            tokenizer.model_type,
        ),
    )


def kept_vocabulary(file: Path, train: Callable[[], Vocabulary]) -> Vocabulary:
    """Returns the vocabulary that is kept in a file; where there is none, or a damaged one, trains and keeps it.

    Raises EdgewiseError as `train` does.
    """
    try:
        return Vocabulary.from_bytes(file.read_bytes())
    except (FileNotFoundError, EdgewiseError):  # not there yet, or damaged
        pass
    vocabulary = train()
    with written_whole(file) as partial:
        partial.write_bytes(vocabulary.model)
    return vocabulary


def check_targets(vocabulary: Vocabulary, classes: Mapping[Any, str]) -> None:
    """Raises EdgewiseError for a class that the vocabulary can't spell, and for two that it spells alike."""
    encoded = vocabulary.encode([str(target) for target in classes.values()], max_length=1 << 20)
    labels = list(classes)
    label_of: dict[tuple[int, ...], Any] = {}
    for i, label in enumerate(labels):
        ids = tuple(encoded[i].tolist())
        entry = f"dataset.classes: label {label!r}, target string {classes[label]!r}"
        if UNK in ids or len(ids) == 1:
            raise EdgewiseError(
                f"{entry}: the vocabulary has no pieces for it; choose another target string or another tokenizer.path"
            )
        if ids in label_of:
            raise EdgewiseError(
                f"{entry}: the vocabulary spells it as it does label {label_of[ids]!r}; give each class its own"
            )
        label_of[ids] = label


def _thinned(sentences: list[str]) -> list[str]:
    """Returns every k-th sentence, for the smallest k that keeps about TRAINING_CHARACTERS."""
    step = -(-sum(map(len, sentences)) // TRAINING_CHARACTERS)
    return sentences[:: max(step, 1)]
