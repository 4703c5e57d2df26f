"""The scores file: what goes in comes out, what other programs write is read, and what is wrong is named."""

import json
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metrics.scores import METADATA_KEY, ScoresError, read_columns, read_metadata, read_scores, read_text, write_scores
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
        ({"task": "translation"}, r"classes=\[.*expected \[\], as translation has none"),
        ({"task": "span_qa", "classes": []}, "lacks the column token_log_probs, .*, self_token_entropies of task"),
        ({"task": "poetry"}, "task='poetry', expected one of classification, span_qa, translation"),
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
    with pytest.raises(ScoresError, match="lacks the key 'edgewise'"):
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


def test_metadata_under_the_former_name_is_refused_with_what_to_do(path):
    table = pq.read_table(path)
    former = {b"switchyard": table.schema.metadata[METADATA_KEY]}
    pq.write_table(table.replace_schema_metadata(former), path)
    with pytest.raises(ScoresError, match="'switchyard'.*before 0.2.0; expected 'edgewise'.*Score it again"):
        read_scores(path)


# ---- span QA and translation

TOKENS = ("token_log_probs", "token_margins", "token_entropies")


@pytest.fixture(params=["span_qa", "translation"])
def sequences(request):
    return synthetic_grid(seeds=1, examples=30, task=request.param)[0]


@pytest.fixture
def sequences_path(tmp_path, sequences):
    write_scores(sequences, tmp_path / "sequences.parquet")
    return tmp_path / "sequences.parquet"


def same_sequences(one, other):
    assert one.metadata == other.metadata
    for name in ("example_id", "target", "prediction", "correct", "bleu_stats"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None) and (a is None or np.array_equal(a, b)), name
    for name in ("gold_tokens", "self_tokens"):
        for part in ("log_probs", "margins", "entropies", "offsets"):
            assert np.array_equal(getattr(getattr(one, name), part), getattr(getattr(other, name), part)), (name, part)
    assert list(one.slices["slice_kind"]) == list(other.slices["slice_kind"])
    assert one.class_log_likelihoods is None and other.class_log_likelihoods is None


def test_sequences_round_trip_as_documented(sequences, sequences_path, tmp_path):
    same_sequences(read_scores(sequences_path), sequences)
    schema = pq.read_schema(sequences_path)
    translation = sequences.metadata.task == "translation"
    lists = [prefix + name for prefix in ("", "self_") for name in TOKENS]
    expected = ["example_id", "target", "prediction", "correct", *lists, *(["bleu_stats"] if translation else [])]
    assert schema.names == [*expected, "slice_kind"]
    assert all(schema.field(name).type == pa.list_(pa.float32()) for name in lists)
    assert schema.field("correct").type == pa.bool_()
    if translation:
        assert schema.field("bleu_stats").type == pa.list_(pa.int32())
        assert pq.read_table(sequences_path).column("correct").null_count == 30
    write_scores(sequences, tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == sequences_path.read_bytes()


def test_examples_taken_in_another_order(sequences, tmp_path):
    rows = np.array([4, 0, 29, 4])
    taken = sequences.take(rows)
    for k, row in enumerate(rows):
        for name in ("gold_tokens", "self_tokens"):
            one, all_ = getattr(taken, name), getattr(sequences, name)
            for part in ("log_probs", "margins", "entropies"):
                expected = getattr(all_, part)[all_.offsets[row] : all_.offsets[row + 1]]
                assert np.array_equal(getattr(one, part)[one.offsets[k] : one.offsets[k + 1]], expected)
    assert list(taken.prediction) == list(sequences.prediction[rows])
    again = sequences.take(np.arange(30)[::-1]).take(np.arange(30)[::-1])
    write_scores(again, tmp_path / "a.parquet")
    same_sequences(read_scores(tmp_path / "a.parquet"), sequences)


def test_sequences_by_other_programs(sequences, sequences_path):
    """Chunks, wide lists, float64, and the columns of other tasks filled with nulls."""
    table = pq.read_table(sequences_path)
    columns = {
        name: pa.chunked_array([pa.array(values[:9], kind), pa.array(values[9:], kind)])
        for name in table.column_names
        if "token_" in name
        for values, kind in ((table.column(name).to_pylist(), pa.large_list(pa.float64())),)
    }
    columns["class_log_likelihoods"] = pa.nulls(30, pa.list_(pa.float32()))
    if sequences.metadata.task == "span_qa":
        columns["bleu_stats"] = pa.nulls(30)
    else:
        columns["correct"] = pa.nulls(30)
        columns["bleu_stats"] = pa.array(table.column("bleu_stats").to_pylist(), pa.list_(pa.int64(), 10))
    read = read_scores(rewritten(sequences_path, columns))
    same_sequences(read, sequences)
    assert read.gold_tokens.margins.dtype == np.float64


def test_values_in_another_tasks_columns(sequences_path, path):
    with pytest.raises(ScoresError, match="column class_log_likelihoods holds values, but the metadata says task"):
        read_scores(rewritten(sequences_path, {"class_log_likelihoods": pa.array([[-1.0, -2.0]] * 30)}))
    with pytest.raises(ScoresError, match="column bleu_stats holds values, .* task classification"):
        read_scores(rewritten(path, {"bleu_stats": pa.array([None] * 39 + [[1] * 10])}))


@pytest.mark.parametrize("prefix", ["", "self_"])
@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("token_log_probs", [float("nan"), -1.0], "row 7 of {} holds NaN"),
        ("token_log_probs", [-1.0, 0.5], "row 7 of {} holds a value above 0"),
        ("token_margins", [0.5, float("nan")], "row 7 of {} holds NaN"),
        ("token_margins", [0.5, 1.01], r"row 7 of {} holds a value outside \[0, 1\].*: \[0.5, 1.0"),
        ("token_margins", [-0.01, 0.5], r"row 7 of {} holds a value outside \[0, 1\]"),
        ("token_entropies", [-0.01, 0.5], "row 7 of {} holds a negative value"),
        ("token_entropies", [float("inf"), 0.5], "row 7 of {} holds a value that isn't finite"),
        ("token_entropies", [1.0], "row 7 has 2 .*token_log_probs but 1 {}"),
        ("token_log_probs", None, "column {} holds 1 nulls"),
        ("token_margins", [0.5, None], "column {} holds lists with 1 nulls"),
    ],
)
def test_wrong_tokens(sequences, sequences_path, prefix, name, values, message):
    # row 7 gets two tokens of its own, so that the lists agree where they are meant to
    usual = {"token_log_probs": [-1.0, -1.0], "token_margins": [0.5, 0.5], "token_entropies": [1.0, 1.0]}
    columns = {}
    for each, given in {**usual, name: values}.items():
        rows = pq.read_table(sequences_path).column(prefix + each).to_pylist()
        rows[7] = given
        columns[prefix + each] = pa.array(rows, pa.list_(pa.float32()))
    with pytest.raises(ScoresError, match=message.format(prefix + name)) as caught:
        read_scores(rewritten(sequences_path, columns))
    assert str(sequences_path) in str(caught.value)


def test_rounding_of_tokens_is_no_error(sequences_path):
    columns = {}
    for name, given in zip(TOKENS, ([1e-6, -np.inf], [1.0 + 1e-6, -1e-7], [-1e-7, 30.0])):
        rows = pq.read_table(sequences_path).column(name).to_pylist()
        rows[7] = given
        columns[name] = pa.array(rows, pa.list_(pa.float32()))
    read_scores(rewritten(sequences_path, columns))


def test_a_sequence_without_a_token(sequences_path):
    columns = {}
    for name in TOKENS:
        rows = pq.read_table(sequences_path).column(name).to_pylist()
        rows[3] = []
        columns[name] = pa.array(rows, pa.list_(pa.float32()))
    with pytest.raises(ScoresError, match="row 3 has 0 token_log_probs, expected one a token, EOS included"):
        read_scores(rewritten(sequences_path, columns))


@pytest.mark.parametrize(
    ("stats", "message"),
    [
        ([5, 5, 3, 2, 1, 0, 5, 4, 3, 3], r"row 7 .* totals that aren't max\(hypothesis length - n \+ 1, 0\)"),
        ([2, 5, 1, 1, 0, 0, 2, 1, -1, -2], "row 7 .* a negative count"),
        ([5, 5, 6, 2, 1, 0, 5, 4, 3, 2], "row 7 .* more n-gram matches than the hypothesis has n-grams"),
        ([5, 5, 3, 2, 1, 0, 5, 4, 3], "row 7 has 9 bleu_stats, expected 10: two lengths"),
        ([2**32 + 5, 5, 3, 2, 1, 0, 5, 4, 3, 2], "row 7 of bleu_stats holds a count above 2147483647"),
        (None, "column bleu_stats holds 1 nulls"),
    ],
)
def test_wrong_bleu_statistics(tmp_path, stats, message):
    scores = synthetic_grid(seeds=1, examples=30, task="translation")[0]
    write_scores(scores, tmp_path / "a.parquet")
    rows = scores.bleu_stats.tolist()
    rows[7] = stats
    with pytest.raises(ScoresError, match=message):
        read_scores(rewritten(tmp_path / "a.parquet", {"bleu_stats": pa.array(rows, pa.list_(pa.int64()))}))


def test_correct_of_sequences(tmp_path):
    spans = synthetic_grid(seeds=1, examples=30, task="span_qa")[0]
    contradicting = spans.correct != (spans.prediction == spans.target)
    assert contradicting.any()  # "The answer." is right, whatever the string says
    write_scores(spans, tmp_path / "a.parquet")
    assert np.array_equal(read_scores(tmp_path / "a.parquet").correct, spans.correct)
    with pytest.raises(ScoresError, match="column correct holds 30 nulls; span_qa has none"):
        read_scores(rewritten(tmp_path / "a.parquet", {"correct": pa.nulls(30, pa.bool_())}))
    translation = synthetic_grid(seeds=1, examples=30, task="translation")[0]
    write_scores(translation, tmp_path / "b.parquet")
    with pytest.raises(ScoresError, match="column correct holds 30 values; expected nulls"):
        read_scores(rewritten(tmp_path / "b.parquet", {"correct": pa.array([True] * 30)}))


@pytest.mark.parametrize("task", ["classification", "span_qa", "translation"])
def test_scores_that_lack_or_hold_what_their_task_does_not(task, tmp_path):
    mine = synthetic_grid(seeds=1, examples=30, task=task)[0]
    others = {t: synthetic_grid(seeds=1, examples=30, task=t)[0] for t in ("classification", "translation")}
    everything = {
        "correct": np.zeros(30, bool),
        "class_log_likelihoods": others["classification"].class_log_likelihoods,
        "gold_tokens": others["translation"].gold_tokens,
        "self_tokens": others["translation"].self_tokens,
        "bleu_stats": others["translation"].bleu_stats,
    }
    for name, value in everything.items():
        held = getattr(mine, name) is not None
        match = f"scores of task {task} {'lack' if held else 'hold'} {name}"
        with pytest.raises(ScoresError, match=match):
            write_scores(replace(mine, **{name: None if held else value}), tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []


def test_offsets_that_do_not_fit_their_values(sequences, tmp_path):
    tokens = sequences.gold_tokens
    for change, match in (
        ({"margins": tokens.margins[:-1]}, "token_margins has shape"),
        ({"offsets": tokens.offsets[:-1]}, "offsets of token_log_probs are int64 of shape"),
        ({"offsets": tokens.offsets.astype(np.int32)}, "expected int64"),
        ({"offsets": tokens.offsets + 1}, "expected offsets from 0"),
    ):
        with pytest.raises(ScoresError, match=match):
            write_scores(replace(sequences, gold_tokens=replace(tokens, **change)), tmp_path / "a.parquet")


def with_text_and_clusters(scores):
    text = [f"<b>text {i}</b> ‮é" for i in range(len(scores.example_id))]
    cluster = [f"article {i // 4}" for i in range(len(scores.example_id))]
    text[2], cluster[3] = None, None
    return replace(scores, text=np.array(text, dtype=object), cluster=np.array(cluster, dtype=object))


def test_text_and_cluster_go_through_a_file(scores, tmp_path):
    given = with_text_and_clusters(scores)
    write_scores(given, tmp_path / "a.parquet")
    read = read_scores(tmp_path / "a.parquet")
    same(read, given)
    assert list(read.text) == list(given.text) and list(read.cluster) == list(given.cluster)
    columns = read_columns(tmp_path / "a.parquet")
    assert columns.text is None and columns.cluster.values == [f"article {k}" for k in range(10)]
    assert read_text(tmp_path / "a.parquet").to_pylist() == list(given.text)
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert schema.field("text").type == schema.field("cluster").type == pa.string()
    taken = read.take(np.array([5, 2]))
    assert list(taken.text) == [given.text[5], None] and list(taken.cluster) == ["article 1", "article 0"]


def test_files_without_text_and_cluster_are_read(scores, path):
    read = read_scores(path)
    assert read.text is None and read.cluster is None and read_text(path) is None
    assert pq.read_schema(path).names[-1] == "slice_kind"


@pytest.mark.parametrize("name", ["text", "cluster"])
def test_text_and_cluster_of_another_type_or_not_utf_8_are_refused(path, name):
    n = pq.read_metadata(path).num_rows
    rewritten(path, {name: pa.array(range(n))})
    with pytest.raises(ScoresError, match=f"column {name} has type int64, expected string"):
        read_columns(path)  # `text` too, whose values it doesn't read
    broken = pa.array([b"\xff\xfe"] * n, pa.binary()).view(pa.string())
    rewritten(path, {name: broken})
    with pytest.raises(ScoresError, match=f"column {name} isn't UTF-8"):
        read_scores(path)


@pytest.mark.parametrize("name", ["text", "cluster", "slice_kind"])
def test_an_optional_column_may_be_of_nothing_but_nulls(path, name):
    n = pq.read_metadata(path).num_rows
    rewritten(path, {name: pa.nulls(n)})  # as pyarrow makes a column of [None, None, …]
    read = read_scores(path)
    assert [*(read.slices[name] if name.startswith("slice_") else getattr(read, name))] == [None] * n
    with pytest.raises(ScoresError, match="column target has type null, expected string"):
        read_scores(rewritten(path, {"target": pa.nulls(n)}))


@pytest.mark.parametrize("name", ["text", "cluster"])
def test_text_and_cluster_of_another_length_are_not_written(scores, tmp_path, name):
    with pytest.raises(ScoresError, match=rf"column {name} has shape \(3,\), expected \(40,\)"):
        write_scores(replace(scores, **{name: np.array(["a"] * 3, dtype=object)}), tmp_path / "a.parquet")
