"""What a survey counts of a dataset's splits, what it says of them, and what it refuses."""

from pathlib import Path

import pytest

from conf.errors import EdgewiseError
from conf.schema import Dataset
from train.data.notices import print_once
from train.data.source import Source
from train.data.survey import SplitSurvey, Survey, survey

CLASSES = {"0": "bad", "1": "good", "2": "mixed"}


def surveyed(folder: Path, splits: dict[str, list[tuple[str, str]]], **changes) -> Survey:
    for name, rows in splits.items():
        lines = [f'"{text}",{label}' for text, label in rows]
        (folder / f"{name}.csv").write_text("\n".join(["text,label", *lines, ""]))
    dataset = Dataset(**{"name": "own", "path": str(folder), "classes": CLASSES, "template": "say: {text}"} | changes)
    return survey(Source(dataset), dataset)


def test_rows_classes_and_repeated_texts_are_counted(tmp_path) -> None:
    found = surveyed(
        tmp_path,
        {
            "train": [("a b", "0"), ("a  b ", "0"), ("a b", "1"), ("", "1"), (" ", "0"), ("c", "1")],
            "test": [("a\tb", "0"), ("c", "1"), ("c", "1"), ("d", "1"), ("", "0")],
        },
    )
    assert found.splits["train"] == SplitSurvey(
        rows=6, skipped=0, classes={"bad": 3, "good": 3, "mixed": 0}, empty=2, repeated=2, contradictory=1, in_train=0
    )
    assert found.splits["test"] == SplitSurvey(
        rows=5, skipped=0, classes={"bad": 2, "good": 3, "mixed": 0}, empty=1, repeated=1, contradictory=0, in_train=3
    )
    assert found.splits["test"].majority == ("good", 0.6)
    found.check()
    assert found.notices() == [
        "note: own: no row of any split has class 'mixed' of dataset.classes; is the label written otherwise in the "
        "files?",
        "note: own train: 2 of 6 rows have no text",
        "note: own train: 2 of 6 rows repeat the text of an earlier row, 1 of them with another target",
        "note: own test: 1 of 5 rows have no text",
        "note: own test: 1 of 5 rows repeat the text of an earlier row",
        "note: own test: the text of 3 of 5 rows is in train too: on them a model may answer from memory",
    ]


def test_classes_that_one_split_lacks_are_said(tmp_path) -> None:
    found = surveyed(tmp_path, {"train": [("a", "0"), ("b", "1")], "test": [("c", "0"), ("d", "2")]})
    assert found.notices() == [
        "note: own train: no row has class 'mixed', so no model can learn it",
        "note: own test: no row has class 'good', so test can't tell how well it is recognised",
    ]
    assert found.splits["train"].absent == ["mixed"]


def test_clean_rows_are_silent_and_free_text_has_no_classes(tmp_path) -> None:
    (tmp_path / "train.jsonl").write_text('{"source": "a", "target": "b"}\n{"source": "c", "target": ""}\n')
    changes = {"task": "translation", "label_column": "target", "template": "{source}", "classes": None}
    found = surveyed(tmp_path, {}, **changes)
    assert found.notices() == []
    assert (found.splits["train"].rows, found.splits["train"].skipped) == (1, 1)
    assert found.splits["train"].classes == {} and found.splits["train"].majority is None
    found.check()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("a", "1"), ("b", "1")], r"own train: all 2 rows have the class 'good'; expected rows of two classes"),
        ([("", "0"), ("  ", "1")], r"own train: none of its 2 rows has any text; .*dataset\.template"),
    ],
)
def test_rows_that_teach_nothing_are_refused(tmp_path, rows, said) -> None:
    with pytest.raises(EdgewiseError, match=said):
        surveyed(tmp_path, {"train": rows}).check()


def test_training_says_it_once(tmp_path, capsys, compose) -> None:
    from train.cell_data import load_cell_data

    print_once.cache_clear()
    rows = "text,label\n" + "".join(f"some words number {i},{i % 2}\n" for i in range(20)) + ",1\n"
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text(rows)
    own = (
        "dataset=text_classification",
        "dataset.name=own",
        f"dataset.path={tmp_path}",
        "tokenizer.vocabulary_size=60",
    )
    for length in (30, 40):
        config = compose(*own, "dataset.classes={0: bad, 1: good}", f"dataset.max_input_length={length}")
        load_cell_data(config, tmp_path / "runs")
    said = capsys.readouterr().err
    assert said.count("note: own train: 1 of 21 rows have no text") == 1
    assert said.count("is in train too") == 1
