"""Reads a multirun's overrides in Hydra's sweep syntax: values with commas, `choice`, `range` and `glob`."""

import math
from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

from conf.errors import EdgewiseError

MOST_CELLS = 100_000  # of a grid: composing so many takes hours, and each is a run in the store


def overrides_of_cells(arguments: Sequence[str]) -> list[list[str]]:
    """Returns the overrides of each cell of the grid that `arguments` span, in the order of Hydra's sweeper.

    Values are counted before they are listed, so that a grid beyond memory is refused at once. Hydra has to be
    initialised, because `glob` asks it which choices there are. Raises EdgewiseError for `interval`, for a grid without
    cells and for one of more than MOST_CELLS, and Hydra's own errors for what it can't parse.
    """
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    overrides = parser.parse_overrides(list(arguments))
    last_of_each = {override.get_key_element(): override for override in overrides}  # as Hydra takes them
    lengths = [_value_count(override) for override in last_of_each.values()]
    if (cells := math.prod(lengths)) > MOST_CELLS:
        largest = max(zip(lengths, last_of_each.values()), key=lambda pair: pair[0])[1]
        raise EdgewiseError(
            f"{largest.input_line}: the grid would have {cells:,} cells, expected at most {MOST_CELLS:,}; "
            "sweep fewer values in one multirun"
        )
    [jobs] = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    return jobs


def _value_count(override: Override) -> int:
    """Counts the values that an override sweeps, without listing those of a range."""
    if not override.is_sweep_override():
        return 1
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        raise EdgewiseError(
            f"{override.input_line}: an interval is for sweepers that draw values from it, and a grid runs every "
            f"value once; write {override.key_or_group}=A,B,C or '{override.key_or_group}=range(START,STOP,STEP)'"
        )
    if isinstance(sweep, RangeSweep):
        count = _range_length(override.input_line, sweep)
    elif isinstance(sweep, ChoiceSweep):
        count = len(sweep.list)
    else:  # a glob
        count = sum(1 for _ in override.sweep_string_iterator())
    if count == 0:
        raise EdgewiseError(f"{override.input_line}: holds no value, so the grid has no cells; expected one or more")
    return count


def _range_length(line: str | None, sweep: RangeSweep) -> int:
    """Counts the numbers of a range, of integers or floats."""
    start, stop, step = sweep.start or 0, sweep.stop, sweep.step
    if stop is None or not step or not all(math.isfinite(number) for number in (start, stop, step)):
        raise EdgewiseError(f"{line}: expected finite numbers and a step other than 0, such as 'range(0,10,2)'")
    if isinstance(start, int) and isinstance(stop, int) and isinstance(step, int):
        return max(0, -((start - stop) // step))  # the rounded-up quotient, exact for any size
    return max(0, math.ceil((stop - start) / step))
