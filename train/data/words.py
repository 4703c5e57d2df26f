"""Reads texts by whole words: SentencePiece's word models, for which a mark of punctuation is a word of its own."""

import functools
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import sentencepiece
from sentencepiece.sentencepiece_model_pb2 import ModelProto, TrainerSpec  # type: ignore[attr-defined]  # made on import

SPACE = "▁"  # SentencePiece's: a piece that begins with it begins a word


class _Marks(dict[int, str]):
    """Maps the code points that have been seen to themselves; those of punctuation and symbols stand between spaces."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = f" {character} " if unicodedata.category(character)[0] in "PS" else character
        return self[code]


_MARKS = _Marks()


def parted(text: str) -> str:
    """Returns the text with every mark of punctuation, and every symbol, between spaces."""
    return text.translate(_MARKS)


def words_of(piece: str) -> set[str]:
    """Returns the pieces of the words and marks of which a piece, or a normalised text, consists."""
    return {SPACE + word for word in parted(piece.replace(SPACE, " ")).split()}


def with_pieces(model: bytes, pieces: Iterable[str]) -> bytes:
    """Returns a serialized word model with these pieces after its own, where it doesn't have them.

    They aren't SentencePiece's user-defined symbols, which its trainer takes out of the words that begin with them.
    """
    proto = ModelProto.FromString(model)
    there = {piece.piece for piece in proto.pieces}
    for piece in sorted(set(pieces) - there):
        proto.pieces.add(piece=piece, score=0.0)
    return bytes(proto.SerializeToString(deterministic=True))


@dataclass(frozen=True)
class WordReader:
    """Encodes texts by a word model. Words that it doesn't have are <unk>, several in a row one.

    `whole` has the pieces of several words or marks, by their spelling: a text that is such a piece, and nothing
    beside, is that one token.
    """

    processor: sentencepiece.SentencePieceProcessor
    whole: dict[str, int]

    @classmethod
    def of(cls, model: bytes, processor: sentencepiece.SentencePieceProcessor) -> "WordReader | None":
        """Returns the reader of a serialized model, which `processor` has loaded; None where it is of subwords."""
        proto = ModelProto.FromString(model)
        if proto.trainer_spec.model_type != TrainerSpec.WORD:
            return None
        pieces = {piece.piece: i for i, piece in enumerate(proto.pieces) if piece.piece.startswith(SPACE)}
        return cls(processor, {piece: i for piece, i in pieces.items() if words_of(piece) != {piece}})

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without EOS."""
        piece = self._whole_text(text)
        ids: list[int] = self.processor.encode(parted(text), out_type=int) if piece is None else [piece]
        return ids

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns the ids of each text, [length] int32 without EOS."""
        encoded = list(self.processor.encode([parted(text) for text in texts], out_type="numpy"))
        for i, text in enumerate(texts):
            if (piece := self._whole_text(text)) is not None:
                encoded[i] = np.array([piece], np.int32)
        return encoded

    def _whole_text(self, text: str) -> int | None:
        """Returns the piece that the whole of a text is, if there is one."""
        return self.whole.get(self.processor.normalize(text)) if len(text) <= self._longest else None

    @functools.cached_property
    def _longest(self) -> int:
        return max(map(len, self.whole), default=0)
