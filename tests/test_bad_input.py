"""What a user may get wrong, by the commands: a clear error, an exit status other than 0, nothing half-written.

The parts' own tests go through more of it; here is what reaches the terminal.
"""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conf.errors import EdgewiseError
from metrics.scores import METADATA_KEY, write_scores
from tests.support import REPO
from tests.synthetic_scores import synthetic_grid
from tests.training import train_here
from tracking.interface import ArtifactDraft
from tracking.store import Store

OWN = ("dataset=text_classification", "dataset.name=own", "train.steps=2", "train.batch_size=4")
CLASSES = "dataset.classes={0: bad, 1: good}"
ROWS = "text,label\n" + "".join(f"some words number {i},{i % 2}\n" for i in range(40))


def run(*arguments):
    return subprocess.run([sys.executable, "-m", *arguments], cwd=REPO, capture_output=True, text=True)


def refused(result, *said):
    assert result.returncode not in (0, None), result.stdout
    for text in said:
        assert text in result.stderr, result.stderr
    assert "Traceback" not in result.stderr, result.stderr


@pytest.fixture
def data(tmp_path, compose):
    """A folder with good train.csv and test.csv, and a function that trains on it in vain."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("train", "test"):
        (folder / f"{name}.csv").write_text(ROWS)

    def train(*overrides):
        """The message that ends the command; in this process, which has JAX already."""
        given = (*OWN, f"dataset.path={folder}", f"tracking.root={tmp_path / 'runs'}", "tokenizer.vocabulary_size=60")
        with pytest.raises(EdgewiseError) as error:
            train_here(compose(*given, *overrides))
        assert not list((tmp_path / "runs" / "blobs").rglob("*.*"))
        assert Store(tmp_path / "runs").artifacts() == []
        return str(error.value)

    return folder, train


def test_an_unknown_dataset_lists_what_there_is():
    refused(run("train", "dataset=imbd"), "dataset/imbd", "imdb")


def test_a_missing_column_on_the_command_line(data, tmp_path):
    folder, _ = data
    (folder / "train.csv").write_text(ROWS.replace("text,", "sentence,", 1))
    result = run("train", *OWN, CLASSES, f"dataset.path={folder}", f"tracking.root={tmp_path / 'runs'}")
    refused(result, "train.csv", "text", "sentence")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (ROWS.replace("label", "stars", 1), ["label", "stars"]),
        ("text,label\n", ["no rows"]),
        (ROWS + "odd,2\n", ["row 41", "'2'"]),
        ("PAR1 is not what a CSV starts with\x00\x01", ["train.csv"]),
        ("example_id,text,label\na,x y,0\nb,y z,1\na,z x,0\n", ["rows 1 and 3", "example_id 'a'"]),
    ],
    ids=["missing column", "empty split", "label outside classes", "not a CSV", "duplicated example_id"],
)
def test_rows_that_can_t_be_used(data, content, said):
    folder, train = data
    (folder / "train.csv").write_text(content)
    message = train(CLASSES)
    assert all(text in message for text in said), message


def test_text_that_is_not_utf_8(data):
    folder, train = data
    (folder / "train.csv").write_bytes(ROWS.encode() + b"caf\xe9,1\n")
    message = train(CLASSES)
    assert "train.csv" in message
    assert "UTF-8" in message


def test_a_parquet_file_that_is_a_csv(data):
    folder, train = data
    (folder / "train.csv").rename(folder / "train.parquet")
    assert "train.parquet" in train(CLASSES)


def test_two_classes_with_one_target_string(data):
    _, train = data
    assert "same target string 'good'" in train("dataset.classes={0: good, 1: good}")


def test_a_vocabulary_larger_than_the_model_s(data):
    _, train = data
    assert "size.vocabulary_size=20" in train(CLASSES, "size.vocabulary_size=20")


def test_a_wrong_tokenizer_file(data):
    folder, train = data
    assert "SentencePiece" in train(CLASSES, f"tokenizer.path={folder / 'train.csv'}")
    assert "none.model" in train(CLASSES, f"tokenizer.path={folder / 'none.model'}")


@pytest.mark.parametrize("command", ["train", "infer", "metrics"])
def test_an_unwritable_root(command):
    refused(run(command, "dataset=demo", "tracking.root=/dev/null/runs"), "/dev/null/runs")


@pytest.fixture
def scores(tmp_path):
    """A 2 × 2 grid of scores files, and a function that makes tables of it."""
    grid = synthetic_grid(seeds=2, examples=40)
    folder = tmp_path / "scores"
    folder.mkdir()
    paths = []
    for i, each in enumerate(grid):
        paths.append(folder / f"{i}.parquet")
        write_scores(each, paths[-1])

    def metrics():
        out = tmp_path / "out"
        result = run("metrics", f"metrics.scores={folder}/*.parquet", f"metrics.out={out}", "metrics.resamples=5")
        assert result.returncode == 0 or not out.exists()  # nothing half-written
        return result

    return paths, metrics


def rewrite(path, change):
    table = change(pq.read_table(path))
    pq.write_table(table, path)


def test_scores_with_nan(scores):
    paths, metrics = scores

    def change(table):
        i = table.column_names.index("class_log_likelihoods")
        values = table.column(i).to_pylist()
        values[7][0] = float("nan")
        return table.set_column(i, table.schema.field(i), pa.array(values, table.schema.field(i).type))

    rewrite(paths[1], change)
    refused(metrics(), "1.parquet", "NaN")


def test_scores_of_another_schema_version(scores):
    paths, metrics = scores

    def change(table):
        metadata = json.loads(table.schema.metadata[METADATA_KEY]) | {"schema_version": 2}
        return table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata)})

    rewrite(paths[0], change)
    refused(metrics(), "0.parquet", "schema_version")


def test_a_scores_file_cut_short(scores):
    paths, metrics = scores
    os.truncate(paths[2], paths[2].stat().st_size // 2)
    refused(metrics(), "2.parquet")


def test_scores_of_different_examples_are_refused_with_both_names(scores):
    paths, metrics = scores

    def change(table):
        i = table.column_names.index("target")
        values = table.column(i).to_pylist()
        classes = sorted(set(values))
        values[3] = classes[0] if values[3] != classes[0] else classes[1]
        correct = [a == b for a, b in zip(values, table.column("prediction").to_pylist(), strict=True)]
        table = table.set_column(i, table.schema.field(i), pa.array(values, table.schema.field(i).type))
        j = table.column_names.index("correct")
        return table.set_column(j, table.schema.field(j), pa.array(correct))

    rewrite(paths[3], change)
    refused(metrics(), "small seed 0", "base seed 1", "target", "'test-3'")


def test_an_altered_store_is_noticed_by_verify_and_get(tmp_path):
    file = tmp_path / "scores.parquet"
    write_scores(synthetic_grid(seeds=1, examples=20)[0], file)
    store = Store(tmp_path / "runs")
    with store.start_run("r", job_type="infer", config={}) as logging:
        artifact = logging.log_artifact(ArtifactDraft("scores-x", "scores", files={"scores.parquet": file}))
    blob = artifact.file("scores.parquet")
    blob.chmod(0o644)
    data = bytearray(blob.read_bytes())
    data[50] ^= 1
    blob.write_bytes(data)
    root = ("--root", str(tmp_path / "runs"))
    verified = run("tracking", *root, "verify")
    assert verified.returncode == 1
    assert "scores-x:v0" in verified.stdout + verified.stderr
    refused(run("tracking", *root, "get", "scores-x:latest", str(tmp_path / "got")), "scores-x:v0", "scores.parquet")
    assert not (tmp_path / "got" / "scores.parquet").exists()


@pytest.mark.parametrize("name", ["train", "infer"])
def test_a_dataset_without_files_says_what_to_give(name, tmp_path):
    result = run(name, "dataset=text_classification", "dataset.name=x", CLASSES, f"tracking.root={tmp_path / 'runs'}")
    refused(result, "dataset.path")
