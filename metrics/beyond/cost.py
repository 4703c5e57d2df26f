"""Counts what deferral costs: FLOPs an example, with every pass of the small model charged that a score needs.

A switcher runs the small model on every example and the larger one on the fraction deferred. Churn and committee scores
need all runs of the small size, and ten passes of a small model may cost more than one of the larger.
"""

import math

import numpy as np

from metrics.analysis.dataset import Analysis
from metrics.analysis.least_share import PARTS
from metrics.analysis.pairs import SizePair
from metrics.analysis.prices import prices_of
from metrics.beyond.table import (
    PAIR,
    QUALITY,
    SCORE,
    BeyondTable,
    Observer,
    interval_entries,
    pair_entries,
    score_entries,
)
from metrics.bootstrap.resampling import Estimate, estimate
from metrics.grid.runs import Grid
from metrics.statistics.switcher import FRACTIONS
from metrics.tables.table import Column, Row

BUDGETS = (0.25, 0.5, 0.75, 1.0)  # of one pass of the larger model
ONE_RUN = ("margin", "entropy")  # the other scores need every run of the size


class Costs(Observer):
    """Keeps the resampled switchers, whose curves say what a budget buys."""

    deployable_only = True

    def gaps(self) -> list[str]:
        """Returns what the table lacks of the dataset."""
        return [*unknown_flops(self.grid), *super().gaps()]

    def rows(self, analysis: Analysis) -> list[Row]:
        """Returns a row for each (small, large, score), in percent.

        cost(f) = k c_small + f c_large with k passes, so a budget B (in units of c_large) buys
        f = min(1, B - k c_small / c_large), and accuracy S(f) of the mean curve; the least costs are those of the
        least shares to defer (`LeastShares`).
        """
        rows: list[Row] = []
        for pair in analysis.pairs:
            ratio = relative_cost(self.grid, pair.small, pair.large)
            for score in pair.scores:
                k = passes(score, pair.committee)
                score_cost = k * ratio
                curve = pair.curve[score]
                curves = self.samples[analysis.context, pair.small].curve[pair.large, score]  # [101, B]
                row: Row = {
                    **pair_entries(analysis, pair.small, pair.large),
                    **score_entries(score),
                    "passes": k,
                    "score_cost": 100 * score_cost,
                }
                for budget in BUDGETS:
                    quality = at_cost(budget, score_cost, curve, curves, self.config.confidence)
                    row |= interval_entries(f"at_{100 * budget:g}", quality, 100)
                row |= interval_entries("large_quality", analysis.quality[pair.large], 100)
                shares = pair.least_share[score]
                for part, fraction in shares.reaching.items():
                    row |= interval_entries(f"cost_{100 * part:g}", _shifted(fraction, score_cost), 100)
                row["cost_within_epsilon"] = 100 * (score_cost + shares.within_epsilon)
                row |= self._in_prices(pair, score, k)
                rows.append(row)
        return rows

    def _in_prices(self, pair: SizePair, score: str, k: int) -> Row:
        """Returns the row's columns of prices, k p_small + f p_large; NaN where `metrics.price` is not given."""
        prices, shares = prices_of(self.config, self.grid), pair.least_share[score]
        if prices is None:
            return {key: math.nan if column.form else "" for column in PRICE_COLUMNS for key in column.keys}
        half = prices.of_mixtures(pair.small, pair.large, shares.half, k)
        return {
            "price_unit": prices.unit,
            "price_score": prices.of_mixture(pair.small, pair.large, 0.0, k),
            **interval_entries("price_50", half),
            "price_within_epsilon": prices.of_mixture(pair.small, pair.large, shares.within_epsilon, k),
            "price_large": prices.of_size[pair.large],
        }


PRICE_COLUMNS = (
    Column("price_unit", "Price in", optional=True),
    Column("price_score", "Price of the score", "", ".4g", optional=True),
    Column("price_50", "Least price of 50 % of the gap", "", ".4g", interval=True, optional=True),
    Column("price_within_epsilon", "of at most ε below it", "", ".4g", optional=True),
    Column("price_large", "Larger model's price", "", ".4g", optional=True),
)
COST = BeyondTable(
    name="cost",
    title="Quality at equal cost, and the least cost of the larger model's gain",
    reading=(
        "Costs are FLOPs an example in units of one pass of the larger model (100 %). A score's own cost is the "
        "small model's passes that it needs: one, or as many as a committee has for churn and committee scores. The "
        "switcher's accuracy (translation: BLEU) is given at four budgets (-: the score alone costs more); at "
        "100 % it costs what the larger model does, so compare with that model's. A least cost is that of a "
        "share in the table of least shares; above 100 % it saves nothing. Prices are of an example, by "
        "metrics.price."
    ),
    columns=(
        *PAIR,
        *SCORE,
        Column("passes", "Small passes", "", "d"),
        Column("score_cost", "Cost of the score", "%", ".1f"),
        *(
            Column(f"at_{100 * budget:g}", f"Quality at {100 * budget:g} % cost", QUALITY, ".2f", interval=True)
            for budget in BUDGETS
        ),
        Column("large_quality", "Larger model's", QUALITY, ".2f", interval=True),
        *(
            Column(f"cost_{100 * part:g}", f"Least cost of {100 * part:g} % of the gap", "%", ".1f", interval=True)
            for part in PARTS
        ),
        Column("cost_within_epsilon", "of at most ε below it", "%", ".1f"),
        *PRICE_COLUMNS,
    ),
    observer=Costs,
    rows=Costs.rows,
)


def relative_cost(grid: Grid, small: str, large: str) -> float:
    """Returns c_small / c_large in FLOPs an example, or in parameters where the files don't say FLOPs."""
    sizes = {size.name: size for size in grid.sizes}
    flops = [sizes[name].flops_per_example for name in (small, large)]
    if min(flops) > 0:
        return flops[0] / flops[1]
    return sizes[small].parameters / sizes[large].parameters


def unknown_flops(grid: Grid) -> list[str]:
    """Returns a note on the sizes whose FLOPs aren't known; none if all are."""
    unknown = [size.name for size in grid.sizes if not size.flops_per_example > 0]
    if not unknown:
        return []
    return [f"No FLOPs are known of {', '.join(unknown)}: costs of pairs with it are ratios of parameters."]


def passes(score: str, committee: int) -> int:
    """Returns how often the small model runs on an example to have the score, with committees of so many runs."""
    return 1 if score in ONE_RUN else committee


def at_cost(budget: float, score_cost: float, curve: np.ndarray, curves: np.ndarray, confidence: float) -> Estimate:
    """Returns a switcher's mean accuracy for a budget, with its interval; NaN where the score alone costs more.

    The budget and the score's cost are in passes of the larger model; `curve` [101] is the mean curve, `curves`
    [101, B] are its samples, and `confidence`, 0-1, is that of the interval.
    """
    fraction = min(1.0, budget - score_cost)
    # a budget of just the score's cost buys f = 0, whatever the rounding of the difference
    if fraction < -1e-12:
        return Estimate(float("nan"))
    return estimate(at_fraction(curve[:, None], fraction)[0], at_fraction(curves, fraction), confidence)


def at_fraction(curves: np.ndarray, fraction: float) -> np.ndarray:
    """Returns the values of curves given at FRACTIONS, linear between: [101, B] -> [B]."""
    position = max(fraction, 0.0) * (len(FRACTIONS) - 1)
    left = min(int(position), len(FRACTIONS) - 2)
    part = position - left
    values: np.ndarray = (1 - part) * curves[left] + part * curves[left + 1]
    return values


def _shifted(fraction: Estimate, cost: float) -> Estimate:
    return Estimate(fraction.value + cost, fraction.low + cost, fraction.high + cost)
