"""Takes a sequence's uncertainty from quantiles of its tokens': of its most uncertain token, of its median one.

A mean over tokens grows dull with length: one token that is in doubt is lost among many that are sure. Gupta et al.
2024 (*Language model cascades: token-level uncertainty and beyond*) defer by quantiles of the tokens' values instead.
"""

from dataclasses import dataclass, field

import numpy as np

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, SizeView
from metrics.analysis.size import statistics_of
from metrics.beyond.few import few_in_signature, first_few
from metrics.beyond.table import PAIR, BeyondTable, Context, Observer, interval_entries, pair_entries
from metrics.bootstrap import SwitcherSamples, switcher_samples
from metrics.bootstrap.resampling import Estimate, Resampling, estimate
from metrics.grid.runs import Grid, SizeRuns
from metrics.scores import TokenScores
from metrics.statistics.switcher import SwitcherStatistics, deferral_order
from metrics.tables.table import Column, Row

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
MEASURES = ("margin", "entropy", "log_prob")
_TITLES = {"margin": "1 - margin", "entropy": "Entropy", "log_prob": "-log p"}
MEAN = "mean"


class TokenQuantiles(Observer):
    """Keeps the switchers of each small size by the quantiles of its tokens."""

    def __init__(self, grid: Grid, config: Metrics):
        super().__init__(grid, config)
        self.switchers: dict[tuple[Context, str], TokenSwitchers] = {}  # by context and small size

    def observe(self, view: SizeView) -> None:
        """Keeps what is needed of one size."""
        super().observe(view)
        if view.context is not None and view.larger:
            self.switchers[view.context, view.size.name] = token_switchers(
                view.size, view.larger, view.context, first_few(view.resampling)
            )

    def gaps(self) -> list[str]:
        """Returns what the table lacks of the dataset."""
        if self.grid.task == "classification":
            return ["Classes have no tokens to take quantiles of: span QA and translation do."]
        return super().gaps()

    def rows(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (small, large, measure, quantile or mean), of sequences alone."""
        if analysis.context is None:
            return []
        confidence = self.config.confidence
        rows: list[Row] = []
        for pair in analysis.pairs:
            switchers = self.switchers[analysis.context, pair.small]
            for measure in MEASURES:
                mean, mean_areas = switchers.mean_of("area", pair.large, f"{measure} {MEAN}")
                for name in (*map(str, QUANTILES), MEAN):
                    peak, peaks = switchers.mean_of("peak_gain", pair.large, f"{measure} {name}")
                    area, areas = switchers.mean_of("area", pair.large, f"{measure} {name}")
                    over = Estimate(0.0) if name == MEAN else estimate(area - mean, areas - mean_areas, confidence)
                    rows.append(
                        {
                            **pair_entries(analysis, pair.small, pair.large),
                            "measure_title": _TITLES[measure],
                            "measure": measure,
                            "quantile": name,
                            **interval_entries("table1", estimate(peak, peaks, confidence), 100),
                            **interval_entries("table3", estimate(area, areas, confidence), 100),
                            **interval_entries("over_mean", over, 100),
                        }
                    )
        return rows


TOKEN_QUANTILES = BeyondTable(
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
    observer=TokenQuantiles,
    rows=TokenQuantiles.rows,
    choices=few_in_signature,
)


def token_values(tokens: TokenScores, measure: str) -> np.ndarray:
    """Returns each token's uncertainty by a measure: [T] float64, higher is more uncertain."""
    if measure == "margin":
        return 1.0 - tokens.margins.astype(np.float64)
    return tokens.entropies.astype(np.float64) if measure == "entropy" else -tokens.log_probs.astype(np.float64)


def sequence_quantiles(values: np.ndarray, offsets: np.ndarray, quantiles: tuple[float, ...]) -> np.ndarray:
    """Returns quantiles of each sequence's values, linear between its order statistics: [T], [n + 1] -> [Q, n]."""
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
    """Holds switchers of one small size to every larger one by its tokens' quantiles; keys are `measure quantile`."""

    samples: SwitcherSamples  # of the first few resamples
    statistics: dict[tuple[str, str], list[SwitcherStatistics]] = field(default_factory=dict)  # (large, key) -> by run

    def mean_of(self, statistic: str, large: str, key: str) -> tuple[float, np.ndarray]:
        """Returns the mean over pairs of runs of peak_gain or area, and its samples [B]."""
        values = np.stack([getattr(run, statistic) for run in self.statistics[large, key]])
        return float(values.mean()), getattr(self.samples, statistic)[large, key]


def token_switchers(small: SizeRuns, larger: list[SizeRuns], context: str, resampling: Resampling) -> TokenSwitchers:
    """Makes the switchers of a size of span QA or translation, from its tokens in gold or self context."""
    switchers = TokenSwitchers(switcher_samples(small, larger, resampling))
    for run in range(len(small.seeds)):
        drawn = switchers.samples.run(run)
        tokens = small.tokens(context, run)
        for measure in MEASURES:
            values = token_values(tokens, measure)
            by_quantile = dict(zip(map(str, QUANTILES), sequence_quantiles(values, tokens.offsets, QUANTILES)))
            by_quantile[MEAN] = np.add.reduceat(values, tokens.offsets[:-1]) / tokens.lengths
            for name, uncertainty in by_quantile.items():
                key, deferral = f"{measure} {name}", deferral_order(uncertainty)
                drawn.add(key, deferral)
                for large in larger:
                    statistics = statistics_of(deferral, small, run, large)
                    switchers.statistics.setdefault((large.name, key), []).append(statistics)
    return switchers
