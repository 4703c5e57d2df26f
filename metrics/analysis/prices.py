"""Holds what an example costs in money or time, where `metrics.price` says it, beside FLOPs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from conf.errors import EdgewiseError
from conf.schema import Metrics
from metrics.bootstrap.resampling import Estimate
from metrics.grid.runs import Grid


@dataclass(frozen=True)
class Prices:
    """Holds the price of one pass of each size over one example, and the unit that prices are in."""

    of_size: Mapping[str, float]
    unit: str

    def of_mixture(self, small: str, large: str, deferred: float, passes: int = 1) -> float:
        """Returns the mean price of an example: k p_small + f p_large.

        The small model passes over every example k = `passes` times, the larger one over the fraction f = `deferred`.
        """
        return passes * self.of_size[small] + deferred * self.of_size[large]

    def of_mixtures(self, small: str, large: str, deferred: Estimate, passes: int = 1) -> Estimate:
        """Returns the same of a fraction with an interval."""
        value, low, high = (
            self.of_mixture(small, large, fraction, passes)
            for fraction in (deferred.value, deferred.low, deferred.high)
        )
        return Estimate(value, low, high)

    def saving(self, small: str, large: str, deferred: float) -> float:
        """Returns what fraction of the larger model's price is saved; NaN where that model costs nothing."""
        price = self.of_size[large]
        return 1 - self.of_mixture(small, large, deferred) / price if price > 0 else math.nan

    def written(self, price: float) -> str:
        """Writes a price with its unit, to three digits: `1.25 ms`."""
        return f"{price:.3g} {self.unit}"


def prices_of(config: Metrics, grid: Grid) -> Prices | None:
    """Returns the prices of a grid's sizes; None where `metrics.price` is not given.

    Raises EdgewiseError, naming them, where a size has no price.
    """
    if config.price is None:
        return None
    missing = [size.name for size in grid.sizes if size.name not in config.price]
    if missing:
        expected = ", ".join(f"{size.name}: NUMBER" for size in grid.sizes)
        raise EdgewiseError(
            f"metrics.price={config.price} has no price of {', '.join(missing)}; expected one for each size of "
            f"{grid.dataset}: 'metrics.price={{{expected}}}'"
        )
    return Prices({size.name: config.price[size.name] for size in grid.sizes}, config.price_unit)
