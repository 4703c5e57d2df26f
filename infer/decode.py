"""Decoding: the model's own output, greedily or by beam search, a token a step until every row is done.

A step is one position of the decoder over a cache of the positions before it; all steps run inside one compiled loop.

Every output is reproducible. Of equally likely tokens the one with the lowest id is taken; of equally likely hypotheses
the one that goes on from the likelier beam, and then the lowest id; of equally good finished ones the shortest. Rows
don't influence each other, and a row of padding alone is done before the first step.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from conf.schema import Size
from infer.cache import start
from train import hosts, t5
from train.data.batches import ScoringBatch
from train.data.tokens import EOS, Encoded
from train.sharding import BATCH, on_mesh

DEAD = -1e7  # the log-probability of a beam that isn't one, as in T5X; finite, so that sums with it are


class Decoded(NamedTuple):
    """What the model wrote for each row."""

    ids: jax.Array  # [B, max_length] int32: EOS is kept, and what comes after it is 0
    lengths: jax.Array  # [B] int32: tokens, EOS included; max_length where there is no EOS; 0 for a row of padding
    scores: jax.Array  # [B] float32: log p(ids | input), over the length penalty in beam search
    steps: jax.Array  # int32 scalar: how often the loop ran


# --- pure ------------------------------------------------------------------------------------------------------------


def greedy(params: t5.Params, inputs: jax.Array, size: Size, dtype: str, max_length: int) -> Decoded:
    """The likeliest token at each position, until EOS or `max_length` tokens. inputs [B, S] int32, padded with 0.

    Stops when all rows are done. Memory, beside the encoder's: 2·L·B·(M + S)·H·K numbers in `dtype` for keys and
    values, and logits of B·V·4 bytes. Raises ValueError for a `max_length` below 1.
    """
    _check(size, max_length, 1, 0.0)
    step, cache = start(params, inputs, size, dtype, max_length, 1)
    rows = inputs.shape[0]

    def unfinished(state: tuple) -> jax.Array:
        index, _, done, *_ = state
        return (index < max_length) & ~done.all()

    def body(state: tuple) -> tuple:
        index, token, done, out, cache = state
        logits, cache = step(token[:, None], index, cache)
        logits = logits[:, 0]  # [B, V]
        largest = logits.max(axis=-1, keepdims=True)
        # the lowest id of the largest, as argmax has it, which on a CPU takes twenty times as long
        vocabulary = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
        best = jnp.where(logits == largest, vocabulary, logits.shape[1]).min(axis=-1)  # [B]
        token = jnp.where(done, 0, best)
        log_prob = jnp.where(done, 0, largest[:, 0] - jax.nn.logsumexp(logits, axis=-1))
        out = Decoded(
            jax.lax.dynamic_update_slice(out.ids, token[:, None], (0, index)),
            jnp.where(done, out.lengths, index + 1),
            out.scores + log_prob,
            index + 1,
        )
        return index + 1, token, done | (token == EOS), out, cache

    zeros = jnp.zeros(rows, jnp.int32)
    empty = Decoded(jnp.zeros((rows, max_length), jnp.int32), zeros, jnp.zeros(rows, jnp.float32), jnp.int32(0))
    first = (jnp.int32(0), zeros, (inputs == 0).all(axis=1), empty, cache)  # T5's start token is the pad id 0
    return jax.lax.while_loop(unfinished, body, first)[3]


def length_penalty(length: jax.Array | int, alpha: float) -> jax.Array:
    """((5 + length) / 6)^alpha (Wu et al. 2016, equation 14), by which T5X divides a hypothesis's log-probability."""
    return ((5.0 + jnp.asarray(length, jnp.float32)) / 6.0) ** alpha


def beam_search(
    params: t5.Params, inputs: jax.Array, size: Size, dtype: str, max_length: int, beams: int, alpha: float
) -> Decoded:
    """The best hypothesis that T5X's beam search finds. inputs [B, S] int32, padded with 0.

    At each step the N live hypotheses of a row are extended by every token, and the likeliest 2·N of the N·V are kept.
    Those among them that end in EOS are finished, with the score log p / `length_penalty(tokens, alpha)`, EOS counted;
    the likeliest N of the others live on. The best finished hypothesis is returned or, where none ended within
    `max_length` tokens, the likeliest live one, its score by the same formula.

    A row is done when its best finished score is out of reach: no live hypothesis can end with more than its present
    log-probability over the penalty of `max_length`. T5X goes on until the N-th best finished score is, because it
    returns N; the best one is the same. One beam is greedy search: T5X's would put every EOS that comes second aside,
    and may return it.

    Memory, beside the encoder's: 2·L·B·(N·M + S)·H·K numbers in `dtype` for keys and values, those of the N·M twice
    while beams change places, and a few arrays of the size of the logits, B·N·V·4 bytes. Raises ValueError for
    `max_length` or `beams` below 1, 2·beams above the vocabulary, and a negative `alpha`.
    """
    _check(size, max_length, beams, alpha)
    if beams == 1:
        out = greedy(params, inputs, size, dtype, max_length)
        return out._replace(scores=out.scores / length_penalty(out.lengths, alpha))
    step, cache = start(params, inputs, size, dtype, max_length, beams)
    rows = inputs.shape[0]
    padding = (inputs == 0).all(axis=1)  # [B]

    def done(live: jax.Array, best: Decoded) -> jax.Array:
        """[B]; `live` [B, N] log-probabilities, falling."""
        return padding | (best.scores >= live[:, 0] / length_penalty(max_length, alpha))

    def unfinished(state: tuple) -> jax.Array:
        index, _, live, _, best, _ = state
        return (index < max_length) & ~done(live, best).all()

    def body(state: tuple) -> tuple:
        index, tokens, live, live_ids, best, cache = state
        logits, cache = step(tokens, index, cache)  # [B, N, V]
        log_probs = live[:, :, None] + jax.nn.log_softmax(logits, axis=-1)
        top, place = jax.lax.top_k(log_probs.reshape(rows, -1), 2 * beams)  # [B, N*V] -> [B, 2N], falling
        parents, tokens = place // logits.shape[2], place % logits.shape[2]
        ids = jnp.take_along_axis(live_ids, parents[:, :, None], axis=1)  # [B, 2N, M]
        ids = jax.lax.dynamic_update_slice(ids, tokens[:, :, None], (0, 0, index))
        ended = tokens == EOS

        scores = jnp.where(ended, top / length_penalty(index + 1, alpha), -jnp.inf)
        first = scores.argmax(axis=1, keepdims=True)  # [B, 1]
        score = jnp.take_along_axis(scores, first, axis=1)[:, 0]
        better = (score > best.scores) & ~done(live, best)  # a tie stays with the one that ended earlier
        best = Decoded(
            jnp.where(better[:, None], jnp.take_along_axis(ids, first[:, :, None], axis=1)[:, 0], best.ids),
            jnp.where(better, index + 1, best.lengths),
            jnp.where(better, score, best.scores),
            index + 1,
        )

        # At most N of the 2·N end, one for each beam: N are left. Equal values keep their order.
        live, kept = jax.lax.top_k(jnp.where(ended, DEAD + top, top), beams)  # [B, N]
        tokens = jnp.take_along_axis(tokens, kept, axis=1)
        live_ids = jnp.take_along_axis(ids, kept[:, :, None], axis=1)
        cache = cache.reordered(jnp.take_along_axis(parents, kept, axis=1))
        return index + 1, tokens, live, live_ids, best, cache

    none = Decoded(
        jnp.zeros((rows, max_length), jnp.int32),
        jnp.zeros(rows, jnp.int32),
        jnp.full(rows, -jnp.inf),
        jnp.int32(0),
    )
    only_first = jnp.where(jnp.arange(beams) == 0, 0, DEAD) + jnp.zeros((rows, 1))  # [B, N]: all start the same
    live_ids = jnp.zeros((rows, beams, max_length), jnp.int32)
    first = (jnp.int32(0), jnp.zeros((rows, beams), jnp.int32), only_first, live_ids, none, cache)
    _, _, live, live_ids, best, _ = jax.lax.while_loop(unfinished, body, first)
    found = best.scores > -jnp.inf
    out = Decoded(
        jnp.where(found[:, None], best.ids, live_ids[:, 0]),
        jnp.where(found, best.lengths, max_length),
        jnp.where(found, best.scores, live[:, 0] / length_penalty(max_length, alpha)),
        best.steps,
    )
    return Decoded(
        jnp.where(padding[:, None], 0, out.ids),
        jnp.where(padding, 0, out.lengths),
        jnp.where(padding, 0, out.scores),
        out.steps,
    )


def _check(size: Size, max_length: int, beams: int, alpha: float) -> None:
    assert size.vocabulary_size is not None
    if max_length < 1 or beams < 1 or alpha < 0 or (beams > 1 and 2 * beams > size.vocabulary_size):
        raise ValueError(
            f"max_length={max_length}, beams={beams}, alpha={alpha}, a vocabulary of {size.vocabulary_size}: "
            "expected max_length and beams of at least 1, 2·beams within the vocabulary, and alpha of at least 0"
        )


# --- over a data set -------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=32)
def _compiled(
    size: Size, dtype: str, max_length: int, beams: int, alpha: float, mesh: jax.sharding.Mesh
) -> Callable[..., Decoded]:
    search = functools.partial(beam_search, size=size, dtype=dtype, max_length=max_length, beams=beams, alpha=alpha)
    return jax.jit(on_mesh(search, mesh))


def decode_examples(
    params: t5.Params,
    inputs: Encoded,
    size: Size,
    dtype: str,
    mesh: jax.sharding.Mesh,
    batches: Sequence[ScoringBatch],
    max_length: int,
    beams: int = 1,
    alpha: float = 0.6,
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Yields (rows [b], outputs) batch by batch; output j is row `rows[j]`'s tokens, int32, at most `max_length`.

    It ends in EOS unless `max_length` came first. `batches` as `scoring_batches` cuts them; a batch short of rows is
    filled up with empty ones, so that only the shapes in `batches` compile. One beam is greedy.
    """
    compiled = _compiled(size, dtype, max_length, beams, alpha, mesh)
    sharding = jax.sharding.NamedSharding(mesh, BATCH)
    for rows, length, row_count in batches:
        ids = hosts.on_devices(inputs.padded(rows, length, row_count), sharding)
        out = jax.device_get(hosts.whole(compiled(params, ids)))
        yield rows, [out.ids[j, : out.lengths[j]] for j in range(len(rows))]


def as_encoded(outputs: Sequence[np.ndarray]) -> Encoded:
    """Outputs of n rows, in the rows' order, as texts to score; those without EOS at their end count as truncated."""
    offsets = np.cumsum([0, *(len(ids) for ids in outputs)], dtype=np.int64)
    cut = sum(len(ids) == 0 or int(ids[-1]) != EOS for ids in outputs)
    return Encoded(np.concatenate([np.zeros(0, np.int32), *outputs]), offsets, cut)
