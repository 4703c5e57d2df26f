"""Splits from files of every format, and what is said about files that can't be used."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from conf.errors import EdgewiseError
from conf.schema import Dataset
from train.data.source import Source
from train.data.splits import load_split
from train.data.template import template_fields

ROWS = [
    {"text": "good, very", "label": "1", "slice_kind": "a"},
    {"text": 'so "bad"', "label": "0", "slice_kind": "b"},
    {"text": "zażółć 01", "label": "1", "slice_kind": ""},
]


def dataset(path: Path | None, **changes) -> Dataset:
    classes = {0: "negative", 1: "positive"}
    return Dataset(**{"name": "toy", "path": None if path is None else str(path), "classes": classes, **changes})


def write(folder: Path, ending: str, split: str = "train", rows: list[dict] = ROWS) -> Path:
    file = folder / f"{split}.{ending}"
    names = list(rows[0])
    if ending == "csv":
        quoted = [",".join('"' + row[name].replace('"', '""') + '"' for name in names) for row in rows]
        file.write_text("\n".join([",".join(names), *quoted, ""]), encoding="utf-8")
    elif ending == "tsv":
        file.write_text("\n".join("\t".join(line) for line in [names, *(row.values() for row in rows)]) + "\n", "utf-8")
    elif ending == "json":
        file.write_text(json.dumps(rows, indent=1))
    elif ending == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), file)
    return file


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, ending: str) -> None:
    write(tmp_path, ending)
    split = load_split(dataset(tmp_path, template="say: {text}"), "train")
    assert split.inputs == ["say: good, very", 'say: so "bad"', "say: zażółć 01"]
    assert split.targets == ["positive", "negative", "positive"]
    assert split.example_id == ["train-0", "train-1", "train-2"]
    assert split.slices == {"slice_kind": ["a", "b", ""]}
    assert (split.dataset, split.name, len(split)) == ("toy", "train", 3)
    reference = tmp_path / "reference"
    reference.mkdir()
    write(reference, "csv")
    assert split.fingerprint == load_split(dataset(reference, template="say: {text}"), "train").fingerprint


def test_fingerprint_changes_with_any_column(tmp_path: Path) -> None:
    seen = set()
    for column, value in [(None, ""), ("text", "other"), ("label", "0"), ("slice_kind", "c")]:
        write(tmp_path, "csv", rows=[ROWS[0] | ({column: value} if column else {}), *ROWS[1:]])
        seen.add(load_split(dataset(tmp_path), "train").fingerprint)
    assert len(seen) == 4


def test_values_stay_the_strings_they_are(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("id,label,text\n007,01,1.50\n008,1e3,null\n")
    split = load_split(dataset(tmp_path, classes={"01": "one", "1e3": "thousand"}, template="{id}|{text}"), "train")
    assert split.inputs == ["007|1.50", "008|null"]
    assert split.targets == ["one", "thousand"]


@pytest.mark.parametrize("ending", ["json", "jsonl", "parquet"])
def test_numbers_and_bools_become_text(tmp_path: Path, ending: str) -> None:
    write(tmp_path, ending, rows=[{"text": 5, "label": True}, {"text": 6, "label": False}])
    split = load_split(dataset(tmp_path, classes={True: "yes", False: "no"}), "train")
    assert split.inputs == ["5", "6"]
    assert split.targets == ["yes", "no"]


def test_csv_details(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text('label,text\n1,"ends in a line\n"\n')
    assert load_split(dataset(tmp_path), "test").inputs == ["ends in a line\n"]
    text = '\ufeff,text,label,example_id\r\n0,"two\nlines, ""quoted""",1,x\r\n1,,0,y\r\n'  # pandas' unnamed index
    (tmp_path / "train.csv").write_bytes(text.encode())
    split = load_split(dataset(tmp_path), "train")
    assert split.inputs == ['two\nlines, "quoted"', ""]
    assert split.example_id == ["x", "y"]


def test_tsv_takes_quotes_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "dev.tsv").write_text('text\tlabel\n"open\t1\nit "s"\t0\n')
    assert load_split(dataset(tmp_path), "validation").inputs == ['"open', 'it "s"']


def test_json_under_data_and_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text(json.dumps({"version": 1, "data": ROWS}))
    (tmp_path / "test.jsonl").write_text("\n\n".join(map(json.dumps, ROWS)))
    assert len(load_split(dataset(tmp_path), "train")) == 3
    assert len(load_split(dataset(tmp_path), "test")) == 3


def test_missing_slice_values_are_empty(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a", "label": 1, "slice_x": null}\n{"text": "b", "label": 0}\n')
    assert load_split(dataset(tmp_path), "train").slices == {"slice_x": ["", ""]}


def test_template_of_several_columns(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a b,c.d,label\nx,y,1\n")
    split = load_split(dataset(tmp_path, template="{{q}} {a b} / {c.d} {a b}"), "train")
    assert split.inputs == ["{q} x / y x"]
    assert template_fields("{a b} {c.d} {a b}") == ["a b", "c.d"]


def test_a_bad_row_far_below_is_named(tmp_path: Path) -> None:
    rows = [{"text": f"line {i}\nmore {'é' * 90}", "label": str(i % 2)} for i in range(10_000)]
    write(tmp_path, "csv", rows=rows)
    assert load_split(dataset(tmp_path), "train").inputs[9_999] == rows[9_999]["text"]
    with (tmp_path / "train.csv").open("a") as stream:
        stream.write("x,y,z\n")
    with pytest.raises(EdgewiseError, match=r"row 10001 has 3 values.* starts on line 20002"):
        load_split(dataset(tmp_path), "train")


def test_split_names_and_digest(tmp_path: Path) -> None:
    for split in ("train", "dev"):
        write(tmp_path, "csv", split)
    assert Source(dataset(tmp_path)).names == ["train", "validation"]
    digest = Source(dataset(tmp_path)).digest
    assert digest == Source(dataset(tmp_path)).digest
    (tmp_path / "dev.csv").rename(tmp_path / "validation.csv")
    assert Source(dataset(tmp_path)).digest == digest
    write(tmp_path, "csv", "validation", rows=ROWS[:2])
    assert Source(dataset(tmp_path)).digest != digest
    (tmp_path / "train.csv").write_bytes(b"\0 not csv at all")
    assert len(Source(dataset(tmp_path)).digest) == 64  # nothing is parsed


def test_the_generator_goes_by_its_name() -> None:
    demo = dataset(None, name="demo", classes={"negative": "negative", "positive": "positive"})
    assert Source(demo).names == ["train", "validation", "test"]
    split = load_split(demo, "validation")
    assert len(split) == 500
    assert set(split.slices["slice_kind"]) == {"easy", "composition", "noise"}
    assert load_split(demo, "validation").fingerprint == split.fingerprint
    digests = {
        Source(dataset(None, name="demo", **change)).digest
        for change in ({}, {"generator_seed": 1}, {"train_examples": 9}, {"test_examples": 9})
    }
    assert len(digests) == 4


CSV = "text,label\ngood,1\nbad,0\n"


# What the file holds -> what is said. Each message names the file, and the row where there is one.
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("train.csv", "words,label\ngood,1\n", r"train\.csv: no column text; found words, label"),
        ("train.csv", "", r"train\.csv: the file is empty"),
        ("train.csv", "text,label\n", r"train\.csv: no rows"),
        ("train.csv", "text,label", r"train\.csv: no rows"),
        ("train.json", "[]", r"train\.json: no (rows|column)"),
        ("train.csv", CSV + "meh,2\n", r"row 3: label is '2', expected one of '0', '1'"),
        ("train.csv", CSV + "meh,\n", r"row 3: label is '', expected one of"),
        ("train.csv", CSV + "one,two,0\n", r"row 3 has 3 values, but the header has 2 columns: one,two,0"),
        ("train.csv", CSV + 'x,"1\ny,0\n', r"row 3: a quote is opened and never closed"),
        ("train.csv", 'label,text\n1,"good\n0,bad\n', r"row 1: a quote is opened and never closed"),
        ("train.csv", 'text,label\n"good,1\nbad,0\n', r"row 1: a quote is opened and never closed"),
        ("train.tsv", "text\tlabel\na\t1\nb\n", r"train\.tsv: row 2 has 1 values"),
        ("train.csv", b"text,label\nok,1\ncaf\xe9,1\n", r"row 2: text is not UTF-8 .* byte 3"),
        ("train.csv", b"t\xe9xt,label\nok,1\n", r"the header is not UTF-8"),
        ("train.jsonl", b'{"text": "a", "label": 1}\n{"text": "\xe9", "label": 1}\n', r"line 2: not UTF-8"),
        ("train.json", b'[\n{"text": "\xe9", "label": 1}]', r"line 2: not UTF-8 .* byte 12"),
        ("train.json", '[{"text": "\\ud800", "label": 1}]', r"row 1: text is not valid Unicode"),
        ("train.csv", b"PAR1\0\0", r"Parquet file by its content; name it train\.parquet"),
        ("train.csv", "text,label\n".encode("utf-16"), r"train\.csv: binary"),
        ("train.jsonl", b"\x1f\x8b\0\0", r"train\.jsonl: binary"),
        ("train.parquet", CSV, r"train\.parquet: not a Parquet file; it starts with text,label"),
        ("train.parquet", b"PAR1 and no more", r"train\.parquet: can't be read as Parquet"),
        ("train.json", '[{"text": "a",\n "label": }]', r"train\.json: line 2: not JSON"),
        ("train.json", '{"text": "a", "label": 1}\n{"text": "b", "label": 1}', r"line 2: not JSON .*\.jsonl"),
        ("train.json", '{"text": "a", "label": 1}', r"expected a list of objects .* keys text, label"),
        ("train.json", "3", r"expected a list of objects .* found int"),
        ("train.json", '[{"text": "a", "label": 1}, 4]', r"row 2: expected an object .* found 4"),
        ("train.jsonl", '{"text": "a", "label": 1}\n{"text"\n', r"line 2: not JSON"),
        ("train.jsonl", '{"text": "a", "label": 1}\n{"label": 1}\n', r"row 2 has no text"),
        ("train.jsonl", '{"text": "a", "label": null}\n', r"row 1 has no label"),
        ("train.jsonl", '{"text": ["a"], "label": 1}\n', r"row 1: text is a list, expected text"),
        ("train.csv", "text,label,example_id\na,1,x\nb,1,y\nc,1,x\n", r"rows 1 and 3 have the same example_id 'x'"),
        ("train.csv", "text,label,text\na,1,b\n", r"two columns are named 'text'"),
        ("train.csv", "text,label,n,n\na,1,b,c\n", r"two columns are named 'n'"),
        ("train.csv", "text,,label\na,b,1\n", r"column 2 has no name"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(EdgewiseError, match=said) as raised:
        load_split(dataset(tmp_path), "train")
    assert name in str(raised.value)


def test_parquet_with_repeated_or_null_or_nested_columns(tmp_path: Path) -> None:
    file = tmp_path / "train.parquet"
    text, label = pa.array(["a", None]), pa.array([1, 0])
    pyarrow.parquet.write_table(pa.Table.from_arrays([text, label], ["text", "label"]), file)
    with pytest.raises(EdgewiseError, match="row 2 has no text"):
        load_split(dataset(tmp_path), "train")
    pyarrow.parquet.write_table(pa.Table.from_arrays([text, text, label], ["text", "text", "label"]), file)
    with pytest.raises(EdgewiseError, match="two columns are named 'text'"):
        load_split(dataset(tmp_path), "train")
    nested = pa.array([{"en": "a"}, {"en": "b"}])
    pyarrow.parquet.write_table(pa.Table.from_arrays([nested, label], ["text", "label"]), file)
    with pytest.raises(EdgewiseError, match="row 1: text is a dict"):
        load_split(dataset(tmp_path), "train")


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(EdgewiseError, match=r"nowhere does not exist; expected a folder"):
        load_split(dataset(tmp_path / "nowhere"), "train")
    with pytest.raises(EdgewiseError, match=r"no file for the train split; expected train\..*found an empty folder"):
        load_split(dataset(tmp_path), "train")
    file = write(tmp_path, "csv")
    with pytest.raises(EdgewiseError, match=r"train\.csv is a file; expected a folder"):
        Source(dataset(file))
    with pytest.raises(EdgewiseError, match=r"validation\.\{.*\} or dev\.\{.*found train\.csv"):
        load_split(dataset(tmp_path), "validation")
    with pytest.raises(EdgewiseError, match="split 'tset': expected one of train, validation, test"):
        load_split(dataset(tmp_path), "tset")
    write(tmp_path, "jsonl")
    with pytest.raises(EdgewiseError, match=r"train\.csv and train\.jsonl could each be the train split"):
        Source(dataset(tmp_path))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"path": None}, r"dataset\.path=DIR.*columns text, label"),
        ({"name": "a/b"}, r"dataset\.name='a/b': expected 1 to 64 letters"),
        ({"classes": {0: "only"}}, r"expected two classes"),
        ({"classes": {0: "same", 1: " same "}}, r"labels 0 and 1 have the same target string 'same'"),
        ({"classes": {0: "a", 1: " "}}, r"label 1 has an empty target string"),
        ({"classes": {1: "a", "1": "b"}}, r"label '1' is there twice"),
        ({"template": "text"}, r"dataset\.template='text': expected at least one column"),
        ({"template": "{}"}, r"\{\} has no column name"),
        ({"template": "{0}"}, r"\{0\} has no column name"),
        ({"template": "{text!r:>9}"}, r"expected a plain column name"),
        ({"template": "{text"}, r"dataset\.template='\{text'"),
        ({"template": "{words}"}, r"no column words; found text, label"),
        ({"label_column": "gold"}, r"no column gold; found text, label"),
    ],
)
def test_what_is_wrong_with_the_config_is_said(tmp_path: Path, changes: dict, said: str) -> None:
    write(tmp_path, "csv")
    with pytest.raises(EdgewiseError, match=said):
        load_split(dataset(**{"path": tmp_path, **changes}), "train")


def test_long_names_and_values_are_cut_short(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(f"{'word ' * 500},1\nb,0\n")  # no header row
    with pytest.raises(EdgewiseError, match="is there a header row") as raised:
        load_split(dataset(tmp_path), "train")
    assert len(str(raised.value)) < 300 + len(os.fspath(tmp_path))


def test_texts_are_the_inputs_as_given_before_the_template(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("title,text,label\nOn {text},a: b,1\n,c,0\n")
    for template, expected in {
        "{text}": ["a: b", "c"],
        "review: {text} (kind?)": ["a: b", "c"],
    }.items():
        assert load_split(dataset(tmp_path, template=template), "train").texts() == expected
    (tmp_path / "train.csv").write_text("title,text,label\nOn {text},a: b,1\nt,c,0\n")
    several = load_split(dataset(tmp_path, template="{title} | {text} | {title}"), "train")
    assert several.texts() == ["title: On {text}\ntext: a: b", "title: t\ntext: c"]


def test_a_cluster_column_comes_along_and_decides_nothing(tmp_path: Path) -> None:
    rows = [{**row, "user": user} for row, user in zip(ROWS, ["Ann", "", "Ann"], strict=True)]
    write(tmp_path, "csv", rows=rows)
    plain, by_user = dataset(tmp_path), dataset(tmp_path, cluster="user")
    split = load_split(by_user, "train")
    assert split.cluster == ["Ann", None, "Ann"] and load_split(plain, "train").cluster is None
    assert split.fingerprint == load_split(plain, "train").fingerprint
    assert Source(by_user).digest == Source(plain).digest
    assert Source(by_user).record()["cluster"] == "user" and "cluster" not in Source(plain).record()
    with pytest.raises(EdgewiseError, match=r"no column 'reader', which dataset\.cluster names; found text, label"):
        load_split(dataset(tmp_path, cluster="reader"), "train")


def test_a_cluster_column_changes_no_draw(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": str(i % 2), "user": f"u{i // 3}"} for i in range(20)]
    write(tmp_path, "jsonl", split="rows", rows=rows)
    plain, by_user = (
        load_split(dataset(tmp_path, test_share=0.3, **more), "test") for more in ({}, {"cluster": "user"})
    )
    assert plain.inputs == by_user.inputs
    assert by_user.cluster == [f"u{int(text.split()[1]) // 3}" for text in by_user.inputs]
