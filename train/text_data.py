"""Makes the batches of a pre-training: rows of plain text whose spans are corrupted, to learn from and held out."""

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conf.errors import EdgewiseError
from conf.schema import Config, Tokenizer
from train.data.batches import row_order
from train.data.notices import print_once
from train.data.packing import Batch
from train.data.source import Source, source_of
from train.data.span_corruption import SpanCounts, corrupted_rows, fullest_row
from train.data.text_vocabulary import text_vocabulary
from train.data.token_stream import EncodedText, TokenStream, encode_text
from train.data.tokens import Vocabulary
from train.identity import file_sha256
from train.validation import VALIDATION, evaluation_rows

_HELD_OUT_SEED = 0  # of all cells: what is held out is corrupted alike, so that sizes and seeds compare
_LOADING = threading.Lock()  # of the seeds that train side by side (`mesh.seed`), one encodes and the others wait


@dataclass(frozen=True)
class TextData:
    """Holds plain text in the token ids of one vocabulary, cut into full rows.

    `counts` says what a row is and how much of it is corrupted; `record` is what the data artifact says.
    """

    vocabulary: Vocabulary
    text: EncodedText
    counts: SpanCounts
    eval_examples: int
    record: dict[str, Any]
    eval_split: str = VALIDATION
    labels: None = None
    eval_truth: None = None
    rare: None = None

    @property
    def ids(self) -> int:
        """Returns how many token ids there are, the sentinels' included."""
        return self.vocabulary.size_with_sentinels

    def summary(self) -> dict[str, int]:
        """Returns what the training run's summary says of the data."""
        train, validation = self.text.train, self.text.validation
        return {
            "train_documents": train.documents,
            "train_tokens": train.tokens,
            "train_rows": train.rows(self.counts.tokens),
            "validation_rows": validation.rows(self.counts.tokens),
        }

    def train_batches(
        self, batch_size: int, seed: int, row_cost: Callable[[int, int], float], row_multiple: int
    ) -> Callable[[int], Batch]:
        """Returns the function of a step, from 0, to its batch.

        The rows are shuffled anew each epoch by (seed, epoch), and a row's spans follow from (seed, epoch, row).
        `row_cost` is not asked: all rows are full. Batches are filled up with empty rows to a whole multiple of
        `row_multiple`.
        """
        rows = self.text.train.rows(self.counts.tokens)
        order = row_order(rows, batch_size, seed)

        def make(step: int) -> Batch:
            numbers = order(step)
            epochs = np.arange(step * batch_size, step * batch_size + batch_size) // rows
            return self._batch(self.text.train, numbers, seed, epochs, row_multiple)

        return make

    def eval_batches(
        self, batch_size: int, row_cost: Callable[[int, int], float], row_multiple: int
    ) -> list[Callable[[], Batch]]:
        """Returns what makes the batches of the held-out rows, at most `eval_examples` of them, evenly spread.

        Every cell has the same rows, corrupted alike, whatever its seed.
        """
        stream = self.text.validation
        numbers = evaluation_rows(stream.rows(self.counts.tokens), self.eval_examples)
        parts = [numbers[start : start + batch_size] for start in range(0, len(numbers), batch_size)]
        return [
            functools.partial(self._batch, stream, part, _HELD_OUT_SEED, np.zeros_like(part), row_multiple)
            for part in parts
        ]

    def _batch(
        self, stream: TokenStream, numbers: np.ndarray, seed: int, epochs: np.ndarray, row_multiple: int
    ) -> Batch:
        """Returns the batch of a stream's rows `numbers` [n], each a segment of its own."""
        tokens = stream.read_rows(numbers, self.counts.tokens)
        inputs, targets = corrupted_rows(tokens, numbers, seed, epochs, self.counts, self.vocabulary.sentinels)
        empty = [(0, -len(numbers) % row_multiple), (0, 0)]
        inputs, targets = np.pad(inputs, empty), np.pad(targets, empty)
        return Batch(inputs, (inputs != 0).astype(np.int32), targets, (targets != 0).astype(np.int32))


def load_text_data(config: Config, cache: Path) -> TextData:
    """Returns the plain text that a cell is pre-trained on, encoded; the cells of a family share it.

    Vocabulary and token ids are kept on disk under `cache`. Raises EdgewiseError for files that can't be used, and
    where they don't hold one full row to train on and one to hold out.
    """
    train, dataset = config.train, config.dataset
    counts = fullest_row(dataset.max_input_length, train.noise_density, train.mean_noise_span_length)
    source = source_of(dataset)
    path = config.tokenizer.path
    vocabulary_digest = "" if path is None else file_sha256(Path(path), "tokenizer.path")
    with _LOADING:
        vocabulary, text = _encoded(source, config.tokenizer, vocabulary_digest, cache)
    for split, stream, instead in (
        ("train", text.train, "give more text"),
        (VALIDATION, text.validation, "give more text, or a larger dataset.validation_share"),
    ):
        if stream.rows(counts.tokens) == 0:
            raise EdgewiseError(
                f"dataset={dataset.name}: its {split} documents have {stream.tokens:,} tokens, which fill no row of "
                f"{counts.tokens} (dataset.max_input_length={dataset.max_input_length}); {instead}, or shorter rows"
            )
    for split, stream in (("train", text.train), (VALIDATION, text.validation)):
        print_once(
            f"{dataset.name} {split}: {stream.documents:,} documents, {stream.tokens:,} tokens, "
            f"{stream.rows(counts.tokens):,} rows of {counts.tokens} tokens"
        )
    return TextData(vocabulary, text, counts, train.eval_examples, text_record(source, text))


@functools.lru_cache(maxsize=2)
def _encoded(
    source: Source, tokenizer: Tokenizer, _vocabulary_digest: str, cache: Path
) -> tuple[Vocabulary, EncodedText]:
    """Encodes what `load_text_data` returns; the vocabulary's digest stands for the content of its file."""
    vocabulary = text_vocabulary(tokenizer, source.dataset, source.digest, cache / "tokenizers")
    return vocabulary, encode_text(vocabulary, source.dataset, source.digest, cache / "encodings")


def text_record(source: Source, text: EncodedText) -> dict[str, Any]:
    """Returns what the artifact `data-D` says of plain text, as JSON values: where it is from, and how much it is."""
    dataset = source.dataset
    return {
        "dataset": dataset.name,
        "source": source.digest,
        "from": source.provenance,
        "template": dataset.template,
        "task": dataset.task,
        "splits": {"train": {"documents": text.train.documents}, VALIDATION: {"documents": text.validation.documents}},
        **({"left_out": text.left_out} if text.left_out else {}),
    }
