"""Token quantiles: a sequence's uncertainty by its most uncertain token, its median one …, instead of the mean.

A mean over tokens grows dull with length: one token that is in doubt is lost among many that are sure. Gupta et al.
2024 (*Language model cascades: token-level uncertainty and beyond*) defer by quantiles of the tokens' values instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from metrics.analysis.dataset import Analysis
from metrics.analysis.size import statistics_of
from metrics.beyond.table import PAIR, Column, Table, interval_of, of_pair
from metrics.bootstrap import SwitcherSamples, switcher_samples
from metrics.bootstrap.resampling import Estimate, Resampling, estimate
from metrics.grid.runs import SizeRuns
from metrics.scores import TokenScores
from metrics.statistics.switcher import SwitcherStatistics, deferral_order
from metrics.tables.paper import Row

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
MEASURES = ("margin", "entropy", "log_prob")
_TITLES = {"margin": "1 - margin", "entropy": "Entropy", "log_prob": "-log p"}
MEAN = "mean"


def token_quantiles_table() -> Table:
    return Table(
        name="token_quantiles",
        title="Token quantiles of sequence uncertainty, against the mean over tokens",
        reading=(
            "Cells of Tables 1 and 3 when a sequence is as uncertain as a quantile of its tokens says: 1 is its most "
            "uncertain token, 0.5 the median. Over the mean, interval above 0: the quantile defers better than the "
            "mean of the same measure. Each row by itself: the best of many rows looks better than it is."
        ),
        columns=(
            *PAIR,
            Column("measure_title", "Of each token"),
            Column("measure", "measure", shown=False),
            Column("quantile", "Quantile"),
            Column("table1", "Table 1", "points", "+.2f", interval=True),
            Column("table3", "Table 3", "points", "+.2f", interval=True),
            Column("over_mean", "Table 3 over the mean's", "points", "+.2f", interval=True),
        ),
    )


def token_values(tokens: TokenScores, measure: str) -> np.ndarray:
    """Each token's uncertainty: [T] float64, higher is more uncertain."""
    if measure == "margin":
        return 1.0 - tokens.margins.astype(np.float64)
    return tokens.entropies.astype(np.float64) if measure == "entropy" else -tokens.log_probs.astype(np.float64)


def sequence_quantiles(values: np.ndarray, offsets: np.ndarray, quantiles: tuple[float, ...]) -> np.ndarray:
    """Quantiles of each sequence's values, linear between its order statistics: [T], [n + 1] -> [Q, n]."""
    lengths = np.diff(offsets)
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    ranked = values[np.lexsort((values, sequence))]  # sequence by sequence, ascending
    rows = []
    for quantile in quantiles:
        place = quantile * (lengths - 1)
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, lengths - 1)
        first = ranked[offsets[:-1] + low]
        rows.append(first + (place - low) * (ranked[offsets[:-1] + high] - first))
    return np.stack(rows)


@dataclass
class TokenSwitchers:
    """Switchers of one small size to every larger one by its tokens' quantiles; keys are `measure quantile`."""

    samples: SwitcherSamples  # of the first few resamples
    statistics: dict[tuple[str, str], list[SwitcherStatistics]] = field(default_factory=dict)  # (large, key) -> by run


def token_switchers(small: SizeRuns, larger: list[SizeRuns], context: str, resampling: Resampling) -> TokenSwitchers:
    """From the tokens of a size of span QA or translation, in gold or self context."""
    found = TokenSwitchers(switcher_samples(small, larger, resampling))
    for run in range(len(small.seeds)):
        drawn = found.samples.run(run)
        tokens = small.tokens(context, run)
        for measure in MEASURES:
            values = token_values(tokens, measure)
            of_sequences = dict(zip(map(str, QUANTILES), sequence_quantiles(values, tokens.offsets, QUANTILES)))
            of_sequences[MEAN] = np.add.reduceat(values, tokens.offsets[:-1]) / tokens.lengths
            for name, uncertainty in of_sequences.items():
                key, deferral = f"{measure} {name}", deferral_order(uncertainty)
                drawn.add(key, deferral)
                for large in larger:
                    statistics = statistics_of(deferral, small, run, large)
                    found.statistics.setdefault((large.name, key), []).append(statistics)
    return found


def token_quantiles(analysis: Analysis, results: Mapping[str, TokenSwitchers], confidence: float) -> list[Row]:
    """One row a (small, large, measure, quantile or mean); `results` by small size, of sequences alone."""
    rows: list[Row] = []
    for pair in analysis.pairs:
        if pair.small not in results:
            continue
        found = results[pair.small]
        for measure in MEASURES:
            mean, mean_areas = _mean(found, pair.large, f"{measure} {MEAN}", "area")
            for name in (*map(str, QUANTILES), MEAN):
                key = f"{measure} {name}"
                peak, peaks = _mean(found, pair.large, key, "peak_gain")
                area, areas = _mean(found, pair.large, key, "area")
                over = Estimate(0.0) if name == MEAN else estimate(area - mean, areas - mean_areas, confidence)
                rows.append(
                    {
                        **of_pair(analysis, pair.small, pair.large),
                        "measure_title": _TITLES[measure],
                        "measure": measure,
                        "quantile": name,
                        **interval_of("table1", estimate(peak, peaks, confidence), 100),
                        **interval_of("table3", estimate(area, areas, confidence), 100),
                        **interval_of("over_mean", over, 100),
                    }
                )
    return rows


def _mean(found: TokenSwitchers, large: str, key: str, statistic: str) -> tuple[float, np.ndarray]:
    """Mean over pairs of runs, and its samples [B]."""
    of_runs = np.stack([getattr(run, statistic) for run in found.statistics[large, key]])
    return float(of_runs.mean()), getattr(found.samples, statistic)[large, key]
