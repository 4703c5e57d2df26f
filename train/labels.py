"""Label likelihoods: each example is encoded once, and all label strings are scored against it in one decoder call.

The K label strings of T tokens lie side by side in one decoder row of K·T positions, one segment each: they see the
example and themselves, and not each other. Where K is so large that the logits would not fit, the labels are cut into
equal groups; the example is still encoded once.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from conf.schema import Size
from train import hosts, t5
from train.data.batches import scoring_batches
from train.data.tokens import Encoded
from train.sharding import BATCH, on_mesh

LOGITS_BYTES = 256 * 2**20  # what the float32 logits of one decoder call may take


def label_log_likelihoods(
    params: t5.Params, inputs: jax.Array, labels: jax.Array, size: Size, dtype: str, group: int
) -> jax.Array:
    """log p(label string + EOS | input), summed over tokens, unnormalised: [B, K] float32.

    inputs [B, S] int32; labels [K, T] int32, each ending in EOS and padded with 0; `group` labels a decoder call.
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
        logits = model.decode(
            spread(t5.shift_right(some)), spread(own_segment), place, memory, segments, spread(weights)
        )  # [B, group*T, V]
        target = spread(some)
        chosen = jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
        log_probs = (chosen - jax.nn.logsumexp(logits, axis=-1)) * spread(weights)  # [B, group*T]
        return log_probs.reshape(rows, group, t).sum(axis=-1)

    scores = jax.lax.map(score_group, padded.reshape(groups, group, t))  # [groups, B, group]
    return jnp.moveaxis(scores, 0, 1).reshape(inputs.shape[0], groups * group)[:, :k]


def compile_label_scoring(
    size: Size, dtype: str, mesh: jax.sharding.Mesh, labels: tuple[int, int], batch_size: int
) -> Callable[..., jax.Array]:
    """`label_log_likelihoods` jitted for K labels of T tokens, `labels` [K, T], and batches of `batch_size` rows."""
    k, t = labels
    assert size.vocabulary_size is not None
    group = int(np.clip(LOGITS_BYTES // (4 * batch_size * t * size.vocabulary_size), 1, k))
    return _compiled(tuple(sorted(vars(size).items())), dtype, -(-k // -(-k // group)), mesh)


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
