"""Questions with several answers, and sentence pairs: every format alike, and rows that can't be used are counted."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from conf.errors import EdgewiseError
from conf.schema import Dataset
from tests.support import REPO
from train.data.answers import gold_answers
from train.data.source import Source
from train.data.splits import load_split

QUESTIONS = [
    {"id": "a", "question": "who?", "context": "Ann, or Bo.", "answers": {"text": ["Ann", "Bo", "Ann"], "start": [0]}},
    {"id": "b", "question": "what?", "context": "Nothing.", "answers": {"text": [], "start": []}},
    {"id": "c", "question": "where?", "context": "In Łódź [1].", "answers": {"text": ["Łódź"], "start": [3]}},
]
PAIRS = [
    {"translation": {"en": "A dog.", "de": "Ein Hund."}},
    {"translation": {"en": "", "de": "Niemand."}},
    {"translation": {"en": "Nobody.", "de": None}},
    {"translation": {"en": "Two cats.", "de": "Zwei Katzen."}},
    {"translation": {"en": "Three.", "de": "  "}},
]


def dataset(config: str, path: Path, **changes) -> Dataset:
    file = OmegaConf.load(REPO / f"conf/dataset/{config}.yaml")
    values = OmegaConf.merge(OmegaConf.structured(Dataset), file, changes)
    values.path = str(path)
    return OmegaConf.to_object(values)


def write(file: Path, rows: list[dict]) -> Path:
    if file.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), file)
    elif file.suffix == ".json":
        file.write_text(json.dumps(rows))
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize("ending", ["json", "jsonl", "parquet"])
def test_squad_rows(tmp_path: Path, ending: str) -> None:
    write(tmp_path / f"validation.{ending}", QUESTIONS)
    squad = dataset("squad", tmp_path)
    assert Source(squad).names == ["test"]  # the paper's test split is the source's validation split
    split = load_split(squad, "test")
    assert split.example_id == ["a", "c"]
    assert split.inputs == ["question: who? context: Ann, or Bo.", "question: where? context: In Łódź [1]."]
    assert split.targets == ["Ann", "Łódź"] and split.golds == [["Ann", "Bo"], ["Łódź"]]
    assert split.skipped == {"no answers": 1}
    assert Source(squad).record()["splits"]["test"]["skipped"] == {"no answers": 1}
    reference = tmp_path / "reference"
    reference.mkdir()
    write(reference / "test.jsonl", QUESTIONS)
    assert load_split(dataset("squad", reference), "test").fingerprint == split.fingerprint


def test_squad_s_articles_are_clusters_where_the_rows_have_them(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", QUESTIONS)
    assert load_split(dataset("squad", tmp_path), "test").cluster is None
    titled = [{**row, "title": f"article {i // 2}"} for i, row in enumerate(QUESTIONS)]
    write(tmp_path / "test.jsonl", titled)
    split = load_split(dataset("squad", tmp_path), "test")
    assert split.cluster == ["article 0", "article 1"]  # of the rows that are left
    assert split.texts()[0] == "question: who?\ncontext: Ann, or Bo."
    assert load_split(dataset("squad", tmp_path, cluster=None), "test").cluster is None


def test_a_second_gold_answer_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    def fingerprint(answers: list[str]) -> str:
        write(tmp_path / "test.jsonl", [{**QUESTIONS[0], "answers": {"text": answers}}])
        return load_split(dataset("squad", tmp_path), "test").fingerprint

    assert len({fingerprint(["Ann"]), fingerprint(["Ann", "Bo"]), fingerprint(["Ann", "Cy"])}) == 3


def test_answers_in_a_csv_are_one_or_a_json_list(tmp_path: Path) -> None:
    lines = ["question,context,answers", "who?,Ann,Ann", 'who?,Ann,"[""Ann"", ""Bo""]"', "who?,Ann,", "who?,,Bo"]
    (tmp_path / "test.csv").write_text("\n".join(lines) + "\n")
    split = load_split(dataset("span_qa", tmp_path, name="mine"), "test")
    assert split.golds == [["Ann"], ["Ann", "Bo"], ["Bo"]]
    assert split.example_id == ["test-0", "test-1", "test-3"] and split.skipped == {"no answers": 1}


@pytest.mark.parametrize("value", ["{'text': ['Ann']}", "['Ann']", '{"text": ["Ann"]}', "[1, 2]", "[[]]"])
def test_python_s_own_notation_is_no_answer(tmp_path: Path, value: str) -> None:
    (tmp_path / "test.csv").write_text('question,context,answers\nq,c,a\nq,c,"' + value.replace('"', '""') + '"\n')
    with pytest.raises(EdgewiseError, match=r"test\.csv: row 2: answers is .* expected one answer, or a JSON list"):
        load_split(dataset("span_qa", tmp_path, name="mine"), "test")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4))
def test_gold_answers_of_a_list(answers: list[str]) -> None:
    golds = gold_answers(json.dumps(answers))
    assert golds == [a for i, a in enumerate(answers) if a.strip() and a not in answers[:i]]


@pytest.mark.parametrize("ending", ["json", "jsonl", "parquet"])
def test_sentence_pairs(tmp_path: Path, ending: str) -> None:
    write(tmp_path / f"train.{ending}", PAIRS)
    split = load_split(dataset("wmt_ende", tmp_path), "train")
    assert split.inputs == ["translate English to German: A dog.", "translate English to German: Two cats."]
    assert split.targets == ["Ein Hund.", "Zwei Katzen."] and split.golds is None
    assert split.example_id == ["train-0", "train-3"]  # places in the source, not among the kept
    assert split.skipped == {"no en": 1, "no de": 2}


@pytest.mark.parametrize("ending", ["json", "jsonl", "parquet"])
def test_a_translation_may_have_several_references(tmp_path: Path, ending: str) -> None:
    rows = [{"en": "A dog.", "de": ["Ein Hund.", "", "Hund."]}, {"en": "Two.", "de": ["Zwei."]}]
    write(tmp_path / f"train.{ending}", rows)
    split = load_split(dataset("wmt_ende", tmp_path), "train")
    assert split.targets == ["Ein Hund.", "Zwei."] and split.golds == [["Ein Hund.", "Hund."], ["Zwei."]]
    write(tmp_path / f"train.{ending}", [{**row, "de": row["de"][:1]} for row in rows])
    one_each = load_split(dataset("wmt_ende", tmp_path), "train")
    assert one_each.golds is None and one_each.fingerprint != split.fingerprint


def test_a_reference_that_is_json_text_is_text(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [{"en": "a list", "de": '["eins", "zwei"]'}])
    split = load_split(dataset("wmt_ende", tmp_path), "train")
    assert split.targets == ['["eins", "zwei"]'] and split.golds is None


def test_pairs_in_columns_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("en\tde\tslice_topic\nA dog.\tEin Hund.\tanimals\n\tNichts.\tx\n")
    split = load_split(dataset("wmt_ende", tmp_path), "train")
    assert split.targets == ["Ein Hund."] and split.slices == {"slice_topic": ["animals"]}
    assert split.skipped == {"no en": 1}
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "train.csv").write_text("source,target\nA dog.,Ein Hund.\n")
    assert load_split(dataset("translation", mine, name="mine"), "train").inputs == ["A dog."]


def test_a_validation_file_is_one_where_there_is_a_test_file_too(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        write(tmp_path / f"{split}.jsonl", [{"translation": {"en": split, "de": split}}])
    wmt = dataset("wmt_ende", tmp_path)
    assert Source(wmt).names == ["train", "validation", "test"]
    assert load_split(wmt, "test").targets == ["test"]
    (tmp_path / "test.jsonl").unlink()
    assert Source(wmt).names == ["train", "test"] and load_split(wmt, "test").targets == ["validation"]
    with pytest.raises(EdgewiseError, match="no file for the validation split"):
        load_split(wmt, "validation")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"translation": {"en": "a"}}], "no column de; found en"),
        ([{"en": "a", "de": "  "}], "every row is left out .no de: 1."),
        ([{"en": ["a"], "de": "b"}], "row 1: en is a list, expected text or a number"),
        ([{"en": "a", "de": ["b", 1]}], "row 1: de is a list"),
        ([{"en": "a", "de": [" "]}], "every row is left out .no de: 1."),
    ],
)
def test_pairs_that_can_t_be_used(tmp_path: Path, rows: list[dict], said: str) -> None:
    write(tmp_path / "train.jsonl", rows)
    with pytest.raises(EdgewiseError, match=said):
        load_split(dataset("wmt_ende", tmp_path), "train")


def test_answers_of_other_things_than_text(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", [{**QUESTIONS[0], "answers": {"text": [1]}}])
    with pytest.raises(EdgewiseError, match="row 1: answers.text is a list, expected text or a number"):
        load_split(dataset("squad", tmp_path), "test")
