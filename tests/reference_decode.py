"""Decoding by definition: one row at a time, the whole prefix through the decoder at each step, Python lists."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax

from train import t5


@functools.cache
def _logits(size):
    def logits(params, inputs, decoder_inputs):
        model = t5.model(size, params)
        segments, positions = t5.plain_rows(inputs)
        memory = model.encode(inputs, segments, positions)
        places = jnp.arange(decoder_inputs.shape[1], dtype=jnp.int32)[None]
        return model.decode(decoder_inputs, jnp.ones_like(decoder_inputs), places, memory, segments)

    return jax.jit(logits)


def next_log_probs(params, size, inputs, max_length, most):
    """A function: at most `most` prefixes of one input [S] -> the next token's log-probabilities [prefixes, V].

    It remembers what it computed: searches with other rules ask for the same prefixes.
    """
    logits, found = _logits(size), {}

    def log_probs(prefixes):
        asked = tuple(map(tuple, prefixes))
        if asked not in found:
            ids = np.zeros((most, max_length), np.int32)
            for row, prefix in enumerate(prefixes):
                ids[row, 1 : len(prefix) + 1] = prefix
            out = logits(params, jnp.tile(jnp.asarray(inputs)[None], (most, 1)), ids)
            found[asked] = log_softmax(np.asarray(out, np.float64)[: len(prefixes), len(prefixes[0])], axis=-1)
        return found[asked]

    return log_probs


def greedy(log_probs, max_length, eos=1):
    """The output's ids, and their log-probability."""
    ids, total = [], 0.0
    while len(ids) < max_length and ids[-1:] != [eos]:
        [row] = log_probs([ids])
        ids.append(int(row.argmax()))
        total += row.max()
    return ids, total


def beam_search(log_probs, max_length, beams, penalty, eos=1, hugging_face=False):
    """The best output's ids, its score, and the step after which no live hypothesis could be better.

    As T5X has it: twice as many candidates as beams are kept, any of them that ends is finished, and the search goes on
    until the worst of as many finished hypotheses as beams is better than a live one can become. `penalty(length)` is
    what log-probabilities are divided by. Hugging Face's differs in two ways: only the first half of the candidates may
    finish, and at the last step all that are among them do.
    """
    live, finished, decided = [(0.0, [])], [], None
    for step in range(1, max_length + 1):
        rows = log_probs([ids for _, ids in live])
        candidates = [
            (total + value, beam, token)
            for beam, ((total, _), row) in enumerate(zip(live, rows))
            for token, value in enumerate(row)
        ]
        candidates = sorted(candidates, key=lambda c: (-c[0], c[1], c[2]))[: 2 * beams]
        extended = []
        for rank, (total, beam, token) in enumerate(candidates):
            ids = [*live[beam][1], token]
            may_end = not hugging_face or rank < beams
            if may_end and (token == eos or (hugging_face and step == max_length)):
                finished.append((total / penalty(step), ids))
            if token != eos:
                extended.append((total, ids))
        live = extended[:beams]
        finished = sorted(finished, key=lambda f: -f[0])[:beams]
        if decided is None and finished and finished[0][0] >= live[0][0] / penalty(max_length):
            decided = step
        if len(finished) == beams and finished[-1][0] > live[0][0] / penalty(max_length + 1):
            break
    score, ids = finished[0] if finished else (live[0][0] / penalty(max_length), live[0][1])
    return ids, score, decided or max_length
