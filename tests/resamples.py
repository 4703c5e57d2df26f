"""Repeats a multi-bootstrap draw by draw, for tests that compare its samples with what the drawn data give."""

from collections.abc import Iterator

import numpy as np

from metrics.bootstrap.resampling import Resampling

Draw = tuple[int, np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]


def draws(resampling: Resampling) -> Iterator[Draw]:
    """Yields each resample: its number, the drawn examples, and size -> the drawn runs, size -> the runs that rank.

    What was drawn several times is there as often.
    """
    weights = resampling.everything.weights
    for b in range(resampling.resamples):
        examples = np.repeat(np.arange(len(weights) - 1), weights[:-1, b])
        if resampling.unit is not None:
            examples = np.concatenate([np.flatnonzero(resampling.unit == unit) for unit in examples])
        runs, ranking = (
            {size: np.repeat(np.arange(counts.shape[1]), counts[b].astype(int)) for size, counts in drawn.items()}
            for drawn in (resampling.seeds, resampling.ranking_seeds)
        )
        yield b, examples, runs, ranking
