"""Collects a dataset's runs into one grid: reads them one after the other and checks that they fit together."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.errors import EdgewiseError
from conf.machine import cores
from metrics.grid.clusters import AUTO, numbered_clusters
from metrics.grid.mismatch import settings_notes
from metrics.grid.runs import Grid, Run, SizeRuns, Source
from metrics.scores import Columns, ScoresMetadata, Strings, read_metadata
from metrics.statistics.text import normalized


class GridError(EdgewiseError):
    """Says that runs don't fit together in one grid, or that there are none; the message says what to do."""


def collect_grids(
    sources: Sequence[Source], churn_normalization: str = "normalized", cluster: str = AUTO
) -> list[Grid]:
    """Collects runs into one grid a dataset, by name; the order of `sources` makes no difference.

    Files are read one after the other, and rows are matched by example id. `churn_normalization` (normalized or raw)
    says which answers of span QA count as the same prediction. `cluster` names the column whose clusters are drawn
    together, as `numbered_clusters` takes it; the column `cluster` is that of the first run that has it. Raises
    GridError, naming both runs and the first difference, for runs of a dataset that don't share their task, examples,
    targets, classes, slices or split, or that name different clusters; for two files of one run; and for a size with
    two parameter counts. Raises ClusterError as `numbered_clusters` does, and ScoresError as `read_scores` does.
    """
    if not sources:
        raise GridError("no scores given; expected at least one scores file")
    runs = [Run(read_metadata(s) if isinstance(s, Path) else s.metadata, s) for s in sources]
    datasets = sorted({run.metadata.dataset for run in runs})
    return [
        _collect([run for run in runs if run.metadata.dataset == dataset], churn_normalization, cluster)
        for dataset in datasets
    ]


_MOST_READ_TOGETHER = 1_000_000  # examples of a file, of which two are read at a time; of more, one, for memory


@dataclass
class _RunColumns:
    """Holds what a grid keeps of one run, in the grid's order of examples."""

    run: Run
    prediction: np.ndarray  # [n] int
    correct: np.ndarray | None  # [n] bool
    bleu_stats: np.ndarray | None  # [n, 10] int32
    unlikely: int  # predictions that are not the class with the highest likelihood


class _PredictionCodes:
    """Numbers predictions alike in every run: classes by their place, each other string when it first appears."""

    def __init__(self, classes: list[str], normalize: bool):
        self._normalize = normalize
        self._numbers = {name: number for number, name in enumerate(classes)}

    def numbered(self, column: Strings) -> np.ndarray:
        """Returns the number of each row's prediction: [n], of the dtype that `dtype` says so far."""
        values = map(normalized, column.values) if self._normalize else column.values
        numbers = [self._numbers.setdefault(value, len(self._numbers)) for value in values]
        by_row: np.ndarray = np.array(numbers, dtype=self.dtype)[column.codes]
        return by_row

    @property
    def dtype(self) -> np.dtype[np.signedinteger]:
        """Returns the smallest signed type that holds all numbers: a grid has sizes × seeds × examples of them."""
        return np.result_type(np.min_scalar_type(len(self._numbers)), np.int8)


def _collect(runs: list[Run], churn_normalization: str, cluster: str) -> Grid:
    """Collects the runs of one dataset, whose example order is that of its first run: smallest size, lowest seed."""
    runs = sorted(runs, key=lambda run: (run.metadata.parameters, run.metadata.size, run.metadata.seed))
    metadata = [run.metadata for run in runs]
    _check_metadata(metadata)
    first = runs[0].columns()
    task = first.metadata.task
    codes = _PredictionCodes(first.metadata.classes, task == "span_qa" and churn_normalization == "normalized")
    kept = [_kept(runs[0], first, first, codes)]
    for run, columns in _read_ahead(runs[1:], first.example_id):
        kept.append(_kept(run, columns, first, codes))
        if first.cluster is None and columns.cluster is not None:  # of scores from before and after it was carried
            order = kept[-1].run.order
            first.cluster = columns.cluster if order is None else columns.cluster.take(order)
    notes = settings_notes(metadata)
    if len({one.data for one in metadata}) > 1:
        notes.insert(0, "The runs name different fingerprints of their data, though ids, targets and slices agree.")
    sizes = []
    for name in dict.fromkeys(one.size for one in metadata):
        of_size = [one for one in kept if one.run.metadata.size == name]
        sizes.append(_size_runs(of_size, codes.dtype))
        notes += _run_notes(of_size)
    clusters = numbered_clusters(cluster, first.cluster, first.slices, first.metadata.dataset, notes)
    return Grid(
        dataset=first.metadata.dataset,
        split=first.metadata.split,
        task=task,
        classes=list(first.metadata.classes),
        examples=len(first),
        sizes=sizes,
        example_id=first.example_id,
        target=first.target,
        slices=dict(first.slices),
        cluster=first.cluster,
        clusters=clusters,
        signatures=sorted({one.signature for one in metadata}),
        notes=notes + _size_notes(sizes),
    )


def _read_ahead(runs: Sequence[Run], known_ids: pa.Array) -> Iterator[tuple[Run, Columns]]:
    """Yields each run with its columns, in order; the next ones are read meanwhile, one on each other thread."""
    ahead = min(2, cores()) if len(known_ids) <= _MOST_READ_TOGETHER else 1
    with ThreadPoolExecutor(ahead) as pool:
        reading = deque(pool.submit(run.columns, known_ids) for run in runs[:ahead])
        for number, run in enumerate(runs):
            reading.extend(pool.submit(one.columns, known_ids) for one in runs[number + ahead : number + ahead + 1])
            yield run, reading.popleft().result()


def _kept(run: Run, columns: Columns, first: Columns, codes: _PredictionCodes) -> _RunColumns:
    """Checks a run's columns against those of the first run, and puts what a grid keeps of them in its order."""
    order = _order(columns, first)
    _check_alike(columns, first, order)
    rows = slice(None) if order is None else order
    prediction = codes.numbered(columns.prediction)[rows]
    likelihoods = columns.class_log_likelihoods
    return _RunColumns(
        run=replace(run, order=order),
        prediction=prediction,
        correct=columns.correct[rows] if columns.correct is not None else None,
        bleu_stats=columns.bleu_stats[rows] if columns.bleu_stats is not None else None,
        unlikely=_not_the_likeliest(likelihoods[rows], prediction) if likelihoods is not None else 0,
    )


def _size_runs(kept: Sequence[_RunColumns], dtype: np.dtype[np.signedinteger]) -> SizeRuns:
    """Stacks the runs of one size, given by ascending seed."""
    metadata = [one.run.metadata for one in kept]
    first = metadata[0]
    label_tokens = first.config.get("label_tokens")
    if any(one.config.get("label_tokens") != label_tokens for one in metadata):
        raise GridError(
            f"the runs of {first.dataset} {first.size} name different label_tokens in the config of their metadata; "
            "expected the same for one size. Score them again with one tokenizer"
        )
    return SizeRuns(
        name=first.size,
        task=first.task,
        parameters=first.parameters,
        flops_per_example=float(np.mean(sorted(one.flops_per_example for one in metadata))),
        seeds=[one.seed for one in metadata],
        prediction=np.array([one.prediction for one in kept]).astype(dtype),
        correct=_stacked([one.correct for one in kept]),
        bleu_stats=_stacked([one.bleu_stats for one in kept]),
        label_tokens=label_tokens,
        runs=[one.run for one in kept],
    )


def _stacked(columns: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Stacks a column of several runs, [R, n, ...]; None if the task has no such column."""
    present = [column for column in columns if column is not None]
    return np.array(present) if present else None


def _run_notes(kept: Sequence[_RunColumns]) -> list[str]:
    """Notes what a reader should know about the runs of one size."""
    notes, name = [], kept[0].run.metadata.size
    if len({one.run.metadata.flops_per_example for one in kept}) > 1:
        notes.append(f"The runs of {name} name different FLOPs per example; their mean is used.")
    unlikely = sum(one.unlikely for one in kept)
    if unlikely:
        notes.append(
            f"{unlikely:,} predictions of {name} are not the class with the highest likelihood; taken as they are."
        )
    return notes


def _size_notes(sizes: list[SizeRuns]) -> list[str]:
    """Notes what a reader should know about which sizes and seeds there are."""
    notes = []
    for small, large in pairwise(sizes):
        if small.parameters == large.parameters:
            notes.append(
                f"{small.name} and {large.name} both have {small.parameters:,} parameters; "
                f"they are ordered by name, {small.name} as the smaller."
            )
    if len(sizes) == 1:
        notes.append(f"One size only ({sizes[0].name}): no switcher, so Tables 1 and 3 and Figures 2 and 4-6 lack it.")
    for alone in sizes:
        if len(alone.seeds) == 1:
            notes.append(
                f"One seed only of {alone.name}: no churn of it, and intervals are of its examples, not of its seeds."
            )
    if pairs := [size.name for size in sizes if len(size.seeds) == 2]:
        named = " and ".join(filter(None, [", ".join(pairs[:-1]), pairs[-1]]))
        notes.append(
            f"Two seeds only of {named}: they say little of how seeds differ, so where seeds differ much "
            "an interval may hold the truth less often than it says. Three seeds or more hold what they say."
        )
    return notes


def _check_metadata(runs: list[ScoresMetadata]) -> None:
    """Raises GridError for two files of one run, and for runs that can't stand in one grid."""
    for before, run in pairwise(runs):
        if (before.size, before.seed) == (run.size, run.seed):
            if before.split != run.split:
                raise GridError(
                    f"scores files of {run.run_name} of two splits, {before.split} and {run.split}; expected one: "
                    "choose the files of one split, by their names in metrics.scores"
                )
            raise GridError(f"two scores files of {run.run_name}; expected one file a run")
    parameters: dict[str, ScoresMetadata] = {}
    for run in runs:
        same_size = parameters.setdefault(run.size, run)
        if same_size.parameters != run.parameters:
            raise GridError(
                f"{same_size.run_name} has {same_size.parameters:,} parameters but "
                f"{run.run_name} has {run.parameters:,}; expected the same for one size"
            )
    for run in runs[1:]:
        for key in ("task", "split", "classes"):
            one, other = getattr(runs[0], key), getattr(run, key)
            if one != other:
                raise GridError(
                    f"{runs[0].run_name} and {run.run_name} differ in {key}: {one!r} and {other!r}; "
                    "expected the same for every run"
                )


def _order(run: Columns, first: Columns) -> np.ndarray | None:
    """Finds the row of `run` that holds each of the first run's examples: [n] int; None if the orders are the same.

    Raises GridError if the two don't hold the same examples.
    """
    if run.example_id.equals(first.example_id):
        return None
    rows = pc.index_in(first.example_id, value_set=run.example_id)
    if rows.null_count or len(run) != len(first):
        for one, other in ((first, run), (run, first)):
            found = pc.is_in(one.example_id, value_set=other.example_id)
            row = pc.index(found, False).as_py()
            if row >= 0:
                raise GridError(
                    f"{first.metadata.run_name} and {run.metadata.run_name} hold different examples: "
                    f"{one.example_id[row].as_py()!r} is in {one.metadata.run_name} but not in "
                    f"{other.metadata.run_name} ({len(first)} and {len(run)} rows)"
                )
    return np.from_dlpack(rows)


def _check_alike(run: Columns, first: Columns, order: np.ndarray | None) -> None:
    """Raises GridError unless the two runs have the same targets and slices, and clusters where both have any.

    `order` is what `_order` finds.
    """
    names = f"{first.metadata.run_name} and {run.metadata.run_name}"
    if set(first.slices) != set(run.slices):
        raise GridError(f"{names} differ in their slice columns: {sorted(first.slices)} and {sorted(run.slices)}")
    compared = [("target", first.target, run.target)]
    if first.cluster is not None and run.cluster is not None:
        compared.append(("cluster", first.cluster, run.cluster))
    compared += [(name, first.slices[name], run.slices[name]) for name in sorted(first.slices)]
    for name, one, other in compared:
        aligned = other if order is None else other.take(order)
        place = {value: code for code, value in enumerate(one.values)}
        # -1 is no value, in both; -2 a value that the first run doesn't have
        translated = np.array([*(place.get(value, -2) for value in other.values), -1], dtype=np.int32)[aligned.codes]
        differing = np.flatnonzero(translated != one.codes)
        if len(differing):
            row = differing[:1]
            values = [column.take(row).decoded()[0] for column in (one, aligned)]
            raise GridError(
                f"{names} differ in {name} of example {first.example_id[int(row[0])].as_py()!r}: {values[0]!r} and "
                f"{values[1]!r} ({len(differing)} such examples)"
            )


def _not_the_likeliest(log_likelihoods: np.ndarray, prediction: np.ndarray) -> int:
    """Counts predictions that aren't the argmax of their likelihoods, as files decoded in some other way hold them."""
    chosen = np.take_along_axis(log_likelihoods, prediction[:, None], axis=1)[:, 0]
    below = np.zeros(len(chosen), dtype=bool)
    for of_class in log_likelihoods.T:  # class by class: far faster than the largest of each short row
        below |= of_class > chosen
    return int(below.sum())
