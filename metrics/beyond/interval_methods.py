"""Says how the interval of each kind of number was made, and whether the spread of runs is in it."""

from collections.abc import Iterator

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis
from metrics.beyond.table import BeyondTable, Observer, dataset_entries
from metrics.tables.table import Column, Row

COMPONENTS, REFLECTED, PERCENTILE = "t, variance components", "resamples, reflected", "resamples, percentiles"
RESAMPLED_T, INVERTED, NO_INTERVAL = "t, variance of resamples", "t limits of the curve, inverted", "none"

# numbers of a pair of sizes: how they are made of right and wrong answers, and of BLEU
_OF_PAIRS = {
    "gap": (COMPONENTS, PERCENTILE),
    "Table 1": (REFLECTED, REFLECTED),
    "Table 3": (COMPONENTS, PERCENTILE),
    "least shares to defer": (INVERTED, PERCENTILE),
    "curves, disagreement": (PERCENTILE, PERCENTILE),
    "slices, subgroups": (COMPONENTS, RESAMPLED_T),
    "paired tests by Table 1": (RESAMPLED_T, RESAMPLED_T),
    "paired tests by Table 3": (COMPONENTS, RESAMPLED_T),
}


class IntervalMethods(Observer):
    """Reads from the analysis which numbers there are, and of how many runs."""

    def rows(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each kind of number and the sizes that it is of; none with one size."""
        return list(self._rows(analysis)) if analysis.pairs else []

    def _rows(self, analysis: Analysis) -> Iterator[Row]:
        grid = analysis.grid
        runs = {size.name: len(size.seeds) for size in grid.sizes}
        resampled = int(grid.task == "translation")

        def row(number: str, method: str, sizes: tuple[str, ...], churning: str = "") -> Row:
            # of two runs that churn there is one pair, which has no spread
            known = all(runs[name] >= (3 if name == churning else 2) for name in sizes)
            if not self.config.resamples:
                method = NO_INTERVAL
            return {
                **dataset_entries(analysis),
                "number": number,
                "sizes": " → ".join(dict.fromkeys(sizes)),
                "method": method,
                "runs": "yes" if known else "no",
                "drawn": "examples" if grid.clusters is None else f"{int(grid.clusters.max()) + 1:,} clusters",
            }

        for name in runs:
            yield row(grid.measure, (COMPONENTS, PERCENTILE)[resampled], (name,))
        for pair in analysis.pairs:
            for number, methods in _OF_PAIRS.items():
                yield row(number, methods[resampled], (pair.small, pair.large))
        for uncertainty_size, size, *_ in analysis.churn:
            yield row("Table 2", (COMPONENTS, PERCENTILE)[resampled], (uncertainty_size, size), churning=size)
        if analysis.churn:
            size = analysis.churn[0][1]
            yield row("overall churn", (COMPONENTS, PERCENTILE)[resampled], (size,), churning=size)


def _nothing_further(config: Metrics) -> list[str]:
    return [f"confidence:{100 * config.confidence:g}%"]


INTERVAL_METHODS = BeyondTable(
    name="interval_methods",
    title="How each interval is made",
    reading=(
        "The method of each kind of number, and whether the spread between runs is in it: where it isn't, an interval "
        "holds for other examples and these runs alone. docs/metrics.md, Intervals, defines the methods and shows how "
        "often they hold the truth. Intervals of curves by percentiles of resamples are too narrow with few runs."
    ),
    columns=(
        Column("dataset", "Dataset"),
        Column("context", "Context"),
        Column("number", "Number"),
        Column("sizes", "Of"),
        Column("method", "Method"),
        Column("runs", "Spread of runs"),
        Column("drawn", "Drawn"),
    ),
    observer=IntervalMethods,
    rows=IntervalMethods.rows,
    choices=_nothing_further,
)
