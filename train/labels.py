"""Label likelihoods: each example is encoded once, and all label strings are scored against it in one decoder call.

The K label strings of T tokens lie side by side in one decoder row of K·T positions, one segment each: they see the
example and themselves, and not each other. Where those are more positions than the example has, and more than
CALL_POSITIONS, the labels are cut into equal groups, a decoder call each; the example is still encoded once. Each call
makes the input's keys and values anew, which costs little beside a call of as many positions as the input has.

So memory does not grow with K, but for the result, and a batch is counted by what a call holds: `label_budget`. With B
rows, S source positions, H heads and the vocabulary V, the decoder holds, beside its activations of a call's positions:
- logits of at most LOGITS_BYTES, because the head runs over slices of positions; or of one position of every row,
  4·B·V bytes, where that is more, as it is of very many rows of few tokens (more than 2,088 with T5's vocabulary);
- attention of one layer between a call's positions of at most ATTENTION_BYTES, or of one label, 4·B·H·T², where that is
  more; and to the input, which is less than that or than the encoder's own, 4·B·H·S²;
each of them up to twice over: in bfloat16 beside float32, or a sum's terms beside the sum.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from conf.schema import Size
from train import hosts, t5
from train.data.batches import Budget, ScoringBatch
from train.data.tokens import Encoded
from train.head import over_positions
from train.sharding import BATCH, on_mesh, scan

CALL_POSITIONS = 64  # what a decoder call may take of a row, where its input has no more
LOGITS_BYTES = 256 * 2**20  # what the float32 logits of one slice of positions may take
ATTENTION_BYTES = 256 * 2**20  # what a layer's float32 attention between the positions of one decoder call may take


def label_log_likelihoods(
    params: t5.Params, inputs: jax.Array, labels: jax.Array, size: Size, dtype: str, group: int
) -> jax.Array:
    """log p(label string + EOS | input), summed over tokens, unnormalised: [B, K] float32.

    inputs [B, S] int32; labels [K, T] int32, each ending in EOS and padded with 0; `group` labels a decoder call, of
    which `labels_a_call` says how many fit.
    """
    model = t5.model(size, params)
    segments, positions = t5.plain_rows(inputs)
    memory = model.encode(inputs, segments, positions, jnp.dtype(dtype))
    k, t = labels.shape
    groups = -(-k // group)
    padded = jnp.pad(labels, ((0, groups * group - k), (0, 0)), mode="edge")

    def score_group(_: None, some: jax.Array) -> tuple[None, jax.Array]:
        """[group, T] -> [B, group]"""
        rows = inputs.shape[0]
        spread = lambda x: jnp.broadcast_to(x.reshape(1, group * t), (rows, group * t))  # noqa: E731  [group, T] -> [B, group*T]
        weights = (some != 0).astype(jnp.int32)
        own_segment = weights * (1 + jnp.arange(group, dtype=jnp.int32))[:, None]
        place = jnp.tile(jnp.arange(t, dtype=jnp.int32), group)[None]  # [1, group*T]
        hidden = model.hidden_states(
            spread(t5.shift_right(some)), spread(own_segment), place, memory, segments, spread(weights)
        )  # [B, group*T, D]
        log_probs = over_positions(model, hidden, spread(some), log_probabilities, LOGITS_BYTES)  # [B, group*T]
        return None, (log_probs * spread(weights)).reshape(rows, group, t).sum(axis=-1)

    _, scores = scan(score_group, None, padded.reshape(groups, group, t))  # [groups, B, group]
    return jnp.moveaxis(scores, 0, 1).reshape(inputs.shape[0], groups * group)[:, :k]


def log_probabilities(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """log p of each token: logits [B, T, V] float32, targets [B, T] int32 -> [B, T] float32."""
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)


def labels_a_call(size: Size, shape: tuple[int, int], labels: tuple[int, int]) -> int:
    """How many of `labels` (K, T) a decoder call takes of inputs of `shape` (B, S): all, or as few calls as can be."""
    rows, length = shape
    pairs = ATTENTION_BYTES // (4 * (rows * size.heads + size.relative_buckets))  # the bias spells out every bucket
    return _labels_in(min(max(length, CALL_POSITIONS), math.isqrt(pairs)), labels)


def _labels_in(positions: int, labels: tuple[int, int]) -> int:
    """How many labels each call takes where it has room for `positions` of a row, and all calls take about as many."""
    k, t = labels
    most = int(np.clip(positions // t, 1, k))
    return -(-k // -(-k // most))


def label_budget(tokens: int, labels: tuple[int, int], row_multiple: int = 1) -> Budget:
    """What a batch may hold of inputs that are scored against `labels` (K, T).

    The outputs of a row are the positions of one decoder call: all K·T, or as many as CALL_POSITIONS or the input's
    length allow, and one label at least. The calls come one after the other, so those of many labels don't add up:
    against 1,000 labels of 4 tokens, 4,000 positions, a text of 30 tokens takes 94.
    """
    return Budget(tokens, lambda length: labels[1] * _labels_in(max(length, CALL_POSITIONS), labels), row_multiple)


def compile_label_scoring(
    size: Size, dtype: str, mesh: jax.sharding.Mesh, labels: tuple[int, int], shape: tuple[int, int]
) -> Callable[..., jax.Array]:
    """`label_log_likelihoods` jitted for K labels of T tokens, `labels` (K, T), and inputs of `shape` (B, S)."""
    return _compiled(tuple(sorted(vars(size).items())), dtype, labels_a_call(size, shape, labels), mesh)


@functools.lru_cache(maxsize=32)
def _compiled(size: tuple, dtype: str, group: int, mesh: jax.sharding.Mesh) -> Callable[..., jax.Array]:
    scoring = functools.partial(label_log_likelihoods, size=Size(**dict(size)), dtype=dtype, group=group)
    return jax.jit(on_mesh(scoring, mesh), out_shardings=jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def pad_labels(labels: Encoded) -> np.ndarray:
    """The encoded label strings as [K, T] int32, T the longest's length."""
    return labels.padded(np.arange(len(labels)), int(labels.lengths.max()))


def score_examples(
    params: t5.Params,
    inputs: Encoded,
    labels: np.ndarray,
    size: Size,
    dtype: str,
    mesh: jax.sharding.Mesh,
    batches: Sequence[ScoringBatch],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (rows [b], log-likelihoods [b, K] float32) batch by batch; `batches` as `scoring_batches` cuts them.

    A batch short of rows is filled up with empty ones, so that only the shapes in `batches` compile.
    """
    sharding = jax.sharding.NamedSharding(mesh, BATCH)
    for rows, length, row_count in batches:
        compiled = compile_label_scoring(size, dtype, mesh, (len(labels), labels.shape[1]), (row_count, length))
        ids = hosts.laid(inputs.padded(rows, length, row_count), sharding)
        yield rows, np.asarray(compiled(params, ids, labels))[: len(rows)]


def accuracy(
    params: t5.Params,
    inputs: Encoded,
    truth: np.ndarray,
    labels: np.ndarray,
    size: Size,
    dtype: str,
    mesh: jax.sharding.Mesh,
    batches: Sequence[ScoringBatch],
) -> float:
    """The share of examples whose likeliest label is `truth` [n] (indices into the K labels)."""
    scored = score_examples(params, inputs, labels, size, dtype, mesh, batches)
    return sum(int((scores.argmax(axis=1) == truth[rows]).sum()) for rows, scores in scored) / len(truth)
