"""Files of rows: what the strict reader takes, and that training and `metrics.convert` refuse the same files."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conf.errors import EdgewiseError
from conf.schema import Dataset
from metrics.convert.__main__ import main
from metrics.rows import Wanted, first_duplicate, invalid_unicode, read_columns, read_records, text_or_none
from metrics.scores import read_scores
from train.data.splits import load_split

RUN = ["--dataset", "d", "--size", "s", "--seed", "0", "--parameters", "60M"]
COLUMNS = ["--target", "label", "--class", "a=p", "--class", "b=q", "--slice", "text"]
WANTED = Wanted(frozenset({"text", "label"}))


def trained(file: Path) -> int:
    dataset = Dataset(name="d", path=str(file.parent), classes={"a": "a", "b": "b"}, template="{text}")
    return len(load_split(dataset, "test"))


def converted(file: Path) -> int:
    out = file.parent / "out" / "scores.parquet"
    assert main([str(file), *RUN, *COLUMNS, "--out", str(out)]) == 0
    return len(read_scores(out).example_id)


def write(folder: Path, name: str, content: str | bytes | pa.Table) -> Path:
    file = folder / name
    if isinstance(content, pa.Table):
        pq.write_table(content, file)
    else:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def table(texts: pa.Array, labels: pa.Array | None = None) -> pa.Table:
    n = len(texts)
    labels = pa.array(["a"] * n) if labels is None else labels
    return pa.table({"text": texts, "label": labels, "p": [0.9] * n, "q": [0.1] * n})


def not_utf8(*values: bytes) -> pa.Array:
    return pa.Array.from_buffers(pa.string(), len(values), pa.array(values, pa.binary()).buffers())


HEADER = "text,label,p,q\n"
ROW = "fine,a,0.9,0.1\n"
OBJECT = {"text": "fine", "label": "a", "p": 0.9, "q": 0.1}
TWICE = pa.Table.from_arrays(
    [pa.array(["x"]), pa.array(["y"]), pa.array(["a"]), pa.array([0.9]), pa.array([0.1])],
    ["text", "text", "label", "p", "q"],
)

# what the file holds -> what both say
BAD = {
    "open quote in the last column": (
        "test.csv",
        HEADER + ROW + 'x,a,0.9,"0.1\n' + ROW + ROW,
        "row 2: a quote is opened",
    ),
    "open quote in the first column": ("test.csv", HEADER + ROW + '"x,a,0.9,0.1\n' + ROW, "row 2: a quote is opened"),
    "open quote that another one closes": (
        "test.csv",
        HEADER + '"x,a,0.9,0.1\n' + ROW + '"y,a,0.9,0.1\n',
        "row 1: text follows a closing quote",
    ),
    "quotes that aren't doubled": ("test.csv", HEADER + '"he said "hi" twice",a,0.9,0.1\n', "text follows a closing"),
    "escaped quotes": ("test.csv", HEADER + '"he said \\"hi\\" twice",a,0.9,0.1\n', "text follows a closing quote"),
    "a row that is too short": ("test.csv", HEADER + ROW + "x,a,0.9\n", "row 2 has 3 values, but the header has 4"),
    "a row that is too long": ("test.csv", HEADER + ROW + "x,a,0.9,0.1,\n", "row 2 has 5 values"),
    "a short row of TSV": ("test.tsv", "text\tlabel\tp\tq\nx\ta\t0.9\n", "row 1 has 3 values"),
    "two columns of one name": ("test.csv", "text,text,label,p,q\nx,y,a,0.9,0.1\n", "two columns are named 'text'"),
    "two other columns of one name": ("test.csv", "n,n,text,label,p,q\n1,2,y,a,0.9,0.1\n", "two columns are named 'n'"),
    "two columns of one name in Parquet": ("test.parquet", TWICE, "two columns are named 'text'"),
    "two keys of one name": (
        "test.jsonl",
        '{"text": "x", "text": "y", "label": "a", "p": 0.9, "q": 0.1}',
        "are named 'text'",
    ),
    "a key twice in a list": (
        "test.json",
        '[{"text": "x", "text": "y", "label": "a", "p": 0.9, "q": 0.1}]',
        "named 'text'",
    ),
    "bytes that aren't UTF-8": (
        "test.csv",
        (HEADER + ROW).encode() + b"caf\xe9,a,0.9,0.1\n",
        "row 2: text is not UTF-8",
    ),
    "JSON that isn't UTF-8": ("test.jsonl", json.dumps(OBJECT).encode() + b'\n{"text": "\xe9"}', "line 2: not UTF-8"),
    "Parquet that isn't UTF-8": ("test.parquet", table(not_utf8(b"fine", b"\xff")), "row 2: text is not UTF-8"),
    "half of a character": ("test.jsonl", '{"text": "\\ud800", "label": "a", "p": 0.9, "q": 0.1}', "not valid Unicode"),
    "binary columns": ("test.parquet", table(pa.array([b"the cat"], pa.binary())), "text is binary, expected text"),
    "binary labels": ("test.parquet", table(pa.array(["x"]), pa.array([b"a"])), "label is binary"),
    "lists": ("test.parquet", table(pa.array([["the", "cat"]])), "text is a list, expected text"),
    "objects": ("test.jsonl", json.dumps({**OBJECT, "text": {"en": "x"}}), "text is a dict, expected text"),
    "NaN for a label": (
        "test.jsonl",
        json.dumps({**OBJECT, "label": float("nan")}),
        ("has no label", "label is empty"),
    ),
    "null for a label": ("test.jsonl", json.dumps({**OBJECT, "label": None}), ("has no label", "label is empty")),
    "NaN labels in Parquet": (
        "test.parquet",
        table(pa.array(["x"]), pa.array([float("nan")])),
        ("has no label", "is empty"),
    ),
    "nesting without end": ("test.jsonl", '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
    "a number without end": ("test.jsonl", '{"text": ' + "1" * 5_000 + "}", "more than 4,300 digits"),
    "no header": ("test.csv", "", "the file is empty"),
    "UTF-16": ("test.csv", (HEADER + ROW).encode("utf-16"), "binary"),
    "Parquet by another name": ("test.csv", b"PAR1\0\0", "a Parquet file by its content"),
    "text by Parquet's name": ("test.parquet", HEADER + ROW, "not a Parquet file"),
    "Parquet cut short": ("test.parquet", b"PAR1 and no more", "can't be read as Parquet"),
}


@pytest.mark.parametrize("name", BAD)
def test_training_and_convert_refuse_the_same(tmp_path, capsys, name):
    ending, content, said = BAD[name]
    by_training, by_convert = said if isinstance(said, tuple) else (said, said)
    file = write(tmp_path, ending, content)
    with pytest.raises(EdgewiseError) as error:
        trained(file)
    assert by_training in str(error.value) and str(file) in str(error.value)
    assert main([str(file), *RUN, *COLUMNS, "--out", str(tmp_path / "out.parquet")]) == 1
    message = capsys.readouterr().err
    assert by_convert in message and str(file) in message and not (tmp_path / "out.parquet").exists()


GOOD = {
    "quotes of TSV are characters": ("test.tsv", 'text\tlabel\tp\tq\n"open\ta\t0.9\t0.1\na "b"\tb\t0.9\t0.1\n', 2),
    "quoted line ends, empty lines, a mark of UTF-8": (
        "test.csv",
        b'\xef\xbb\xbftext,label,p,q\r\n"a ""b"",\r\nc",a,0.9,0.1\r\n\r\nd,b,0.1,0.9\r\n',
        2,
    ),
    "no line end at the end": ("test.csv", HEADER + ROW + ROW.rstrip(), 2),
    "an unnamed index": ("test.csv", ",text,label,p,q\n0,x,a,0.9,0.1\n", 1),
    "a quote inside unquoted text": ("test.csv", HEADER + '5" of snow,a,0.9,0.1\n', 1),
    "a long value": ("test.csv", HEADER + f"{'x' * 300_000},a,0.9,0.1\n", 1),
    "other bytes in another column": ("test.csv", b"other,text,label,p,q\ncaf\xe9,x,a,0.9,0.1\n", 1),
    "a list of objects": ("test.json", json.dumps([OBJECT, OBJECT]), 2),
    "objects under data": ("test.json", json.dumps({"data": [OBJECT]}), 1),
    "numbers as text": ("test.jsonl", json.dumps({**OBJECT, "text": 5}), 1),
    "Parquet": ("test.parquet", table(pa.array(["x", "y"])), 2),
}


@pytest.mark.parametrize("name", GOOD)
def test_training_and_convert_take_the_same(tmp_path, name):
    ending, content, rows = GOOD[name]
    file = write(tmp_path, ending, content)
    assert trained(file) == converted(file) == rows


def test_missing_values_are_none_in_every_format(tmp_path):
    nan, none = float("nan"), None
    rows = [{"text": "x", "label": 1.5}, {"text": none, "label": nan}, {"label": 2.0}]
    expected = {"text": ["x", None, None], "label": ["1.5", None, "2.0"]}
    for file in (
        write(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows)),
        write(tmp_path, "a.json", json.dumps(rows)),
        write(tmp_path, "a.parquet", pa.table({"text": ["x", none, none], "label": [1.5, nan, 2.0]})),
    ):
        assert read_columns(file, WANTED) == (["text", "label"], expected)


def test_values_of_text_files_stay_as_they_are(tmp_path):
    file = write(tmp_path, "a.csv", "text,label\nnan,007\nnull,1e3\n,NaN\n")
    assert read_columns(file, WANTED)[1] == {"text": ["nan", "null", ""], "label": ["007", "1e3", "NaN"]}
    assert [row["label"] for _, row in read_records(file, "csv")] == ["007", "1e3", "NaN"]


def test_records_say_where_they_are_and_what_is_missing(tmp_path):
    file = write(tmp_path, "a.csv", 'text,label\n"two\nlines",a\n\nx,b\n')
    assert [where for where, _ in read_records(file, "csv")] == [f"{file} line 2", f"{file} line 5"]
    assert [row for _, row in read_records(file, "csv", ["label"])] == [{"label": "a"}, {"label": "b"}]
    with pytest.raises(EdgewiseError, match="lacks the column gold; it has text, label"):
        list(read_records(file, "csv", ["gold", "text"]))
    with pytest.raises(EdgewiseError, match="format 'xml', expected one of csv, tsv"):
        list(read_records(file, "xml"))
    with pytest.raises(EdgewiseError, match="can't be read: No such file"):
        list(read_records(tmp_path / "none.csv", "csv"))


def test_texts():
    assert text_or_none("here", "x", ["a", "é"], lists=True) == '["a", "é"]'
    with pytest.raises(EdgewiseError, match="here: x is a list"):
        text_or_none("here", "x", ["a", 1], lists=True)
    assert invalid_unicode("\ud800") and not invalid_unicode("é")
    assert first_duplicate(["a", "b", "a", "b"]) == "a" and first_duplicate(["a"]) is None


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """One to three places changed: a bit flipped, a piece left out, doubled or replaced by what formats care about."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 9))
        kind = rng.integers(4)
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = data[at : at + length]
        else:
            pieces = (b'"', b"\n", b",", b"\t", b"\r", b"\\", b"{", b"]", b"null", b"NaN", b"\xff", b"\0", b"\xe9")
            data[at:at] = pieces[int(rng.integers(len(pieces)))]
    return bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_mutated_files_are_read_alike_or_refused(tmp_path, kind):
    """600 mutations a format: no traceback, and both readers refuse the same files and find as many rows."""
    rows = [{**OBJECT, "text": text} for text in ("plain", 'with "quotes"', "two\nlines", "é, ü", "")]
    file = tmp_path / f"test.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file, compression="none")
    elif kind == "json":
        file.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    elif kind == "jsonl":
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        with file.open("w", encoding="utf-8", newline="") as stream:
            lines = [list(row.values()) for row in rows if kind == "csv" or "\n" not in row["text"]]
            if kind == "csv":
                csv.writer(stream).writerows([list(OBJECT), *lines])
            else:
                stream.write("".join("\t".join(map(str, line)) + "\n" for line in [list(OBJECT), *lines]))
    content, refused, rng = file.read_bytes(), 0, np.random.default_rng(0)
    for _ in range(600):
        file.write_bytes(mutated(content, rng))
        columns, error = outcome(lambda: read_columns(file, WANTED)[1])
        records, other_error = outcome(lambda: list(read_records(file, kind)))
        refused += error is not None
        assert {str(file) in one for one in (error, other_error) if one is not None} <= {True}
        if columns and records is not None:
            assert max(map(len, columns.values())) == len(records)
    assert 0 < refused < 600


def outcome(read):
    """What a reader returns and None, or None and what it refuses the file with."""
    try:
        return read(), None
    except EdgewiseError as error:
        return None, str(error)
