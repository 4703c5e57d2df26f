"""Label likelihoods: each example is encoded once, and all label strings are scored against it in one decoder call.

The K label strings of T tokens lie side by side in one decoder row of K·T positions, one segment each: they see the
example and themselves, and not each other. Where K is so large that the logits or the attention between all positions
would not fit, the labels are cut into equal groups; the example is still encoded once. Where one label alone is too
long for that, the head runs over slices of its positions.

So memory does not grow with K, but for the result. With B rows, S source positions, H heads and the vocabulary V, the
decoder holds, beside its activations of a call's positions:
- logits of at most LOGITS_BYTES, or of one position of every row, 4·B·V bytes, where that is more;
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
from train.data.batches import scoring_batches
from train.data.tokens import Encoded
from train.head import over_positions
from train.sharding import BATCH, on_mesh

LOGITS_BYTES = 256 * 2**20  # what the float32 logits of one decoder call may take
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

    def score_group(some: jax.Array) -> jax.Array:
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
        return (log_probs * spread(weights)).reshape(rows, group, t).sum(axis=-1)

    scores = jax.lax.map(score_group, padded.reshape(groups, group, t))  # [groups, B, group]
    return jnp.moveaxis(scores, 0, 1).reshape(inputs.shape[0], groups * group)[:, :k]


def log_probabilities(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """log p of each token: logits [B, T, V] float32, targets [B, T] int32 -> [B, T] float32."""
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)


def labels_a_call(size: Size, rows: int, labels: tuple[int, int]) -> int:
    """How many of `labels` (K, T) a decoder call takes with `rows` rows: all, or as few calls of as many as fit."""
    k, t = labels
    assert size.vocabulary_size is not None
    by_logits = LOGITS_BYTES // (4 * rows * t * size.vocabulary_size)
    pairs = ATTENTION_BYTES // (4 * (rows * size.heads + size.relative_buckets))  # the bias spells out every bucket
    group = int(np.clip(min(by_logits, math.isqrt(pairs) // t), 1, k))
    return -(-k // -(-k // group))


def compile_label_scoring(
    size: Size, dtype: str, mesh: jax.sharding.Mesh, labels: tuple[int, int], batch_size: int
) -> Callable[..., jax.Array]:
    """`label_log_likelihoods` jitted for K labels of T tokens, `labels` [K, T], and batches of `batch_size` rows."""
    return _compiled(tuple(sorted(vars(size).items())), dtype, labels_a_call(size, batch_size, labels), mesh)


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
    batches: Sequence[tuple[np.ndarray, int]],
    batch_size: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (rows [b], log-likelihoods [b, K] float32) batch by batch; `batches` as `scoring_batches` cuts them.

    A batch short of rows is filled up with empty ones, so that only the lengths in `batches` compile.
    """
    compiled = compile_label_scoring(size, dtype, mesh, (len(labels), labels.shape[1]), batch_size)
    sharding = jax.sharding.NamedSharding(mesh, BATCH)
    for rows, length in batches:
        ids = hosts.laid(inputs.padded(rows, length, batch_size), sharding)
        yield rows, np.asarray(compiled(params, ids, labels))[: len(rows)]


def accuracy(
    params: t5.Params,
    inputs: Encoded,
    truth: np.ndarray,
    labels: np.ndarray,
    size: Size,
    dtype: str,
    mesh: jax.sharding.Mesh,
    batch_size: int,
) -> float:
    """The share of examples whose likeliest label is `truth` [n] (indices into the K labels)."""
    batches = scoring_batches(inputs.lengths, batch_size, 1)
    scored = score_examples(params, inputs, labels, size, dtype, mesh, batches, batch_size)
    return sum(int((scores.argmax(axis=1) == truth[rows]).sum()) for rows, scores in scored) / len(truth)
