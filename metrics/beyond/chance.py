"""Puts each cell of Table 1 beside what chance alone would show: the score's own values, dealt out at random."""

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis
from metrics.beyond.cost import passes
from metrics.beyond.table import PAIR, SCORE, BeyondTable, Observer, interval_entries, pair_entries, score_entries
from metrics.statistics.bleu_chance import BLEU_DRAWS
from metrics.statistics.chance import DRAWS, HIGH, MOST_PERMUTED
from metrics.tables.table import Column, Row


class ChancePeaks(Observer):
    """Reads what chance shows from the analysis."""

    def gaps(self) -> list[str]:
        """Returns what the table lacks of the dataset."""
        return [*super().gaps(), *([] if self.config.resamples else ["metrics.resamples=0: nothing is permuted."])]

    def rows(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (small, large, score), in points."""
        return [
            {
                **pair_entries(analysis, pair.small, pair.large),
                **score_entries(score),
                "runs_read": passes(score, pair.committee),
                **interval_entries("table1", pair.peak_gain[score], 100),
                "chance_mean": 100 * chance.mean,
                "chance_high": 100 * chance.high,
                "above_chance": "yes" if pair.peak_gain[score].value > chance.high else "no",
                "floor_equal": 100 * float(pair.bounds.random_hump.mean()),
            }
            for pair in analysis.pairs
            for score, chance in pair.chance.items()
        ]


def _draws_in_signature(config: Metrics) -> list[str]:
    return [f"chance:{DRAWS}-seed{config.seed}"]


CHANCE_PEAK = BeyondTable(
    name="chance_peak",
    title="Table 1 beside chance",
    reading=(
        "What Table 1 would show if the score knew nothing: its own values, ties kept, are dealt out to the examples "
        f"at random, for all runs of the small model alike, {DRAWS} times, of translations {BLEU_DRAWS} times "
        f"(of more than {MOST_PERMUTED} examples by the normal limit of such permutations). A cell above the "
        f"{100 * HIGH:g} % quantile is more than a noisy curve's peak shows by chance, for these runs. If equally "
        "good: what a random score without ties reaches between models of the same accuracy."
    ),
    columns=(
        *PAIR,
        *SCORE,
        Column("runs_read", "of runs", "", "d"),
        Column("table1", "Table 1", "points", "+.2f", interval=True),
        Column("chance_mean", "Chance, mean", "points", "+.2f"),
        Column("chance_high", f"{100 * HIGH:g} % quantile", "points", "+.2f"),
        Column("above_chance", "Above chance"),
        Column("floor_equal", "if equally good", "points", ".2f"),
    ),
    observer=ChancePeaks,
    rows=ChancePeaks.rows,
    choices=_draws_in_signature,
)
