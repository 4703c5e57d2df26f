"""Gathers the tables past the paper's: first of one dataset, while its sizes are analysed, then of all datasets."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from conf.machine import cores
from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, SizeView
from metrics.beyond.listed import BEYOND_TABLES
from metrics.beyond.table import Observer
from metrics.grid.runs import Grid
from metrics.tables.table import Row, Table


class Collector:
    """Gathers the tables of one dataset: `analyse` shows each size to `observe`; then `tables` returns them."""

    def __init__(self, grid: Grid, config: Metrics):
        self._config = config
        kinds = dict.fromkeys(table.observer for table in BEYOND_TABLES)
        self._observers: dict[type[Observer], Observer] = {kind: kind(grid, config) for kind in kinds}

    def warnings(self) -> list[str]:
        """Returns what a person should know before the work is done."""
        return [warning for observer in self._observers.values() for warning in observer.warnings()]

    def observe(self, view: SizeView) -> None:
        """Lets each table keep what it needs of a size; several at a time, to keep all cores busy."""
        observers = [one for one in self._observers.values() if one.applies_in(view.context)]
        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(lambda observer: observer.observe(view), observers))

    def tables(self, analysis: Analysis) -> list[Table]:
        """Returns every table of the dataset, with rows of both contexts where there are two."""
        contexts = [analysis] if analysis.other_context is None else [analysis, analysis.other_context]
        tables = []
        for table in BEYOND_TABLES:
            observer = self._observers[table.observer]
            rows: list[Row] = []
            for one in contexts:
                if observer.applies_in(one.context):
                    rows += table.rows(observer, one)
            tables.append(table.filled(rows, observer.notes(), table.signature(self._config, {analysis.grid.task})))
        return tables


def beyond_tables(analyses: Sequence[Analysis], collectors: Sequence[Collector], config: Metrics) -> list[Table]:
    """Returns every table past the paper's, from each dataset's analysis and the collector that observed it.

    The same scores and config give the same tables.
    """
    tasks = {analysis.grid.task for analysis in analyses}
    tables = [table.filled([], [], table.signature(config, tasks)) for table in BEYOND_TABLES]
    for analysis, collector in zip(analyses, collectors, strict=True):
        prefix = f"{analysis.grid.dataset}: " if len(analyses) > 1 else ""
        for table, own in zip(tables, collector.tables(analysis), strict=True):
            table.rows += own.rows
            table.notes += [prefix + note for note in own.notes]
    return tables
