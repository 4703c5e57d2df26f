"""The study of the paper's claims: what each number allows to say, and the page that says it."""

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest

from bench.product import run
from bench.study.__main__ import STUDIES, command_line, few_reviews, main, options_of
from bench.study.claims import CONTRADICTED, HOLDS, UNDECIDED, Claim, Evidence, Output, claims, weighted_correlation
from bench.study.page import marks, pretrained_sizes, study_text, write_study
from metrics.scores import read_scores
from tests.support import REPO, shared_data
from tracking.store import Store


def evidence(value, low=math.nan, high=math.nan):
    return Evidence("nano -> micro", value, low, high)


@pytest.mark.parametrize(
    ("found", "verdict", "line"),
    [
        (evidence(2, 1, 3), HOLDS, "nano -> micro: +2.00 points [+1.00, +3.00], holds"),
        (evidence(-2, -3, -1), CONTRADICTED, "nano -> micro: -2.00 points [-3.00, -1.00], is contradicted"),
        (evidence(1, -1, 3), UNDECIDED, "nano -> micro: +1.00 points [-1.00, +3.00], can't be told"),
        (evidence(1), UNDECIDED, "nano -> micro: +1.00 points no interval, can't be told"),
    ],
)
def test_an_interval_says_whether_a_claim_holds(found, verdict, line):
    assert found.verdict == verdict and found.line() == line


def test_the_answer_counts_the_cases():
    yes, no, open_ = evidence(2, 1, 3), evidence(-2, -3, -1), evidence(0, -1, 1)

    def answer(*found, missing="one size only"):
        return Claim(1, "text", "measure", found, "fig1", missing).answer()

    assert answer() == "Can't be told: one size only."
    assert answer(yes) == "In the one case it holds."
    assert answer(open_, open_) == "In all 2 cases it can't be told."
    assert answer(yes, no, open_, yes) == "Of 4 cases it holds in 2, is contradicted in 1, can't be told in 1."


def estimate(value, half):
    return {"value": value, "ci_low": value - half, "ci_high": value + half}


def gain(bucket, value, half):
    row = {"small": "nano", "large": "micro", "column": "uncertainty of the smallest", "value": f"{bucket} some"}
    return row | {"gain": value, "simultaneous_low": value - half, "simultaneous_high": value + half}


def comparison(score, other, value, half):
    row = {"small": "nano", "large": "micro", "table": "table3", "score": score, "other": other}
    return row | {"difference": value, "difference_ci_low": value - half, "difference_ci_high": value + half}


def churn(bucket, value, half):
    row = {"uncertainty_size": "nano", "size": "micro", "bucket": bucket, "churn": value}
    return row | {"ci_low": value - half, "ci_high": value + half}


def near_pairs(rng, slope):
    """Pairs of 4 × 4 runs whose hump is `slope` times their disagreement, but for noise."""
    rows = []
    for small in range(4):
        for large in range(4):
            x = 0.1 + 0.02 * small + 0.03 * large
            row = {"small": "nano", "large": "micro", "small_seed": str(small), "large_seed": str(large)}
            rows.append(
                row | {"near": "True", "disagreement": str(x), "hump": str(slope * x + 1e-4 * rng.standard_normal())}
            )
    return rows


@pytest.fixture
def output():
    sizes = [
        {
            "name": name,
            "seeds": [0, 1],
            "parameters": 10,
            "accuracy": estimate(0.8, 0.01),
            "accuracy_by_seed": [0.8, 0.8],
        }
        for name in ("nano", "micro")
    ]
    peak = {"small": "nano", "large": "micro", "score": "margin"}
    return Output(
        name="imdb",
        dataset={
            "split": "test",
            "examples": 100,
            "sizes": sizes,
            "pairs": [{"small": "nano", "large": "micro", "scores": {"margin": {"area": estimate(0.02, 0.005)}}}],
        },
        beyond={
            "subgroups": {"rows": [gain("Q1", 1, 2), gain("Q4", 20, 3), {**gain("Q1", 5, 1), "small": "micro"}]},
            "held_out_peak": {"rows": [peak | {"held_out": -0.1, "held_out_ci_low": -0.3, "held_out_ci_high": None}]},
            "chance_peak": {"rows": [peak | {"table1": 0.4, "chance_mean": 0.1, "chance_high": 0.2}]},
            "score_comparison": {
                "rows": [
                    comparison("margin", "committee_margin", 0.5, 0.2),
                    comparison("margin", "churn", 0.5, 0.2),
                    comparison("entropy", "churn", 9, 0.2),
                ]
            },
        },
        tables={"table2": [churn("Q1", 2, 1), churn("Q4", 30, 5)]},
        figure6=near_pairs(np.random.default_rng(0), 0.1),
    )


def test_each_claim_has_its_number(output):
    found = {(claim.number, claim.text): claim for claim in claims(output)}
    assert [number for number, _ in found] == [1, 2, 2, 3, 4, 5, 6]
    one, random, larger, humps, committees, churning, concentrated = (claim.evidence[0] for claim in found.values())
    assert (one.value, one.low, one.high) == (19, 17 - 3, 23 + 1)
    assert (random.value, random.verdict) == (pytest.approx(2), HOLDS)
    assert larger.what == "nano -> micro (Table 1: +0.40; by chance +0.10, in 95 % of draws at most +0.20)"
    assert larger.verdict == UNDECIDED
    assert humps.value > 0.99 and 0.9 < humps.low <= humps.high <= 1 and humps.verdict == HOLDS
    assert (committees.value, committees.low) == (0.5, pytest.approx(0.3))
    assert (churning.value, churning.low, churning.high) == (-0.5, pytest.approx(-0.7), pytest.approx(-0.3))
    assert churning.verdict == CONTRADICTED
    assert (concentrated.value, concentrated.low, concentrated.high) == (28, 25 - 3, 35 - 1)


def test_a_claim_without_its_rows_can_t_be_told(output):
    bare = dataclasses.replace(output, beyond={}, tables={"table2": []}, figure6=output.figure6[:5])
    bare.dataset["pairs"] = []
    for claim in claims(bare):
        assert claim.answer().startswith("Can't be told: ")
    far = [row | {"near": "False"} for row in output.figure6]
    assert not claims(dataclasses.replace(output, figure6=far))[3].evidence


def test_a_correlation_by_hand():
    rng = np.random.default_rng(1)
    x, y, times = rng.standard_normal(9), rng.standard_normal(9), rng.integers(0, 4, 9)
    repeated = np.corrcoef(np.repeat(x, times), np.repeat(y, times))[0, 1]
    assert weighted_correlation(x, y, times.astype(float)) == pytest.approx(repeated)
    assert math.isnan(weighted_correlation(np.ones(3), y[:3], np.ones(3)))


def test_the_page_says_each_claim_once(output, tmp_path):
    text = study_text("IMDB", output, output, [], "just study imdb DATA", "2 CPU cores")
    assert text.count("### (") == 7 and text.count("From scratch: ") == 7 and text.count("![") == 7
    assert "![The larger model's gains are where the smaller one is uncertain](study_imdb_fig3.png)" in text
    assert "| nano | 10 | 2 | 80.00 [79.00, 81.00] | 80.00 [79.00, 81.00] | 80.00, 80.00 |" in text
    # of the claims that the paper has a table of, its numbers as they are printed there
    assert text.count("In the paper: ") == 5
    assert "In the paper: Table 3, SMALL against BASE, LARGE, 3B, %: by margin 1.0, 1.4, 1.7." in text
    assert "by the uncertainty of SMALL 0.33 and 7.78; by the uncertainty of 3B 0.20 and 13.23." in text
    other = study_text("Banking77", dataclasses.replace(output, name="banking77"), None, [], "", "")
    assert "In the paper: " not in other
    page, figures = tmp_path / "study.md", tmp_path / "out" / "figures"
    figures.mkdir(parents=True)
    for number in range(2, 7):
        (figures / f"fig{number}.png").write_bytes(b"png")
    first, last = marks("imdb")
    page.write_text(f"Before\n{first}\nunmeasured\n{last}\nafter\n")
    write_study(page, output, text, tmp_path / "out")
    assert text in page.read_text() and "unmeasured" not in page.read_text()
    assert (tmp_path / "study_imdb_fig6.png").read_bytes() == b"png"
    with pytest.raises(ValueError, match="study banking77"):
        write_study(page, dataclasses.replace(output, name="banking77"), text, tmp_path / "out")


def test_minutes_are_those_of_the_steps_and_no_pause_counts(tracker):
    config = {"dataset": {"name": "wiki"}, "size": {"name": "nano"}, "train": {"steps": 100, "batch_size": 30}}
    with tracker.start_run("train-wiki-nano-s0", job_type="train", config=config) as run:
        run.log({"loss": 4.0, "examples_per_second": 100.0}, 50)
        run.log({"loss": 3.0, "examples_per_second": 50.0, "validation_loss": 2.0}, 100)
    [found] = pretrained_sizes(tracker, "wiki")
    assert (found.loss, found.validation_loss, found.minutes) == (3.0, 2.0, (50 * 30 / 100 + 50 * 30 / 50) / 60)
    assert pretrained_sizes(tracker, "others") == []


def test_the_page_has_marks_for_every_study():
    page = (REPO / "docs" / "study.md").read_text()
    for dataset in STUDIES:
        assert all(mark in page for mark in marks(dataset))


def test_the_released_scores_are_those_of_the_page():
    page = (REPO / "docs" / "study.md").read_text()
    measured = page[page.index(marks("imdb")[0]) : page.index(marks("imdb")[1])]
    files = sorted((REPO / "docs" / "study" / "imdb").glob("*.parquet"))
    by_seed = {}
    for scores in map(read_scores, files):
        assert (scores.metadata.dataset, scores.metadata.split, scores.text) == ("imdb", "test", None)
        by_seed.setdefault((scores.metadata.size, scores.metadata.parameters), []).append(100 * scores.correct.mean())
    assert len(by_seed) == 2
    for (size, parameters), accuracies in by_seed.items():
        [row] = [line for line in measured.splitlines() if line.startswith(f"| {size} | {parameters:,} |")]
        assert row.endswith(f"| {', '.join(f'{accuracy:.2f}' for accuracy in accuracies)} |")


@pytest.mark.slow  # half a minute of tables
def test_the_page_s_numbers_come_out_of_the_released_scores(tmp_path):
    scores = REPO / "docs" / "study" / "imdb" / "*.parquet"
    given = [f"metrics.scores={scores}", f"metrics.out={tmp_path / 'out'}", f"tracking.root={tmp_path / 'runs'}"]
    run("metrics", *given)
    page = (REPO / "docs" / "study.md").read_text()
    for claim in claims(Output.read(tmp_path / "out")):
        for line in (claim.answer(), *(evidence.line() for evidence in claim.evidence)):
            assert line in page, line


def test_the_command_on_the_page_has_no_paths(tmp_path):
    given = ["imdb", str(tmp_path), "--seeds", "3", "--steps", "9", "--root", str(tmp_path), "mesh.data=1"]
    assert command_line(options_of(given)) == "just study imdb DATA --sizes nano,micro --seeds 3 --steps 9 mesh.data=1"


def test_few_reviews_are_evenly_spread(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = tmp_path / "source"
    source.mkdir()
    for name in ("train", "unsup", "test"):
        pq.write_table(pa.table({"text": [f"{name} {i}" for i in range(10)]}), source / f"{name}.parquet")
    taken = pq.read_table(few_reviews(source, 4, tmp_path / "few") / "test.parquet")
    assert taken["text"].to_pylist() == ["test 0", "test 2", "test 5", "test 7"]


@pytest.mark.slow
def test_a_tiny_study_from_pre_training_to_the_page(tmp_path):
    data = shared_data()
    if data is None:
        pytest.skip("there is no folder of real text")
    page = tmp_path / "study.md"
    page.write_text((REPO / "docs" / "study.md").read_text())
    flags = ["--reviews", "500", "--seeds", "2", "--pretraining-steps", "20", "--steps", "30", "--page", str(page)]
    flags += ["--root", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "train.batch_size=16"]
    flags += ["size.d_model=8", "size.d_kv=4", "size.d_ff=8", "dataset.max_input_length=32"]
    given = ["imdb", str(data), *flags, "tokenizer.vocabulary_size=500", "train.eval_examples=16"]
    main(given)
    text = page.read_text()
    part = text[text.index("<!-- study imdb -->") : text.index("<!-- end of study imdb -->")]
    assert part.count("### (") == 7 and part.count("From scratch: ") == 7
    assert "TF-IDF with logistic regression: " in part
    assert "just study imdb DATA --sizes nano,micro --seeds 2 --pretraining-steps 20" in text
    assert all((tmp_path / f"study_imdb_fig{number}.png").is_file() for number in range(2, 7))
    store = Store(tmp_path / "runs")
    runs = {run.id for run in store.runs()}
    main(given)
    assert {run.id for run in store.runs()} == runs and page.read_text() == text
    scores = tmp_path / "out" / "scores" / "imdb"
    assert len(list(scores.glob("*.parquet"))) == 4
    command = [
        sys.executable,
        "-m",
        "metrics",
        f"metrics.scores={scores}/*.parquet",
        f"metrics.out={tmp_path / 'check'}",
    ]
    subprocess.run(command, cwd=REPO, check=True, capture_output=True)
    for name in ("table1.csv", "table2.csv", "table3.csv"):
        tables = (tmp_path / folder / "tables" / name for folder in ("check", "out/imdb"))
        assert len({table.read_bytes() for table in tables}) == 1
