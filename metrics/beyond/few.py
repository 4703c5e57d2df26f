"""Takes the first few of the resamples, for what has to rank every run's examples anew in each."""

from copy import copy

from conf.schema import Metrics
from metrics.bootstrap.resampling import Drawn, Resampling

FEW = 200  # enough for an interval


def first_few(resampling: Resampling) -> Resampling:
    """Returns the same draws, the first 200 of them."""
    few = copy(resampling)
    few.resamples = min(resampling.resamples, FEW)
    few.seeds, few.ranking_seeds = (
        {size: counts[: few.resamples] for size, counts in drawn.items()}
        for drawn in (resampling.seeds, resampling.ranking_seeds)
    )
    everything = resampling.everything
    few.everything = Drawn(everything.index[: few.resamples], everything.weights[:, : few.resamples])
    return few


def few_in_signature(config: Metrics) -> list[str]:
    """Returns what a table adds to the signature whose intervals are of the first few resamples."""
    return [f"ci:first-{FEW}"] if config.resamples > FEW else []
