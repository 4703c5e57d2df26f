"""Writes curves/switcher.parquet: every pair's switcher curve by every score, at 101 deferral fractions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from metrics.analysis.dataset import Analysis
from metrics.statistics.switcher import FRACTIONS


def write_curves(analyses: Sequence[Analysis], path: Path) -> None:
    """Writes the columns dataset, small, large, small_seed, large_seed, score, fraction, value.

    A value is an accuracy, 0-1, or corpus BLEU, 0-100.
    """
    blocks = []  # one a (dataset, small, large, score)
    for analysis in analyses:
        seeds, unit = {size.name: size.seeds for size in analysis.grid.sizes}, analysis.grid.unit
        for pair in analysis.pairs:
            for score, statistics in pair.scores.items():
                small_seeds, large_seeds = np.meshgrid(seeds[pair.small], seeds[pair.large], indexing="ij")
                names = (analysis.grid.dataset, pair.small, pair.large, score)
                blocks.append((names, small_seeds.ravel(), large_seeds.ravel(), unit * statistics.curve.reshape(-1)))
    rows = [block[3].size for block in blocks]
    # pa.array would import pandas, over a second; buffers don't
    columns = {
        "dataset": _strings([block[0][0] for block in blocks], rows),
        "small": _strings([block[0][1] for block in blocks], rows),
        "large": _strings([block[0][2] for block in blocks], rows),
        "small_seed": _numbers(pa.int64(), [np.repeat(block[1], len(FRACTIONS)) for block in blocks]),
        "large_seed": _numbers(pa.int64(), [np.repeat(block[2], len(FRACTIONS)) for block in blocks]),
        "score": _strings([block[0][3] for block in blocks], rows),
        "fraction": _numbers(pa.float64(), [np.tile(FRACTIONS, len(block[1])) for block in blocks]),
        "value": _numbers(pa.float64(), [block[3] for block in blocks]),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_arrays(list(columns.values()), names=list(columns)), path, compression="zstd")


def _numbers(kind: pa.DataType, parts: Sequence[np.ndarray]) -> pa.Array:
    values = np.concatenate([np.zeros(0), *parts]).astype(np.int64 if kind == pa.int64() else np.float64)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _strings(values: Sequence[str], repeats: Sequence[int]) -> pa.Array:
    encoded = [value.encode() for value in values]
    offsets = np.cumsum([0, *map(len, encoded)]).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    index = np.repeat(np.arange(len(values), dtype=np.int64), repeats)
    return pa.Array.from_buffers(pa.string(), len(values), buffers).take(_numbers(pa.int64(), [index]))
