"""Measures the peak memory of scoring tokens: `python -m tests.token_score_memory SLICE_BYTES` prints its growth.

The growth is in bytes. It is measured in a process of its own, whose peak nothing else has raised.
"""

import functools
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp

from conf.schema import Size
from infer.sequences import token_scores
from train import t5

PAPER = Size(name="paper", d_model=64, d_kv=16, d_ff=128, layers=2, heads=4)  # and T5's vocabulary, 32,128
ROWS, SOURCE, TARGET = 8, 64, 512


def peak() -> int:
    """Returns this process's peak memory so far, in bytes."""
    found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def growth(slice_bytes: int) -> int:
    """Returns by how many bytes the peak grows when rows of that shape are scored with slices of `slice_bytes`."""
    params = t5.init_params(PAPER, jax.random.key(0))
    inputs, targets = (jax.random.randint(jax.random.key(1), (ROWS, n), 2, 32000) for n in (SOURCE, TARGET))
    score = jax.jit(functools.partial(token_scores, size=PAPER, dtype="float32", slice_bytes=slice_bytes))
    arguments = (params, inputs, [targets], [jnp.full(ROWS, TARGET)])
    compiled = score.lower(*arguments).compile()
    before = peak()
    [scores] = compiled(*arguments)
    assert (scores.log_probs < 0).all()
    return peak() - before


if __name__ == "__main__":
    print(growth(int(sys.argv[1])))
