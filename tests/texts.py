"""Makes encoded texts in tests."""

from collections.abc import Sequence

import numpy as np

from train.data.tokens import EOS, Encoded


def encoded(texts: Sequence[Sequence[int] | np.ndarray]) -> Encoded:
    """Returns texts, given as token ids, as a split's encoded texts."""
    return Encoded(np.concatenate(texts).astype(np.int32), np.cumsum([0, *map(len, texts)]), 0)


def random_texts(n: int, longest: int, seed: int) -> list[np.ndarray]:
    """Returns `n` texts of 1 to `longest` ids below 40, EOS at their ends included."""
    rng = np.random.default_rng(seed)
    return [np.append(rng.integers(2, 40, rng.integers(0, longest)), EOS) for _ in range(n)]
