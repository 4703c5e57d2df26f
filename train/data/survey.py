"""Surveys a dataset's splits before training: rows, classes, empty texts, and texts that are there more than once."""

from collections.abc import Sequence
from dataclasses import dataclass

from conf.errors import EdgewiseError
from conf.schema import Dataset
from metrics.rows import listed
from train.data.source import Source
from train.data.splits import Split
from train.data.template import fill_template, template_fields


@dataclass(frozen=True)
class SplitSurvey:
    """Counts what one split holds. Two texts are the same where they differ in white space alone."""

    rows: int
    skipped: int  # rows of the source that were left out
    classes: dict[str, int]  # target string -> rows, 0 for a class without one; {} where targets are free text
    empty: int  # rows of which every column of the template is empty
    repeated: int  # rows whose text an earlier row of this split has
    contradictory: int  # rows whose text an earlier row of this split has with another target
    in_train: int  # rows whose text a row of train has; 0 for train itself

    @property
    def majority(self) -> tuple[str, float] | None:
        """Returns the most frequent class and its share of the rows (0-1); None where targets are free text."""
        if not self.classes:
            return None
        target = max(self.classes, key=self.classes.__getitem__)
        return target, self.classes[target] / self.rows

    @property
    def absent(self) -> list[str]:
        """Lists the classes that no row has."""
        return [target for target, count in self.classes.items() if not count]


FEW_ROWS = 10  # of so few, one class alone is no sign of a file that is sorted


@dataclass(frozen=True)
class Survey:
    """Holds the surveys of a dataset's splits, in the order train, validation, test."""

    dataset: str
    splits: dict[str, SplitSurvey]

    def check(self) -> None:
        """Raises EdgewiseError where nothing can be learned: a split has no text at all, or train has one class."""
        for name, split in self.splits.items():
            if split.empty == split.rows:
                raise EdgewiseError(
                    f"{self.dataset} {name}: none of its {split.rows:,} rows has any text; expected text in the "
                    "columns of dataset.template. Name the right columns there"
                )
        train = self.splits.get("train")
        if train is not None and train.majority is not None and train.majority[1] == 1:
            advice = "Is the file sorted by label and cut, or one of dataset.classes written otherwise?"
            raise EdgewiseError(
                f"{self.dataset} train: all {train.rows:,} rows have the class {train.majority[0]!r}; expected rows of "
                f"two classes or more. {'Give more rows' if train.rows < FEW_ROWS else advice}"
            )

    def notices(self) -> list[str]:
        """Returns a line for each thing that a user should know before training; [] where there is none."""
        lines = [*self._absent_classes()]
        for name, split in self.splits.items():
            where = f"note: {self.dataset} {name}: "
            if split.empty:
                lines.append(f"{where}{split.empty:,} of {split.rows:,} rows have no text")
            if split.repeated:
                line = f"{where}{split.repeated:,} of {split.rows:,} rows repeat the text of an earlier row"
                if split.contradictory:
                    line += f", {split.contradictory:,} of them with another target"
                lines.append(line)
            if split.in_train:
                lines.append(
                    f"{where}the text of {split.in_train:,} of {split.rows:,} rows is in train too: "
                    "on them a model may answer from memory"
                )
        return lines

    def _absent_classes(self) -> list[str]:
        """Returns a line for the classes that no split has, and one for each split that lacks further ones."""
        splits = self.splits
        absent = [set(split.absent) for split in splits.values()]
        nowhere = set.intersection(*absent) if absent else set()
        lines = []
        if nowhere:
            names = _quoted([target for target in next(iter(splits.values())).classes if target in nowhere])
            lines.append(
                f"note: {self.dataset}: no row of any split has {names} of dataset.classes; is the label written "
                "otherwise in the files?"
            )
        for name, split in splits.items():
            if missing := [target for target in split.absent if target not in nowhere]:
                says = "no model can learn it" if name == "train" else f"{name} can't tell how well it is recognised"
                lines.append(f"note: {self.dataset} {name}: no row has {_quoted(missing)}, so {says}")
        return lines


def survey(source: Source, dataset: Dataset) -> Survey:
    """Counts what the splits of a source hold; `dataset` is the config that the source was made for.

    Reads the splits that have not been read yet, one pass over the texts of each, and needs no vocabulary. Raises
    EdgewiseError as `Source.split` does; `Survey.check` raises where what was counted can't be trained on.
    """
    fields = template_fields(dataset.template)
    [blank] = fill_template(dataset.template, {field: [""] for field in fields}, 1)
    targets = list(dataset.classes.values()) if dataset.task == "classification" else []
    of_train: set[int] = set()
    splits = {}
    for name in source.names:
        split = source.split(name)
        texts = _text_hashes(split.inputs)
        splits[name] = _surveyed(split, texts, hash(_same_text(blank)), targets, of_train)
        if name == "train":
            of_train = set(texts)
    return Survey(dataset.name, splits)


def _surveyed(
    split: Split, texts: Sequence[int], blank: int, targets: Sequence[str], of_train: set[int]
) -> SplitSurvey:
    """Returns the survey of a split whose texts [n], and the template without any, have these hashes."""
    classes = dict.fromkeys(map(str, targets), 0)
    first_target: dict[int, str] = {}
    empty = repeated = contradictory = 0
    for text, target in zip(texts, split.targets, strict=True):
        if classes:
            classes[target] += 1
        if text == blank:
            empty += 1  # counted as that, and not as repeated
            continue
        first = first_target.setdefault(text, target)
        contradictory += first != target
    repeated = len(texts) - empty - len(first_target)
    in_train = sum(text in of_train for text in texts if text != blank)
    return SplitSurvey(len(split), sum(split.skipped.values()), classes, empty, repeated, contradictory, in_train)


def _text_hashes(inputs: Sequence[str]) -> list[int]:
    """Returns a hash of each text, 64 bits: the texts themselves may take gigabytes, and are kept elsewhere."""
    return [hash(_same_text(text)) for text in inputs]


def _same_text(text: str) -> str:
    """Returns a text as a model reads it: white space is one space, and none at the ends."""
    return " ".join(text.split())


def _quoted(targets: Sequence[str]) -> str:
    return f"class{'es' * (len(targets) > 1)} {listed([repr(target) for target in targets])}"
