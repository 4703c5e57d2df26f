"""Trains the vocabulary of plain text, on a sample that is drawn while the documents go by."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from conf.schema import Dataset, Tokenizer
from train.data.token_stream import shown, split_documents
from train.data.tokens import TRAINER_VERSION, TRAINING_CHARACTERS, Vocabulary, kept_vocabulary

_LONGEST_SENTENCE = 4096  # characters: a long document's pieces are settled by its beginning


def text_vocabulary(tokenizer: Tokenizer, dataset: Dataset, digest: str, cache: Path) -> Vocabulary:
    """Returns the vocabulary at `tokenizer.path`; without one, trains it on a sample of what is trained on.

    It is kept in the folder `cache` and read from there. `digest` is that of the dataset's `Source`. T5's sentinels
    have the ids after its pieces (`Vocabulary.sentinels`). Raises EdgewiseError as `Vocabulary.from_file` and
    `Vocabulary.train` do.
    """
    if tokenizer.path is not None:
        return Vocabulary.from_file(tokenizer.path)
    size, case = tokenizer.vocabulary_size, " lower case" if tokenizer.lower_case else ""
    key = hashlib.sha256(f"{TRAINER_VERSION} {digest} {dataset.template} {size}{case}".encode()).hexdigest()
    file = Path(cache) / f"{dataset.name}-text-{size}-{key[:16]}.model"

    def train() -> Vocabulary:
        documents, read_from = split_documents(dataset)
        texts = (text for split, text in shown(documents, read_from, f"{dataset.name}: vocabulary") if split == "train")
        return Vocabulary.train(sampled(texts, TRAINING_CHARACTERS), size, lower_case=tokenizer.lower_case)

    return kept_vocabulary(file, train)


def sampled(texts: Iterable[str], most: int) -> list[str]:
    """Returns texts of at most `most` characters in all, each cut to 4,096: all of them, or a sample.

    Which ones follows from the texts' own hashes, not from their order: whenever more than `most` characters are held,
    those with the larger half of the hashes go. So a sample holds about half of `most` or more.
    """
    kept: dict[int, list[str]] = {}  # by the number of zero bits at the start of the hash
    level, size = 0, 0
    for text in texts:
        text = text[:_LONGEST_SENTENCE]
        number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
        zeros = 64 - number.bit_length()
        if zeros < level:
            continue
        kept.setdefault(zeros, []).append(text)
        size += len(text)
        while size > most and len(kept) > 1:
            size -= sum(map(len, kept.pop(level, [])))
            level += 1
    return list(_in_order(kept))


def _in_order(kept: dict[int, list[str]]) -> Iterator[str]:
    for zeros in sorted(kept):
        yield from kept[zeros]
