"""From files to the output directory: what is in it, that it is the same every time, and what is refused."""

import csv
import hashlib
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from conf.errors import EdgewiseError
from conf.schema import SCORES, Config, Metrics
from metrics.analysis.dataset import analyse
from metrics.beyond import BEYOND_TABLES
from metrics.grid.collect import GridError, collect_grids
from metrics.output.directory import Input, write_metrics
from metrics.output.replace import OutputError
from metrics.scores import write_scores
from metrics.stage import metrics_from_files
from metrics.statistics.churn import BUCKETS
from metrics.tables.paper import TABLE1, TABLE2, TABLE3
from tests.synthetic_scores import synthetic_grid, write_grid

ROOT = Path(__file__).resolve().parent.parent
CONFIG = Metrics(resamples=40)
FILES = {
    *(f"tables/table{k}.{kind}" for k in (1, 2, 3) for kind in ("csv", "md", "tex")),
    *(f"tables/{table.name}.{kind}" for table in BEYOND_TABLES for kind in ("csv", "md", "tex")),
    *(f"figures/fig{k}.{kind}" for k in range(1, 7) for kind in ("csv", "png", "svg")),
    "curves/switcher.parquet",
    "summary.json",
    "report/index.html",
}
SIZES = {"small": (10, 1.5), "base": (20, 1.6), "large": (30, 2.0)}


def inputs(scores):
    return [Input(f"{s.metadata.size}-{s.metadata.seed}", f"digest-{k}") for k, s in enumerate(scores)]


def write(scores, out, config=CONFIG):
    return write_metrics(scores, inputs(scores), config, out)


def files(directory):
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def rows(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def scores():
    return synthetic_grid(SIZES, seeds=3, examples=120, dataset="imdb") + synthetic_grid(
        seeds={"small": [0, 4], "base": [1, 2, 3]}, examples=90, classes=4, dataset="a<b&c", seed=1
    )


@pytest.fixture(scope="module")
def out(scores, tmp_path_factory):
    directory = tmp_path_factory.mktemp("metrics") / "out"
    write(scores, directory)
    return directory


def test_every_file_is_there(out):
    assert set(files(out)) == FILES
    assert [p.name for p in out.parent.iterdir()] == ["out"]


def test_gain_tables(out, scores):
    grids = {grid.dataset: analyse(grid, CONFIG) for grid in collect_grids(scores)}
    for name, statistic in (("table1", "peak_gain"), ("table3", "area")):
        table = rows(out / "tables" / f"{name}.csv")
        assert tuple(table[0]) == (TABLE1 if name == "table1" else TABLE3).columns
        assert len(table) == (3 + 1) * 6
        for row in table:
            pair = next(p for p in grids[row["dataset"]].pairs if (p.small, p.large) == (row["small"], row["large"]))
            values = 100 * getattr(pair.scores[row["score"]], statistic)
            assert float(row["mean"]) == pytest.approx(values.mean(), abs=1e-13)
            assert float(row["se"]) == pytest.approx(values.std(ddof=1) / math.sqrt(values.size), abs=1e-13)
            assert int(row["pairs"]) == values.size
            assert float(row["ci_low"]) <= float(row["ci_high"])
    assert [row["score"] for row in table[:6]] == list(SCORES)


def test_two_classes_have_equal_margin_and_entropy_columns(out):
    for name in ("table1", "table3"):
        by = {
            (r["large"], r["small"], r["score"]): r
            for r in rows(out / "tables" / f"{name}.csv")
            if r["dataset"] == "imdb"
        }
        for (large, small, score), row in by.items():
            if score == "margin":
                assert {**row, "score": ""} == {**by[large, small, "entropy"], "score": ""}


def test_churn_table(out):
    table = rows(out / "tables" / "table2.csv")
    assert tuple(table[0]) == TABLE2.columns
    assert len(table) == (3 + 2) * 5
    assert {row["size"] for row in table if row["dataset"] == "imdb"} == {"large"}
    overall: dict[str, set[float]] = {}
    for k in range(0, len(table), 5):
        five = table[k : k + 5]
        assert [(r["bucket"], float(r["lower"]), float(r["upper"])) for r in five] == list(BUCKETS)
        total = sum((float(r["upper"]) - float(r["lower"])) * float(r["churn"]) for r in five)
        overall.setdefault(five[0]["dataset"], set()).add(round(total, 9))
    assert all(len(values) == 1 for values in overall.values())


def test_curves(out, scores):
    table = pq.read_table(out / "curves" / "switcher.parquet")
    assert table.column_names == [
        "dataset",
        "small",
        "large",
        "small_seed",
        "large_seed",
        "score",
        "fraction",
        "value",
    ]
    assert table.num_rows == (3 * 9 + 6) * 6 * 101
    one = [
        row
        for row in table.to_pylist()
        if (row["dataset"], row["small_seed"], row["large_seed"], row["score"]) == ("a<b&c", 4, 2, "churn")
    ]
    assert [row["fraction"] for row in one] == [k / 100 for k in range(101)]
    by_run = {(s.metadata.dataset, s.metadata.size, s.metadata.seed): s for s in scores}
    assert one[0]["value"] == by_run["a<b&c", "small", 4].correct.mean()
    assert one[100]["value"] == pytest.approx(by_run["a<b&c", "base", 2].correct.mean(), abs=1e-15)


def test_summary(out, scores):
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["signature"].startswith("edgewise:1|ties:expected|")
    assert {one["digest"] for one in summary["inputs"]} == {f"digest-{k}" for k in range(len(scores))}
    assert summary["tables"]["table3"][0]["mean"] == float(rows(out / "tables" / "table3.csv")[0]["mean"])
    sizes = summary["datasets"]["imdb"]["sizes"]
    assert [size["name"] for size in sizes] == ["small", "base", "large"]
    for size in sizes:
        assert size["accuracy"]["ci_low"] < size["accuracy"]["value"] < size["accuracy"]["ci_high"]
    slices = summary["datasets"]["imdb"]["slices"]
    assert sum(row["examples"] for row in slices) == 120


def test_readable_tables_say_how_they_were_made(out):
    for k in (1, 2, 3):
        text = (out / "tables" / f"table{k}.md").read_text(encoding="utf-8")
        assert "committee:mean_score" in text and "multibootstrap-percentile-95%-40-seed0" in text
        tex = (out / "tables" / f"table{k}.tex").read_text(encoding="utf-8")
        assert r"a<b\&c" in tex and "\\bottomrule" in tex
        lines = [line for line in tex.splitlines() if line.endswith(r"\\")]
        assert len({line.replace(r"\&", "").count("&") for line in lines}) == 1


def test_report_stands_alone(out):
    page = (out / "report" / "index.html").read_text(encoding="utf-8")
    sentences = page.count('<p class="soft" id="fig')  # of figures with nothing to show
    assert page.count("<svg role") + sentences == 6 and sentences <= 1
    assert not re.search(r'(src|href)="(?!#|data:)', page)
    assert not re.search(r"@import|url\((?!#)", page)
    assert "a&lt;b&amp;c" in page and "a<b&c" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page
    assert len(page) < 5_000_000
    for target in re.findall(r'href="#([\w-]+)"', page.split("<section")[0]):
        assert f'id="{target}"' in page


def test_figures_are_small(out):
    assert all(path.stat().st_size < 300_000 for path in (out / "figures").glob("*.svg"))


def test_same_inputs_give_the_same_bytes(out, scores, tmp_path):
    """Whatever the order of files, of examples within them, and the hash seed of the process."""
    rng = np.random.default_rng(0)
    shuffled = []
    for one in scores:
        order = rng.permutation(len(one.example_id))
        if one.metadata.size == "small" and one.metadata.seed == 0:
            order = np.arange(len(order))  # examples come in the order of a dataset's first run
        columns = ("example_id", "target", "prediction", "correct", "class_log_likelihoods")
        shuffled.append(
            replace(
                one,
                **{name: getattr(one, name)[order] for name in columns},
                slices={name: column[order] for name, column in one.slices.items()},
            )
        )
    order = rng.permutation(len(scores))
    write_metrics([shuffled[k] for k in order], [inputs(scores)[k] for k in order], CONFIG, tmp_path / "again")
    before, after = files(out), files(tmp_path / "again")
    assert [name for name in before if before[name] != after[name]] == []


def test_permuting_every_run_changes_no_point_estimate(scores, out, tmp_path, without_pictures):
    order = np.random.default_rng(1).permutation(120)
    permuted = [
        replace(
            one,
            **{
                n: getattr(one, n)[order]
                for n in ("example_id", "target", "prediction", "correct", "class_log_likelihoods")
            },
            slices={name: column[order] for name, column in one.slices.items()},
        )
        for one in scores
        if one.metadata.dataset == "imdb"
    ]
    write(permuted, tmp_path / "out", Metrics(resamples=0))
    for name, columns in ((table.name, table.columns) for table in (TABLE1, TABLE2, TABLE3)):
        before = [row for row in rows(out / "tables" / f"{name}.csv") if row["dataset"] == "imdb"]
        after = rows(tmp_path / "out" / "tables" / f"{name}.csv")
        for one, other in zip(before, after, strict=True):
            kept = [column for column in columns if not column.startswith("ci_")]
            # sums of logarithms may round another way in another order; counts may not
            assert [one[c] for c in kept] == [other[c] for c in kept]
            assert other["ci_low"] == ""


# ---- partial grids


def test_sizes_of_two_seeds_are_named_in_one_list():
    sizes = {"small": (10, 1.5), "base": (20, 1.6), "large": (30, 2.0)}
    [grid] = collect_grids(synthetic_grid(sizes, seeds=2, examples=20))
    assert grid.notes[-1].startswith("Two seeds only of small, base and large: they say little")


def test_uneven_grid_says_what_it_lacks(tmp_path):
    partial = synthetic_grid(seeds={"small": [3], "base": [0, 1]}, examples=80)
    summary = write(partial, tmp_path / "out")
    assert any("One seed only of small" in note for note in summary["notes"])
    assert any("Two seeds only of base: they say little" in note for note in summary["notes"])
    assert any("no committee_margin, committee_entropy, churn" in note for note in summary["notes"])
    assert {row["score"] for row in summary["tables"]["table1"]} == {"margin", "entropy"}
    assert {row["size"] for row in summary["tables"]["table2"]} == {"base"}
    assert set(files(tmp_path / "out")) == FILES
    assert "One seed only of small" in (tmp_path / "out" / "tables" / "table1.md").read_text(encoding="utf-8")
    assert "One seed only of small" in (tmp_path / "out" / "report" / "index.html").read_text(encoding="utf-8")


def test_churn_of_the_largest_size_that_has_it(tmp_path, without_pictures):
    summary = write(synthetic_grid(seeds={"small": [0, 1], "base": [0]}, examples=80), tmp_path / "out")
    assert {row["size"] for row in summary["tables"]["table2"]} == {"small"}
    assert any("so Table 2 is of small" in note for note in summary["notes"])


def test_one_seed_each(tmp_path):
    summary = write(synthetic_grid(seeds=1, examples=80), tmp_path / "out")
    assert len(summary["tables"]["table1"]) == 2 and summary["tables"]["table2"] == []
    assert summary["tables"]["table1"][0]["se"] is None and summary["tables"]["table1"][0]["pairs"] == 1
    assert set(files(tmp_path / "out")) == FILES


def test_one_size(tmp_path):
    summary = write(synthetic_grid({"small": (10, 1.5)}, seeds=3, examples=80), tmp_path / "out")
    assert summary["tables"]["table1"] == [] and len(summary["tables"]["table2"]) == 5
    assert set(files(tmp_path / "out")) == FILES
    assert rows(tmp_path / "out" / "figures" / "fig3.csv")


def test_one_run_says_nothing(tmp_path):
    with pytest.raises(EdgewiseError, match="one run only"):
        write(synthetic_grid({"small": (10, 1.5)}, seeds=1), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("examples", [1, 2, 7])
def test_few_examples(tmp_path, examples):
    write(synthetic_grid(seeds=2, examples=examples), tmp_path / "out")
    assert set(files(tmp_path / "out")) == FILES


def test_models_that_are_never_right_or_always_sure(tmp_path):
    grid = synthetic_grid(seeds=2, examples=30)
    for one in grid:
        one.prediction = np.where(one.target == "class 0", "class 1", "class 0").astype(object)
        one.correct = one.prediction == one.target
        one.class_log_likelihoods = np.where(one.prediction[:, None] == ["class 0", "class 1"], 0, -np.inf).astype("f4")
    summary = write(grid, tmp_path / "out")
    assert summary["tables"]["table1"][0]["mean"] == 0 and summary["tables"]["table1"][0]["mean_relative"] is None


def test_predictions_that_are_not_the_likeliest_are_noted():
    grid = synthetic_grid(seeds=2, examples=30)
    grid[0].class_log_likelihoods = grid[0].class_log_likelihoods[:, ::-1]
    assert any("30 predictions of small are not" in note for note in collect_grids(grid)[0].notes)


def test_two_sizes_with_equal_parameters_are_ordered_by_name():
    (grid,) = collect_grids(synthetic_grid({"wide": (10, 1.5), "deep": (10, 1.6)}, seeds=2, examples=30))
    assert [size.name for size in grid.sizes] == ["deep", "wide"]
    assert any("ordered by name" in note for note in grid.notes)


def test_many_slice_values_are_cut_with_a_note():
    grid = synthetic_grid(seeds=2, examples=100)
    for one in grid:
        one.slices["slice_page"] = np.array([f"p{k // 2 if k < 98 else k}" for k in range(100)], dtype=object)
    result = analyse(collect_grids(grid)[0], Metrics(resamples=5))
    assert sum(row.column == "slice_page" for row in result.slices) == 40
    assert any("slice_page has 51 values" in note for note in result.notes)


# ---- runs that don't fit together


def broken(change, match):
    grid = synthetic_grid(seeds=2, examples=30)
    with pytest.raises(GridError, match=match) as caught:
        collect_grids(change(grid) or grid)
    return str(caught.value)


def test_clusters_and_text_are_those_of_the_first_run_that_has_them():
    grid = synthetic_grid(seeds=2, examples=30)
    assert collect_grids(grid)[0].cluster is None and collect_grids(grid)[0].text() is None
    cluster = np.array([f"c{k // 3}" if k else None for k in range(30)], dtype=object)
    text = np.array([f"text {k}" for k in range(30)], dtype=object)
    order = np.random.default_rng(0).permutation(30)
    mixed = [
        grid[0],
        replace(grid[1], cluster=cluster, text=text).take(order),
        replace(grid[2], cluster=cluster),
        grid[3],
    ]
    collected = collect_grids(mixed)[0]
    assert collected.cluster.decoded().tolist() == cluster.tolist()
    assert collected.text().to_pylist() == text.tolist()

    def change(runs):
        other = cluster.copy()
        other[4] = "another"
        return [replace(runs[0], cluster=cluster), replace(runs[1], cluster=other), *runs[2:]]

    broken(change, r"differ in cluster of example 'test-4': 'c1' and 'another' \(1 such examples\)")


def test_two_files_of_one_run():
    broken(lambda grid: [*grid, grid[1]], "two scores files of synthetic small seed 1")


def test_files_of_two_splits():
    def change(grid):
        return [*grid, replace(grid[1], metadata=replace(grid[1].metadata, split="validation"))]

    broken(change, "synthetic small seed 1 of two splits, test and validation; expected one")


def test_one_size_with_two_parameter_counts():
    def change(grid):
        grid[1].metadata.parameters += 1

    broken(change, "synthetic small seed 0 has 60,000,000 parameters but synthetic small seed 1 has 60,000,001")


def test_other_examples_targets_classes_slices_split():
    def other_id(grid):
        grid[2].example_id[4] = "elsewhere"

    def fewer(grid):
        one = grid[3]
        grid[3] = replace(
            one,
            **{
                n: getattr(one, n)[:20]
                for n in ("example_id", "target", "prediction", "correct", "class_log_likelihoods")
            },
            slices={name: column[:20] for name, column in one.slices.items()},
        )

    def target(grid):
        grid[1].target = grid[1].target.copy()
        grid[1].target[7] = "class 1" if grid[1].target[7] == "class 0" else "class 0"

    def classes(grid):
        grid[1].metadata.classes = ["class 1", "class 0"]

    def slices(grid):
        grid[2].slices["slice_kind"][9] = "odd"

    def columns(grid):
        grid[2].slices = {}

    def split(grid):
        grid[1].metadata.split = "validation"

    both = "synthetic small seed 0 and synthetic small seed 1"
    assert "'test-4' is in synthetic small seed 0 but not in synthetic base seed 0" in broken(other_id, "different")
    assert "(30 and 20 rows)" in broken(fewer, "'test-20' is in synthetic small seed 0")
    assert both in broken(target, "differ in target of example 'test-7'")
    assert both in broken(classes, "differ in classes")
    broken(slices, "differ in slice_kind of example 'test-9': .* and 'odd'")
    broken(columns, r"slice columns: \['slice_kind'\] and \[\]")
    assert both in broken(split, "differ in split: 'test' and 'validation'")


# ---- from files


def config(scores, out, **metrics):
    return Config(metrics=Metrics(scores=str(scores), out=str(out), resamples=20, **metrics))


def test_from_files(tmp_path):
    paths = write_grid(synthetic_grid(seeds=2, examples=60), tmp_path / "in" / "deep")
    out = metrics_from_files(config(tmp_path / "in" / "**" / "*.parquet", tmp_path / "out"))
    assert set(files(out)) == FILES
    listed = json.loads((out / "summary.json").read_text(encoding="utf-8"))["inputs"]
    digests = {path.name: "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    assert {one["name"]: one["digest"] for one in listed} == digests
    assert str(tmp_path) not in b"".join(files(out).values()).decode("utf-8", "ignore")


def test_files_of_one_name_keep_their_folders(tmp_path, without_pictures):
    for k, one in enumerate(synthetic_grid(seeds=2, examples=60)):
        write_scores(one, tmp_path / "in" / str(k) / "scores.parquet")
    out = metrics_from_files(config(tmp_path / "in" / "*" / "scores.parquet", tmp_path / "out"))
    listed = json.loads((out / "summary.json").read_text(encoding="utf-8"))["inputs"]
    assert sorted(one["name"] for one in listed) == [f"{k}/scores.parquet" for k in range(4)]


def test_from_files_errors(tmp_path):
    with pytest.raises(EdgewiseError, match="no file matches"):
        metrics_from_files(config(tmp_path / "*.parquet", tmp_path / "out"))
    with pytest.raises(EdgewiseError, match=r"such as 'metrics.scores=.*/\*.parquet'"):
        metrics_from_files(config(tmp_path, tmp_path / "out"))
    paths = write_grid(synthetic_grid(seeds=2, examples=20), tmp_path / "in")
    no_out = config(tmp_path / "in" / "*", tmp_path / "out")
    no_out.metrics.out = None
    with pytest.raises(EdgewiseError, match=r"metrics\.out=DIR"):
        metrics_from_files(no_out)
    with pytest.raises(OutputError, match=r"holds files but no summary\.json"):
        metrics_from_files(config(tmp_path / "in" / "*.parquet", tmp_path / "in"))
    (tmp_path / "in" / "summary.json").write_text("{}")
    with pytest.raises(EdgewiseError, match="would replace the scores file"):
        metrics_from_files(config(tmp_path / "in" / "*.parquet", tmp_path / "in"))
    assert all(path.exists() for path in paths)


def test_out_is_replaced_whole_or_left_alone(scores, tmp_path, without_pictures, monkeypatch):
    out = tmp_path / "out"
    few = scores[:9]
    write(few, out)
    (out / "tables" / "stray.txt").write_text("from before")
    before = files(out)

    def fail(*args, **named):
        raise RuntimeError("in the middle")

    with monkeypatch.context() as patched:
        patched.setattr("metrics.output.directory.write_report", fail)
        with pytest.raises(RuntimeError):
            write(few, out)
    assert files(out) == before and [p.name for p in tmp_path.iterdir()] == ["out"]
    write(few, out)
    assert set(files(out)) == set(before) - {"tables/stray.txt"}


def test_out_that_is_something_else(scores, tmp_path, without_pictures):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        write(scores, tmp_path / "file")
    with pytest.raises(OutputError, match="can't be written"):
        write(scores, tmp_path / "file" / "below")
    (tmp_path / "empty").mkdir()
    write(scores[:9], tmp_path / "empty")


def test_the_front_door_needs_neither_jax_nor_a_store(tmp_path):
    write_grid(synthetic_grid({"small": (10, 1.0), "base": (20, 5.0)}, seeds=3, examples=40), tmp_path / "in")
    code = (
        "import sys; from conf.app import command; from metrics.__main__ import main; command(main)();"
        "assert not {'jax', 'flax', 'pandas'} & set(sys.modules), 'slow imports'"
    )
    arguments = ["metrics.scores=in/*.parquet", "metrics.out=out", "metrics.resamples=10"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "deferral by margin beats random by" in done.stdout and "out/report/index.html" in done.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]
