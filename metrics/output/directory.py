"""Writes everything metrics has to say about some scores into one directory: whole, or not at all."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.errors import EdgewiseError
from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, analyse, other_context
from metrics.analysis.pairs import near_gap
from metrics.beyond import Beyond, Collector, beyond_tables, write_beyond_tables
from metrics.figures import load_in_background, write_figures
from metrics.grid.collect import collect_grids
from metrics.grid.runs import Grid, Source
from metrics.output.curve_file import write_curves
from metrics.output.summary import dumped, summary
from metrics.report import ReportContent, write_report
from metrics.scores import ScoresMetadata, read_metadata
from metrics.tables.paper import table_rows, write_tables

MARK = "summary.json"  # a directory that holds it is a metrics output, and may be replaced by another


class OutputError(EdgewiseError):
    """The output directory can't be written, or holds something else."""


@dataclass
class Input:
    """Where one run's scores came from: a file's or an artifact's name, and the digest of its content."""

    name: str
    digest: str


def write_metrics(
    sources: Sequence[Source],
    inputs: Sequence[Input],
    config: Metrics,
    out: Path,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Tables, curves, figures, report and summary of some runs' scores, or of the files with them; returns the summary.

    Files are read one at a time, and in part once more for each size. The same scores, inputs and config give the same
    bytes. `say` is told what is going on. Raises EdgewiseError for scores that don't fit together or say nothing, and
    OutputError for an `out` that isn't to be replaced.
    """
    runs = [read_metadata(source) if isinstance(source, Path) else source.metadata for source in sources]
    order = sorted(range(len(runs)), key=lambda i: (runs[i].dataset, runs[i].parameters, runs[i].size, runs[i].seed))
    with replaced(out) as directory:
        load_in_background()
        analyses, collectors = [], []
        for grid in collect_grids(sources, config.churn_normalization):
            count = sum(len(size.seeds) for size in grid.sizes)
            say(f"{grid.dataset}: {grid.examples:,} examples, {count} runs, {config.resamples:,} resamples")
            if config.beyond:
                collectors.append(Collector(grid, config))
            analyses.append(analyse(grid, config, say, collectors[-1].watch if config.beyond else None))
        several = len(analyses) > 1
        notes = [f"{a.grid.dataset}: {note}" if several else note for a in analyses for note in a.notes]
        notes += _figure_notes(analyses)
        rows = table_rows(analyses)
        others = [analysis.other_context for analysis in analyses if analysis.other_context is not None]
        grids = {analysis.grid.dataset: analysis.grid for analysis in analyses}
        listed = [_listed(runs[i], inputs[i], grids[runs[i].dataset]) for i in order]
        beyond = beyond_tables(analyses, collectors, config) if config.beyond else Beyond()
        content = summary(analyses, rows, notes, listed, config, beyond)
        (directory / MARK).write_text(dumped(content), encoding="utf-8")
        write_tables(analyses, rows, config, directory / "tables", notes)
        write_beyond_tables(beyond.tables, config.confidence, directory / "tables")
        write_curves(analyses, directory / "curves" / "switcher.parquet")
        if others:
            write_curves(others, directory / "curves" / f"switcher_{other_context(config)}.parquet")
        say("drawing figures")
        drawn = write_figures(analyses, config.confidence, directory / "figures")
        write_report(
            directory / "report" / "index.html",
            ReportContent(
                analyses=analyses,
                rows=rows,
                figures=drawn,
                notes=notes,
                inputs=listed,
                metadata=[runs[i] for i in order],
                config=config,
                signature=content["signature"],
                further=beyond.tables,
            ),
        )
    return content


def _figure_notes(analyses: Sequence[Analysis]) -> list[str]:
    pairs = [pair for analysis in analyses for pair in analysis.pairs]
    if pairs and not any(near_gap(pair.gaps).any() for pair in pairs):
        return ["Figure 6: no pair of runs is 0.5 to 1 point apart, so it shows all pairs, in grey."]
    return []


def _listed(m: ScoresMetadata, given: Input, grid: Grid) -> dict[str, Any]:
    return {
        "name": given.name,
        "digest": given.digest,
        "dataset": m.dataset,
        "size": m.size,
        "seed": m.seed,
        "split": m.split,
        "examples": grid.examples,
        "model": m.model,
        "data": m.data,
    }


def check_replaceable(out: Path) -> None:
    """Raises OutputError if `out` exists and is neither an empty directory nor an earlier metrics output."""
    if not out.exists():
        return
    if not out.is_dir():
        raise OutputError(f"metrics.out={out} is a file; expected a directory")
    try:
        something_else = any(out.iterdir()) and not (out / MARK).is_file()
    except OSError as error:
        raise OutputError(f"metrics.out={out} can't be read: {error.strerror}") from error
    if something_else:
        raise OutputError(
            f"metrics.out={out} holds files but no {MARK}, so it is no metrics output and stays as it is; "
            "give an empty directory or another name"
        )


@contextmanager
def replaced(out: Path) -> Iterator[Path]:
    """A new directory beside `out` to write into; it takes the place of `out` if nothing is raised.

    Raises OutputError as `check_replaceable` does, and where the file system refuses.
    """
    out = Path(os.path.abspath(out))
    check_replaceable(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.new."))
    except OSError as error:
        raise OutputError(f"metrics.out={out} can't be written: {error.strerror}") from error
    try:
        whole = partial / "whole"
        whole.mkdir()  # not `partial` itself, which mkdtemp closes to everyone else
        yield whole
        old = partial / "old"
        if out.exists():
            out.rename(old)
        try:
            whole.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
    except OSError as error:
        raise OutputError(f"metrics.out={out} can't be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
