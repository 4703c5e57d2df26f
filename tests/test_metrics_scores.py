"""The scores file: what goes in comes out, what other programs write is read, and what is wrong is named."""

import json
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metrics.scores import METADATA_KEY, ScoresError, read_metadata, read_scores, write_scores
from tests.synthetic_scores import synthetic_grid


@pytest.fixture
def scores():
    return synthetic_grid(seeds=1, examples=40, classes=3)[0]


@pytest.fixture
def path(tmp_path, scores):
    write_scores(scores, tmp_path / "scores.parquet")
    return tmp_path / "scores.parquet"


def same(one, other):
    assert one.metadata == other.metadata
    for name in ("example_id", "target", "prediction", "correct", "class_log_likelihoods"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert one.slices.keys() == other.slices.keys()
    assert all(list(one.slices[name]) == list(other.slices[name]) for name in one.slices)


def test_round_trip(scores, path):
    read = read_scores(path)
    same(read, scores)
    assert read.class_log_likelihoods.dtype == np.float32
    assert read_metadata(path) == scores.metadata


def test_round_trip_of_absent_slices_and_impossible_classes(scores, tmp_path):
    scores.slices["slice_kind"][3] = None
    scores.class_log_likelihoods[0] = [-np.inf, -0.5, -np.inf]
    write_scores(scores, tmp_path / "a.parquet")
    same(read_scores(tmp_path / "a.parquet"), scores)


def test_the_same_scores_give_the_same_bytes(scores, path, tmp_path):
    write_scores(scores, tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == path.read_bytes()


def test_schema_is_the_documented_one(path):
    schema = pq.read_schema(path)
    assert schema.field("class_log_likelihoods").type == pa.list_(pa.float32())
    assert schema.field("correct").type == pa.bool_()
    assert all(schema.field(n).type == pa.string() for n in ("example_id", "target", "prediction", "slice_kind"))


def test_a_folder_named_like_a_partition_adds_no_column(scores, tmp_path):
    write_scores(scores, tmp_path / "slice_x=1" / "seed=0" / "scores.parquet")
    same(read_scores(tmp_path / "slice_x=1" / "seed=0" / "scores.parquet"), scores)


def test_nothing_is_written_when_scores_are_wrong(scores, tmp_path):
    scores.class_log_likelihoods[5, 1] = np.nan
    with pytest.raises(ScoresError, match=r"row 5 .*NaN"):
        write_scores(scores, tmp_path / "deep" / "a.parquet")
    assert list(tmp_path.rglob("*")) == []


def rewritten(path, columns=None, metadata=None, drop=()):
    """The file again, with some columns, metadata keys or the whole metadata replaced."""
    table = pq.read_table(path)
    for name, column in (columns or {}).items():
        table = table.drop([name]) if name in table.column_names else table
        table = table.append_column(name, column)
    if drop:
        table = table.drop(list(drop))
    values = json.loads(pq.read_schema(path).metadata[METADATA_KEY])
    if isinstance(metadata, dict):
        values = {**values, **metadata}
        values = {key: value for key, value in values.items() if value != "DELETED"}
        metadata = json.dumps(values).encode()
    kept = metadata if metadata is not None else json.dumps(values).encode()
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: kept}), path, row_group_size=17)
    return path


@pytest.mark.parametrize("strings", [pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()])
@pytest.mark.parametrize("lists", [pa.large_list(pa.float64()), pa.list_(pa.float64(), 3), pa.list_(pa.float32())])
def test_files_by_other_programs(scores, path, strings, lists):
    table = pq.read_table(path)

    def kind(name):
        return table.column(name).to_pylist()

    columns = {
        n: pa.chunked_array([pa.array(kind(n)[:9]), pa.array(kind(n)[9:])]).cast(pa.string())
        for n in ("target", "prediction")
    }
    columns |= {n: pa.array(kind(n), pa.string()) for n in ("example_id", "slice_kind")}
    if pa.types.is_dictionary(strings):
        columns = {n: c.dictionary_encode() for n, c in columns.items()}
    else:
        columns = {n: c.cast(strings) for n, c in columns.items()}
    columns["class_log_likelihoods"] = pa.array(kind("class_log_likelihoods"), lists)
    columns["something_else"] = pa.array(range(len(table)))
    read = read_scores(rewritten(path, columns, {"another_key": 1}))
    same(
        read,
        replace(scores, class_log_likelihoods=scores.class_log_likelihoods.astype(lists.value_type.to_pandas_dtype())),
    )


def wrong_likelihoods(scores, row, values):
    rows = scores.class_log_likelihoods.tolist()
    rows[row] = values
    return {"class_log_likelihoods": pa.array(rows, pa.list_(pa.float32()))}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([float("nan"), -1, -1], "row 7 .* NaN"),
        ([float("inf"), -1, -1], "row 7 .* above 0"),
        ([0.5, -1, -1], "row 7 .* above 0"),
        ([-float("inf")] * 3, "row 7 .* -inf for every class"),
        ([-1.0, -1.0], "row 7 has 2 class_log_likelihoods, expected 3"),
        ([-1.0, None, -1.0], "nulls"),
        (None, "nulls"),
    ],
)
def test_wrong_likelihoods(scores, path, values, message):
    with pytest.raises(ScoresError, match=message):
        read_scores(rewritten(path, wrong_likelihoods(scores, 7, values)))


def test_the_rounding_of_a_log_softmax_is_no_error(scores, path):
    read_scores(rewritten(path, wrong_likelihoods(scores, 7, [1e-6, -20.0, -21.0])))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"schema_version": 2}, "schema_version 2, expected 1"),
        ({"schema_version": "DELETED"}, "schema_version None"),
        ({"size": "DELETED", "seed": "DELETED"}, "lacks size, seed"),
        ({"task": "translation"}, "classification alone"),
        ({"task": "span_qa"}, "classification alone"),
        ({"seed": "0"}, "seed='0', expected a whole number"),
        ({"seed": True}, "seed=True"),
        ({"parameters": 0}, "parameters=0"),
        ({"flops_per_example": "many"}, "flops_per_example='many'"),
        ({"classes": ["one"]}, "classes"),
        ({"classes": ["a", "a", "b"]}, "classes"),
        ({"dataset": ""}, "dataset=''"),
        (b"not json", "isn't JSON"),
        (b"[1]", "isn't a JSON object"),
        (b"\xff\xfe", "isn't JSON"),
    ],
)
def test_wrong_metadata(path, metadata, message):
    with pytest.raises(ScoresError, match=message) as caught:
        read_scores(rewritten(path, metadata=metadata))
    assert str(path) in str(caught.value)


def test_no_metadata(path):
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    with pytest.raises(ScoresError, match="lacks the key 'switchyard'"):
        read_scores(path)


@pytest.mark.parametrize("column", ["example_id", "target", "prediction", "correct", "class_log_likelihoods"])
def test_missing_column(path, column):
    with pytest.raises(ScoresError, match=f"lacks the column {column}"):
        read_scores(rewritten(path, drop=[column]))


def test_columns_of_another_type(path):
    with pytest.raises(ScoresError, match="column target has type int64"):
        read_scores(rewritten(path, {"target": pa.array(range(40))}))
    with pytest.raises(ScoresError, match="column correct has type"):
        read_scores(rewritten(path, {"target": pa.array(["class 0"] * 40), "correct": pa.array([1] * 40)}))


def test_nulls(path):
    with pytest.raises(ScoresError, match="column correct holds 40 nulls"):
        read_scores(rewritten(path, {"correct": pa.nulls(40, pa.bool_())}))
    with pytest.raises(ScoresError, match="row 0 has target None"):
        read_scores(rewritten(path, {"correct": pa.array([True] * 40), "target": pa.nulls(40, pa.string())}))


def test_duplicated_example(scores, path):
    ids = [*scores.example_id[:39], scores.example_id[4]]
    with pytest.raises(ScoresError, match="rows 4 and 39 share the example_id 'test-4'"):
        read_scores(rewritten(path, {"example_id": pa.array(ids)}))


@pytest.mark.parametrize("column", ["prediction", "target"])
def test_value_that_is_no_class(scores, path, column):
    values = [*getattr(scores, column)[:39], "class 9"]
    with pytest.raises(ScoresError, match=f"row 39 has {column} 'class 9', expected one of the classes"):
        read_scores(rewritten(path, {column: pa.array(values)}))


def test_correct_that_contradicts(scores, path):
    correct = scores.correct.copy()
    correct[11] = ~correct[11]
    with pytest.raises(ScoresError, match=r"row 11 says correct=.*\(1 such rows\)"):
        read_scores(rewritten(path, {"correct": pa.array(correct.tolist())}))


def test_files_that_are_none(path, tmp_path):
    whole = path.read_bytes()
    for name, content in {"cut": whole[: len(whole) // 2], "text": b"hello\n", "empty": b""}.items():
        (tmp_path / name).write_bytes(content)
        for read in (read_scores, read_metadata):
            with pytest.raises(ScoresError, match="not a Parquet file, or cut short"):
                read(tmp_path / name)
    for missing in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ScoresError, match="no such file"):
            read_scores(missing)


def test_a_file_damaged_inside(path):
    """Whatever bytes are lost, the reader says so in its own words or finds the numbers unharmed."""
    whole, before = path.read_bytes(), read_scores(path)
    for start in range(4, len(whole) - 200, 97):
        path.write_bytes(whole[:start] + bytes(20) + whole[start + 20 :])
        try:
            after = read_scores(path)
        except ScoresError:
            continue
        assert len(after.example_id) == len(before.example_id)


def test_no_rows(scores, path):
    pq.write_table(pq.read_table(path).slice(0, 0).replace_schema_metadata(pq.read_schema(path).metadata), path)
    with pytest.raises(ScoresError, match="no examples"):
        read_scores(path)


def test_metadata_that_is_no_json_is_not_written(scores, tmp_path):
    scores.metadata.config = {"a": object()}
    with pytest.raises(ScoresError, match="can't be written as JSON"):
        write_scores(scores, tmp_path / "a.parquet")


def test_metadata_survives_as_json(path, scores):
    assert json.loads(pq.read_schema(path).metadata[METADATA_KEY]) == asdict(scores.metadata)
