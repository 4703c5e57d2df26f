"""Checks that a machine computes what another did: seeded random token ids, and what a model gave for them.

It is kept beside a scores file when the scores are made, on the machine and in the dtype that made them, and never
holds text. A deployed model is run on the same ids: other numbers mean other weights, another dtype or a broken device.
"""

from typing import Any

import numpy as np

from train.data.tokens import EOS, Encoded

FILE = "self_check.json"
ROWS, LENGTH = 4, 16
TOLERANCE = {
    "float32": 1e-2,
    "bfloat16": 0.25,
}  # of a log-likelihood: other devices and batch shapes sum in other orders


def random_inputs(seed: int, rows: int, length: int, pieces: int) -> Encoded:
    """Returns texts of random token ids from 3 to below `pieces`, each with EOS at its end: the same for the same seed.

    Raises ValueError for a length below 2 and fewer than 4 pieces.
    """
    if length < 2 or pieces < 4:
        raise ValueError(f"length={length}, pieces={pieces}: expected 2 or more, and 4 or more")
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(18,)))
    ids = rng.integers(3, pieces, (rows, length), dtype=np.int32)
    ids[:, -1] = EOS
    return Encoded(ids.ravel(), np.arange(rows + 1, dtype=np.int64) * length, 0)


def record(seed: int, pieces: int, length: int, values: np.ndarray) -> dict[str, Any]:
    """Returns what is kept: how the ids were drawn, and the log-likelihoods [rows, K] that the model gave."""
    return {
        "seed": seed,
        "rows": len(values),
        "length": length,
        "pieces": pieces,
        "log_likelihoods": [[float(value) for value in row] for row in values],
    }


def differs(check: dict[str, Any], values: np.ndarray, dtype: str) -> str | None:
    """Says how a model's log-likelihoods [rows, K] differ from the kept ones; None where they don't."""
    kept = np.array(check["log_likelihoods"], np.float64)
    if kept.shape != values.shape:
        return f"{values.shape} log-likelihoods, expected {kept.shape}"
    worst = float(np.max(np.abs(kept - values))) if kept.size else 0.0
    if worst <= TOLERANCE[dtype]:
        return None
    return f"log-likelihoods differ by up to {worst:.4g}, expected at most {TOLERANCE[dtype]:g} in {dtype}"
