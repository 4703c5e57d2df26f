"""One more pass over the resamples that the tables' intervals rest on: the same seeds and examples, drawn again."""

from collections.abc import Sequence
from dataclasses import replace

from metrics.intervals import Chunk, Resampling
from metrics.resampled import Samples

FEW = 200  # resamples, the first ones, of what has to rank examples anew for each: enough for an interval


def fill(resampling: Resampling, all_of_them: Sequence[Samples], few_of_them: Sequence[Samples]) -> None:
    """Fills in samples of every resample, and of the first `few(resampling.resamples)`."""
    most = few(resampling.resamples)
    for chunk in resampling.chunks():
        for family in all_of_them:
            family.add(chunk)
        if chunk.index.start < most:
            some = _first(chunk, most - chunk.index.start)
            for family in few_of_them:
                family.add(some)
        elif not all_of_them:
            break


def few(resamples: int) -> int:
    return min(resamples, FEW)


def _first(chunk: Chunk, count: int) -> Chunk:
    if chunk.index.stop - chunk.index.start <= count:
        return chunk
    return replace(
        chunk,
        index=slice(chunk.index.start, chunk.index.start + count),
        weights=chunk.weights[:, :count],
        seeds={size: drawn[:count] for size, drawn in chunk.seeds.items()},
        ranking_seeds={size: drawn[:count] for size, drawn in chunk.ranking_seeds.items()},
    )
