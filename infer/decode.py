"""Decodes: writes the model's own output, greedily or by beam search, one token a step until every row is done.

A step is one position of the decoder over a cache of the positions before it; all steps run inside one compiled loop.

Every output is reproducible. Of equally likely tokens the one with the lowest id is taken; of equally likely hypotheses
the one that extends the likelier beam, and then the one with the lowest id; of equally good finished ones the shortest.
Rows don't influence each other, and a row of padding alone is done before the first step.

Shape names are those of `infer.cache`: B rows, N beams a row, M tokens that an output may have, V vocabulary.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from conf.errors import EdgewiseError
from conf.schema import Size
from infer.cache import Cache, start_decoding
from train import hosts, t5
from train.attention import asking
from train.data.batches import ScoringBatch
from train.data.prefetch import in_flight
from train.data.tokens import EOS, Encoded
from train.running_model import RunningModel
from train.sharding import BATCH, batches_in_flight, on_mesh

DEAD = -1e7  # the log-probability of a beam that holds no hypothesis, as in T5X; finite, so that sums with it are


class Decoded(NamedTuple):
    """Holds what the model wrote for each row."""

    ids: jax.Array  # [B, M] int32: EOS is kept, and what comes after it is 0
    lengths: jax.Array  # [B] int32: tokens, EOS included; M where there is no EOS; 0 for a row of padding
    scores: jax.Array  # [B] float32: log p(ids | input), in beam search divided by the length penalty
    steps: jax.Array  # int32 scalar: how often the loop ran


# --- greedy ----------------------------------------------------------------------------------------------------------


class _GreedyState(NamedTuple):
    """Holds what greedy decoding knows between two steps."""

    position: jax.Array  # int32 scalar: what to decode next
    tokens: jax.Array  # [B] int32: the token before it
    done: jax.Array  # [B] bool
    out: Decoded
    cache: Cache


def greedy(
    params: t5.Params, inputs: jax.Array, size: Size, dtype: str, max_length: int, unroll: bool | None = None
) -> Decoded:
    """Takes the likeliest token at each position, until EOS or `max_length` tokens; returns what was written.

    inputs [B, S] int32, padded with 0; `dtype` is the activations'. Stops when all rows are done. Memory, beside the
    encoder's: 2·L·B·(M + S)·H·K numbers in `dtype` for keys and values, and logits of B·V·4 bytes. `unroll` is as
    `start_decoding` takes it. Raises ValueError for a `max_length` below 1.
    """
    _check(size, max_length, 1, 0.0)
    step, cache = start_decoding(params, inputs, size, dtype, max_length, 1, unroll)
    rows = inputs.shape[0]

    def unfinished(state: _GreedyState) -> jax.Array:
        """Returns whether another step is needed, a bool scalar."""
        return (state.position < max_length) & ~state.done.all()

    def take_step(state: _GreedyState) -> _GreedyState:
        """Decodes one position."""
        position, done, out = state.position, state.done, state.out
        logits, cache = step(state.tokens[:, None], position, state.cache)
        logits = logits[:, 0]  # [B, V]
        largest = logits.max(axis=-1, keepdims=True)
        # the lowest id of the largest, as argmax has it, which on a CPU takes twenty times as long
        vocabulary = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
        best = jnp.where(logits == largest, vocabulary, logits.shape[1]).min(axis=-1)  # [B]
        tokens = jnp.where(done, 0, best)
        log_probs = jnp.where(done, 0, largest[:, 0] - jax.nn.logsumexp(logits, axis=-1))
        out = Decoded(
            jax.lax.dynamic_update_slice(out.ids, tokens[:, None], (0, position)),
            jnp.where(done, out.lengths, position + 1),
            out.scores + log_probs,
            position + 1,
        )
        return _GreedyState(position + 1, tokens, done | (tokens == EOS), out, cache)

    zeros = jnp.zeros(rows, jnp.int32)
    nothing = Decoded(jnp.zeros((rows, max_length), jnp.int32), zeros, jnp.zeros(rows, jnp.float32), jnp.int32(0))
    # T5's start token is the pad id 0; a row of padding alone is done
    first = _GreedyState(jnp.int32(0), zeros, (inputs == 0).all(axis=1), nothing, cache)
    return jax.lax.while_loop(unfinished, take_step, first).out


# --- beam search -----------------------------------------------------------------------------------------------------


class _BeamState(NamedTuple):
    """Holds what beam search knows between two steps. Live hypotheses have not ended; beams are likeliest first."""

    position: jax.Array  # int32 scalar: what to decode next
    tokens: jax.Array  # [B, N] int32: each beam's token before it
    live: jax.Array  # [B, N] float32: log-probabilities of the live hypotheses, falling
    live_ids: jax.Array  # [B, N, M] int32: their tokens
    best: Decoded  # the best finished hypothesis of each row; its score is -inf where there is none
    cache: Cache


class _Candidates(NamedTuple):
    """Holds the likeliest 2·N of the hypotheses that extend a row's N live ones by one token, likeliest first."""

    log_probs: jax.Array  # [B, 2N] float32, falling
    parents: jax.Array  # [B, 2N] int32: which beam each extends
    tokens: jax.Array  # [B, 2N] int32: by which token
    ids: jax.Array  # [B, 2N, M] int32: all tokens
    ended: jax.Array  # [B, 2N] bool: whether that token is EOS


def length_penalty(length: jax.Array | int, alpha: float) -> jax.Array:
    """Returns ((5 + length) / 6)^alpha, float32, by which T5X divides a hypothesis's log-probability.

    Source: Wu et al. 2016, equation 14.
    """
    return ((5.0 + jnp.asarray(length, jnp.float32)) / 6.0) ** alpha


def beam_search(
    params: t5.Params,
    inputs: jax.Array,
    size: Size,
    dtype: str,
    max_length: int,
    beams: int,
    alpha: float,
    unroll: bool | None = None,
) -> Decoded:
    """Returns the best hypothesis that T5X's beam search finds. inputs [B, S] int32, padded with 0.

    At each step the N live hypotheses of a row are extended by every token, and the likeliest 2·N of the N·V are kept.
    Those among them that end in EOS are finished, with the score log p / `length_penalty(tokens, alpha)`, EOS counted;
    the likeliest N of the others live on. The best finished hypothesis is returned or, where none ended within
    `max_length` tokens, the likeliest live one, its score by the same formula.

    A row is done when its best finished score is out of reach: no live hypothesis can end with more than its present
    log-probability over the penalty of `max_length`. T5X goes on until the N-th best finished score is, because it
    returns N; the best one is the same. One beam is greedy search: T5X's would put every EOS that comes second aside,
    and may return it.

    Memory, beside the encoder's: 2·L·B·(N·M + S)·H·K numbers in `dtype` for keys and values, and a few arrays of the
    size of the logits, B·N·V·4 bytes. `unroll` is as `start_decoding` takes it. Raises ValueError for `max_length` or
    `beams` below 1, 2·beams above the vocabulary, and a negative `alpha`.
    """
    _check(size, max_length, beams, alpha)
    if beams == 1:
        out = greedy(params, inputs, size, dtype, max_length, unroll)
        return out._replace(scores=out.scores / length_penalty(out.lengths, alpha))
    step, cache = start_decoding(params, inputs, size, dtype, max_length, beams, unroll)
    padding = (inputs == 0).all(axis=1)  # [B]

    def done(live: jax.Array, best: Decoded) -> jax.Array:
        """Returns which rows are done, [B] bool, by the log-probabilities `live` [B, N] of their live hypotheses."""
        return padding | (best.scores >= live[:, 0] / length_penalty(max_length, alpha))

    def unfinished(state: _BeamState) -> jax.Array:
        """Returns whether another step is needed, a bool scalar."""
        return (state.position < max_length) & ~done(state.live, state.best).all()

    def take_step(state: _BeamState) -> _BeamState:
        """Extends every hypothesis by one token."""
        logits, cache = step(state.tokens, state.position, state.cache)  # [B, N, V]
        candidates = _extend(state, logits)
        scores, ended = _best_ended(candidates, state.position, alpha)
        better = (scores > state.best.scores) & ~done(state.live, state.best)  # a tie stays with what ended earlier
        best = Decoded(
            jnp.where(better[:, None], ended, state.best.ids),
            jnp.where(better, state.position + 1, state.best.lengths),
            jnp.where(better, scores, state.best.scores),
            state.position + 1,
        )
        return _live_on(state, candidates, best, cache)

    first = _first_state(inputs.shape[0], beams, max_length, cache)
    last = jax.lax.while_loop(unfinished, take_step, first)
    found = last.best.scores > -jnp.inf
    ids = jnp.where(found[:, None], last.best.ids, last.live_ids[:, 0])
    lengths = jnp.where(found, last.best.lengths, max_length)
    scores = jnp.where(found, last.best.scores, last.live[:, 0] / length_penalty(max_length, alpha))
    return Decoded(
        jnp.where(padding[:, None], 0, ids),
        jnp.where(padding, 0, lengths),
        jnp.where(padding, 0, scores),
        last.best.steps,
    )


def _first_state(rows: int, beams: int, max_length: int, cache: Cache) -> _BeamState:
    """Returns the state before the first step: one live hypothesis a row, without tokens, and none finished."""
    nothing = Decoded(
        jnp.zeros((rows, max_length), jnp.int32),
        jnp.zeros(rows, jnp.int32),
        jnp.full(rows, -jnp.inf),
        jnp.int32(0),
    )
    only_first = jnp.where(jnp.arange(beams) == 0, 0, DEAD) + jnp.zeros((rows, 1))  # [B, N]
    live_ids = jnp.zeros((rows, beams, max_length), jnp.int32)
    start_tokens = jnp.zeros((rows, beams), jnp.int32)  # T5's start token is the pad id 0
    return _BeamState(jnp.int32(0), start_tokens, only_first, live_ids, nothing, cache)


def _extend(state: _BeamState, logits: jax.Array) -> _Candidates:
    """Returns the likeliest 2·N extensions of the live hypotheses; logits [B, N, V] float32 are of the next token."""
    rows, beams, vocabulary = logits.shape
    log_probs = state.live[:, :, None] + jax.nn.log_softmax(logits, axis=-1)
    top, place = jax.lax.top_k(log_probs.reshape(rows, -1), 2 * beams)  # [B, N*V] -> [B, 2N], falling
    parents, tokens = place // vocabulary, place % vocabulary
    ids = jnp.take_along_axis(state.live_ids, parents[:, :, None], axis=1)  # [B, 2N, M]
    ids = jax.lax.dynamic_update_slice(ids, tokens[:, :, None], (0, 0, state.position))
    return _Candidates(top, parents, tokens, ids, tokens == EOS)


def _best_ended(candidates: _Candidates, position: jax.Array, alpha: float) -> tuple[jax.Array, jax.Array]:
    """Returns the score [B] float32 and tokens [B, M] of the best candidate that has ended; -inf where none has."""
    scores = jnp.where(candidates.ended, candidates.log_probs / length_penalty(position + 1, alpha), -jnp.inf)
    first = scores.argmax(axis=1, keepdims=True)  # [B, 1]
    score = jnp.take_along_axis(scores, first, axis=1)[:, 0]
    return score, jnp.take_along_axis(candidates.ids, first[:, :, None], axis=1)[:, 0]


def _live_on(state: _BeamState, candidates: _Candidates, best: Decoded, cache: Cache) -> _BeamState:
    """Returns the next step's state: the likeliest N candidates that have not ended, and the cache that is theirs.

    At most N of the 2·N candidates end, one for each beam, so N are left. Equal values keep their order.
    """
    beams = state.live.shape[1]
    log_probs = jnp.where(candidates.ended, DEAD + candidates.log_probs, candidates.log_probs)
    live, kept = jax.lax.top_k(log_probs, beams)  # [B, N]
    tokens = jnp.take_along_axis(candidates.tokens, kept, axis=1)
    live_ids = jnp.take_along_axis(candidates.ids, kept[:, :, None], axis=1)
    cache = cache.reordered(jnp.take_along_axis(candidates.parents, kept, axis=1))
    return _BeamState(state.position + 1, tokens, live, live_ids, best, cache)


def _check(size: Size, max_length: int, beams: int, alpha: float) -> None:
    """Raises EdgewiseError for more beams than the vocabulary has, and ValueError for other settings out of range."""
    assert size.vocabulary_size is not None
    if beams > 1 and 2 * beams > size.vocabulary_size:
        raise EdgewiseError(
            f"infer.beams={beams}: expected at most {size.vocabulary_size // 2}, half of the vocabulary of size "
            f"{size.name}, as a step keeps twice as many continuations"
        )
    if max_length < 1 or beams < 1 or alpha < 0:
        raise ValueError(
            f"max_length={max_length}, beams={beams}, alpha={alpha}: expected max_length and beams of at least 1, and "
            "alpha of at least 0"
        )


# --- over a data set -------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=32)
def compile_decoding(
    size: Size,
    dtype: str,
    max_length: int,
    beams: int,
    alpha: float,
    mesh: jax.sharding.Mesh,
    attention: str = "auto",
) -> Callable[..., Decoded]:
    """Returns `beam_search`, jitted for this mesh: (params, inputs) -> Decoded.

    `attention` is the way that is asked for, as in `train.attention`.
    """
    search = functools.partial(beam_search, size=size, dtype=dtype, max_length=max_length, beams=beams, alpha=alpha)
    return jax.jit(on_mesh(asking(search, attention), mesh))


def decode_examples(
    model: RunningModel,
    inputs: Encoded,
    batches: Sequence[ScoringBatch],
    max_length: int,
    beams: int = 1,
    alpha: float = 0.6,
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Yields (rows [b], outputs) batch by batch; output j is row `rows[j]`'s tokens, int32, at most `max_length`.

    An output ends in EOS unless `max_length` came first. One beam is greedy search. `batches` are as `scoring_batches`
    cuts them; a batch short of rows is filled up with empty ones, so that only the shapes in `batches` compile.
    """
    model = model.cast(head=False)
    compiled = compile_decoding(model.size, model.dtype, max_length, beams, alpha, model.mesh, model.attention)
    sharding = jax.sharding.NamedSharding(model.mesh, BATCH)

    def started() -> Iterator[tuple[np.ndarray, Decoded]]:
        for rows, length, row_count in batches:
            yield rows, compiled(model.params, hosts.on_devices(inputs.padded(rows, length, row_count), sharding))

    for rows, decoded in in_flight(started(), batches_in_flight(model.mesh)):
        out = jax.device_get(hosts.whole(decoded))
        yield rows, [out.ids[j, : out.lengths[j]] for j in range(len(rows))]


def as_encoded(outputs: Sequence[np.ndarray]) -> Encoded:
    """Returns outputs of n rows, in the rows' order, as texts to score; those without EOS count as truncated."""
    offsets = np.cumsum([0, *(len(ids) for ids in outputs)], dtype=np.int64)
    unended = sum(len(ids) == 0 or int(ids[-1]) != EOS for ids in outputs)
    return Encoded(np.concatenate([np.zeros(0, np.int32), *outputs]), offsets, unended)
