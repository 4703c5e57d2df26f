import csv
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conf.errors import EdgewiseError
from conf.schema import Dataset
from tests.support import REPO
from train.data import text_files
from train.data.text_files import Documents, is_held_out

NAMES = {"train": ("train",), "validation": ("validation", "dev")}
TEXTS = ["The first film.", "Ein zweiter, länger.", "", "A third; with a semicolon", "   ", "A last one"]
KEPT = [text for text in TEXTS if text.strip()]


def dataset(path, **fields):
    return Dataset(name="wiki", task="text", path=str(path), **fields)


def write(file, texts, column="text"):
    """Writes texts as the file's ending says, with a column beside them that nobody asks for."""
    rows = [{"id": number, column: text} for number, text in enumerate(texts)]
    kind = file.suffix[1:]
    if kind == "txt":
        file.write_text("\n".join(texts) + "\n")
    elif kind == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "json":
        file.write_text(json.dumps(rows))
    elif kind == "parquet":
        pq.write_table(pa.table({"id": list(range(len(texts))), column: texts}), file)
    else:
        with file.open("w", newline="") as stream:
            writer = csv.writer(stream, delimiter="\t" if kind == "tsv" else ",", quoting=csv.QUOTE_MINIMAL)
            writer.writerows([["id", column], *([row["id"], row[column]] for row in rows)])


def read(path, **fields):
    data = dataset(path, **fields)
    documents = Documents(data, text_files.text_files(data, NAMES)["train"])
    return [text.strip() for text in documents], dict(documents.left_out)


@pytest.mark.parametrize("kind", text_files.TEXT_ENDINGS)
def test_every_format_gives_the_same_documents(kind, tmp_path):
    write(tmp_path / f"train.{kind}", TEXTS)
    assert read(tmp_path) == (KEPT, {"no text": 2})
    assert read(tmp_path / f"train.{kind}") == (KEPT, {"no text": 2})


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
def test_many_rows_come_in_their_order(kind, tmp_path):
    texts = [f"document {number}" for number in range(1000)]
    write(tmp_path / f"train.{kind}", texts)
    assert read(tmp_path)[0] == texts


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv", "json"])
def test_columns_have_other_names_and_templates(kind, tmp_path):
    write(tmp_path / f"train.{kind}", ["one", "two"], column="body")
    assert read(tmp_path, columns={"body": "text"})[0] == ["one", "two"]
    assert read(tmp_path, template="{id}: {body}")[0] == ["0: one", "1: two"]
    with pytest.raises(EdgewiseError, match=r"no column text.* found id, body.*dataset.columns"):
        read(tmp_path)


def test_shards_are_one_and_validation_is_apart(tmp_path):
    for name in ("train-00001", "train-00000", "train.2", "dev", "training"):
        write(tmp_path / f"{name}.txt", [name])
    data = dataset(tmp_path)
    files = text_files.text_files(data, NAMES)
    assert [file.stem for file in files["train"]] == ["train-00000", "train-00001", "train.2"]
    assert [file.stem for file in files["validation"]] == ["dev"]
    chosen = text_files.text_files(dataset(tmp_path, splits={"train": ["training", "train"]}), NAMES)["train"]
    assert len(chosen) == 4
    with pytest.raises(EdgewiseError, match=r"dataset.splits=\{train: unsup\}: no such file"):
        text_files.text_files(dataset(tmp_path, splits={"train": "unsup"}), NAMES)


def test_files_of_any_name_are_train(tmp_path):
    write(tmp_path / "wiki_00.jsonl", ["a"])
    write(tmp_path / "wiki_01.jsonl", ["b"])
    (tmp_path / "README.md").write_text("not text to train on")
    assert read(tmp_path)[0] == ["a", "b"]


def test_what_cannot_be_read_is_named(tmp_path, monkeypatch):
    with pytest.raises(EdgewiseError, match="does not exist; expected a folder with files of text"):
        read(tmp_path / "absent")
    with pytest.raises(EdgewiseError, match="no file of text .* found an empty folder"):
        read(tmp_path)
    (tmp_path / "train.txt").write_bytes(b"good\nbad \xff\n")
    with pytest.raises(EdgewiseError, match="line 2: not UTF-8"):
        read(tmp_path)
    (tmp_path / "train.txt").write_text("one\n")
    with pytest.raises(EdgewiseError, match="its lines are one column, text"):
        read(tmp_path, template="{title} {text}")
    monkeypatch.setattr(text_files, "LONGEST_LINE", 10)
    (tmp_path / "train.txt").write_text("short\nlonger than ten\n")
    with pytest.raises(EdgewiseError, match="line 2 is longer than .* a line is a document"):
        read(tmp_path)


def test_halves_of_characters_are_left_out(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "half \\ud83d"}\n{"text": "whole"}\n{"title": "no text"}\n')
    assert read(tmp_path) == (["whole"], {"not valid Unicode": 1, "no text": 1})


def test_the_share_that_is_held_out_follows_from_the_text_alone():
    texts = [f"document {number}" for number in range(4000)]
    held_out = [text for text in texts if is_held_out(text, 0.1, 0)]
    assert len(held_out) == pytest.approx(400, abs=4 * (4000 * 0.1 * 0.9) ** 0.5)
    assert is_held_out(f"  {held_out[0]}\n", 0.1, 0)
    assert held_out != [text for text in texts if is_held_out(text, 0.1, 1)]
    assert set(held_out) <= {text for text in texts if is_held_out(text, 0.2, 0)}  # a larger share adds to it


READ = """
import re, sys
from pathlib import Path
from conf.schema import Dataset
from train.data.text_files import Documents
count = sum(1 for _ in Documents(Dataset(name="wiki", task="text", path="x"), [Path(sys.argv[1])]))
print(count, re.search("VmHWM: *\\t *(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["txt", "jsonl", "parquet", "csv"])
def test_a_file_of_any_size_takes_little_memory(kind, tmp_path):
    peaks = []
    for documents in (100, 20_000):  # of 4,000 characters: 80 MB, which Parquet has in one row group
        file = tmp_path / f"{documents}.{kind}"
        write(file, [f"{number:08} " * 444 for number in range(documents)])
        result = subprocess.run([sys.executable, "-c", READ, str(file)], cwd=REPO, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        count, peak = result.stdout.split()
        assert int(count) == documents
        peaks.append(int(peak) // 1024)  # not getrusage's, which begins with the parent's
    assert peaks[1] - peaks[0] < 48, peaks  # MiB: pages of Parquet and what Arrow keeps for the next ones


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_fields_of_objects_are_columns(kind, tmp_path):
    rows = [{"meta": {"text": text}, "id": 1} for text in KEPT]
    file = tmp_path / f"train.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        file.write_text(json.dumps(rows) if kind == "json" else "\n".join(map(json.dumps, rows)))
    assert read(tmp_path, template="{meta.text}") == (KEPT, {})


def test_rows_without_the_column_are_left_out_wherever_they_stand(tmp_path):
    rows = [{"text": "a document"}, *({"title": "no text"} for _ in range(3 * text_files._ROWS))]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read(tmp_path) == (["a document"], {"no text": 3 * text_files._ROWS})


def test_a_part_that_is_a_link_to_nothing_is_not_passed_over(tmp_path):
    write(tmp_path / "train-0.txt", KEPT)
    (tmp_path / "train-1.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(EdgewiseError, match=r"train-1.txt: a link to .*gone.txt, which can't be found"):
        read(tmp_path)


def test_compressed_parts_are_named(tmp_path):
    (tmp_path / "c4-train.00000.json.gz").write_bytes(b"")
    with pytest.raises(EdgewiseError, match="no file of text .*c4-train.00000.json.gz is compressed: unpack it"):
        read(tmp_path)
