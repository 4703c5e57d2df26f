"""A dataset's runs side by side: sizes in order of parameters, each with its seeds, over one shared set of examples."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from conf.errors import SwitchyardError
from metrics.scores import Scores, ScoresMetadata
from metrics.settings import settings_notes


class GridError(SwitchyardError):
    """Scores that don't fit together, or too few of them for any table."""


@dataclass
class SizeRuns:
    """The R runs of one size, by ascending seed, over the grid's n examples and K classes."""

    name: str
    parameters: int
    flops_per_example: float
    seeds: list[int]
    prediction: np.ndarray  # [R, n] int32, index into the grid's classes
    correct: np.ndarray  # [R, n] bool
    log_likelihoods: np.ndarray  # [R, n, K] float32 or float64
    label_tokens: list[int] | None  # tokens of each class's label string, EOS included, where the files say

    @property
    def accuracy(self) -> np.ndarray:
        """[R] float64, fractions."""
        return self.correct.mean(axis=1)


@dataclass
class Grid:
    """Every run of one dataset on one split. `notes` says what about the grid a reader should know."""

    dataset: str
    split: str
    classes: list[str]
    examples: int
    example_id: np.ndarray  # [n] object (str)
    target: np.ndarray  # [n] object (str)
    sizes: list[SizeRuns]  # by ascending parameters
    slices: dict[str, np.ndarray]  # slice_* -> [n] object (str or None)
    signatures: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def pairs(self) -> list[tuple[SizeRuns, SizeRuns]]:
        """Every (small, large) pair of sizes, small before large by parameters."""
        return [(small, large) for i, small in enumerate(self.sizes) for large in self.sizes[i + 1 :]]


def collect_grids(scores: Sequence[Scores]) -> list[Grid]:
    """One grid a dataset, by name. The order of `scores` makes no difference.

    Rows are matched by example id. Raises GridError, naming both runs and the first difference, for runs of a
    dataset that don't share their examples, targets, classes, slices or split; for two files of one run; and for
    a size with two parameter counts.
    """
    if not scores:
        raise GridError("no scores given; expected at least one scores file")
    datasets = sorted({s.metadata.dataset for s in scores})
    return [_grid([s for s in scores if s.metadata.dataset == dataset]) for dataset in datasets]


def _grid(runs: list[Scores]) -> Grid:
    runs = sorted(runs, key=lambda s: (s.metadata.parameters, s.metadata.size, s.metadata.seed))
    first, notes = runs[0], []
    aligned = [first]
    for before, run in pairwise(runs):
        if (before.metadata.size, before.metadata.seed) == (run.metadata.size, run.metadata.seed):
            raise GridError(f"two scores files of {_name(run.metadata)}; expected one file a run")
    parameters: dict[str, Scores] = {}
    for run in runs:
        same_size = parameters.setdefault(run.metadata.size, run)
        if same_size.metadata.parameters != run.metadata.parameters:
            raise GridError(
                f"{_name(same_size.metadata)} has {same_size.metadata.parameters:,} parameters but "
                f"{_name(run.metadata)} has {run.metadata.parameters:,}; expected the same for one size"
            )
    aligned += [_aligned(run, first) for run in runs[1:]]
    if len({run.metadata.data for run in runs}) > 1:
        notes.append("The runs name different fingerprints of their data, though ids, targets and slices agree.")
    notes += settings_notes([run.metadata for run in runs])

    codes = {name: code for code, name in enumerate(first.metadata.classes)}
    sizes = []
    for size in parameters:
        of_size = [run for run in aligned if run.metadata.size == size]
        tokens = [run.metadata.config.get("label_tokens") for run in of_size]
        if any(t != tokens[0] for t in tokens):
            raise GridError(f"the runs of {first.metadata.dataset} {size} name different label_tokens")
        flops = {run.metadata.flops_per_example for run in of_size}
        if len(flops) > 1:
            notes.append(f"The runs of {size} name different FLOPs per example; their mean is used.")
        sizes.append(
            SizeRuns(
                name=size,
                parameters=of_size[0].metadata.parameters,
                flops_per_example=float(np.mean(sorted(flops))),
                seeds=[run.metadata.seed for run in of_size],
                prediction=np.array([[codes[p] for p in run.prediction] for run in of_size], dtype=np.int32),
                correct=np.array([run.correct for run in of_size]),
                log_likelihoods=np.array([run.class_log_likelihoods for run in of_size]),
                label_tokens=tokens[0],
            )
        )
        notes += _not_the_likeliest(sizes[-1])
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
    return Grid(
        dataset=first.metadata.dataset,
        split=first.metadata.split,
        classes=list(first.metadata.classes),
        examples=len(first.example_id),
        example_id=first.example_id,
        target=first.target,
        sizes=sizes,
        slices=dict(first.slices),
        signatures=sorted({run.metadata.signature for run in runs}),
        notes=notes,
    )


def _aligned(run: Scores, first: Scores) -> Scores:
    """`run` with its rows in the order of `first`; GridError where the two don't hold the same examples."""
    names = f"{_name(first.metadata)} and {_name(run.metadata)}"
    for key in ("split", "classes"):
        one, other = getattr(first.metadata, key), getattr(run.metadata, key)
        if one != other:
            raise GridError(f"{names} differ in {key}: {one!r} and {other!r}; expected the same for every run")
    if set(first.slices) != set(run.slices):
        raise GridError(f"{names} differ in their slice columns: {sorted(first.slices)} and {sorted(run.slices)}")
    if not np.array_equal(first.example_id, run.example_id):
        rows = {example: row for row, example in enumerate(run.example_id)}
        for one, other, holder, lacker in (
            (first.example_id, rows, first, run),
            (run.example_id, set(first.example_id), run, first),
        ):
            for example in one:
                if example not in other:
                    raise GridError(
                        f"{names} hold different examples: {example!r} is in {_name(holder.metadata)} "
                        f"but not in {_name(lacker.metadata)} ({len(first.example_id)} and {len(run.example_id)} rows)"
                    )
        order = np.array([rows[example] for example in first.example_id])
        run = Scores(
            metadata=run.metadata,
            example_id=run.example_id[order],
            target=run.target[order],
            prediction=run.prediction[order],
            correct=run.correct[order],
            class_log_likelihoods=run.class_log_likelihoods[order],
            slices={name: column[order] for name, column in run.slices.items()},
        )
    for name, one, other in (
        ("target", first.target, run.target),
        *((name, first.slices[name], run.slices[name]) for name in sorted(first.slices)),
    ):
        differing = np.flatnonzero(one != other)
        if len(differing):
            row = int(differing[0])
            raise GridError(
                f"{names} differ in {name} of example {first.example_id[row]!r}: {one[row]!r} and {other[row]!r} "
                f"({len(differing)} such examples)"
            )
    return run


def _not_the_likeliest(size: SizeRuns) -> list[str]:
    """A note where predictions aren't the argmax of their likelihoods, as with files decoded some other way."""
    chosen = np.take_along_axis(size.log_likelihoods, size.prediction[:, :, None], axis=2)[:, :, 0]
    others = int((chosen < size.log_likelihoods.max(axis=2)).sum())
    if not others:
        return []
    return [f"{others:,} predictions of {size.name} are not the class with the highest likelihood; taken as they are."]


def _name(metadata: ScoresMetadata) -> str:
    return f"{metadata.dataset} {metadata.size} seed {metadata.seed}"
