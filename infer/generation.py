"""A split whose answers are text: the model writes one for each example, then gold and own answers are scored."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from conf.schema import Config, Infer, Size
from infer import sequences
from infer.decode import as_encoded, decode_examples
from infer.identity import decoding_settings
from infer.metadata import scores_metadata
from metrics.scores import Scores, TokenScores
from metrics.statistics.text import bleu_signature, bleu_statistics, corpus_bleu, exact_match, f1
from train import hosts, t5
from train.data.batches import Budget, padding_share, plan_batches
from train.data.encodings import encode_split
from train.data.splits import Split
from train.data.tokens import Encoded
from train.identity import cell_name
from train.model_artifact import Model
from train.progress import progress
from train.sharding import BATCH_TOKENS, scoring_tokens, whole_rows
from train.step import dtype_of
from train.stopping import Stop


def generate(
    config: Config, split: Split, model: Model, digest: str, mesh: jax.sharding.Mesh, stop: Stop
) -> tuple[Scores, dict[str, float]]:
    """The split's scores, and a summary: exact match and F1, or BLEU; what was cut; the share of padding.

    `model` lies over `mesh`; `digest` is its content. Raises Stopped between two batches where `stop` says so.
    """
    dataset, infer, translation = config.dataset, config.infer, config.dataset.task == "translation"
    cache, length = Path(config.tracking.root) / "encodings", config.dataset.max_target_length
    inputs = encode_split(model.vocabulary, split, dataset.max_input_length, cache)
    golds = encode_split(model.vocabulary, split, length, cache, "targets")
    row_multiple = whole_rows(mesh, 1)
    batches = plan_batches(infer, inputs.lengths, decoding_budget(infer, length, row_multiple))
    dtype = dtype_of(config)
    setting = (model.size, dtype, mesh)

    written: list[np.ndarray] = [np.zeros(0, np.int32)] * len(split)
    decoded = decode_examples(model.params, inputs, *setting, batches, length, infer.beams, infer.length_penalty)
    with progress(f"{cell_name(config)} {split.name}: writing", len(split), "examples", show=hosts.first()) as meter:
        for rows, ids in stop.between(decoded):
            for row, answer in zip(rows, ids, strict=True):
                written[row] = answer
            meter.advance(len(rows))
    own = as_encoded(written)
    prediction = [model.vocabulary.decode(ids) for ids in written]

    longest = np.maximum(golds.lengths, own.lengths)
    limits = (scoring_tokens(infer, mesh), row_multiple, infer.max_padding, infer.length_buckets)
    plan = sequences.sequence_batches(batches, longest, *limits)
    scored = sequences.score_sequences(model.params, inputs, [golds, own], *setting, plan)
    tokens = [_Gathered(golds), _Gathered(own)]
    with progress(f"{cell_name(config)} {split.name}: scoring", len(split), "examples", show=hosts.first()) as meter:
        for rows, values in stop.between(scored):
            for gathered, of_batch in zip(tokens, values, strict=True):
                gathered.add(rows, of_batch)
            meter.advance(len(rows))

    slices = {name: np.array(values, dtype=object) for name, values in split.slices.items()}
    scores = Scores(
        metadata=scores_metadata(
            *(config, split, model, digest),
            classes=[],
            flops=mean_flops(model.size, inputs, own, infer.beams),
            signature=_signature(config, dtype),
        ),
        example_id=np.array(split.example_id, dtype=object),
        target=np.array(split.targets, dtype=object),
        prediction=np.array(prediction, dtype=object),
        correct=None,
        slices=slices,
        gold_tokens=tokens[0].scores(),
        self_tokens=tokens[1].scores(),
    )
    summary: dict[str, float] = {
        "examples": len(split),
        "truncated_inputs": inputs.truncated,
        "truncated_targets": golds.truncated,
        "unfinished_outputs": own.truncated,
        "padding_share": padding_share(inputs.lengths, batches),
    }
    if translation:
        scores.bleu_stats = bleu_statistics(prediction, split.targets, infer.bleu_tokenizer)
        return scores, {"bleu": float(corpus_bleu(scores.bleu_stats.sum(axis=0)))} | summary
    answers = split.golds or [[target] for target in split.targets]
    scores.correct = np.array([exact_match(own, golds) for own, golds in zip(prediction, answers, strict=True)])
    matching = float(np.mean([f1(own, golds) for own, golds in zip(prediction, answers, strict=True)]))
    return scores, {"accuracy": float(scores.correct.mean()), "f1": matching} | summary


def decoding_budget(infer: Infer, max_length: int, row_multiple: int) -> Budget:
    """What a batch may hold where every beam of a row has room for `max_length` tokens, whether it fills it or not."""
    return Budget(infer.batch_tokens or BATCH_TOKENS, lambda _: infer.beams * max_length, row_multiple)


def mean_flops(size: Size, inputs: Encoded, outputs: Encoded, beams: int) -> float:
    """Mean floating-point operations of answering one example: encoded once, and every beam's tokens decoded once."""
    encoding = t5.forward_flops(size, inputs.lengths, np.zeros(1))
    decoding = t5.forward_flops(size, inputs.lengths, outputs.lengths) - encoding
    return float((encoding + beams * decoding).mean())


def _signature(config: Config, dtype: str) -> str:
    settings = decoding_settings(config)
    decoding = "greedy" if settings["beams"] == 1 else f"beam{settings['beams']},alpha{settings['length_penalty']:g}"
    span_qa = config.dataset.task == "span_qa"
    measure = "squad_exact_match" if span_qa else bleu_signature(config.infer.bleu_tokenizer)
    return (
        f"scores:token_log_probs|context:gold+self|tokens:all+eos|decoding:{decoding}"
        f"|max_tokens:{config.dataset.max_target_length}|dtype:{dtype}|measure:{measure}"
    )


class _Gathered:
    """Token scores of all texts, filled in batch by batch."""

    def __init__(self, texts: Encoded) -> None:
        self._offsets = np.asarray(texts.offsets, np.int64)
        self._values = [np.full(len(texts.flat), np.nan, np.float32) for _ in range(3)]

    def add(self, rows: np.ndarray, values: Sequence[sequences.TokenScores]) -> None:
        """`values` are those of each of the texts `rows`."""
        for row, of_text in zip(rows, values, strict=True):
            for kept, some in zip(self._values, of_text, strict=True):
                kept[self._offsets[row] : self._offsets[row + 1]] = some

    def scores(self) -> TokenScores:
        log_probs, margins, entropies = self._values
        return TokenScores(log_probs, margins, entropies, self._offsets)
