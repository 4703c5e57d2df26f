"""A person's files as they come: other separators, no header row, one file alone, columns of other names."""

import random
from pathlib import Path

import pytest

from conf.errors import EdgewiseError
from conf.schema import Dataset
from metrics.convert.__main__ import main as convert
from metrics.rows import Layout, separator_of
from train.data.notices import print_once
from train.data.source import Source
from train.data.splits import load_split

CLASSES = {"0": "bad", "1": "good"}


def dataset(path: Path, **changes) -> Dataset:
    print_once.cache_clear()
    made = Dataset(**{"name": "own", "path": str(path), "classes": CLASSES} | changes)
    made.check()
    return made


def pairs(path: Path, split: str = "train", **changes) -> list[tuple[str, str]]:
    loaded = load_split(dataset(path, **changes), split)
    return list(zip(loaded.inputs, loaded.targets, strict=True))


# --- separators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolon"), ("\t", "tab"), ("|", "vertical bar")])
def test_the_header_row_shows_the_separator(tmp_path, capsys, separator: str, name: str) -> None:
    rows = [["text", "label"], ["good, really", "1"], [f'"a {separator} ""b"""', "0"]]
    (tmp_path / "train.csv").write_text("\n".join(map(separator.join, rows)))
    assert pairs(tmp_path) == [("good, really", "good"), (f'a {separator} "b"', "bad")]
    assert capsys.readouterr().err == f"note: train.csv: a {name} separates its values\n"
    for said in (separator, "tab") if separator == "\t" else (separator,):
        assert len(pairs(tmp_path, separator=said)) == 2
        assert capsys.readouterr().err == ""


def test_a_header_that_can_be_read_in_two_ways_is_a_comma_s(tmp_path) -> None:
    (tmp_path / "train.csv").write_text("text;x,label\nfine,1\n")
    with pytest.raises(EdgewiseError, match="no column text; found text;x, label"):
        pairs(tmp_path)
    (tmp_path / "train.csv").write_text('"text;x",label\nfine,1\n')  # the semicolon is in quotes
    assert pairs(tmp_path, template="{text;x}") == [("fine", "good")]
    (tmp_path / "train.csv").write_text("text;label;a,b\nfine;1;x,y\n")
    assert pairs(tmp_path, separator=";") == [("fine", "good")]
    digests = {Source(dataset(tmp_path, separator=said)).digest for said in (None, ";", ",")}
    assert len(digests) == 3  # what is said chooses rows


def test_a_row_of_other_length_names_the_separator(tmp_path) -> None:
    (tmp_path / "train.csv").write_text("text;label\na;b;1\n")
    with pytest.raises(EdgewiseError, match=r"row 1 has 3 values, .* has 2 columns: a;b;1.*a semicolon in unquoted"):
        pairs(tmp_path)


@pytest.mark.parametrize("said", ["", "ab", '"', "a", " "])
def test_a_separator_that_is_none(tmp_path, said) -> None:
    with pytest.raises(EdgewiseError, match=r"dataset\.separator=.*expected one character"):
        dataset(tmp_path, separator=said)


def test_the_separator_of_empty_and_odd_files(tmp_path) -> None:
    file = tmp_path / "a.csv"
    for content in (b"", b"\n\n", b"one\n", b'"never closed;a\n', b"\xff;\xfe,x\n", b"a\x00;b\n"):
        file.write_bytes(content)
        assert separator_of(file, "csv", Layout()) in ",;"
    assert separator_of(file, "tsv", Layout()) == "\t" and separator_of(file, "tsv", Layout(";")) == ";"


def test_conversion_reads_semicolons_too(tmp_path, capsys) -> None:
    (tmp_path / "runs.csv").write_text("label;p;q\na;0.9;0.1\nb;0.2;0.8\n")
    run = ["--dataset", "d", "--size", "s", "--seed", "0", "--parameters", "60M", "--target", "label"]
    classes = ["--class", "a=p", "--class", "b=q", "--out", str(tmp_path / "scores.parquet")]
    assert convert([str(tmp_path / "runs.csv"), *run, *classes]) == 0
    assert "runs.csv: a semicolon separates its values" in capsys.readouterr().out


# --- no header row ----------------------------------------------------------------------------------------------------


def test_a_list_names_the_columns_of_a_file_without_a_header_row(tmp_path) -> None:
    (tmp_path / "train.csv").write_text("so, so;1\nfine;0\n")
    (tmp_path / "test.tsv").write_text('"odd\t1\n')
    names = {"columns": ["text", "label"]}
    assert pairs(tmp_path, **names) == [("so, so", "good"), ("fine", "bad")]
    assert pairs(tmp_path, "test", **names) == [('"odd', "good")]
    assert Source(dataset(tmp_path, **names)).record()["from"]["columns"] == ["text", "label"]
    turned = {"columns": ["label", "text"], "classes": {"so, so": "a", "fine": "b"}}
    assert pairs(tmp_path, **turned) == [("1", "a"), ("0", "b")]


@pytest.mark.parametrize(
    ("content", "changes", "said"),
    [
        ("text,label\na,1\n", {}, r"its first row is the header text, label.*leave out the list of columns"),
        ("a,1\nb,1,x\n", {}, r"row 2 has 3 values, but 2 columns are named: b,1,x\. The row starts on line 2"),
        ("a,1\n", {"columns": ["text", "label", "x"]}, r"row 1 has 2 values, but 3 columns are named"),
        ("a,1\n", {"columns": ["text", "text"]}, r"expected each name once"),
        ("a,1\n", {"join_column": "id"}, r"expected files with header rows to join"),
        ("", {}, r"the file is empty"),
        ("a,7\n", {}, r"row 1: label is '7', expected one of"),
    ],
)
def test_columns_that_the_rows_don_t_have(tmp_path, content: str, changes: dict, said: str) -> None:
    (tmp_path / "train.csv").write_text(content)
    with pytest.raises(EdgewiseError, match=said):
        pairs(tmp_path, **{"columns": ["text", "label"]} | changes)


def test_formats_with_names_take_no_list(tmp_path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a", "label": 1}\n')
    with pytest.raises(EdgewiseError, match=r"train\.jsonl: a list of columns .*\.jsonl files have names of their own"):
        pairs(tmp_path, columns=["text", "label"])
    with pytest.raises(EdgewiseError, match=r"and a/b names its own"):
        Source(Dataset(name="own", classes=CLASSES, hub_id="a/b", columns=["text", "label"]))


def test_a_missing_header_row_is_answered_with_the_line_to_type(tmp_path) -> None:
    (tmp_path / "train.csv").write_text("fine;1;x\nbad;0;y\n")
    with pytest.raises(EdgewiseError) as error:
        pairs(tmp_path)
    assert "no column text, label; found fine, 1, x" in str(error.value)
    assert "'dataset.columns=[text, label, unused_1]'" in str(error.value)


# --- columns of other names -------------------------------------------------------------------------------------------


def test_either_direction_of_columns_is_understood(tmp_path, capsys) -> None:
    (tmp_path / "train.csv").write_text("review,stars\nfine,1\n")
    for columns in ({"review": "text", "stars": "label"}, {"text": "review", "label": "stars"}):
        assert pairs(tmp_path, columns=columns) == [("fine", "good")]
    said = capsys.readouterr().err
    assert said.count("is read as") == 2 and "{text: review} is read as {review: text}" in said
    # What is documented comes first: a column that fits as it is written is not turned round.
    (tmp_path / "train.csv").write_text("text,review,label\na,b,1\n")
    assert pairs(tmp_path, columns={"text": "review"}) == [("a", "good")]
    assert pairs(tmp_path, columns={"text": "review"}, template="{review}") == [("b", "good")]
    assert capsys.readouterr().err == ""


def test_white_space_in_a_header_is_shown(tmp_path) -> None:
    (tmp_path / "train.csv").write_text("text, label\nfine,1\n")
    with pytest.raises(EdgewiseError) as error:
        pairs(tmp_path)
    assert "no column label; found text, ' label'. ' label' has white space at an end" in str(error.value)
    assert r"'dataset.columns={\ label: label}'" in str(error.value)
    assert pairs(tmp_path, columns={" label": "label"}) == [("fine", "good")]


# --- one file ---------------------------------------------------------------------------------------------------------

ROWS = [(f"text number {i}", str(i % 2)) for i in range(200)]


def write(file: Path, rows: list[tuple[str, str]]) -> Path:
    file.write_text("\n".join(["text,label", *map(",".join, rows), ""]))
    return file


def sides(path: Path, **changes) -> dict[str, list[tuple[str, str, str]]]:
    config = dataset(path, test_share=0.2, **changes)
    loaded = {split: load_split(config, split) for split in ("train", "test")}
    return {split: list(zip(rows.example_id, rows.inputs, rows.targets, strict=True)) for split, rows in loaded.items()}


def test_added_rows_and_another_order_move_no_row(tmp_path) -> None:
    before = sides(write(tmp_path / "all.csv", ROWS))
    assert 25 <= len(before["test"]) <= 55 and len(before["train"]) + len(before["test"]) == 200
    shuffled = ROWS.copy()
    random.Random(0).shuffle(shuffled)
    assert sides(write(tmp_path / "all.csv", shuffled)) == before
    more = [(f"a later text {i}", "1") for i in range(50)]
    after = sides(write(tmp_path / "all.csv", more + ROWS))
    for split in ("train", "test"):
        assert set(before[split]) < set(after[split])
    other = sides(tmp_path / "all.csv", split_seed=1)
    assert {text for _, text, _ in other["test"]} != {text for _, text, _ in after["test"]}


def test_rows_of_one_text_are_on_one_side(tmp_path) -> None:
    repeated = [(f"{text}{' ' * times}", label) for text, label in ROWS for times in range(3)] + [
        (text, "1") for text, _ in ROWS
    ]
    both = sides(write(tmp_path / "all.csv", repeated))
    texts = {split: {" ".join(text.split()) for _, text, _ in rows} for split, rows in both.items()}
    assert not texts["train"] & texts["test"] and len(texts["train"] | texts["test"]) == 200
    assert sum(map(len, both.values())) == 800
    assert len({name for rows in both.values() for name, _, _ in rows}) == 800
    by_row = sides(tmp_path / "all.csv", split_by="row")
    assert len(by_row["test"]) == 160  # exactly, and equal texts on both sides
    assert {text for _, text, _ in by_row["train"]} & {text for _, text, _ in by_row["test"]}


def test_ids_and_slices_stay_with_their_rows(tmp_path) -> None:
    lines = [f"{text},{label},id-{i},{'a' if i % 3 else 'b'}" for i, (text, label) in enumerate(ROWS)]
    (tmp_path / "all.csv").write_text("\n".join(["text,label,example_id,slice_kind", *lines]))
    test = load_split(dataset(tmp_path / "all.csv", test_share=0.2), "test")
    for name, text, kind in zip(test.example_id, test.inputs, test.slices["slice_kind"], strict=True):
        i = int(name.removeprefix("id-"))
        assert text == f"text number {i}" and kind == ("a" if i % 3 else "b")


def test_the_way_of_splitting_is_part_of_the_data_s_identity(tmp_path) -> None:
    write(tmp_path / "all.csv", ROWS)
    changes = [{}, {"split_by": "row"}, {"split_seed": 1}, {"test_share": 0.3}]
    found = [Source(dataset(tmp_path, **{"test_share": 0.2} | change)) for change in changes]
    assert len({source.digest for source in found}) == 4
    assert found[0].record()["from"]["split_by"] == "text"


def test_a_train_file_alone_is_split_or_told_how(tmp_path) -> None:
    write(tmp_path / "train.csv", ROWS)
    write(tmp_path / "valid.csv", ROWS[:5])
    alone = dataset(tmp_path)
    assert Source(alone).names == ["train", "validation"]
    with pytest.raises(EdgewiseError, match=r"no file for the test split.*hold out a share of train\.csv.*=0\.2$"):
        load_split(alone, "test")
    split = dataset(tmp_path, test_share=0.2)
    assert Source(split).names == ["train", "validation", "test"]
    assert len(load_split(split, "train")) + len(load_split(split, "test")) == 200
    assert len(load_split(split, "validation")) == 5
    write(tmp_path / "test.csv", ROWS[:7])
    assert len(load_split(split, "test")) == 7 and len(load_split(split, "train")) == 200


def test_one_file_of_another_name_and_a_file_as_the_path(tmp_path) -> None:
    file = write(tmp_path / "reviews.csv", ROWS)
    with pytest.raises(EdgewiseError, match=r"found reviews\.csv\. Or hold out a share of reviews\.csv's rows"):
        load_split(dataset(tmp_path), "train")
    with pytest.raises(EdgewiseError, match=r"reviews\.csv is a file; .*dataset\.test_share=0\.2"):
        Source(dataset(file))
    assert sides(file) == sides(tmp_path)
    with pytest.raises(EdgewiseError, match=r"no file for the validation split; .* found reviews\.csv$"):
        load_split(dataset(file, test_share=0.2), "validation")
    other = tmp_path / "reviews.txt"
    other.write_text("x")
    with pytest.raises(EdgewiseError, match=r"reviews\.txt is a file, but not one of \.csv, \.tsv"):
        Source(dataset(other, test_share=0.2))


@pytest.mark.parametrize("name", ["validation", "dev", "val", "valid"])
def test_the_names_of_a_validation_file(tmp_path, name: str) -> None:
    write(tmp_path / f"{name}.csv", ROWS[:3])
    assert len(load_split(dataset(tmp_path), "validation")) == 3


def test_two_rows_can_t_be_held_out(tmp_path) -> None:
    write(tmp_path / "all.csv", [("a", "0")])
    with pytest.raises(
        EdgewiseError, match=r"none of 1 rows is left for \w+; give more rows, or another dataset\.split"
    ):
        sides(tmp_path)


def test_other_line_ends_inside_a_text_hide_no_separator(tmp_path) -> None:
    (tmp_path / "train.csv").write_text("fine\u2028film, really;1\nbad\x85one;0\n", encoding="utf-8")
    expected = [("fine\u2028film, really", "good"), ("bad\x85one", "bad")]
    assert pairs(tmp_path, columns=["text", "label"]) == expected


# --- files that are not found -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train.csv", "validation.csv", "test.jsonl"])
def test_a_link_to_nothing_is_no_missing_split(tmp_path, name: str) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("text,label\nfine,1\n")
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).symlink_to(tmp_path / "elsewhere.csv")
    with pytest.raises(EdgewiseError, match=rf"{name}: a link to .*elsewhere.csv, which can't be found"):
        pairs(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(name)  # to itself
    with pytest.raises(EdgewiseError, match=rf"{name}: a link to {name}, which can't be found"):
        pairs(tmp_path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("train.csv.gz", "train.csv.gz is compressed: unpack it"),
        ("train.CSV", "Names are in lower case: rename train.CSV to train.csv"),
    ],
)
def test_a_file_that_only_its_ending_keeps_from_being_read(tmp_path, name: str, said: str) -> None:
    (tmp_path / name).write_text("text,label\nfine,1\n")
    (tmp_path / "notes.gz").write_text("")
    with pytest.raises(EdgewiseError, match=f"no file for the train split; .*{said}"):
        pairs(tmp_path)


def test_squad_s_own_layout_is_named(tmp_path) -> None:
    (tmp_path / "train.json").write_text('{"data": [{"title": "t", "paragraphs": []}]}')
    changes = {"task": "span_qa", "classes": None, "template": "{question} {context}", "label_column": "answers"}
    with pytest.raises(EdgewiseError, match="questions inside paragraphs; give a row for each question"):
        pairs(tmp_path, **changes)


def test_a_nul_byte_s_line_is_named(tmp_path) -> None:
    (tmp_path / "train.csv").write_bytes(b"text,label\nfine,1\nb\0d,0\n")
    with pytest.raises(EdgewiseError, match="a NUL byte on line 3"):
        pairs(tmp_path)


def test_a_number_of_too_many_digits_has_advice_for_people(tmp_path) -> None:
    (tmp_path / "train.jsonl").write_text(f'{{"text": "a", "label": {"1" * 5000}}}\n')
    with pytest.raises(EdgewiseError, match="line 1: a whole number of more than 4,300 digits, .* write it as text"):
        pairs(tmp_path)
