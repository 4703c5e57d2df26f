"""Checks the examples read from a file, whatever its format, and saves them as scores."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from conf.errors import EdgewiseError
from conf.names import joined_name
from metrics.rows import invalid_unicode
from metrics.scores import Scores, ScoresMetadata, read_metadata, write_scores
from metrics.statistics.text import corpus_bleu

_ABOUT_ONE = 0.02  # a file's decimals may be few: ten classes at three digits are off by up to 0.005

Report = Callable[[str], None]


class ConvertError(EdgewiseError):
    """Reports a file, a flag or a row that can't become scores; the message names the file and the row."""


def checked_unicode(where: str, what: str, text: str) -> str:
    """Returns the text; ConvertError if it can't be written as UTF-8."""
    if reason := invalid_unicode(text):
        raise ConvertError(f"{where}: {what} is not valid Unicode text ({reason}): {text!r}")
    return text


@dataclass
class RunInfo:
    """Holds what a file of predictions doesn't say about the run it comes from."""

    dataset: str
    size: str
    seed: int
    parameters: int
    split: str = "test"
    flops: float = 0.0  # per example; 0 where unknown
    model: str = ""

    def metadata(self, task: str, classes: Sequence[str], content: object, signature: str) -> ScoresMetadata:
        """Returns the metadata of the run's scores, with a fingerprint of the data's `content`, JSON values."""
        return ScoresMetadata(
            dataset=self.dataset,
            size=self.size,
            seed=self.seed,
            split=self.split,
            task=task,
            classes=list(classes),
            parameters=self.parameters,
            flops_per_example=self.flops,
            model=self.model,
            data=hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16],
            signature=f"scores:converted|{signature}",
        )


@dataclass
class Example:
    """Holds one example as read. `values` has one natural log-likelihood a class, -inf for probability 0."""

    where: str  # file and line, for messages
    example_id: str
    target: str
    values: Sequence[float]
    prediction: str | None = None  # None: the likeliest class
    slices: dict[str, str | None] = field(default_factory=dict)  # column, without the prefix slice_, -> value
    text: str | None = None  # the input, where the file has it
    cluster: str | None = None  # what the example shares with others that it isn't independent of


def build_scores(
    examples: Sequence[Example], classes: Sequence[str], info: RunInfo, origin: str, report: Report
) -> Scores:
    """Returns the scores of one run.

    `origin`, the file's format, goes into the signature. `report` is called with each thing that a reader of the
    numbers should know.

    Raises ConvertError if there are no examples, for two with one id, and for a target or prediction that is no class.
    """
    if not examples:
        raise ConvertError("the file holds no examples")
    class_index = {name: k for k, name in enumerate(classes)}
    if len(class_index) < len(classes) or len(classes) < 2:
        raise ConvertError(f"classes {list(classes)}: expected two or more different names")
    for name in classes:
        checked_unicode("classes", "a name", name)
    place_of_id: dict[str, str] = {}
    for one in examples:
        if one.example_id in place_of_id:
            raise ConvertError(f"{one.where}: id {one.example_id!r} is that of {place_of_id[one.example_id]} already")
        place_of_id[one.example_id] = one.where
        checked_unicode(one.where, "id", one.example_id)
        for column, value in {**one.slices, "text": one.text, "cluster": one.cluster}.items():
            checked_unicode(one.where, column, value or "")
        for what, label in (("label", one.target), ("prediction", one.prediction)):
            if label is not None and label not in class_index:
                hint = "; give --labels index if labels count classes from 0" if label.isdecimal() else ""
                raise ConvertError(f"{one.where}: {what} {label!r} is none of the classes {list(classes)}{hint}")
    values = np.array([one.values for one in examples], dtype=np.float64)  # [n, K]
    _report_oddities(values, report)
    likeliest = values.argmax(axis=1)
    names = np.array(list(classes), dtype=object)
    predicted = [
        class_index[one.prediction] if one.prediction is not None else k for one, k in zip(examples, likeliest)
    ]
    if differing := int(np.count_nonzero(values[np.arange(len(predicted)), predicted] < values.max(axis=1))):
        report(f"{differing:,} predictions are not the class with the highest likelihood; taken as they are")
    target = np.array([one.target for one in examples], dtype=object)
    prediction = names[np.array(predicted)]
    columns = sorted(examples[0].slices)
    slices = slices_of(columns, [one.slices for one in examples])
    rows = [[one.example_id, one.target, [one.slices[name] for name in columns]] for one in examples]
    metadata = info.metadata("classification", classes, [columns, rows], f"from:{origin}")
    ids = np.array([one.example_id for one in examples], dtype=object)
    return Scores(
        metadata=metadata,
        example_id=ids,
        target=target,
        prediction=prediction,
        correct=prediction == target,
        class_log_likelihoods=values.astype(np.float32),
        slices=slices,
        text=optional_column([one.text for one in examples]),
        cluster=optional_column([one.cluster for one in examples]),
    )


def optional_column(values: Sequence[str | None]) -> np.ndarray | None:
    """Returns an optional column of the scores schema, [n] object (str or None); None where no example has a value."""
    return None if all(value is None for value in values) else np.array(values, dtype=object)


def slices_of(names: Sequence[str], rows: Sequence[Mapping[str, str | None]]) -> dict[str, np.ndarray]:
    """Returns the columns of subgroups under the names of the scores schema, `slice_*`."""
    return {
        f"slice_{name.removeprefix('slice_')}": np.array([row[name] for row in rows], dtype=object) for name in names
    }


def _report_oddities(values: np.ndarray, report: Report) -> None:
    """Reports rows [n, K] that aren't normalised over the classes, and rows that give one class everything."""
    with np.errstate(over="ignore"):
        sums = np.exp(values).sum(axis=1)
    if unnormalized := int(np.count_nonzero(np.abs(sums - 1) > _ABOUT_ONE)):
        report(
            f"{unnormalized:,} of {len(sums):,} rows don't sum to about 1 over the classes ({sums.min():.3g} to "
            f"{sums.max():.3g}): taken as unnormalised likelihoods; scores normalise them"
        )
    if certain := int(np.count_nonzero(np.isneginf(values).sum(axis=1) == values.shape[1] - 1)):
        report(f"{certain:,} rows give one class everything, so they tie as the most certain; log-probabilities don't")


def output_path(out: Path, dataset: str, size: str, seed: int, split: str) -> Path:
    """Returns where a run's scores go: `out` if it is a Parquet file, else the run's own name in that directory."""
    if out.suffix == ".parquet":
        return out
    return out / f"{joined_name('scores', dataset, size, f's{seed}', split)}.parquet"


def save(scores: Scores, out: Path, report: Report) -> Path:
    """Writes a run's scores, whole or not at all, and returns the path.

    `out` is a Parquet file, or a directory that gets `scores-D-S-sN-SPLIT.parquet`, with hyphens in names doubled: so
    no two runs have one name.

    Classes are put in the order of the runs of that dataset and split already beside it. Raises ConvertError where
    those have other classes, and ScoresError as `write_scores` does.
    """
    m = scores.metadata
    path = output_path(out, m.dataset, m.size, m.seed, m.split)
    for sibling in sorted(path.parent.glob("scores-*.parquet")):
        other = read_metadata(sibling)
        if sibling == path or (other.dataset, other.split) != (m.dataset, m.split):
            continue
        if other.task != m.task:
            raise ConvertError(f"task {m.task}, but {sibling} of the same dataset is {other.task}")
        if sorted(other.classes) != sorted(m.classes):
            raise ConvertError(
                f"classes {m.classes}, but {sibling} of the same dataset has {other.classes}; expected the same in "
                "every run: name them alike, or write to another directory"
            )
        if scores.class_log_likelihoods is not None:
            order = [m.classes.index(name) for name in other.classes]
            m = replace(m, classes=list(other.classes))
            scores = replace(scores, metadata=m, class_log_likelihoods=scores.class_log_likelihoods[:, order])
        break
    write_scores(scores, path)
    classes = f", {len(m.classes)} classes" if m.classes else ""
    report(f"{path}: {len(scores.example_id):,} examples{classes}, {_quality(scores)}")
    return path


def _quality(scores: Scores) -> str:
    if scores.bleu_stats is not None:
        return f"{float(corpus_bleu(scores.bleu_stats.sum(axis=0))):.2f} BLEU"
    assert scores.correct is not None
    return f"{100 * scores.correct.mean():.2f} %"
