"""docs/metrics.md: every number of its worked example is what the code gives, to the printed digits."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest

from conf.schema import SCORES, Metrics
from metrics.beyond import BEYOND_TABLES
from metrics.beyond.peak import random_peak
from metrics.bootstrap.resampling import Estimate
from metrics.convert.__main__ import main
from metrics.grid.collect import collect_grids
from metrics.scores import Scores, ScoresMetadata, TokenScores, read_scores
from metrics.statistics.bleu_switcher import bleu_bounds, bleu_statistics_of_switchers, switcher_bleu
from metrics.statistics.switcher import deferral_order
from metrics.statistics.text import bleu_statistics, corpus_bleu, exact_match, f1, normalized, sentence_bleu
from metrics.statistics.uncertainty import sequence_margin, uncertainties
from metrics.tables.baseline import over_baseline
from metrics.tables.paper import PAPER_TABLES, table_rows
from metrics.tables.signature import signature
from metrics.text_baseline import TextBaseline
from tests.metrics_runs import tables_of

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "metrics.md").read_text(encoding="utf-8")
CLASSES = ["yes", "no"]
SMALL_0 = ("small", 0, "margin")


def example():
    """The document's own table of probabilities, as scores."""
    rows = list(csv.DictReader(io.StringIO(re.search(r"```csv\n(.*?)```", TEXT, re.DOTALL)[1])))
    ids, target = (np.array([row[name] for row in rows], dtype=object) for name in ("example", "target"))
    grid = []
    for run in list(rows[0])[2:]:
        size, seed = run.split()
        yes = np.array([float(row[run]) for row in rows])
        likelihoods = np.log(np.stack([yes, 1 - yes], axis=1)).astype(np.float32)
        prediction = np.array(CLASSES, dtype=object)[likelihoods.argmax(axis=1)]
        parameters = {"small": 60, "large": 770}[size]
        metadata = ScoresMetadata(
            "toy", size, int(seed), "test", "classification", CLASSES, parameters, 1.0, "", "", ""
        )
        grid.append(Scores(metadata, ids, target, prediction, prediction == target, likelihoods))
    return grid


def past_the_paper(analysis, further):
    """The numbers of the section of that name, in percent and points."""
    quality = next(row for row in further["deferral_quality"].rows if row["score"] == "margin")
    run = next(row for row in further["selective_runs"].rows if (row["size"], row["seed"], row["score"]) == SMALL_0)
    # without resamples there are no tests, but there is the difference that they would be of
    areas = analysis.pairs[0].area
    bounds = analysis.pairs[0].bounds
    ensembles = {(row["combination"], row["members"]): row["ensemble"] for row in further["ensembles"].rows}
    return {
        **{name: quality[name] for name in ("share_of_perfect", "area", "apgr")},
        "difference": 100 * (areas["margin"].value - areas["committee_margin"].value),
        "floor(0, 0)": 100 * float(random_peak(bounds.only_large[0, 0], bounds.only_small[0, 0], 4)),
        "majority": ensembles["majority_vote", 2],
        "mean_probability": ensembles["mean_probability", 2],
        **{name: run[name] for name in ("aurc", "e_aurc", "augrc", "auroc")},
    }


@pytest.fixture(scope="module")
def numbers():
    config = Metrics(resamples=0)
    analysis, further = tables_of(example(), config)
    grid, (pair,) = analysis.grid, analysis.pairs
    margin, tables = pair.scores["margin"], table_rows([analysis])
    one, three = ({row["score"]: row for row in tables[name]}["margin"] for name in ("table1", "table3"))
    buckets = {(row["uncertainty_size"], row["bucket"]): row for row in tables["table2"]}
    scores = uncertainties(grid.sizes[0], config)
    outcome, row = analysis.outcomes, int(np.flatnonzero(analysis.outcomes.thresholds < 0.795)[0])
    assert outcome.thresholds[row] == pytest.approx(0.794, abs=5e-4)
    both_right, both_wrong, only_large, only_small = outcome.fraction[row]
    known = {
        "accuracy(small)": analysis.quality["small"].value,
        "accuracy(large)": analysis.quality["large"].value,
        **{f"S({k / 4:g})": margin.curve[0, 0][25 * k] for k in range(5)},
        "table1(0, 0)": margin.peak_gain[0, 0],
        "table3(0, 0)": margin.area[0, 0],
        "random_hump": pair.bounds.random_hump.mean(),
        "gap": pair.gap.value,
        "disagreement": pair.disagreement.value,
        "only_large_right": pair.bounds.only_large.mean(),
        "only_small_right": pair.bounds.only_small.mean(),
        "hump": margin.hump.mean(),
        "perfect_hump": pair.bounds.perfect_hump.mean(),
        "perfect_area": pair.bounds.perfect_area.mean(),
        "area_over_margin": pair.area_over_margin["committee_margin"].value,
        "both_right": both_right,
        "both_wrong": both_wrong,
        "only_large": only_large,
        "only_small": only_small,
        "fig3(small, 1)": analysis.buckets.quality["small"][0],
        "fig3(large, 1)": analysis.buckets.quality["large"][0],
        "mean S(0.5)": pair.curve["margin"][50],
        "disagreement(0, 0)": pair.disagreements[0, 0],
        "hump(0, 0)": margin.hump[0, 0],
    }
    known = {name: 100 * value for name, value in known.items()}
    known |= {
        "margin(small 0, c)": np.exp(scores["margin"][0, 2]),
        "entropy(small 0, c)": -0.4 * np.log(0.4) - 0.6 * np.log(0.6),
        "churn(small 0, c)": scores["churn"][0, 2],
        "committee_margin(small 0, d)": np.exp(scores["committee_margin"][0, 3]),
        "committee_entropy(small 0, d)": np.exp(scores["committee_entropy"][0, 3]),
        "committee_churn(small 0, c)": scores["committee_churn"][0, 2],
        "table1": one["mean"],
        "table1_se": one["se"],
        "table1_relative": one["mean_relative"],
        "table3": three["mean"],
        "table3_se": three["se"],
        "table3_relative": three["mean_relative"],
        "pairs": one["pairs"],
        **{f"share({part})": pair.least_share["margin"].reaching[part].value for part in (0.5, 0.95)},
        **{f"churn({q})": buckets["small", q]["churn"] for q in ("Q1", "Q2", "Q5")},
        "examples(Q1)": buckets["small", "Q1"]["examples"],
        "pairs(Q1)": buckets["small", "Q1"]["pairs"],
        "se(Q1)": buckets["small", "Q1"]["se"],
        **{
            f"overall({size})": sum(
                (row["upper"] - row["lower"]) * row["churn"] for (by, _), row in buckets.items() if by == size
            )
            for size in ("small", "large")
        },
        **past_the_paper(analysis, further),
        "p2(small 0, c)": np.exp(outcome.log_uncertainty[2]),
        "scaled S(0.5)": pair.curve["margin"][50] / pair.curve["margin"][100],
        "over_baseline": 100 * over_baseline(Estimate(0.9, 0.87, 0.93), TextBaseline(0.8, 400, 9, 9, ""), 0.95).value,
    }
    return {**known, **of_sequences()}


def of_sequences():
    """The numbers of the section on span QA and translation, from its own three sentences."""
    rows = list(csv.DictReader(io.StringIO(re.findall(r"```csv\n(.*?)```", TEXT, re.DOTALL)[1])))
    small, large = (
        bleu_statistics([row[name] for row in rows], [row["reference"] for row in rows]) for name in ("small", "large")
    )
    margins = [np.array(row["margins"].split(), dtype=float) for row in rows]
    tokens = TokenScores(
        *(np.zeros(9), np.concatenate(margins), np.zeros(9)), offsets=np.cumsum([0, *map(len, margins)])
    )
    scores = sequence_margin(tokens)
    deferral = deferral_order(scores)
    of = bleu_statistics_of_switchers(deferral, small, large[None])
    curve = switcher_bleu(deferral, small, large)
    return {
        "f1(in the Eiffel Tower, Eiffel Tower)": f1("in the Eiffel Tower", ["Eiffel Tower"]),
        "bleu(small)": corpus_bleu(small.sum(axis=0)),
        "bleu(large)": corpus_bleu(large.sum(axis=0)),
        "sequence margin(2)": np.exp(scores[1]),
        **{f"BLEU({k})": curve[k] for k in range(4)},
        "BLEU table1": 100 * of.peak_gain[0],
        "BLEU table3": 100 * of.area[0],
        "BLEU floor": 100 * bleu_bounds(small[None], large[None]).random_hump[0, 0],
        "sentence BLEU(small, 2)": sentence_bleu(small)[1],
    }


def test_what_is_said_of_sequences_in_words():
    assert normalized("The Eiffel Tower.") == "eiffel tower"
    assert exact_match("an Eiffel tower", ["Eiffel Tower"])
    rows = list(csv.DictReader(io.StringIO(re.findall(r"```csv\n(.*?)```", TEXT, re.DOTALL)[1])))
    stats = bleu_statistics([rows[1]["small"]], [rows[1]["reference"]])[0]
    assert stats.tolist() == [6, 7, 5, 2, 0, 0, 6, 5, 4, 3]
    assert sentence_bleu(bleu_statistics([rows[1]["large"]], [rows[1]["reference"]]))[0] == pytest.approx(100)


def test_every_number_is_what_the_code_gives(numbers):
    told = re.findall(r"`([^`=|]+) = (-?[\d.]+)`", TEXT)
    assert {name for name, _ in told} == set(numbers)
    for name, printed in told:
        whole, _, decimals = printed.partition(".")
        rounded = decimals and len((whole + decimals).lstrip("0")) >= 3
        # what has fewer digits is exact, but for a float32 likelihood's seven digits
        tolerance = 0.5 * 10.0 ** -len(decimals) * (1 + 1e-4) if rounded else 1e-5
        assert abs(float(printed) - numbers[name]) <= tolerance, (name, numbers[name])


def test_ties_are_where_it_says():
    (grid,) = collect_grids(example())
    margins = uncertainties(grid.sizes[0], Metrics())["margin"][1]
    assert margins[1] == margins[3] and np.exp(margins[1]) == pytest.approx(0.6)


def test_default_signature():
    assert f"`{signature(Metrics())}`" in TEXT


def test_nothing_is_left_undefined():
    for name in (*SCORES, "random_hump", "least_share", "within_epsilon"):
        assert f"`{name}`" in TEXT
    numbers = {"mean", "se", "ci_low", "ci_high", "pairs", "mean_relative", "churn", "examples"}
    for table in PAPER_TABLES:
        for column in set(table.columns) & numbers:
            assert f"`{column}`" in TEXT
    for table in BEYOND_TABLES:
        assert f"`{table.name}`" in TEXT
    assert [f"| {k} |" in TEXT for k in range(1, 7)] == [True] * 6


def test_the_command_to_convert_it(tmp_path, monkeypatch):
    command = re.search(r"python -m metrics\.convert (small-0\.csv.*?--out scores)", TEXT, re.DOTALL)[1]
    one = example()[0]
    lines = [
        f"{i},{t},{float(np.exp(p[0]))},{float(np.exp(p[1]))}"
        for i, t, p in zip(one.example_id, one.target, one.class_log_likelihoods, strict=True)
    ]
    (tmp_path / "small-0.csv").write_text("\n".join(["example,target,yes,no", *lines]) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(command.replace("\\\n", " ").split()) == 0
    read = read_scores(tmp_path / "scores" / "scores-toy-small-s0-test.parquet")
    np.testing.assert_array_equal(read.correct, one.correct)
