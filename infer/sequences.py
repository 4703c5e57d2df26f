"""Scores targets by teacher forcing: each token's log-probability, margin and entropy, given the tokens before it.

One encoder pass serves all targets of an example (the gold answer and the model's own output), one decoder pass each.
The head runs over a slice of positions at a time, so that [batch, length, vocabulary] is never held.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from conf.schema import Size
from train import hosts, t5
from train.attention import asking
from train.data.batches import Budget, ScoringBatch, scoring_batches, worthwhile_lengths
from train.data.prefetch import in_flight
from train.data.tokens import Encoded
from train.head import SLICE_BYTES, over_positions
from train.running_model import RunningModel
from train.sharding import BATCH, batches_in_flight, on_mesh


class TargetScores(NamedTuple):
    """Holds three values for every target token, EOS included; 0 on padding."""

    log_probs: jax.Array  # [B, T] float32: natural log of p(token | input, the tokens before it)
    margins: jax.Array  # [B, T] float32 in [0, 1]: p₁ - p₂, the two likeliest of the whole vocabulary
    entropies: jax.Array  # [B, T] float32, nats, at least 0: -Σ p log p over the whole vocabulary


class SequenceBatch(NamedTuple):
    """Holds rows that are scored together, and the shapes to which they are padded."""

    rows: np.ndarray  # [at most row_count] int64
    input_length: int
    target_length: int
    row_count: int  # rows of the shape: what `rows` leaves of it is filled up with empty ones


# --- pure ------------------------------------------------------------------------------------------------------------


def token_scores(
    params: t5.Params,
    inputs: jax.Array,
    targets: Sequence[jax.Array],
    lengths: Sequence[jax.Array],
    size: Size,
    dtype: str,
    slice_bytes: int = SLICE_BYTES,
) -> list[TargetScores]:
    """Returns the scores of several targets of every input: one encoder pass for all, one decoder pass for each.

    inputs [B, S] int32, padded with 0; every array of `targets` [B, T] int32, each with a T of its own, and its
    `lengths` [B] int32: what comes after a row's length is padding, and a pad id before it is a token like any other
    (a model may write one). `dtype` is the activations'; the head is float32, as T5X has it.

    Memory: the logits take `slice_bytes` at most (or one position of every row, B·V·4 bytes, where that is more), and
    not B·T·V·4. What grows with T is the decoder's own: attention of B·H·T·(T + S) numbers a layer, and activations.
    """
    model = t5.model(size, params)
    segments, _ = t5.plain_rows(inputs)
    memory = model.encode(inputs, segments, None, jnp.dtype(dtype))

    def score(ids: jax.Array, length: jax.Array) -> TargetScores:
        """Scores one target of every input: ids [B, T] int32, length [B] int32."""
        target_positions = jnp.arange(ids.shape[1], dtype=jnp.int32)[None]  # [1, T]
        inside = (target_positions < length[:, None]).astype(jnp.int32)  # [B, T]: 1, or 0 on padding
        hidden = model.hidden_states(t5.shift_right(ids), inside, None, memory, segments)
        values = over_positions(model, hidden.astype(jnp.float32), ids, scores_of_logits, slice_bytes)
        return TargetScores(*(jnp.where(inside == 1, value, 0) for value in values))

    return [score(ids, length) for ids, length in zip(targets, lengths, strict=True)]


def scores_of_logits(logits: jax.Array, targets: jax.Array) -> TargetScores:
    """Returns the scores, each [...] float32, of the tokens `targets` [...] int32 under logits [..., V] float32.

    Logits are taken relative to the largest one, whose own term in the sum Z is 1 and is kept apart. With
    y = logit - largest and r = Σ e^y over all but one largest, log p(token) = y(token) - log1p(r),
    p₁ - p₂ = -expm1(y₂)/(1 + r), and the entropy is log1p(r) - Σ e^y·y/(1 + r): sums of terms of one sign, so nothing
    cancels. A token of probability 1 - 1e-12 has the log-probability -1e-12 and not 0.
    """
    vocabulary = logits.shape[-1]
    lanes = math.gcd(vocabulary, 128)  # sums in two steps: float32 loses less in them than in a single long one
    largest = logits.max(axis=-1, keepdims=True)
    y = (logits - largest).reshape(*logits.shape[:-1], vocabulary // lanes, lanes)
    exp_y, is_largest = jnp.exp(y), y == 0
    # One pass for all four: on a CPU it takes half the time of four, and no other array of the size of the logits.
    others_exp, others_y = jnp.where(is_largest, 0, exp_y), jnp.where(is_largest, -jnp.inf, y)
    ties, rest, weighted, below = jax.lax.reduce(
        (is_largest.astype(jnp.float32), others_exp, exp_y * y, others_y),
        (np.float32(0), np.float32(0), np.float32(0), np.float32(-np.inf)),
        lambda a, b: (a[0] + b[0], a[1] + b[1], a[2] + b[2], jnp.maximum(a[3], b[3])),
        (y.ndim - 2,),
    )  # each [..., lanes]
    equals = ties.sum(axis=-1) - 1  # how many more are as large as the largest
    r = rest.sum(axis=-1) + equals
    y_second = jnp.where(equals > 0, 0.0, below.max(axis=-1))
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0] - largest[..., 0]
    return TargetScores(
        log_probs=chosen - jnp.log1p(r),
        margins=-jnp.expm1(y_second) / (1 + r),
        entropies=jnp.log1p(r) - weighted.sum(axis=-1) / (1 + r),
    )


# --- over a data set -------------------------------------------------------------------------------------------------


def sequence_batches(
    batches: Sequence[ScoringBatch],
    target_lengths: np.ndarray,
    tokens: int,
    row_multiple: int = 1,
    max_padding: float = 0.1,
    buckets: int = 8,
) -> list[SequenceBatch]:
    """Returns batches cut by target length, from `batches` that `scoring_batches` has cut by input length.

    Rows that are padded to one input length may be batched in any order, so those of each input length are cut anew by
    `target_lengths` [n] (of the longest target, where a row has several). The positions of a batch's inputs and of one
    target of each row are at most `tokens`, and its rows a multiple of `row_multiple`.

    Every input length starts with one target length; while more than `max_padding` (a share) of the target positions
    are padding, target lengths are added one at a time, each where it saves most. So no input is padded more than
    before, and at most 3 · `buckets` shapes compile, or one for each input length where those are more. Raises
    ValueError for `buckets` below 1.
    """
    if buckets < 1:
        raise ValueError(f"buckets={buckets}: expected 1 or more")
    target_lengths = np.asarray(target_lengths)
    by_input: dict[int, np.ndarray] = {}
    for rows, length, _ in batches:
        by_input[length] = np.append(by_input.get(length, np.zeros(0, np.int64)), rows)

    def plan(length: int, count: int) -> list[SequenceBatch]:
        """Cuts the rows of one input length into batches of at most `count` target lengths."""
        rows = by_input[length]
        budget = Budget(tokens, lambda _: length, row_multiple)  # here the targets' lengths vary, the inputs' don't
        planned = scoring_batches(target_lengths[rows], budget, worthwhile_lengths(len(rows), count))
        return [SequenceBatch(rows[places], length, target, row_count) for places, target, row_count in planned]

    def saved(length: int) -> int:
        """Returns how many target positions one more target length saves among the rows of an input length."""
        return _target_positions(plans[length]) - _target_positions(finer[length])

    plans = {length: plan(length, 1) for length in by_input}
    finer = {length: plan(length, 2) for length in by_input}
    counts = dict.fromkeys(by_input, 1)
    allowed = int(target_lengths.sum()) / (1 - max_padding)  # target positions
    while sum(map(_target_positions, plans.values())) > allowed and sum(counts.values()) < 3 * buckets:
        length = max(by_input, key=saved)
        if saved(length) <= 0:
            break
        counts[length] += 1
        plans[length], finer[length] = finer[length], plan(length, counts[length] + 1)
    return [batch for length_batches in plans.values() for batch in length_batches]


def _target_positions(batches: list[SequenceBatch]) -> int:
    """Returns how many target positions these batches have, padding and empty rows included."""
    return sum(batch.row_count * batch.target_length for batch in batches)


@functools.lru_cache(maxsize=32)
def compile_token_scoring(
    size: Size, dtype: str, mesh: jax.sharding.Mesh, attention: str = "auto"
) -> Callable[..., list[TargetScores]]:
    """Returns `token_scores`, jitted for this mesh: (params, inputs, targets, lengths) -> scores of each target.

    `attention` is the way that is asked for, as in `train.attention`.
    """
    return jax.jit(on_mesh(asking(functools.partial(token_scores, size=size, dtype=dtype), attention), mesh))


def score_sequences(
    model: RunningModel, inputs: Encoded, targets: Sequence[Encoded], batches: Sequence[SequenceBatch]
) -> Iterator[tuple[np.ndarray, list[list[TargetScores]]]]:
    """Yields (rows [b], scores) batch by batch; `scores[i][j]` are those of row `rows[j]`'s target in `targets[i]`.

    `targets` are one or several sets of n texts, such as the gold answers and the model's own outputs. Scores are numpy
    arrays, cut to the target's length. `batches` are as `sequence_batches` cuts them by the longest of a row's targets;
    a batch short of rows is filled up with empty ones, so that only the shapes in `batches` compile.
    """
    model = model.cast(head=False)
    compiled = compile_token_scoring(model.size, model.dtype, model.mesh, model.attention)
    sharding = jax.sharding.NamedSharding(model.mesh, BATCH)

    def started() -> Iterator[tuple[np.ndarray, list[np.ndarray], list[TargetScores]]]:
        for rows, input_length, target_length, row_count in batches:
            ids = [texts.padded(rows, target_length, row_count) for texts in targets]
            lengths = [np.pad(texts.lengths[rows], (0, row_count - len(rows))).astype(np.int32) for texts in targets]
            arrays = hosts.on_devices((inputs.padded(rows, input_length, row_count), ids, lengths), sharding)
            yield rows, lengths, compiled(model.params, *arrays)

    for rows, lengths, scored in in_flight(started(), batches_in_flight(model.mesh)):
        padded = jax.device_get(hosts.whole(scored))
        yield rows, [_cut(scores, length[: len(rows)]) for scores, length in zip(padded, lengths, strict=True)]


def _cut(scores: TargetScores, lengths: np.ndarray) -> list[TargetScores]:
    """Cuts scores of numpy arrays [B, T] to the first b rows' own `lengths` [b]."""
    return [TargetScores(*(values[row, :length] for values in scores)) for row, length in enumerate(lengths)]
