"""Counts the floating-point operations of a forward pass."""

import numpy as np

from conf.schema import Size


def forward_flops(size: Size, input_tokens: np.ndarray, target_tokens: np.ndarray, outputs: int = 0) -> np.ndarray:
    """Returns the floating-point operations of one forward pass, per example [n] float64; a multiply-add counts two.

    Counts the matrix products: projections, attention, feed-forward and head, without padding. Norms and softmax are
    left out. `input_tokens` and `target_tokens` are [n], or a number. Several label strings against one input count
    with the sum of their tokens; since each attends to its own tokens alone, that is an upper bound. The head is of the
    whole vocabulary, or of as many tokens as `outputs` says.
    """
    s, t = np.asarray(input_tokens, np.float64), np.asarray(target_tokens, np.float64)
    assert size.vocabulary_size is not None
    d, inner = size.d_model, size.heads * size.d_kv
    mlp = 2 * d * size.d_ff * (3 if size.activation == "gated_gelu" else 2)  # a token
    encoder = s * (8 * d * inner + mlp) + 4 * s * s * inner
    decoder = t * (8 * d * inner + mlp) + 4 * t * t * inner
    cross = 4 * t * d * inner + 4 * s * d * inner + 4 * t * s * inner
    return (
        size.layers * encoder + size.decoder_depth * (decoder + cross) + 2 * t * d * (outputs or size.vocabulary_size)
    )
