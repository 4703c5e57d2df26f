"""Other people's files into scores: round trips from every format, what is refused and how, and on to tables."""

import csv
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sacrebleu.metrics.bleu import BLEU

from conf.schema import Config, Metrics
from metrics.convert.__main__ import main
from metrics.scores import read_scores
from metrics.stage import metrics_from_files
from metrics.statistics.text import bleu_statistics, corpus_bleu
from tests.synthetic_scores import synthetic_grid

ROOT = Path(__file__).resolve().parent.parent
RUN = ["--dataset", "reviews", "--size", "small", "--seed", "0", "--parameters", "60M"]
CLASSES = ["class 0", "class 1", "class 2"]


@pytest.fixture(scope="module")
def one():
    return synthetic_grid(seeds=1, examples=30, classes=3)[0]


def rows_of(scores, scale=lambda x: x):
    return [
        {
            "id": scores.example_id[i],
            "gold": scores.target[i],
            "said": scores.prediction[i],
            "kind": scores.slices["slice_kind"][i],
            **{f"p{k}": scale(float(v)) for k, v in enumerate(scores.class_log_likelihoods[i])},
        }
        for i in range(len(scores.example_id))
    ]


def write_csv(path, rows, delimiter=","):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


COLUMNS = ["--target", "gold", *(x for k in range(3) for x in ("--class", f"class {k}=p{k}"))]
NAMED = [*COLUMNS, "--id", "id", "--slice", "kind", "--prediction", "said"]


def agrees(path, scores):
    read = read_scores(path)
    for name in ("example_id", "target", "prediction", "correct"):
        np.testing.assert_array_equal(getattr(read, name), getattr(scores, name))
    np.testing.assert_array_equal(read.slices["slice_kind"], scores.slices["slice_kind"])
    np.testing.assert_allclose(read.class_log_likelihoods, scores.class_log_likelihoods, rtol=1e-6, atol=1e-6)
    assert read.metadata.classes == CLASSES and read.metadata.parameters == 60_000_000
    return read


# ---- round trips


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("scale", ["probability", "log_probability"])
def test_round_trip(one, tmp_path, capsys, kind, scale):
    rows, path = rows_of(one, math.exp if scale == "probability" else float), tmp_path / f"run.{kind}"
    if kind in ("csv", "tsv"):
        write_csv(path, rows, "," if kind == "csv" else "\t")
    elif kind == "jsonl":
        write_jsonl(path, rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    assert main([str(path), *RUN, *NAMED, "--out", str(tmp_path / "out")]) == 0
    assert f"values are taken as {scale.replace('_', '-')[:-1]}ies" in capsys.readouterr().out
    read = agrees(tmp_path / "out" / "scores-reviews-small-s0-test.parquet", one)
    assert read.metadata.signature == f"scores:converted|from:{kind}"
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["scores-reviews-small-s0-test.parquet"]


def test_text_and_cluster_are_taken_over(one, tmp_path):
    rows = [{**row, "review": f"so, {k}" if k else "", "user": f"u{k // 2}"} for k, row in enumerate(rows_of(one))]
    path = write_csv(tmp_path / "run.csv", rows)
    flags = [*NAMED, "--text", "review", "--cluster", "user"]
    assert main([path, *RUN, *flags, "--out", str(tmp_path / "a.parquet")]) == 0
    read = agrees(tmp_path / "a.parquet", one)
    assert read.text.tolist() == [None, *(f"so, {k}" for k in range(1, 30))]
    assert read.cluster.tolist() == [f"u{k // 2}" for k in range(30)]
    assert main([path, *RUN, *NAMED, "--out", str(tmp_path / "b.parquet")]) == 0
    plain = read_scores(tmp_path / "b.parquet")
    assert plain.text is None and plain.cluster is None and plain.metadata.data == read.metadata.data


@pytest.mark.parametrize("shape", ["object", "list", "text"])
def test_one_column_of_values(one, tmp_path, shape):
    rows = []
    for row in rows_of(one):
        values = {f"class {k}": row.pop(f"p{k}") for k in range(3)}
        if shape == "object":  # in another order in every other row
            row["values"] = values if len(rows) % 2 == 0 else dict(reversed(values.items()))
        else:
            row["values"] = list(values.values())
        rows.append(row)
    flags = ["--target", "gold", "--id", "id", "--slice", "kind", "--values", "values"]
    if shape == "text":
        path = write_csv(tmp_path / "run.csv", [{**row, "values": json.dumps(row["values"])} for row in rows])
    else:
        path = write_jsonl(tmp_path / "run.jsonl", rows)
    if shape != "object":
        flags += ["--classes", ",".join(CLASSES)]
    assert main([path, *RUN, *flags, "--out", str(tmp_path / "a.parquet")]) == 0
    agrees(tmp_path / "a.parquet", one)


def test_prediction_and_id_may_be_left_out(one, tmp_path, capsys):
    path = write_csv(tmp_path / "run.csv", rows_of(one))
    assert main([path, *RUN, *COLUMNS, "--out", str(tmp_path / "a.parquet")]) == 0
    read = read_scores(tmp_path / "a.parquet")
    assert list(read.example_id) == [str(k) for k in range(30)]
    np.testing.assert_array_equal(read.prediction, one.prediction)
    assert "rows are numbered" in capsys.readouterr().out


def test_labels_by_index(one, tmp_path):
    rows = [{**row, "gold": CLASSES.index(row["gold"]), "said": CLASSES.index(row["said"])} for row in rows_of(one)]
    path = write_csv(tmp_path / "run.csv", rows)
    assert main([path, *RUN, *NAMED, "--labels", "index", "--out", str(tmp_path / "a.parquet")]) == 0
    agrees(tmp_path / "a.parquet", one)


def test_unnormalised_likelihoods_are_taken_and_told(one, tmp_path, capsys):
    path = write_csv(tmp_path / "run.csv", rows_of(one, lambda x: x - 5))
    assert main([path, *RUN, *NAMED, "--out", str(tmp_path / "a.parquet")]) == 0
    assert "30 of 30 rows don't sum to about 1 over the classes (0.00674 to 0.00674)" in capsys.readouterr().out


def test_rounding_below_0_makes_no_log_probability(tmp_path, capsys):
    path = write_jsonl(tmp_path / "run.jsonl", [{"gold": "a", "p": 1.00001, "q": -1e-7}])
    flags = ["--target", "gold", "--class", "a=p", "--class", "b=q"]
    assert main([path, *RUN, *flags, "--out", str(tmp_path / "a.parquet")]) == 0
    assert "taken as probabilities" in capsys.readouterr().out


def test_certain_rows_and_unlikely_predictions_are_told(tmp_path, capsys):
    rows = [{"gold": "a", "said": "b", "p": 1, "q": 0}, {"gold": "b", "said": "b", "p": 0.4, "q": 0.6}]
    path = write_jsonl(tmp_path / "run.jsonl", rows)
    flags = ["--target", "gold", "--prediction", "said", "--class", "a=p", "--class", "b=q"]
    assert main([path, *RUN, *flags, "--out", str(tmp_path / "a.parquet")]) == 0
    said = capsys.readouterr().out
    assert "1 rows give one class everything" in said and "1 predictions are not the class" in said
    assert list(read_scores(tmp_path / "a.parquet").correct) == [False, True]


def test_classes_take_the_order_of_the_files_beside(one, tmp_path):
    out = str(tmp_path / "out")
    path = write_csv(tmp_path / "run.csv", rows_of(one))
    assert main([path, *RUN, *NAMED, "--out", out]) == 0
    turned = [x for k in (2, 0, 1) for x in ("--class", f"class {k}=p{k}")]
    other = ["--dataset", "reviews", "--size", "base", "--seed", "0", "--parameters", "2e8"]
    assert main([path, *other, "--target", "gold", "--id", "id", "--slice", "kind", *turned, "--out", out]) == 0
    read = read_scores(tmp_path / "out" / "scores-reviews-base-s0-test.parquet")
    assert read.metadata.classes == CLASSES
    np.testing.assert_allclose(read.class_log_likelihoods, one.class_log_likelihoods, rtol=1e-6)


# ---- what is refused


GOOD = [{"id": "x", "gold": "a", "p": 0.9, "q": 0.1}, {"id": "y", "gold": "b", "p": 0.2, "q": 0.8}]
FLAGS = ["--target", "gold", "--id", "id", "--class", "a=p", "--class", "b=q"]


def refused(tmp_path, capsys, rows, flags=FLAGS, run=RUN, name="run.jsonl"):
    path = tmp_path / name
    if isinstance(rows, str):
        path.write_text(rows, encoding="utf-8")
    else:
        write_jsonl(path, rows)
    assert main([str(path), *run, *flags, "--out", str(tmp_path / "out" / "a.parquet")]) == 1
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p": None}, "line 2: p holds None, expected a number"),
        ({"p": "high"}, "line 2: p holds 'high', expected a number"),
        ({"p": True}, "line 2: p holds True"),
        ({"p": float("nan")}, "line 2: p is NaN"),
        ({"p": 10**400}, "line 2: p holds 1000"),
        ({"p": 1.5}, "line 2: 1.5 is no probability"),
        ({"p": 3.0, "q": -1.0}, "line 1: 0.9 is no log-probability (2 such rows)"),
        ({"p": 0, "q": 0}, "line 2: gives every class probability 0"),
        ({"gold": "c"}, "line 2: label 'c' is none of the classes ['a', 'b']"),
        ({"gold": "1"}, "give --labels index"),
        ({"gold": None}, "line 2: gold is empty"),
        ({"id": "x"}, "line 2: id 'x' is that of"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, capsys, change, message):
    said = refused(tmp_path, capsys, [GOOD[0], {**GOOD[1], **change}])
    assert message in said


def test_a_missing_column(tmp_path, capsys):
    said = refused(tmp_path, capsys, GOOD, [*FLAGS, "--slice", "country"])
    assert "lacks the column country; it has id, gold, p, q" in said
    said = refused(tmp_path, capsys, [GOOD[0], {"id": "y", "gold": "b", "p": 1}])
    assert "line 2: lacks q" in said


def test_what_is_not_the_format(tmp_path, capsys):
    assert "line 1: not JSON" in refused(tmp_path, capsys, "{")
    assert "line 1: expected an object" in refused(tmp_path, capsys, "[1]\n")
    assert "the file holds no examples" in refused(tmp_path, capsys, "")
    assert "row 2 has 3 values, but the header has 4 columns: y,b,1. The row starts on line 3." in refused(
        tmp_path, capsys, "id,gold,p,q\nx,a,1,0\ny,b,1\n", name="run.csv"
    )
    assert "can't tell the format" in refused(tmp_path, capsys, GOOD, name="run.data")
    assert "not a Parquet file; it starts with no" in refused(tmp_path, capsys, "no", name="run.parquet")


def test_classes_that_change_from_row_to_row(tmp_path, capsys):
    rows = [{"gold": "a", "v": {"a": 0.9, "b": 0.1}}, {"gold": "b", "v": {"a": 0.5, "c": 0.5}}]
    said = refused(tmp_path, capsys, rows, ["--target", "gold", "--values", "v"])
    assert "line 2: v has the classes ['a', 'c'], expected ['a', 'b']" in said
    rows = [{"gold": "a", "v": [0.9, 0.1]}]
    assert "name its classes" in refused(tmp_path, capsys, rows, ["--target", "gold", "--values", "v"])
    said = refused(tmp_path, capsys, rows, ["--target", "gold", "--values", "v", "--classes", "a,b,c"])
    assert "holds 2 values, expected one for each" in said


def test_classes_that_differ_between_files(tmp_path, capsys):
    out = ["--out", str(tmp_path / "scores")]
    path = write_jsonl(tmp_path / "run.jsonl", GOOD)
    assert main([path, *RUN, *FLAGS, *out]) == 0
    three = write_jsonl(tmp_path / "three.jsonl", [{**row, "r": 0.1} for row in GOOD])
    assert main([three, *RUN, "--seed", "1", *FLAGS, "--class", "c=r", *out]) == 1
    assert "classes ['a', 'b', 'c'], but" in capsys.readouterr().err
    assert len(list((tmp_path / "scores").iterdir())) == 1


def test_flags_that_are_missing_or_wrong(tmp_path, capsys):
    said = refused(tmp_path, capsys, GOOD, run=["--dataset", "d", "--size", "s"])
    assert "--seed, --parameters not given" in said
    assert "expected a number such as" in refused(tmp_path, capsys, GOOD, run=[*RUN, "--parameters", "big"])
    for seed in ("0.5", "-1", "010", "1e3", str(2**31), "9007199254740993", "1_0", ""):
        said = refused(tmp_path, capsys, GOOD, run=[*RUN, "--seed", seed])
        assert f"seed={int(seed) if seed.isdecimal() and seed[0] != '0' else seed!r}: expected a whole number" in said
    assert "give either --class" in refused(tmp_path, capsys, GOOD, ["--target", "gold"])
    assert "expected NAME=COLUMN" in refused(tmp_path, capsys, GOOD, ["--class", "p"])
    assert "scale=logit: expected one of" in refused(tmp_path, capsys, GOOD, [*FLAGS, "--scale", "logit"])
    assert main([str(tmp_path / "none.csv"), *RUN, *FLAGS, "--out", "x"]) == 1
    assert main([]) == 1
    assert "no FILE given" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["dataset", "size", "split"])
@pytest.mark.parametrize("name", ["meta-llama/Llama-3.2-1B", "../../evil", "a b", "[/b]", "", ".", "x" * 65])
def test_names_that_no_file_can_have(tmp_path, capsys, key, name):
    path = write_jsonl(tmp_path / "run.jsonl", GOOD)
    assert main([path, *RUN, *FLAGS, f"--{key}", name, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert f"{key}={name!r}: expected 1 to 64 letters" in said and [p.name for p in tmp_path.iterdir()] == ["run.jsonl"]


def test_hyphens_do_not_collide(tmp_path):
    path = write_jsonl(tmp_path / "run.jsonl", GOOD)
    for dataset, size in (("a", "b-c"), ("a-b", "c")):
        run = ["--dataset", dataset, "--size", size, "--seed", "0", "--parameters", "9007199254740993"]
        assert main([path, *run, *FLAGS, "--out", str(tmp_path / "out")]) == 0
    metadata = [read_scores(file).metadata for file in sorted((tmp_path / "out").iterdir())]
    assert {(one.dataset, one.size, one.parameters) for one in metadata} == {
        ("a", "b-c", 9007199254740993),
        ("a-b", "c", 9007199254740993),
    }


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("class: {no: p_no, yes: p_yes}", "class has a key that is the truth value false"),
        ("class: {a: no, b: p_yes}", "class.a is the truth value false (YAML reads no, off and false as one)"),
        ("class: {1: p_no, 1: p_yes}", "the key 1 is there twice"),
        ("class: {010: p_no, 1: p_yes}", "YAML reads 010 as the number 8"),
        ("class: 7", "class=7: expected a mapping"),
        ("values: p\nclasses: [yes, maybe]", "classes is the truth value true"),
        ("values: p\nclasses: 7", "classes=7: expected a list"),
        ("target: null", "target is null"),
        (
            "id: 1.50",
            "id is the number 1.5 (1.50 and 1.5 are one number), expected text. Write it in quotes: in YAML id",
        ),
        ("prediction: on", "prediction is the truth value true"),
        ("slice: [off]", "slice is the truth value false"),
        ("slice: 3", "slice=3: expected a column or a list of columns"),
        ("size: 1.50", 'Write it in quotes: in YAML size: "1.5"'),
        ("dataset: no", "dataset is the truth value false"),
        ("model: 2024-01-01", "model is datetime.date(2024, 1, 1), a date"),
        ("out: null", "out is null"),
        ("seed: 010", "YAML reads 010 as the number 8"),
        ("seed: 1.0", "seed=1.0: expected a whole number"),
        ("seed: 9007199254740993", "seed=9007199254740993: expected a whole number"),
    ],
)
def test_settings_in_yaml_that_are_no_text(tmp_path, capsys, monkeypatch, setting, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.csv").write_text("label,p_no,p_yes\nno,0.7,0.3\nyes,0.2,0.8\n")
    shared = {"dataset": "d", "size": "s", "seed": "0", "parameters": "60M", "out": "out", "target": "label"}
    shared |= {"class": '{"no": p_no, "yes": p_yes}', "file": "run.csv"}
    given = [line.partition(":")[0] for line in setting.splitlines()]
    replaced = {*given, "class"} if "values" in given else set(given)
    kept = [f"{key}: {value}" for key, value in shared.items() if key not in replaced]
    (tmp_path / "c.yaml").write_text("\n".join([*kept, setting]))
    assert main(["--config", "c.yaml"]) == 1
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_classes_in_quotes_are_what_they_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.csv").write_text("label,1,p_yes\nno,0.7,0.3\nyes,0.2,0.8\n")
    settings = ["dataset: 7", "size: s", "seed: 0", "parameters: 60M", "out: out", "target: label", "file: run.csv"]
    (tmp_path / "c.yaml").write_text("\n".join([*settings, 'class: {"no": 1, "yes": p_yes}']))
    assert main(["--config", "c.yaml"]) == 0
    read = read_scores(tmp_path / "out/scores-7-s-s0-test.parquet")
    assert read.metadata.classes == ["no", "yes"] and read.correct.all()


# ---- lm-evaluation-harness


def sample(doc_id, target, values, choices=(" no", " yes"), **more):
    """As lm-eval 0.4 writes it."""
    return {
        "doc_id": doc_id,
        "doc": {"question": "?", "subject": "law" if doc_id % 2 else None},
        "target": target,
        "arguments": {f"gen_args_{k}": {"arg_0": "Q: ?\nA:", "arg_1": choice} for k, choice in enumerate(choices)},
        "resps": [[[str(value), "False"]] for value in values],
        "filtered_resps": [[str(value), "False"] for value in values],
        "filter": "none",
        "metrics": ["acc"],
        "doc_hash": "d",
        "acc": float(values.index(max(values)) == int(target)) if target.isdecimal() else 1.0,
        **more,
    }


def converted(tmp_path, capsys, samples, *flags, status=0):
    path = write_jsonl(tmp_path / "samples_boolq_2025-01-31T10-00-00.000000.jsonl", samples)
    assert main([path, *RUN, *flags, "--out", str(tmp_path / "out" / "a.parquet")]) == status
    said = capsys.readouterr()
    return (read_scores(tmp_path / "out" / "a.parquet"), said.out) if status == 0 else said.err


def test_harness_samples(tmp_path, capsys):
    samples = [sample(1, "0", [-3.5, -2.25]), sample(0, "1", [-4.0, -1.0]), sample(2, "0", [-0.5, -6.0])]
    read, said = converted(tmp_path, capsys, samples, "--slice", "subject")
    assert read.metadata.classes == ["no", "yes"] and list(read.example_id) == ["0", "1", "2"]
    assert list(read.target) == ["yes", "no", "no"] and list(read.prediction) == ["yes", "yes", "no"]
    np.testing.assert_array_equal(read.class_log_likelihoods, np.array([[-4, -1], [-3.5, -2.25], [-0.5, -6]], "f4"))
    assert list(read.slices["slice_subject"]) == [None, "law", None]
    assert read.metadata.signature == "scores:converted|from:lm-eval" and "don't sum to about 1" in said
    assert list(read.text) == ["Q: ?\nA:"] * 3 and read.cluster is None
    read, _ = converted(tmp_path, capsys, samples, "--text", "question", "--cluster", "subject")
    assert list(read.text) == ["?"] * 3 and list(read.cluster) == [None, "law", None]


def test_harness_samples_of_older_versions(tmp_path, capsys):
    """Lists of pairs, numbers and booleans; unfiltered responses alone."""
    old = sample(0, "1", [-4.0, -1.0])
    old["arguments"] = [["Q", " no"], ["Q", " yes"]]
    old["resps"], old["filtered_resps"] = [[[-4.0, False]], [[-1.0, True]]], [[-4.0, False], [-1.0, True]]
    nested = sample(1, "1", [-4.0, -1.0])
    nested["filtered_resps"] = [[[-4.0, False]], [[-1.0, True]]]
    read, _ = converted(tmp_path, capsys, [old, nested])
    assert read.metadata.classes == ["no", "yes"] and list(read.prediction) == ["yes", "yes"]


def test_harness_choices_that_differ_are_positions(tmp_path, capsys):
    samples = [
        sample(0, "2", [-4.0, -3.0, -1.0, -9.0], choices=(" a", " b", " c", " d")),
        sample(1, "1", [-4.0, -3.0, -5.0], choices=(" e", " f", " g")),
    ]
    read, said = converted(tmp_path, capsys, samples)
    assert read.metadata.classes == ["0", "1", "2", "3"] and list(read.target) == ["2", "1"]
    assert read.class_log_likelihoods[1, 3] == -np.inf
    assert "their positions, 0 to 3" in said and "1 documents have fewer than 4 choices" in said


def test_harness_targets_as_text(tmp_path, capsys):
    """Choices that are numbers: `acc` tells a choice from an index."""
    samples = [
        sample(0, "1", [-1.0, -2.0], choices=(" 1", " 0"), acc=1.0),
        sample(1, "0", [-1.0, -2.0], choices=(" 1", " 0"), acc=0.0),
    ]
    read, _ = converted(tmp_path, capsys, samples)
    assert list(read.target) == ["1", "0"] and list(read.correct) == [True, False]
    samples = [sample(0, "yes", [-4.0, -1.0]), sample(1, " no", [-1.0, -4.0])]
    read, _ = converted(tmp_path, capsys, samples)
    assert list(read.target) == ["yes", "no"]


def test_harness_targets_that_may_be_texts_or_indices(tmp_path, capsys):
    """Digit choices without `acc`: read as indices, a model that is always right had 0 %."""
    samples = [
        sample(0, "1", [-0.1, -2.0], choices=(" 1", " 0"), acc=None),
        sample(1, "0", [-2.0, -0.1], choices=(" 1", " 0"), acc=None),
    ]
    said = converted(tmp_path, capsys, samples, status=1)
    assert "line 1: target '1' is the text of choice 0 and the index of choice 1 (from 0)" in said
    assert "--labels name" in said and "--labels index" in said
    assert list(converted(tmp_path, capsys, samples, "--labels", "name")[0].correct) == [True, True]
    assert list(converted(tmp_path, capsys, samples, "--labels", "index")[0].correct) == [False, False]
    in_order = [sample(0, "1", [-2.0, -0.1], choices=(" 0", " 1"), acc=None)]  # both readings are one
    assert list(converted(tmp_path, capsys, in_order)[0].target) == ["1"]
    assert "neither the index" in converted(
        tmp_path, capsys, [sample(0, "yes", [-1, -2])], "--labels", "index", status=1
    )
    assert "labels=text: expected one of name, index" in converted(
        tmp_path, capsys, samples, "--labels", "text", status=1
    )


def test_harness_mutual_information_keeps_the_likelihoods_in_context(tmp_path, capsys):
    one = sample(0, "1", [-4.0, -1.0, -7.0, -8.0], choices=(" no", " yes", " no", " yes"), acc=1.0, acc_mutual_info=1.0)
    read, _ = converted(tmp_path, capsys, [one])
    np.testing.assert_array_equal(read.class_log_likelihoods, np.array([[-4, -1]], "f4"))


def test_harness_filters(tmp_path, capsys):
    samples = [sample(0, "1", [-4.0, -1.0]), sample(0, "1", [-4.0, -2.0], filter="other")]
    assert "choose one: --filter none|other" in converted(tmp_path, capsys, samples, status=1)
    assert "they have none, other" in converted(tmp_path, capsys, samples, "--filter", "x", status=1)
    read, _ = converted(tmp_path, capsys, samples, "--filter", "other")
    assert read.class_log_likelihoods[0, 1] == -2


def test_harness_samples_that_cannot_be_converted(tmp_path, capsys):
    generated = {**sample(0, "1", [-1.0, -2.0]), "resps": [["18"]], "filtered_resps": ["18"]}
    assert "only multiple-choice tasks" in converted(tmp_path, capsys, [generated], status=1)
    assert "several right answers" in converted(tmp_path, capsys, [sample(0, "[0, 1]", [-1.0, -2.0])], status=1)
    lying = sample(0, "1", [-1.0, -2.0], acc=1.0)
    assert "acc=1 contradicts the target '1'" in converted(tmp_path, capsys, [lying], status=1)
    unknown = sample(0, "1", [-1.0, float("nan")])
    assert "is no log-likelihood" in converted(tmp_path, capsys, [unknown], status=1)
    twice = [sample(0, "1", [-4.0, -1.0])] * 2
    assert "id '0' is that of" in converted(tmp_path, capsys, twice, status=1)
    unnamed = {**sample(0, "1", [-4.0, -1.0]), "doc_id": None}
    assert "doc_id is None, expected a whole number or a text" in converted(tmp_path, capsys, [unnamed], status=1)
    huge = {**sample(0, "1", [-4.0, -1.0]), "filtered_resps": [[-(10**400), False], [-1.0, True]]}
    assert "is no number" in converted(tmp_path, capsys, [huge], status=1)
    assert "doc lacks topic" in converted(tmp_path, capsys, twice[:1], "--slice", "topic", status=1)


# ---- to tables


def test_from_a_config_of_two_sizes_and_two_seeds_to_tables(tmp_path, without_pictures):
    grid = synthetic_grid(seeds=2, examples=60, classes=3)
    runs = []
    for scores in grid:
        m, path = scores.metadata, tmp_path / f"{scores.metadata.size}-{scores.metadata.seed}.csv"
        write_csv(path, rows_of(scores))
        runs.append({"file": str(path), "size": m.size, "seed": m.seed, "parameters": m.parameters})
    config = {"dataset": "reviews", "target": "gold", "id": "id", "slice": "kind", "out": str(tmp_path / "scores")}
    config |= {"class": {f"class {k}": f"p{k}" for k in range(3)}, "runs": runs}
    (tmp_path / "runs.yaml").write_text(json.dumps(config), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "metrics.convert", "--config", str(tmp_path / "runs.yaml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("60 examples, 3 classes") == 4
    out = metrics_from_files(
        Config(metrics=Metrics(scores=str(tmp_path / "scores" / "*.parquet"), out=str(tmp_path / "out"), resamples=5))
    )
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    sizes = summary["datasets"]["reviews"]["sizes"]
    assert [(size["name"], size["seeds"]) for size in sizes] == [("small", [0, 1]), ("base", [0, 1])]
    assert [acc for size in sizes for acc in size["accuracy_by_seed"]] == [scores.correct.mean() for scores in grid]
    assert {row["score"] for row in summary["tables"]["table1"]} >= {"margin", "entropy", "churn"}
    assert not any("fingerprint" in note or "settings" in note for note in summary["notes"])


def test_config_errors(tmp_path, capsys):
    def said(text):
        (tmp_path / "runs.yaml").write_text(text, encoding="utf-8")
        assert main(["--config", str(tmp_path / "runs.yaml")]) == 1
        return capsys.readouterr().err

    assert "expected a mapping" in said("- 1")
    assert "can't be read as YAML" in said("a: [")
    assert "targt: no such setting" in said("targt: gold\nruns: [{file: a.csv}]")
    assert "expected a list of mappings" in said("runs: 3")


def test_the_command_starts_without_hydra_and_jax():
    code = (
        "import sys, metrics.convert.__main__;"
        "assert not {'jax', 'hydra', 'matplotlib', 'pandas'} & set(sys.modules), 'slow imports'"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# ---- span QA and translation


def sequence_rows(scores):
    rows = []
    for i in range(len(scores.example_id)):
        row = {"key": scores.example_id[i], "target": scores.target[i], "prediction": scores.prediction[i]}
        row["kind"] = scores.slices["slice_kind"][i]
        for prefix, tokens in (("", scores.gold_tokens), ("self_", scores.self_tokens)):
            some = slice(tokens.offsets[i], tokens.offsets[i + 1])
            for part in ("log_probs", "margins", "entropies"):
                row[f"{prefix}token_{part}"] = [float(v) for v in getattr(tokens, part)[some]]
        rows.append(row)
    return rows


def sequence_scores(task):
    return synthetic_grid(seeds=1, examples=25, task=task)[0]


@pytest.mark.parametrize("task", ["span_qa", "translation"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_sequences_round_trip(tmp_path, task, kind):
    scores = sequence_scores(task)
    rows = sequence_rows(scores)
    if kind == "csv":
        texts = [{k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows]
        file = write_csv(tmp_path / "a.csv", texts)
    else:
        file = write_jsonl(tmp_path / "a.jsonl", rows)
    out = tmp_path / "out.parquet"
    assert main([file, *RUN, "--task", task, "--id", "key", "--slice", "kind", "--out", str(out)]) == 0
    read = read_scores(out)
    for name in ("example_id", "target", "prediction"):
        np.testing.assert_array_equal(getattr(read, name), getattr(scores, name))
    for name in ("gold_tokens", "self_tokens"):
        for part in ("log_probs", "margins", "entropies", "offsets"):
            np.testing.assert_array_equal(getattr(getattr(read, name), part), getattr(getattr(scores, name), part))
    np.testing.assert_array_equal(read.slices["slice_kind"], scores.slices["slice_kind"])
    if task == "translation":
        np.testing.assert_array_equal(read.bleu_stats, scores.bleu_stats)
        assert "tok:intl" in read.metadata.signature
    else:
        # the synthetic second gold isn't in the file, so what it alone makes right is wrong here
        assert (read.correct <= scores.correct).all() and read.correct.any()


def test_any_gold_and_given_correctness(tmp_path):
    rows = sequence_rows(sequence_scores("span_qa"))
    for row in rows:
        row["golds"], row["fine"] = ["something else", f"The {row['prediction']}!"], "0"
    file = write_jsonl(tmp_path / "a.jsonl", rows)
    out = str(tmp_path / "out.parquet")
    assert main([file, *RUN, "--task", "span_qa", "--target", "golds", "--out", out]) == 0
    read = read_scores(out)
    assert read.correct.all() and set(read.target) == {"something else"}
    assert main([file, *RUN, "--task", "span_qa", "--target", "golds", "--correct", "fine", "--out", out]) == 0
    assert not read_scores(out).correct.any()


def test_columns_of_other_names_and_on_to_tables(tmp_path, without_pictures):
    for run in synthetic_grid(seeds=2, examples=25, task="translation"):
        rows = [{**row, "m": row.pop("token_margins")} for row in sequence_rows(run)]
        file = write_jsonl(tmp_path / "a.jsonl", rows)
        m = run.metadata
        whose = ["--dataset", "wmt", "--size", m.size, "--seed", str(m.seed), "--parameters", str(m.parameters)]
        columns = ["--id", "key", "--token-margins", "m", "--out", str(tmp_path / "scores")]
        assert main([file, *whose, "--task", "translation", *columns]) == 0
    config = Config(metrics=Metrics(scores=str(tmp_path / "scores" / "*"), out=str(tmp_path / "out"), resamples=5))
    summary = json.loads((metrics_from_files(config) / "summary.json").read_text(encoding="utf-8"))
    assert summary["datasets"]["wmt"]["measure"] == "bleu"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"token_margins": [0.5]}, "line 3: token lists have .* values, expected one of each a token"),
        ({"self_token_entropies": []}, r"line 3: self_token_entropies holds '\[\]', expected a list of numbers"),
        ({"token_log_probs": "often"}, "line 3: token_log_probs holds 'often'"),
        ({"token_log_probs": [[1]]}, "line 3: token_log_probs"),
        ({"target": []}, r"line 3: target holds \[\], expected a string, or a list of gold answers"),
        ({"key": "test-0"}, "line 3: id 'test-0' is that of .*line 1 already"),
        ({"fine": "perhaps"}, "line 3: fine holds 'perhaps', expected true or false"),
    ],
)
def test_wrong_sequences(tmp_path, capsys, change, message):
    rows = sequence_rows(sequence_scores("span_qa"))
    for row in rows:
        row["fine"] = True
    rows[2].update(change)
    file = write_jsonl(tmp_path / "a.jsonl", rows)
    flags = ["--task", "span_qa", "--id", "key", "--correct", "fine", "--out", str(tmp_path / "out.parquet")]
    assert main([file, *RUN, *flags]) == 1
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out.parquet").exists()


def translated(tmp_path, rows, *flags):
    tokens = {f"{own}token_{name}": [0.5] for own in ("", "self_") for name in ("margins", "entropies")}
    tokens |= {"token_log_probs": [-0.5], "self_token_log_probs": [-0.5]}
    file = write_jsonl(tmp_path / "a.jsonl", [{**row, **tokens} for row in rows])
    out = tmp_path / "out.parquet"
    assert main([file, *RUN, "--task", "translation", *flags, "--out", str(out)]) == 0
    return read_scores(out)


REFERENCES = [
    ["the cat sat on the mat", "a cat was sitting on the mat", "on the mat a cat sat"],
    ["hello there my good friend", "hi there my friend"],
    ["one reference of five words"],
]
HYPOTHESES = ["a cat was on the mat sitting there", "hi there my friend", "one reference of four or five words"]


def test_several_references_are_sacrebleus(tmp_path):
    """The closest reference's length, matches over all references, some sentences with fewer than others."""
    rows = [{"target": refs, "prediction": said} for refs, said in zip(REFERENCES, HYPOTHESES)]
    read = translated(tmp_path, rows)
    places = [[refs[k] if k < len(refs) else None for refs in REFERENCES] for k in range(3)]
    bleu = BLEU(tokenize="intl")
    expected = bleu.corpus_score(HYPOTHESES, places)
    sums = read.bleu_stats.sum(axis=0)
    assert sums.tolist() == [expected.sys_len, expected.ref_len, *expected.counts, *expected.totals]
    assert corpus_bleu(sums) == pytest.approx(expected.score, abs=1e-9)
    assert list(read.target) == [refs[0] for refs in REFERENCES]
    assert str(bleu.get_signature()) in read.metadata.signature and "nrefs:var" in read.metadata.signature
    assert corpus_bleu(
        translated(tmp_path, [{**row, "target": row["target"][0]} for row in rows]).bleu_stats.sum(0)
    ) < (expected.score - 5)


def test_either_reference_may_be_the_one(tmp_path, capsys):
    rows = [{"target": refs, "prediction": refs[k]} for refs, k in zip(REFERENCES, (1, 1, 0))]
    assert corpus_bleu(translated(tmp_path, rows).bleu_stats.sum(axis=0)) == 100
    assert "100.00 BLEU" in capsys.readouterr().out


def test_references_in_columns_of_their_own(tmp_path):
    rows = [{"target": refs, "prediction": said} for refs, said in zip(REFERENCES, HYPOTHESES)]
    apart = [
        {"target": refs[0], "second": (refs[1:] or [""])[0], "third": refs[2] if refs[2:] else None, "prediction": said}
        for refs, said in zip(REFERENCES, HYPOTHESES)
    ]
    columns = ["--reference", "second", "--reference", "third"]
    read, together = translated(tmp_path, apart, *columns), translated(tmp_path, rows)
    np.testing.assert_array_equal(read.bleu_stats, together.bleu_stats)
    assert read.metadata.data == together.metadata.data and read.metadata.signature == together.metadata.signature


def test_a_reference_that_looks_like_json_is_text(tmp_path):
    for text in ('["a", "b"]', '{"a": 1}', "[1, 2]", '["the cat", "a cat"] says the paper'):
        read = translated(tmp_path, [{"target": text, "prediction": text}])
        assert list(read.target) == [text] and read.bleu_stats[0, 0] == read.bleu_stats[0, 1] > 0
        np.testing.assert_array_equal(read.bleu_stats, bleu_statistics([text], [text]))


def test_references_that_are_none(tmp_path, capsys):
    for target in ([], [None], None, [1], {"a": "b"}):
        file = write_jsonl(tmp_path / "a.jsonl", [{"target": target, "prediction": "x"}])
        assert main([file, *RUN, "--task", "translation", "--out", str(tmp_path / "x.parquet")]) == 1
        assert "line 1: target holds" in capsys.readouterr().err
    file = write_jsonl(tmp_path / "a.jsonl", [{"target": "x", "prediction": "x"}])
    assert main([file, *RUN, "--task", "span_qa", "--reference", "r", "--out", str(tmp_path / "x.parquet")]) == 1
    assert "--reference is of translations" in capsys.readouterr().err


def test_a_task_beside_another(tmp_path, capsys):
    for task, status in (("span_qa", 0), ("translation", 1)):
        file = write_jsonl(tmp_path / "a.jsonl", sequence_rows(sequence_scores(task)))
        seed = ["--seed", str(status)]
        assert main([file, *RUN, *seed, "--task", task, "--id", "key", "--out", str(tmp_path / "out")]) == status
    assert "task translation, but" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["scores", "all.parquet"])
def test_two_runs_of_a_config_are_not_written_over_each_other(tmp_path, capsys, out):
    file = tmp_path / "a.csv"
    file.write_text("target,a,b\na,0.9,0.1\nb,0.2,0.8\n")
    seeds = [0, 0] if out == "scores" else [0, 1]
    config = tmp_path / "runs.json"
    runs = [{"file": str(file), "size": "small", "seed": seed, "parameters": 10} for seed in seeds]
    config.write_text(json.dumps({"dataset": "d", "class": {"a": "a", "b": "b"}, "runs": runs}))
    assert main(["--config", str(config), "--out", str(tmp_path / out)]) == 1
    said = capsys.readouterr()
    assert "would both be written to" in said.err and said.out == "" and list(tmp_path.glob("**/*.parquet")) == []


def test_a_config_without_runs(tmp_path, capsys):
    config = tmp_path / "runs.yaml"
    config.write_text("runs: []\n")
    assert main(["--config", str(config)]) == 1
    assert "runs=[], expected a list of mappings, one or more" in capsys.readouterr().err


def test_two_classes_of_one_column(tmp_path, capsys):
    file = tmp_path / "a.csv"
    file.write_text("target,a,b\na,0.9,0.1\n")
    assert main([str(file), *RUN, "--class", "a=a", "--class", "b=a", "--out", str(tmp_path / "scores")]) == 1
    assert "'a' and 'b' have the same column 'a'" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["1e999", "9" * 5000, "1" + "0" * 400])
def test_more_parameters_than_there_are_numbers(tmp_path, capsys, number):
    file = tmp_path / "a.csv"
    file.write_text("target,a,b\na,0.9,0.1\n")
    run = ["--dataset", "d", "--size", "s", "--seed", "0", "--parameters", number, "--out", str(tmp_path / "scores")]
    assert main([str(file), *run, "--class", "a=a", "--class", "b=b"]) == 1
    assert "expected a number such as 60000000, 6e7 or 60M" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "flags"),
    [
        ("e.csv", "target,a,b\n", ["--class", "a=a", "--class", "b=b"]),
        ("e.jsonl", "\n", ["--values", "v"]),
        ("e.jsonl", "", ["--task", "span_qa"]),
        ("e.jsonl", "", ["--format", "lm-eval"]),
    ],
)
def test_a_file_without_examples_is_named(tmp_path, capsys, name, content, flags):
    file = tmp_path / name
    file.write_text(content)
    assert main([str(file), *RUN, *flags, "--out", str(tmp_path / "scores")]) == 1
    assert f"error: {file}: the file holds no examples" in capsys.readouterr().err


def test_a_harness_log_is_no_translation(tmp_path, capsys):
    file = tmp_path / "log.jsonl"
    file.write_text(json.dumps({"doc_id": 0, "target": "0", "filtered_resps": [["-1", "False"], ["-2", "False"]]}))
    assert main([str(file), *RUN, "--task", "translation", "--out", str(tmp_path / "scores")]) == 1
    said = capsys.readouterr().err
    assert "only multiple-choice tasks can be converted, and the task is translation" in said
    assert "--format jsonl" in said


def test_folders_in_the_place_of_files(tmp_path, capsys):
    file = tmp_path / "a.csv"
    file.write_text("target,a,b\na,0.9,0.1\n")
    classes = ["--class", "a=a", "--class", "b=b"]
    assert main([str(tmp_path), *RUN, *classes, "--out", str(tmp_path / "scores")]) == 1
    assert "a folder, expected one run's file" in capsys.readouterr().err
    assert main([str(file), *RUN, *classes, "--out", str(file)]) == 1
    assert "expected a folder, or a file that ends in .parquet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "change", "said"),
    [
        (["--tokenize", "bogus"], {}, "tokenize=bogus: expected one of sacreBLEU's tokenizers, none, zh, 13a, intl"),
        ([], {"token_margins": [1.5, 0.2]}, "run.jsonl: can't become scores (whose rows count from 0): "),
    ],
)
def test_what_sacrebleu_or_the_schema_refuses_is_said_of_the_given_file(tmp_path, capsys, flags, change, said):
    lists = {
        f"{prefix}token_{name}": [0.5, 0.2] if name == "margins" else [0.0, 0.0]
        for prefix in ("", "self_")
        for name in ("log_probs", "margins", "entropies")
    }
    row = {"target": "a cat", "prediction": "a cat", **lists, **change}
    file = write_jsonl(tmp_path / "run.jsonl", [row])
    assert main([file, *RUN, "--task", "translation", *flags, "--out", str(tmp_path / "scores")]) == 1
    assert said in capsys.readouterr().err
