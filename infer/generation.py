"""Scores a split whose answers are text: the model writes one for each example, then gold and own ones are scored."""

from collections.abc import Sequence

import numpy as np

from conf.schema import Config, Infer, Size
from infer.decode import as_encoded, decode_examples
from infer.identity import decoding_settings
from infer.job import ScoringJob, carried_columns
from infer.metadata import scores_metadata
from infer.sequences import TargetScores, score_sequences, sequence_batches
from metrics.scores import Scores, TokenScores
from metrics.statistics.text import bleu_signature, bleu_statistics, corpus_bleu, exact_match, f1
from train import t5
from train.data.batches import Budget, ScoringBatch, padding_share, plan_batches
from train.data.splits import Split
from train.data.tokens import Encoded
from train.sharding import BATCH_TOKENS, scoring_tokens, whole_rows


def generate(job: ScoringJob) -> tuple[Scores, dict[str, float]]:
    """Returns the split's scores, and a summary: exact match and F1, or BLEU; what was cut; the share of padding.

    Raises Stopped between two batches where `job.stop` says so.
    """
    config, split, model = job.config, job.split, job.model
    inputs, golds = job.inputs(), job.targets()
    budget = decoding_budget(config.infer, config.dataset.max_target_length, whole_rows(job.mesh, 1))
    batches = plan_batches(config.infer, inputs.lengths, budget)
    written = write_answers(job, inputs, batches)
    outputs = as_encoded(written)
    gold_tokens, self_tokens = score_texts(job, inputs, [golds, outputs], batches)
    scores = Scores(
        metadata=scores_metadata(
            job,
            classes=[],
            flops=mean_flops(model.size, inputs, outputs, config.infer.beams),
            signature=_signature(config, job.dtype, split),
        ),
        example_id=np.array(split.example_id, dtype=object),
        target=np.array(split.targets, dtype=object),
        prediction=np.array([model.vocabulary.decode(ids) for ids in written], dtype=object),
        correct=None,
        **carried_columns(config, split),
        gold_tokens=gold_tokens,
        self_tokens=self_tokens,
    )
    quality = add_translation_quality if config.dataset.task == "translation" else add_answer_quality
    return scores, quality(scores, split, config.infer) | {
        "examples": len(split),
        "truncated_inputs": inputs.truncated,
        "truncated_targets": golds.truncated,
        "unknown_targets": golds.count_unknown(),
        "unfinished_outputs": outputs.truncated,
        "padding_share": padding_share(inputs.lengths, batches),
    }


def write_answers(job: ScoringJob, inputs: Encoded, batches: Sequence[ScoringBatch]) -> list[np.ndarray]:
    """Returns the model's own output for each of the n inputs: int32 tokens, at most `dataset.max_target_length`."""
    written: list[np.ndarray] = [np.zeros(0, np.int32)] * len(inputs)
    decoded = decode_examples(
        job.running,
        inputs,
        batches,
        max_length=job.config.dataset.max_target_length,
        beams=job.config.infer.beams,
        alpha=job.config.infer.length_penalty,
    )
    for rows, outputs in job.with_progress(decoded, batches, "writing"):
        for row, ids in zip(rows, outputs, strict=True):
            written[row] = ids
    return written


def score_texts(
    job: ScoringJob, inputs: Encoded, text_sets: Sequence[Encoded], batches: Sequence[ScoringBatch]
) -> list[TokenScores]:
    """Returns the token scores of one or several sets of n texts, each text scored as a target of its input."""
    infer = job.config.infer
    plan = sequence_batches(
        batches,
        np.max([texts.lengths for texts in text_sets], axis=0),
        tokens=scoring_tokens(infer, job.mesh),
        row_multiple=whole_rows(job.mesh, 1),
        max_padding=infer.max_padding,
        buckets=infer.length_buckets,
    )
    scored = score_sequences(job.running, inputs, text_sets, plan)
    collectors = [_TokenScoreCollector(texts) for texts in text_sets]
    for rows, values in job.with_progress(scored, plan, "scoring"):
        for collector, set_values in zip(collectors, values, strict=True):
            collector.add(rows, set_values)
    return [collector.scores() for collector in collectors]


def add_translation_quality(scores: Scores, split: Split, infer: Infer) -> dict[str, float]:
    """Fills in the scores' `bleu_stats` and returns the corpus BLEU, in percent."""
    references = split.golds or split.targets
    scores.bleu_stats = bleu_statistics(scores.prediction.tolist(), references, infer.bleu_tokenizer)
    return {"bleu": float(corpus_bleu(scores.bleu_stats.sum(axis=0)))}


def add_answer_quality(scores: Scores, split: Split, infer: Infer) -> dict[str, float]:
    """Fills in the scores' `correct` by exact match and returns `accuracy` and mean `f1`, both shares."""
    golds = split.golds or [[target] for target in split.targets]
    answers = list(zip(scores.prediction, golds, strict=True))
    scores.correct = np.array([exact_match(answer, own_golds) for answer, own_golds in answers])
    mean_f1 = float(np.mean([f1(answer, own_golds) for answer, own_golds in answers]))
    return {"accuracy": float(scores.correct.mean()), "f1": mean_f1}


def decoding_budget(infer: Infer, max_length: int, row_multiple: int) -> Budget:
    """Returns what a batch may hold where every beam has room for `max_length` tokens, whether it fills it or not."""
    return Budget(infer.batch_tokens or BATCH_TOKENS, lambda _: infer.beams * max_length, row_multiple)


def mean_flops(size: Size, inputs: Encoded, outputs: Encoded, beams: int) -> float:
    """Returns the mean floating-point operations of an example: encoded once, and every beam's tokens decoded once."""
    encoding = t5.forward_flops(size, inputs.lengths, np.zeros(1))
    decoding = t5.forward_flops(size, inputs.lengths, outputs.lengths) - encoding
    return float((encoding + beams * decoding).mean())


def _signature(config: Config, dtype: str, split: Split) -> str:
    """Returns how answers are written, scored and compared, in one line."""
    settings = decoding_settings(config)
    decoding = "greedy" if settings["beams"] == 1 else f"beam{settings['beams']},alpha{settings['length_penalty']:g}"
    span_qa = config.dataset.task == "span_qa"
    counts = {len(texts) for texts in split.golds} if split.golds else {1}
    measure = "squad_exact_match" if span_qa else bleu_signature(config.infer.bleu_tokenizer, counts)
    return (
        f"scores:token_log_probs|context:gold+self|tokens:all+eos|decoding:{decoding}"
        f"|max_tokens:{config.dataset.max_target_length}|dtype:{dtype}|measure:{measure}"
    )


class _TokenScoreCollector:
    """Collects the token scores of n texts, batch by batch, into the flat arrays of a scores file."""

    def __init__(self, texts: Encoded) -> None:
        self._offsets = np.asarray(texts.offsets, np.int64)
        self._columns = {name: np.full(len(texts.flat), np.nan, np.float32) for name in TargetScores._fields}

    def add(self, rows: np.ndarray, scores: Sequence[TargetScores]) -> None:
        """Takes the scores of the texts `rows` [b]."""
        for row, text_scores in zip(rows, scores, strict=True):
            for column, values in zip(self._columns.values(), text_scores, strict=True):
                column[self._offsets[row] : self._offsets[row + 1]] = values

    def scores(self) -> TokenScores:
        """Returns what was collected; NaN where nothing was."""
        return TokenScores(**self._columns, offsets=self._offsets)
