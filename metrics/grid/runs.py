"""A dataset's runs side by side: sizes in order of parameters, each with its seeds, over one shared set of examples.

Only what every statistic needs of every run is kept: predictions, correctness, BLEU's statistics. Class
log-likelihoods and tokens' scores, which are most of a file, are read again where a size's uncertainty is computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.errors import EdgewiseError
from metrics.grid.mismatch import settings_notes
from metrics.scores import (
    Columns,
    Scores,
    ScoresMetadata,
    Strings,
    TokenScores,
    read_columns,
    read_field,
    read_metadata,
)
from metrics.statistics.text import corpus_bleu, normalized

Source = Scores | Path  # one run's scores, or the file that holds them


class GridError(EdgewiseError):
    """Scores that don't fit together, or too few of them for any table."""


@dataclass
class Run:
    """One run's scores, where they are, and how its rows lie in the grid's order."""

    metadata: ScoresMetadata
    source: Source
    order: np.ndarray | None = None  # [n] int, the row of each of the grid's examples; None where rows are in order

    def field(self, name: str) -> np.ndarray | TokenScores:
        """A field of `Scores`, by name, in the grid's order."""
        value = read_field(self.source, name) if isinstance(self.source, Path) else getattr(self.source, name)
        if self.order is None:
            return value
        return value.take(self.order) if isinstance(value, TokenScores) else value[self.order]

    def predictions(self) -> Strings:
        """What it predicts, in its own words, in the grid's order."""
        column = _columns(self.source).prediction
        return column if self.order is None else column.take(self.order)


@dataclass
class SizeRuns:
    """The R runs of one size, by ascending seed, over the grid's n examples.

    classification and span_qa have `correct`, translation has `bleu_stats`; `quality` is what each is judged by.
    """

    name: str
    task: str
    parameters: int
    flops_per_example: float
    seeds: list[int]
    prediction: np.ndarray  # [R, n] int, equal where predictions are; of classes, the place in the grid's `classes`
    correct: np.ndarray | None  # [R, n] bool
    bleu_stats: np.ndarray | None  # [R, n, 10] int32
    label_tokens: list[int] | None  # tokens of each class's label string, EOS included, where the files say
    runs: list[Run] = field(repr=False)

    @property
    def quality(self) -> np.ndarray:
        """Each run's accuracy, or its corpus BLEU / 100: [R] float64, 0-1."""
        if self.bleu_stats is not None:
            return corpus_bleu(self.bleu_stats.sum(axis=1)) / 100
        assert self.correct is not None
        return self.correct.mean(axis=1)

    @property
    def log_likelihoods(self) -> np.ndarray:
        """Of the classes: [R, n, K] float32 or float64. Read from the files at each use."""
        return np.stack([cast(np.ndarray, run.field("class_log_likelihoods")) for run in self.runs])

    def tokens(self, context: str, run: int) -> TokenScores:
        """Of run number `run`, in gold or self context, for span QA and translation. Read from its file at each use."""
        return cast(TokenScores, self.runs[run].field(f"{context}_tokens"))


@dataclass
class Grid:
    """Every run of one dataset on one split. `notes` says what about the grid a reader should know."""

    dataset: str
    split: str
    task: str
    classes: list[str]  # [] but for classification
    examples: int
    sizes: list[SizeRuns]  # by ascending parameters
    example_id: pa.Array  # [n] large_string
    target: Strings  # [n]
    slices: dict[str, Strings]  # slice_* -> [n]
    signatures: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def measure(self) -> str:
        """What quality is: accuracy, or bleu."""
        return "bleu" if self.task == "translation" else "accuracy"

    @property
    def unit(self) -> float:
        """What quality, 0-1, is multiplied by where it is written down: accuracy is a fraction, BLEU is 0-100."""
        return 100.0 if self.task == "translation" else 1.0

    @property
    def pairs(self) -> list[tuple[SizeRuns, SizeRuns]]:
        """Every (small, large) pair of sizes, small before large by parameters."""
        return [(small, large) for i, small in enumerate(self.sizes) for large in self.sizes[i + 1 :]]


def collect_grids(sources: Sequence[Source], churn_normalization: str = "normalized") -> list[Grid]:
    """One grid a dataset, by name. The order of `sources` makes no difference.

    Files are read one after the other. Rows are matched by example id. `churn_normalization` (normalized or raw) says
    which answers of span QA are one prediction. Raises GridError, naming both runs and the first difference, for runs
    of a dataset that don't share their task, examples, targets, classes, slices or split; for two files of one run;
    and for a size with two parameter counts. Raises ScoresError as `read_scores` does.
    """
    if not sources:
        raise GridError("no scores given; expected at least one scores file")
    runs = [Run(read_metadata(s) if isinstance(s, Path) else s.metadata, s) for s in sources]
    datasets = sorted({run.metadata.dataset for run in runs})
    return [_grid([r for r in runs if r.metadata.dataset == dataset], churn_normalization) for dataset in datasets]


def _grid(runs: list[Run], churn_normalization: str) -> Grid:
    runs = sorted(runs, key=lambda run: (run.metadata.parameters, run.metadata.size, run.metadata.seed))
    notes: list[str] = []
    _check_metadata([run.metadata for run in runs])
    first = _columns(runs[0].source)
    task = first.metadata.task
    codes = _Codes(first.metadata.classes, task == "span_qa" and churn_normalization == "normalized")
    predictions, correct, bleu_stats = [], [], []
    unlikely: dict[str, int] = {}
    for run in runs:
        columns = first if run is runs[0] else _columns(run.source, first.example_id)
        run.order = _order(columns, first)
        _check_alike(columns, first, run.order)
        rows = slice(None) if run.order is None else run.order
        predictions.append(codes.of(columns.prediction)[rows].astype(codes.dtype))
        if columns.correct is not None:
            correct.append(columns.correct[rows])
        if columns.bleu_stats is not None:
            bleu_stats.append(columns.bleu_stats[rows])
        if columns.class_log_likelihoods is not None:
            others = _not_the_likeliest(columns.class_log_likelihoods[rows], predictions[-1])
            unlikely[run.metadata.size] = unlikely.get(run.metadata.size, 0) + others
    if len({run.metadata.data for run in runs}) > 1:
        notes.append("The runs name different fingerprints of their data, though ids, targets and slices agree.")
    notes += settings_notes([run.metadata for run in runs])

    sizes = []
    for name in dict.fromkeys(run.metadata.size for run in runs):
        of_size = [k for k, run in enumerate(runs) if run.metadata.size == name]
        metadata = [runs[k].metadata for k in of_size]
        tokens = [m.config.get("label_tokens") for m in metadata]
        if any(t != tokens[0] for t in tokens):
            raise GridError(f"the runs of {first.metadata.dataset} {name} name different label_tokens")
        flops = {m.flops_per_example for m in metadata}
        if len(flops) > 1:
            notes.append(f"The runs of {name} name different FLOPs per example; their mean is used.")
        sizes.append(
            SizeRuns(
                name=name,
                task=task,
                parameters=metadata[0].parameters,
                flops_per_example=float(np.mean(sorted(flops))),
                seeds=[m.seed for m in metadata],
                prediction=np.array([predictions[k] for k in of_size]).astype(codes.dtype),
                correct=np.array([correct[k] for k in of_size]) if correct else None,
                bleu_stats=np.array([bleu_stats[k] for k in of_size]) if bleu_stats else None,
                label_tokens=tokens[0],
                runs=[runs[k] for k in of_size],
            )
        )
        if unlikely.get(name):
            notes.append(
                f"{unlikely[name]:,} predictions of {name} are not the class with the highest likelihood; taken as "
                "they are."
            )
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
        signatures=sorted({run.metadata.signature for run in runs}),
        notes=notes + _size_notes(sizes),
    )


def _size_notes(sizes: list[SizeRuns]) -> list[str]:
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
                f"One seed only of {alone.name}: no churn of it, and intervals resample its examples, not its seeds."
            )
    return notes


class _Codes:
    """A number for each prediction, the same in every run: the class's place, or one for each different string."""

    def __init__(self, classes: list[str], normalize: bool):
        self._normalize = normalize
        self._known = {name: code for code, name in enumerate(classes)}

    def of(self, column: Strings) -> np.ndarray:
        """[n] int32."""
        values = map(normalized, column.values) if self._normalize else column.values
        places = [self._known.setdefault(value, len(self._known)) for value in values]
        return np.array(places, dtype=np.int32)[column.codes]

    @property
    def dtype(self) -> np.dtype:
        """The smallest signed type that holds them all: there are sizes × seeds × examples of them."""
        return np.result_type(np.min_scalar_type(len(self._known)), np.int8)


def _columns(source: Source, known_ids: pa.Array | None = None) -> Columns:
    return read_columns(source, known_ids) if isinstance(source, Path) else Columns.of(source, _name(source.metadata))


def _check_metadata(runs: list[ScoresMetadata]) -> None:
    for before, run in pairwise(runs):
        if (before.size, before.seed) == (run.size, run.seed):
            raise GridError(f"two scores files of {_name(run)}; expected one file a run")
    parameters: dict[str, ScoresMetadata] = {}
    for run in runs:
        same_size = parameters.setdefault(run.size, run)
        if same_size.parameters != run.parameters:
            raise GridError(
                f"{_name(same_size)} has {same_size.parameters:,} parameters but "
                f"{_name(run)} has {run.parameters:,}; expected the same for one size"
            )
    for run in runs[1:]:
        for key in ("task", "split", "classes"):
            one, other = getattr(runs[0], key), getattr(run, key)
            if one != other:
                raise GridError(
                    f"{_name(runs[0])} and {_name(run)} differ in {key}: {one!r} and {other!r}; "
                    "expected the same for every run"
                )


def _order(run: Columns, first: Columns) -> np.ndarray | None:
    """The row of `run` that holds each of the first run's examples; GridError where the two don't hold the same."""
    if run.example_id.equals(first.example_id):
        return None
    rows = pc.index_in(first.example_id, value_set=run.example_id)
    if rows.null_count or len(run) != len(first):
        for one, other in ((first, run), (run, first)):
            found = pc.is_in(one.example_id, value_set=other.example_id)
            row = pc.index(found, False).as_py()
            if row >= 0:
                raise GridError(
                    f"{_name(first.metadata)} and {_name(run.metadata)} hold different examples: "
                    f"{one.example_id[row].as_py()!r} is in {_name(one.metadata)} but not in {_name(other.metadata)} "
                    f"({len(first)} and {len(run)} rows)"
                )
    return np.from_dlpack(rows)


def _check_alike(run: Columns, first: Columns, order: np.ndarray | None) -> None:
    names = f"{_name(first.metadata)} and {_name(run.metadata)}"
    if set(first.slices) != set(run.slices):
        raise GridError(f"{names} differ in their slice columns: {sorted(first.slices)} and {sorted(run.slices)}")
    for name, one, other in (
        ("target", first.target, run.target),
        *((name, first.slices[name], run.slices[name]) for name in sorted(first.slices)),
    ):
        aligned = other if order is None else other.take(order)
        place = {value: code for code, value in enumerate(one.values)}
        # -1 is no value, in both; -2 a value that the first run doesn't have
        translated = np.array([*(place.get(value, -2) for value in other.values), -1], dtype=np.int32)[aligned.codes]
        differing = np.flatnonzero(translated != one.codes)
        if len(differing):
            row = differing[:1]
            said = [column.take(row).decoded()[0] for column in (one, aligned)]
            raise GridError(
                f"{names} differ in {name} of example {first.example_id[int(row[0])].as_py()!r}: {said[0]!r} and "
                f"{said[1]!r} ({len(differing)} such examples)"
            )


def _not_the_likeliest(log_likelihoods: np.ndarray, prediction: np.ndarray) -> int:
    """How many predictions aren't the argmax of their likelihoods, as with files decoded some other way."""
    chosen = np.take_along_axis(log_likelihoods, prediction[:, None], axis=1)[:, 0]
    return int((chosen < log_likelihoods.max(axis=1)).sum())


def _name(metadata: ScoresMetadata) -> str:
    return f"{metadata.dataset} {metadata.size} seed {metadata.seed}"
