"""Writes everything that metrics has to say about some scores into one directory: whole, or not at all."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.machine import quick_turns
from conf.schema import Metrics
from metrics.analysis.dataset import Analysis, analyse, other_context
from metrics.analysis.pairs import near_gap
from metrics.analysis.prices import prices_of
from metrics.beyond import Collector, beyond_tables
from metrics.figures import load_in_background, write_figures
from metrics.grid.collect import collect_grids
from metrics.grid.runs import Source
from metrics.output.curve_file import write_curves
from metrics.output.replace import MARK, refusals_as_output_errors, replaced
from metrics.output.summary import dumped, summary
from metrics.report import ReportContent, write_report
from metrics.report.examples import example_blocks
from metrics.scores import ScoresMetadata, read_metadata
from metrics.tables.baseline import baseline_note, baseline_table
from metrics.tables.files import write_tables
from metrics.tables.paper import table_rows, write_paper_tables
from metrics.text_baseline import TextBaseline

Progress = Callable[[str], None]  # takes a line that says what is going on


@dataclass
class Input:
    """Names where one run's scores came from: a file or an artifact, and the digest of its content."""

    name: str
    digest: str


def silent(text: str) -> None:
    """Drops a line of progress."""


def write_metrics(
    sources: Sequence[Source],
    inputs: Sequence[Input],
    config: Metrics,
    out: Path,
    progress: Progress = silent,
    with_text: bool = True,
) -> dict[str, Any]:
    """Writes tables, curves, figures, report and summary of some runs' scores into `out`; returns the summary.

    A source is a run's scores, or the file with them; `inputs` say where each came from. Files are read one at a time,
    and in part once more for each size. Without `with_text` the report leaves out what examples say. The same scores,
    inputs and config give the same bytes. Raises EdgewiseError
    for scores that don't fit together or say nothing, and OutputError as `replaced` does.
    """
    with replaced(out) as directory:
        return fill_directory(directory, sources, inputs, config, out, progress, with_text)


def fill_directory(
    directory: Path,
    sources: Sequence[Source],
    inputs: Sequence[Input],
    config: Metrics,
    out: Path,
    progress: Progress = silent,
    with_text: bool = True,
    baselines: Mapping[str, TextBaseline] | None = None,
) -> dict[str, Any]:
    """Writes what `write_metrics` does into an empty directory, and returns the summary.

    `out` is where the directory will be, for the messages; `baselines` are by the dataset's name. Raises what
    `write_metrics` does.
    """
    runs = _runs_in_order(sources, inputs)
    with refusals_as_output_errors(out), quick_turns(), ThreadPoolExecutor(2) as pool:
        load_in_background()
        analyses, collectors = _analysed(sources, config, progress)
        listed = _listed(runs, analyses)
        # most of the report, which is compressed, and the figures, while tables are made
        progress("drawing figures")
        drawn = pool.submit(write_figures, analyses, config.confidence, directory / "figures")
        examples = pool.submit(example_blocks, analyses, listed, config, with_text)
        further = beyond_tables(analyses, collectors, config) if config.beyond else []
        for analysis in analyses:
            if baselines and (baseline := baselines.get(analysis.grid.dataset)) is not None:
                analysis.notes.insert(0, baseline_note(analysis, baseline, config.confidence))
        beside = baseline_table(analyses, baselines or {}, config.confidence) if config.beyond else None
        further += [] if beside is None else [beside]
        rows, notes = table_rows(analyses), _notes(analyses)
        content = summary(analyses, rows, notes, listed, config, further)
        (directory / MARK).write_text(dumped(content), encoding="utf-8")
        write_paper_tables(analyses, rows, config, directory / "tables", notes)
        write_tables(further, config.confidence, directory / "tables")
        _write_curves(analyses, config, directory / "curves")
        write_report(
            directory / "report" / "index.html",
            ReportContent(
                analyses=analyses,
                rows=rows,
                figures=drawn.result(),
                notes=notes,
                inputs=listed,
                metadata=[metadata for metadata, _ in runs],
                config=config,
                signature=content["signature"],
                examples=examples.result(),
                further=further,
                with_text=with_text,
            ),
        )
        return content


def _runs_in_order(sources: Sequence[Source], inputs: Sequence[Input]) -> list[tuple[ScoresMetadata, Input]]:
    """Returns each run's metadata and input, by dataset, from the smallest size up, by seed."""
    metadata = [read_metadata(source) if isinstance(source, Path) else source.metadata for source in sources]
    runs = list(zip(metadata, inputs, strict=True))
    return sorted(runs, key=lambda run: (run[0].dataset, run[0].parameters, run[0].size, run[0].seed))


def _analysed(sources: Sequence[Source], config: Metrics, progress: Progress) -> tuple[list[Analysis], list[Collector]]:
    """Analyses each dataset; returns that, and what the tables past the paper's need if the config wants them."""
    analyses, collectors = [], []
    for grid in collect_grids(sources, config.churn_normalization, config.cluster):
        prices_of(config, grid)  # a size without a price is said before the work
        runs = sum(len(size.seeds) for size in grid.sizes)
        progress(f"{grid.dataset}: {grid.examples:,} examples, {runs} runs, {config.resamples:,} resamples")
        if config.beyond:
            collector = Collector(grid, config)
            collectors.append(collector)
            for warning in collector.warnings():
                progress(f"{grid.dataset}: {warning}")
            analyses.append(analyse(grid, config, progress, collector.observe))
        else:
            analyses.append(analyse(grid, config, progress))
    return analyses, collectors


def _notes(analyses: Sequence[Analysis]) -> list[str]:
    """Returns what a reader should know of the inputs and the figures, by dataset if there are several."""
    several = len(analyses) > 1
    notes = [f"{one.grid.dataset}: {note}" if several else note for one in analyses for note in one.notes]
    pairs = [pair for analysis in analyses for pair in analysis.pairs]
    if pairs and not any(near_gap(pair.gaps).any() for pair in pairs):
        notes.append("Figure 6: no pair of runs is 0.5 to 1 point apart, so it shows all pairs, in grey.")
    return notes


def _listed(runs: Sequence[tuple[ScoresMetadata, Input]], analyses: Sequence[Analysis]) -> list[dict[str, Any]]:
    """Returns each run's entry in the list of inputs."""
    examples = {analysis.grid.dataset: analysis.grid.examples for analysis in analyses}
    return [
        {
            "name": source.name,
            "digest": source.digest,
            "dataset": run.dataset,
            "size": run.size,
            "seed": run.seed,
            "split": run.split,
            "examples": examples[run.dataset],
            "model": run.model,
            "data": run.data,
        }
        for run, source in runs
    ]


def _write_curves(analyses: Sequence[Analysis], config: Metrics, directory: Path) -> None:
    """Writes the switcher curves, and those of the other context in a file of their own where there is one."""
    write_curves(analyses, directory / "switcher.parquet")
    others = [analysis.other_context for analysis in analyses if analysis.other_context is not None]
    if others:
        write_curves(others, directory / f"switcher_{other_context(config)}.parquet")
