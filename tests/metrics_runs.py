"""Shared set-ups of the tests of metrics: logged scores, tables past the paper's, outputs without pictures."""

from pathlib import Path
from typing import Any

import pytest

from conf.names import joined_name
from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, analyse
from metrics.beyond import Collector
from metrics.grid.collect import collect_grids
from metrics.output.directory import Input, write_metrics
from metrics.scores import Scores
from metrics.tables.table import Table
from tests.synthetic_scores import write_grid
from tracking.interface import ArtifactDraft
from tracking.store import Store


def log_scores(store: Store, grid: list[Scores], directory: Path, **more_metadata: Any) -> dict[str, str]:
    """Logs each run's scores as infer does, with more in their metadata; returns name -> digest."""
    digests = {}
    for one, path in zip(grid, write_grid(grid, directory)):
        m = one.metadata
        name = joined_name("scores", m.dataset, m.size, f"s{m.seed}", m.split)
        metadata = {key: value for key, value in vars(m).items() if key != "config"} | {"examples": len(one.example_id)}
        metadata |= more_metadata
        draft = ArtifactDraft(name, "scores", metadata)
        draft.add_file(path, "scores.parquet")
        with store.start_run(f"infer-{name}", job_type="infer", config={}, restart=True) as run:
            digests[name] = run.log_artifact(draft).digest
    return digests


def tables_of(scores: list[Scores], config: Metrics) -> tuple[Analysis, dict[str, Table]]:
    """Returns the analysis of one dataset, and its tables past the paper's by name."""
    (grid,) = collect_grids(scores, cluster=config.cluster)
    collector = Collector(grid, config)
    analysis = analyse(grid, config, watch=collector.observe)
    return analysis, {table.name: table for table in collector.tables(analysis)}


def write_without_pictures(scores: list[Scores], config: Metrics, directory: Path) -> dict[str, Any]:
    """Writes an output without figures and report, which take seconds to draw; returns the summary."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("metrics.output.directory.write_figures", lambda *given: {})
        patched.setattr("metrics.output.directory.write_report", lambda *given, **named: None)
        return write_metrics(scores, [Input(str(k), "digest") for k in range(len(scores))], config, directory)
