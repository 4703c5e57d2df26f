"""Deferral by what it costs: FLOPs an example, with every pass of the small model charged that a score needs.

A switcher runs the small model on every example and the larger one on the fraction deferred. Churn and committee scores
need all runs of the small size, and ten passes of a small model may cost more than one of the larger.
"""

from collections.abc import Mapping

import numpy as np

from metrics.analysis.dataset import Analysis
from metrics.beyond.table import PAIR, QUALITY, SCORE, Column, Table, interval_of, of_pair, of_score
from metrics.bootstrap import SwitcherSamples
from metrics.bootstrap.resampling import Estimate, estimate
from metrics.grid.runs import Grid
from metrics.statistics.switcher import FRACTIONS
from metrics.tables.paper import Row

BUDGETS = (0.25, 0.5, 0.75, 1.0)  # of one pass of the larger model
ONE_RUN = ("margin", "entropy")  # the other scores need every run of the size


def cost_table() -> Table:
    return Table(
        name="cost",
        title="Quality at equal cost, and the least cost of the larger model's accuracy",
        reading=(
            "Costs are FLOPs an example in units of one pass of the larger model (100 %). A score's own cost is the "
            "small model's passes that it needs: one, or all runs of the size for churn and committee scores. The "
            "switcher's accuracy (translation: BLEU) is given at four budgets (-: the score alone costs more); at "
            "100 % it costs what the larger model does, so compare with that model's. A least cost above 100 % saves "
            "nothing."
        ),
        columns=(
            *PAIR,
            *SCORE,
            Column("passes", "Small passes", "", "d"),
            Column("score_cost", "Cost of the score", "%", ".1f"),
            *(
                Column(f"at_{100 * share:g}", f"Quality at {100 * share:g} % cost", QUALITY, ".2f", interval=True)
                for share in BUDGETS
            ),
            Column("large_quality", "Larger model's", QUALITY, ".2f", interval=True),
            Column("matching_cost", "Least cost of matching it", "%", ".1f", interval=True),
            Column("half_cost", "of half the gap", "%", ".1f", interval=True),
        ),
    )


def relative_cost(grid: Grid, small: str, large: str) -> float:
    """c_small / c_large, FLOPs an example; parameters where the files don't say FLOPs (as `cost_notes` does)."""
    sizes = {size.name: size for size in grid.sizes}
    flops = [sizes[name].flops_per_example for name in (small, large)]
    if min(flops) > 0:
        return flops[0] / flops[1]
    return sizes[small].parameters / sizes[large].parameters


def cost_notes(grid: Grid) -> list[str]:
    unknown = [size.name for size in grid.sizes if not size.flops_per_example > 0]
    if not unknown:
        return []
    return [f"No FLOPs are known of {', '.join(unknown)}: costs of pairs with it are ratios of parameters."]


def passes(score: str, runs: int) -> int:
    """How often the small model runs on an example to have the score."""
    return 1 if score in ONE_RUN else runs


def costs(analysis: Analysis, samples: Mapping[str, SwitcherSamples], confidence: float) -> list[Row]:
    """One row a (small, large, score), `samples` by small size; percent.

    cost(f) = k c_small + f c_large with k passes, so a budget B (in units of c_large) buys
    f = min(1, B - k c_small / c_large), and accuracy S(f) of the mean curve; the least costs are those of the fractions
    at which it reaches b and (a + b)/2.
    """
    runs = {size.name: len(size.seeds) for size in analysis.grid.sizes}
    rows: list[Row] = []
    for pair in analysis.pairs:
        ratio = relative_cost(analysis.grid, pair.small, pair.large)
        for score in pair.scores:
            k = passes(score, runs[pair.small])
            own = k * ratio
            curves = samples[pair.small].curve[pair.large, score]  # [101, B]
            row: Row = {
                **of_pair(analysis, pair.small, pair.large),
                **of_score(score),
                "passes": k,
                "score_cost": 100 * own,
            }
            for share in BUDGETS:
                row |= interval_of(
                    f"at_{100 * share:g}", at_cost(share, own, pair.curve[score], curves, confidence), 100
                )
            row |= interval_of("large_quality", analysis.quality[pair.large], 100)
            for key, fraction in (("matching_cost", pair.matching[score]), ("half_cost", pair.half_gain[score])):
                row |= interval_of(key, _shifted(fraction, own), 100)
            rows.append(row)
    return rows


def at_cost(budget: float, own: float, curve: np.ndarray, curves: np.ndarray, confidence: float) -> Estimate:
    """A mean curve's accuracy [101] for `budget` passes of the larger model, `own` of them spent on the score.

    NaN where they don't suffice for the score.
    """
    fraction = min(1.0, budget - own)
    # a budget of just the score's cost buys f = 0, whatever the rounding of the difference
    if fraction < -1e-12:
        return Estimate(float("nan"))
    return estimate(at_fraction(curve[:, None], fraction)[0], at_fraction(curves, fraction), confidence)


def at_fraction(curves: np.ndarray, fraction: float) -> np.ndarray:
    """Curves at FRACTIONS, linear between: [101, B] -> [B]."""
    position = max(fraction, 0.0) * (len(FRACTIONS) - 1)
    left = min(int(position), len(FRACTIONS) - 2)
    share = position - left
    return (1 - share) * curves[left] + share * curves[left + 1]


def _shifted(fraction: Estimate, own: float) -> Estimate:
    return Estimate(fraction.value + own, fraction.low + own, fraction.high + own)
