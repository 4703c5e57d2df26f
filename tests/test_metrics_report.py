"""The report as a file: what its data blocks hold, what it says in words, what it escapes, and that it stays small."""

import base64
import gzip
import json
import math
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.schema import SCORES, Metrics
from metrics.analysis.dataset import analyse
from metrics.analysis.prices import Prices
from metrics.analysis.shown_examples import chosen, dispute
from metrics.bootstrap.resampling import Estimate
from metrics.grid.collect import collect_grids
from metrics.output.directory import Input, write_metrics
from metrics.report import curve_chart as curves
from metrics.report import examples
from metrics.report.curve_chart import curve_blocks, perfect_router
from metrics.report.example_details import clipped, longest_that_fits, thresholds_of
from metrics.report.examples import example_blocks, example_section
from metrics.report.figures import figure
from metrics.report.measure import ACCURACY, BLEU
from metrics.report.overview import overview
from metrics.report.packing import Pack, json_block
from metrics.report.picture import picture, recommended_share
from metrics.report.provenance import TRAILS, code_version
from metrics.report.results import result_tables, slice_tables
from metrics.report.words import answer, cost, passages, saving, within
from metrics.statistics.switcher import FRACTIONS, deferral_order, percentiles, switcher_statistics
from metrics.statistics.text import sentence_bleu
from metrics.statistics.uncertainty import uncertainties
from metrics.tables.cells import Cell
from metrics.tables.html import sheet_html, table
from metrics.tables.table import Column, Head, Table
from tests.metrics_runs import tables_of
from tests.support import colors_without_a_value
from tests.synthetic_scores import synthetic_grid

REPO = Path(__file__).parents[1]
CONFIG = Metrics(resamples=40)
SIZES = {"small": (10, 1.5), "base": (20, 1.6), "large": (30, 2.0)}
NASTY = "</script><script>alert(1)</script>\"'&<!--\u2028"


def unpacked(block):
    """What the page's script reads of a block: its header and its columns."""
    content = json.loads(re.fullmatch(r"<script [^>]*>(.*)</script>\n", block, re.DOTALL)[1])
    data = gzip.decompress(base64.b64decode(content.pop("data")))
    kinds = {
        "Uint8Array": "<u1",
        "Uint16Array": "<u2",
        "Uint32Array": "<u4",
        "Float32Array": "<f4",
        "Float64Array": "<f8",
    }
    columns = {
        name: np.frombuffer(data, kinds[c["type"]], c["length"], c["start"])
        for name, c in content.pop("columns").items()
    }
    return content, columns


def texts(columns, name):
    ends = columns[f"{name}.ends"]
    data = columns[name].tobytes()
    return [data[a:b].decode() for a, b in zip([0, *ends[:-1]], ends)]


def first_blocks(analyses, inputs, config=CONFIG, with_text=True):
    """The first block of each dataset, without the details beside it."""
    return [both.partition("\n")[0] + "\n" for both in example_blocks(analyses, inputs, config, with_text)]


def details(analysis, config=CONFIG, with_text=True):
    """What the page's script reads of the second block of a dataset."""
    [both] = example_blocks([analysis], [], config, with_text)
    return unpacked(both.partition("\n")[2])


def joined(columns, name):
    return columns[name].tobytes().decode().split("\0")


def analysed(config=CONFIG, **options):
    (grid,) = collect_grids(synthetic_grid(**{"sizes": SIZES, "examples": 120, **options}))
    return analyse(grid, config)


@pytest.fixture(scope="module")
def analysis():
    return analysed()


# ---- percentiles


def test_percentiles_are_midranks():
    assert percentiles(deferral_order(np.array([3.0, 1.0, 2.0, 2.0]))).tolist() == [87.5, 12.5, 50.0, 50.0]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_percentiles_count_the_less_uncertain_and_half_of_the_ties(values):
    values = np.array(values)
    brute = [100 * ((values < v).sum() + (values == v).sum() / 2) / len(values) for v in values]
    np.testing.assert_allclose(percentiles(deferral_order(values)), brute)


def test_analysis_keeps_mean_percentiles(analysis):
    of = analysis.percentiles["small"]
    assert set(of) == set(SCORES) and of["margin"] is of["entropy"]
    assert of["margin"].shape == (120,) and of["margin"].mean() == pytest.approx(5000, abs=0.5)
    margins = uncertainties(analysis.grid.sizes[0], CONFIG)["margin"]
    expected = np.mean([percentiles(deferral_order(run)) for run in margins], axis=0)
    np.testing.assert_allclose(of["margin"], 100 * expected, atol=0.51)


# ---- data blocks


@settings(max_examples=30)
@given(st.lists(st.text(), max_size=8), st.lists(st.integers(0, 2**32 - 1), max_size=9))
def test_packs_read_back(words, numbers):
    pack = Pack()
    pack.add_codes("small", np.arange(3), 3)
    pack.add_texts("words", words)
    pack.add("numbers", np.array(numbers, dtype=np.uint32))
    header, columns = unpacked(json_block("x", pack.block(dataset="</script>", n=1)))
    assert header == {"dataset": "</script>", "n": 1}
    assert columns["small"].dtype == np.uint8 and columns["small"].tolist() == [0, 1, 2]
    assert columns["numbers"].tolist() == numbers
    assert texts(columns, "words") == [word.encode("utf-8", "replace").decode() for word in words]


def test_nothing_in_a_block_ends_it():
    block = json_block("x", {"dataset": NASTY})
    assert block.count("<") == 2 and "\u2028" not in block


def test_curve_blocks_hold_every_curve(analysis):
    header, columns = unpacked(curve_blocks([analysis], 0.95)[0])
    assert [s["name"] for s in header["sizes"]] == ["small", "base", "large"]
    for k, pair in enumerate(analysis.pairs):
        assert header["readings"][0]["pairs"][k]["small"] == [s["name"] for s in header["sizes"]].index(pair.small)
        for one in header["readings"][0]["pairs"][k]["scores"]:
            name = f"0.{k}.{one['same'] or one['name']}"
            np.testing.assert_array_equal(columns[f"{name}.mean"], pair.curve[one["name"]].astype("f4"))
            np.testing.assert_array_equal(columns[f"{name}.low"], pair.band[one["name"]][0].astype("f4"))
            least, most = columns[f"{name}.range"]
            levels = np.cumsum(columns[f"{name}.every"].reshape(3, 3, 101).astype(np.int64), axis=2) % 2**16
            curve = least + levels / 65535 * (most - least)
            assert np.abs(curve - pair.scores[one["name"]].curve).max() <= 0.5001 * (most - least) / 65535
    assert header["readings"][0]["pairs"][0]["scores"][2]["same"] == "margin"  # entropy: two classes


def test_committees_are_charged(analysis):
    header, _ = unpacked(curve_blocks([analysis], 0.95)[0])
    assert {score["name"]: score["passes"] for score in header["readings"][0]["pairs"][0]["scores"]} == {
        "margin": 1,
        "entropy": 1,
        **dict.fromkeys(("churn", "committee_margin", "committee_entropy", "committee_churn"), 3),
    }


def test_curves_of_single_pairs_give_way_to_the_budget(analysis, monkeypatch):
    full = len(unpacked(curve_blocks([analysis], 0.95)[0])[1])
    monkeypatch.setattr(curves, "BUDGET", 12_000)
    header, columns = unpacked(curve_blocks([analysis], 0.95)[0])
    assert {s["name"] for s in header["readings"][0]["pairs"][0]["scores"] if s["singles"]} == {"margin"}
    assert "0.0.churn.mean" in columns and "0.0.churn.every" not in columns and "0.0.margin.every" in columns
    monkeypatch.setattr(curves, "BUDGET", 1)
    assert len(unpacked(curve_blocks([analysis], 0.95)[0])[1]) < len(columns) < full


def test_perfect_router_is_the_curve_of_the_score_d(analysis):
    pair = analysis.pairs[0]
    small, large = (next(s for s in analysis.grid.sizes if s.name == name) for name in (pair.small, pair.large))
    curve = [
        switcher_statistics(deferral_order(one.astype(int) - own.astype(int)), own, one[None]).curve[0]
        for own in small.correct
        for one in large.correct
    ]
    # the curve of d bends at w and 1 - l', which the grid of fractions may miss; exact at the fractions themselves
    assert FRACTIONS.shape == np.shape(curve)[1:]
    np.testing.assert_allclose(perfect_router(pair.curve["margin"][0], pair.bounds), np.mean(curve, axis=0), atol=1e-12)


def test_example_blocks_hold_every_example(analysis):
    inputs = [{"dataset": "synthetic", "size": "base", "seed": 1, "name": "scores-x"}]
    header, columns = unpacked(first_blocks([analysis], inputs)[0])
    grid = analysis.grid
    assert (header["count"], header["examples"]) == (120, 120)
    assert joined(columns, "id") == grid.example_id.to_pylist()
    pool = texts(columns, "text")
    assert [pool[code] for code in columns["target"]] == list(grid.target.decoded())
    values = texts(columns, "slice.0.value")
    assert [values[code] for code in columns["slice.0"]] == list(grid.slices["slice_kind"].decoded())
    for k, size in enumerate(grid.sizes):
        prediction = columns[f"{k}.prediction"].reshape(3, 120)
        np.testing.assert_array_equal(prediction, size.prediction)
        bits = np.unpackbits(columns[f"{k}.right"].reshape(3, -1), axis=1, bitorder="little", count=120)
        np.testing.assert_array_equal(bits, size.correct)
        differing = sum((prediction[i] != prediction[j]).astype(int) for i in range(3) for j in range(i))
        np.testing.assert_array_equal(columns[f"{k}.differing"], differing)
        for score in header["sizes"][k]["scores"]:
            np.testing.assert_array_equal(columns[score["column"]], analysis.percentiles[size.name][score["name"]])
    assert [len(size["scores"]) for size in header["sizes"]] == [6, 6, 0]
    assert header["sizes"][1]["runs"][1] == {"seed": 1, "scores": "scores-x"}


def test_examples_beyond_the_budget_are_the_disputed_and_the_uncertain(analysis, monkeypatch):
    whole = unpacked(first_blocks([analysis], [])[0])[0]
    monkeypatch.setattr(examples, "BUDGET", 2_500)
    block = first_blocks([analysis], [])[0]
    header, columns = unpacked(block)
    assert whole["count"] == 120 > header["count"] > 10 and header["examples"] == 120
    assert len(json.loads(block[block.index("{") : block.rindex("}") + 1])["data"]) <= 2_500
    rows, count = columns["row"], header["count"]
    uncertainties_ = analysis.percentiles["small"]["margin"].astype(int)
    np.testing.assert_array_equal(rows, chosen(dispute(analysis.grid), uncertainties_, count))
    right = np.mean([size.correct.mean(axis=0) for size in analysis.grid.sizes], axis=0)
    disputed, uncertainty = right * (1 - right), uncertainties_
    left_out = np.setdiff1d(np.arange(120), rows)
    # the half by dispute takes all that is more disputed than anything left out
    assert set(np.flatnonzero(disputed > disputed[left_out].max() + 1e-12)) <= set(rows)
    assert (disputed[rows] >= disputed[left_out].max() - 1e-12).sum() >= count - count // 2
    others = rows[disputed[rows] < disputed[left_out].max() - 1e-12]
    assert (uncertainty[others] >= uncertainty[np.setdiff1d(left_out, others)].max()).all()


# ---- what examples say, and how sure the sizes are of them


HOSTILE = "</script><script>alert(1)</script>\u202egnp.exe\0 <img src=x onerror=alert(1)> \u2028\ufeff"


def with_texts(texts, **options):
    scores = synthetic_grid(**{"sizes": SIZES, "seeds": 2, "examples": len(texts), **options})
    text = np.array(texts, dtype=object)
    return [replace(one, text=text) for one in scores]


def test_texts_read_back_whatever_they_hold():
    texts_given = [HOSTILE, "", *("plain" for _ in range(18))]
    result = analyse(collect_grids(with_texts(texts_given))[0], CONFIG)
    header, columns = details(result)
    assert joined(columns, "text") == [HOSTILE.replace("\0", "\ufffd"), *texts_given[1:]]
    assert header["longest"] == len(HOSTILE) and header["cut"] is False
    blocks = "".join(example_blocks([result], [], CONFIG, True))
    assert blocks.count("<") == 4 and "alert" not in blocks


def test_without_text_no_block_holds_any():
    texts_given = [f"private {k}" for k in range(30)]
    result = analyse(collect_grids(with_texts(texts_given, task="span_qa"))[0], CONFIG)
    header, columns = details(result, with_text=False)
    assert header["longest"] is None and "text" not in columns
    _, columns = unpacked(first_blocks([result], [], with_text=False)[0])
    answers = texts(columns, "text")
    assert answers == [f"answer {k + 1}" for k in range(len(answers))]  # they are texts too
    _, columns = unpacked(first_blocks([result], [])[0])
    assert set(result.grid.target.values) <= set(texts(columns, "text"))
    assert 'id="no-text"' in example_section(False) and 'id="no-text"' not in example_section(True)


def test_scores_without_texts_have_none_to_show(analysis):
    header, columns = details(analysis)
    assert header["longest"] is None and "text" not in columns and "0.margin" in columns


def test_texts_are_cut_where_they_don_t_fit(monkeypatch):
    rng = np.random.default_rng(0)
    texts_given = ["".join(rng.choice(list("abcdefghijklmnop"), 10 + 40 * (k % 9))) for k in range(60)]
    result = analyse(collect_grids(with_texts(texts_given))[0], CONFIG)
    whole = details(result)[0]["longest"]
    assert whole == max(map(len, texts_given))
    monkeypatch.setattr(examples, "DETAILS_BUDGET", 8_000)
    header, columns = details(result)
    longest = header["longest"]
    assert 20 < longest < whole and header["cut"] is True
    cut = joined(columns, "text")
    assert cut == [clipped(text, longest) for text in texts_given]
    assert cut[8].endswith("… (330 characters in all)") and cut[0] == texts_given[0]
    monkeypatch.setattr(examples, "DETAILS_BUDGET", 1)
    assert details(result)[0]["longest"] == 20


@given(st.lists(st.integers(0, 300), min_size=1, max_size=30), st.integers(50, 3_000))
def test_the_longest_cut_is_monotonic_in_the_budget(lengths, budget):
    texts_given = ["x" * length for length in lengths]
    assert 20 <= longest_that_fits(texts_given, budget) <= longest_that_fits(texts_given, 2 * budget) <= 4_000


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_thresholds_defer_the_share_that_they_say(values):
    margin = np.array(values) / 5
    thresholds = thresholds_of(margin)
    assert thresholds[0] == 0
    for percent in range(1, 101):
        count = math.ceil(percent * len(values) / 100)
        assert thresholds[percent] == sorted(margin)[count - 1]
        assert (margin <= thresholds[percent]).sum() >= count


@pytest.mark.parametrize("classes", [2, 6])
def test_probabilities_and_margins_are_means_over_runs(classes):
    result = analysed(classes=classes, examples=60)
    header, columns = details(result)
    assert header["likeliest"] == (3 if classes == 6 else None) and header["classes"] == classes
    for k, size in enumerate(result.grid.sizes):
        raw = np.exp(size.log_likelihoods.astype(np.float64))
        p = raw / raw.sum(axis=2, keepdims=True)  # [R, n, K]
        ordered = np.sort(p, axis=2)
        margin = (ordered[:, :, -1] - ordered[:, :, -2]).mean(axis=0)
        np.testing.assert_allclose(columns[f"{k}.margin"] / 1000, margin, atol=5.1e-4)  # half a step
        thresholds = np.mean([thresholds_of(run[:, -1] - run[:, -2]) for run in ordered], axis=0)
        np.testing.assert_allclose(columns[f"{k}.thresholds"], thresholds, atol=1e-6)  # float32
        mean = p.mean(axis=0)
        shown = columns[f"{k}.probability"].reshape(-1, 60).T / 1000
        if classes == 6:
            likeliest = columns[f"{k}.class"].reshape(3, 60).T
            np.testing.assert_allclose(shown, np.take_along_axis(mean, likeliest, axis=1), atol=5.1e-4)  # half a step
            np.testing.assert_allclose(shown, -np.sort(-mean, axis=1)[:, :3], atol=5.1e-4)
        else:
            np.testing.assert_allclose(shown, mean, atol=5.1e-4)


def test_margins_of_sequences_are_of_the_deployable_tokens():
    result = analysed(task="span_qa", examples=50, seeds=2)
    header, columns = details(result)
    assert header["classes"] == 0 and "0.probability" not in columns
    for k, size in enumerate(result.grid.sizes):
        runs = []
        for run in range(2):
            tokens = size.tokens("self", run)
            runs.append([part.mean() for part in np.split(tokens.margins.astype(float), tokens.offsets[1:-1])])
        np.testing.assert_allclose(columns[f"{k}.margin"] / 1000, np.mean(runs, axis=0), atol=5.1e-4)  # half a step


def test_small_datasets_leave_their_room_to_large_ones(analysis, monkeypatch):
    tiny = analysed(examples=10)
    room = len(unpacked_data(first_blocks([analysis], [])[0])) + len(unpacked_data(first_blocks([tiny], [])[0]))
    monkeypatch.setattr(examples, "BUDGET", room)
    both = [unpacked(block)[0]["count"] for block in first_blocks([analysis, tiny], [])]
    assert both == [120, 10]


def unpacked_data(block):
    return json.loads(block[block.index("{") : block.rindex("}") + 1])["data"]


def test_very_long_texts_are_clipped_and_say_so():
    scores = synthetic_grid(seeds=2, examples=40, task="span_qa")
    for one in scores:
        one.target = np.array(["x" * 5000, *one.target[1:]], dtype=object)
    (grid,) = collect_grids(scores)
    _, columns = unpacked(first_blocks([analyse(grid, Metrics(resamples=0))], [])[0])
    assert texts(columns, "text")[columns["target"][0]] == "x" * 4000 + " … (5,000 characters in all)"


@pytest.mark.parametrize("task", ["span_qa", "translation"])
def test_blocks_of_sequences_hold_their_own_words(task):
    scores = synthetic_grid(seeds=2, examples=40, task=task)
    (grid,) = collect_grids(scores)
    result = analyse(grid, Metrics(resamples=0))
    header, columns = unpacked(first_blocks([result], [])[0])
    pool = texts(columns, "text")
    for k in (0, 1):
        predicted = columns[f"{k}.prediction"].reshape(2, 40)
        for run in (0, 1):
            assert [pool[code] for code in predicted[run]] == list(scores[2 * k + run].prediction)
    assert [pool[code] for code in columns["target"]] == list(scores[0].target)
    # example by example, each once: what is said of one is much alike, and so packs small
    said = [text for k in range(40) for text in (scores[0].target[k], *(one.prediction[k] for one in scores))]
    assert pool == list(dict.fromkeys(said))
    assert ("0.quality" in columns, "0.right" in columns) == (task == "translation", task == "span_qa")
    if task == "translation":
        bleu = sentence_bleu(grid.sizes[1].bleu_stats)
        np.testing.assert_allclose(columns["1.quality"].reshape(2, 40) / 100, bleu, atol=0.0051)
    names = [score["name"] for score in header["sizes"][0]["scores"]]
    own, gold = ([s if s.endswith("churn") else f"{s}.{of}" for s in SCORES] for of in ("self", "gold"))
    assert names == own + [one for one in gold if "churn" not in one]  # what can be deployed comes first
    readings = unpacked(curve_blocks([result], 0.95)[0])[0]["readings"]
    assert [one["title"] for one in readings] == [
        "the model's own output (deployable)",
        "the gold answer (reads the label)",
    ]
    assert readings[0]["pairs"][0]["perfect"] == (task == "span_qa")


@pytest.mark.parametrize("task", ["span_qa", "translation"])
def test_words_of_sequences(task):
    result = analysed(task=task)
    said = " ".join(sentence for _, sentences in passages(result, 0.95) for sentence in sentences)
    assert "nan" not in said and "needs no label and can be deployed" in said and "reads the label" in said
    assert ("sentence is the better one" in said) == (task == "translation")
    assert ("additional right answers" in said) <= (task == "span_qa") and ("BLEU" in said) == (task == "translation")


# ---- words


def test_every_number_in_words_has_its_interval(analysis):
    said = " ".join(sentence for _, sentences in passages(analysis, 0.95) for sentence in sentences)
    assert within(analysis.quality["large"], 1) in said and within(analysis.widest.gap) in said
    assert within(analysis.widest.area["margin"]) in said and "120 examples" in said and "9 pairs of runs" in said
    assert within(analysis.overall_churn, 1) in said
    assert "nan" not in said


def test_words_claim_nothing_without_intervals():
    bare = analysed(Metrics(resamples=0))
    said = answer(bare) + " ".join(sentence for _, sentences in passages(bare, 0.95) for sentence in sentences)
    assert "how much of it is chance can't be told" in said and "No intervals were computed." in said
    assert "so there is none" not in said
    assert "nan" not in said and "[" not in said


def overview_words(result):
    return " ".join(sentence for _, sentences in passages(result, 0.95) for sentence in sentences)


def test_a_small_group_claims_nothing():
    scores = synthetic_grid(sizes={"nano": (10, 1.0), "micro": (20, 2.0)}, seeds=3, examples=300, slices=False)
    for one in scores:
        one.slices["slice_language"] = np.array(["LU"] * 3 + ["DE"] * 297, dtype=object)
        wrong = np.where(one.target[:3] == "class 0", "class 1", "class 0")
        right = one.metadata.size == "micro"
        one.prediction[:3], one.correct[:3] = (one.target[:3] if right else wrong), right
        one.class_log_likelihoods[:3] = np.where(one.prediction[:3, None] == ["class 0", "class 1"], -0.1, -2.4)
    result, tables = tables_of(scores, Metrics(resamples=100))
    tiny = next(row for row in result.slices if row.value == "LU")
    assert tiny.examples == 3 and tiny.gains["nano", "micro"].low == 1.0  # by itself it would be a claim
    said = overview_words(result)
    assert "gains on DE by" in said and "LU by" not in said
    assert "on LU (n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}3) nothing is claimed from fewer than 10 examples" in said
    assert "LU" not in {row["value"] for row in tables["subgroups"].rows}
    page = slice_tables([result], 0.95)
    assert "fewer than 10 examples" in page and page.count("micro gains") == 1


def test_the_overview_claims_of_subgroups_what_their_table_does():
    scores = synthetic_grid(sizes={"nano": (10, 1.5), "micro": (20, 2.0)}, seeds=3, examples=900, slices=False)
    groups = np.random.default_rng(0).integers(0, 30, 900)
    for one in scores:
        one.slices["slice_site"] = np.array([f"site{group:02d}" for group in groups], dtype=object)
    result, tables = tables_of(scores, Metrics(resamples=200))
    verdicts = {row["value"]: row["verdict"] for row in tables["subgroups"].rows if row["column"] == "site"}
    alone = {row.value for row in result.slices if row.gains["nano", "micro"].above_zero}
    assert len(verdicts) == 30 and alone  # what one interval at a time would claim of thirty groups alike
    said = overview_words(result)
    claimed = set(re.findall(r"(site\d\d) by", said))
    assert claimed == {value for value, verdict in verdicts.items() if verdict in ("helps", "hurts")} < alone
    assert slice_tables([result], 0.95).count("micro gains") == len(claimed)


def without_skill(classes=2, **options):
    """Scores of two sizes that have learned nothing: the targets are drawn anew, four fifths of them class 0."""
    scores = synthetic_grid(sizes={"nano": (10, 1.5), "micro": (20, 2.0)}, examples=200, seeds=3, **options)
    target = np.array(["class 0"] * 160 + ["class 1"] * 40, dtype=object)
    for one in scores:
        one.target[:], one.prediction[:] = target, "class 0"
        one.prediction[-1:] = "class 1" if one.metadata.seed else "class 0"
        one.class_log_likelihoods[:] = np.where(one.prediction[:, None] == ["class 0", "class 1"], -0.1, -2.4)
        one.correct[:] = one.prediction == target
    return scores


def test_models_within_noise_of_the_majority_class_are_too_weak_to_conclude():
    (grid,) = collect_grids(without_skill())
    result = analyse(grid, CONFIG)
    majority = result.majority
    assert (majority.name, majority.share) == ("class 0", 0.8)
    assert majority.over["nano"].value == pytest.approx(2 / 3 / 200)  # two of three runs are right on one example more
    said = answer(result)
    assert said.startswith('Models too weak to conclude. nano is within noise of always answering "class 0", the major')
    assert "micro is within noise" in said and "is better than" not in said


def test_one_weak_size_is_called_that_and_the_rest_is_answered(analysis):
    assert not any(analysis.majority.too_weak(size.name) for size in analysis.grid.sizes)
    assert "majority" not in answer(analysis)
    weak_small = analysed(sizes={"nano": (10, -0.9), "micro": (20, 3.0)}, examples=200)
    said = answer(weak_small)
    assert "micro is better than nano by" in said and "nano is" in said and "too weak to conclude" not in said
    alone = analysed(sizes={"nano": (10, -0.9)}, examples=200)
    assert "One size only" in answer(alone) and "the majority class with" in answer(alone)


def test_without_intervals_no_size_is_called_weak():
    (grid,) = collect_grids(without_skill())
    assert "majority" not in answer(analyse(grid, Metrics(resamples=0)))


def test_one_seed_is_said_to_say_nothing_of_others(analysis):
    assert "say nothing of other seeds" not in overview_words(analysis)
    assert "With one seed of small and of base and of large they say nothing of other seeds" in overview_words(
        analysed(seeds=1)
    )


def test_an_interval_that_is_shown_as_zero_is_no_finding():
    assert not Estimate(1e-17, 1e-18, 1e-16).above_zero and not Estimate(-1e-17, -1e-16, -1e-18).below_zero
    assert Estimate(0.01, 0.0001, 0.02).above_zero and Estimate(-0.01, -0.02, -0.0001).below_zero


def test_words_for_a_larger_model_that_is_worse():
    worse = analysed(sizes={"small": (10, 3.0), "large": (20, -3.0)})
    assert "large is the worse model, by" in answer(worse)


def test_overall_churn_is_the_share_of_differing_pairs(analysis):
    largest = analysis.grid.sizes[-1].prediction
    expected = np.mean([np.mean(largest[i] != largest[j]) for i in range(3) for j in range(i)])
    assert analysis.overall_churn.value == pytest.approx(expected)
    assert analysis.overall_churn.low <= expected <= analysis.overall_churn.high


def test_a_saving_that_may_be_none_is_not_claimed(analysis):
    small, _, large = analysis.grid.sizes
    assert "that saves 30" in cost(small, large, Estimate(0.37, 0.3, 0.4))
    assert "can't be told whether that saves FLOPs" in cost(small, large, Estimate(0.37, 0.3, 0.7))
    assert "costs more FLOPs" in cost(small, large, Estimate(0.9, 0.8, 1.0))


def test_saving_turns_the_interval_round(analysis):
    small, _, large = analysis.grid.sizes
    saved = saving(small, large, Estimate(0.5, 0.25, 0.75))
    assert (saved.value, saved.low, saved.high) == pytest.approx((0.5 - 1 / 3, 0.25 - 1 / 3, 0.75 - 1 / 3))


def test_quality_has_one_name():
    assert (ACCURACY.axis, ACCURACY.value(0.8057)) == ("accuracy, %", "80.6\N{NO-BREAK SPACE}%")
    assert (BLEU.axis, BLEU.value(0.273)) == ("BLEU", "27.3\N{NO-BREAK SPACE}BLEU")


# ---- tables


def test_tables_escape_and_sort():
    html = table("t", NASTY, NASTY, [Head(NASTY, NASTY, text=True), Head("n")], [[NASTY, Cell(NASTY, NASTY, 1.5)]])
    assert "<script>" not in html and 'data-order="1.5"' in html and '<th scope="row">' in html
    assert unescape(re.search(r"<caption>(.*?)</caption>", html, re.DOTALL)[1]) == NASTY


def further(times=1):
    """A table past the paper's, its rows repeated."""
    rows = [
        {"dataset": "a<b", "share": -0.55, "share_ci_low": -1.0, "share_ci_high": 0.25, "passes": 10},
        {"dataset": "c", "share": 2.0, "share_ci_low": math.nan, "share_ci_high": math.nan, "passes": 1},
        {"dataset": "d", "share": math.nan, "share_ci_low": 0.0, "share_ci_high": 0.0, "passes": None},
    ]
    return Table(
        name="cost",
        title="What a point <costs>",
        reading="Lower is cheaper.",
        columns=(
            Column("dataset", "Dataset"),
            Column("share", "Share", "%", ".1f", interval=True),
            Column("passes", "Passes", "", "d"),
        ),
        rows=rows * times,
        notes=["one seed & no more"],
        signature="edgewise:1|table:cost",
    )


def test_further_tables_show_themselves():
    html = sheet_html(further().sheet_for_page(0.9))
    assert html.count('<th scope="col"') == 3
    assert "\N{MINUS SIGN}0.6<small>[\N{MINUS SIGN}1.0, 0.2]</small>" in html and 'data-order="-0.55' in html
    assert ">2.0</td>" in html and html.count("–</td>") == 2 and "nan" not in html
    assert "a&lt;b" in html and "What a point &lt;costs&gt;" in html and "one seed &amp; no more" in html
    assert "Lower is cheaper. Brackets: 90 % interval. File: tables/cost.csv." in html
    assert "<code>edgewise:1|table:cost</code>" in html and "tall" not in html


def test_long_further_tables_are_cut_and_say_so():
    html = sheet_html(further(times=100).sheet_for_page(0.9))
    assert html.count("<tr>") == 1 + 200 and "The first 200 of 300 rows." in html and "tall" in html


# ---- the page


def named(name, scores):
    return [Input(f"{name}-{k}", f"digest-{k}") for k in range(len(scores))]


def test_page_is_safe_and_whole(tmp_path):
    scores = synthetic_grid(seeds=2, examples=40, dataset=NASTY)
    for one in scores:
        one.metadata.classes = [NASTY, "other"]
        codes = {"class 0": NASTY, "class 1": "other"}
        one.target = np.array([codes[t] for t in one.target], dtype=object)
        one.prediction = np.array([codes[p] for p in one.prediction], dtype=object)
        one.example_id = np.array([f"{NASTY}{k}" for k in range(40)], dtype=object)
        one.slices = {"slice_<b>": np.array([NASTY, None] * 20, dtype=object)}
        one.metadata.config = {"training": {"note": NASTY}}
    write_metrics(scores, named(NASTY, scores), CONFIG, tmp_path / "out")
    page = (tmp_path / "out" / "report" / "index.html").read_text(encoding="utf-8")
    assert "alert(1)" in page and "<script>alert" not in page
    assert page.count("<script") == page.count("</script") == 2 + 1 + 2  # theme, the rest, curves, examples, details
    assert "innerHTML" not in page and "eval(" not in page and "default-src 'none'" in page
    assert not colors_without_a_value(page)


def test_page_without_slices_notes_or_a_second_size(tmp_path):
    scores = synthetic_grid({"small": (10, 1.5)}, seeds=3, examples=40, slices=False)
    write_metrics(scores, named("x", scores), Metrics(resamples=0), tmp_path / "out")
    page = (tmp_path / "out" / "report" / "index.html").read_text(encoding="utf-8")
    assert "One size only" in page and 'id="curves"' not in page and 'id="examples-0"' in page and ">nan<" not in page


def test_every_source_that_provenance_names_is_there():
    sources = [source for trail in TRAILS for source in trail.sources]
    assert len(sources) > 5 and [source for source in sources if not (REPO / source).exists()] == []


def test_provenance_names_inputs_code_and_settings(tmp_path):
    scores = synthetic_grid(seeds=2, examples=40)
    for one in scores:
        one.metadata.config = {"training": {"seed": one.metadata.seed, "steps": 600 if one.metadata.seed else 500}}
    write_metrics(scores, named("scores", scores), CONFIG, tmp_path / "out")
    page = unescape((tmp_path / "out" / "report" / "index.html").read_text(encoding="utf-8"))
    for k, one in enumerate(scores):
        assert f"scores-{k}" in page and f"digest-{k}" in page and one.metadata.model in page
    version, digest = code_version()
    assert version in page and digest in page and len(digest) == 64
    assert "metrics.resamples" in page and '"steps": 600' in page and '"steps": 500' in page
    assert "trained and scored, seed 1" in page and '"seed"' not in page.split("trained and scored, seed 1")[1][:300]


# ---- the picture


def drawn(figure, css):
    """The numbers of the first element of that class in the wide drawing, by attribute."""
    svg = re.search(r'<svg class="wide-screen".*?</svg>', figure, re.DOTALL)[0]
    tag = re.search(rf'<(?:path|circle|line) class="{css}"[^>]*>', svg)[0]
    return dict(re.findall(r'([a-z0-9]+)="([^"]*)"', tag))


@pytest.fixture(scope="module")
def cheap():
    """An analysis whose smallest size costs little beside its largest."""
    return analysed(sizes={"small": (1, 1.0), "large": (100, 2.2)}, examples=400)


def test_the_picture_shows_the_curve_and_the_share_to_defer(cheap):
    figure, pair = picture(cheap, 0.95), cheap.widest
    share = recommended_share(cheap, pair)
    assert 0 < share < 1 and pair.gap.above_zero
    points_drawn = [tuple(map(float, one.split())) for one in drawn(figure, "curve")["d"][1:].split("L")]
    assert len(points_drawn) == 101
    x, y = np.array(points_drawn).T
    np.testing.assert_allclose(x, 46 + FRACTIONS * (580 - 46 - 14), atol=0.051)  # a tenth of a pixel is kept
    slope, offset = np.polyfit(pair.curve["margin"], y, 1)
    np.testing.assert_allclose(y, offset + slope * pair.curve["margin"], atol=0.12)
    assert slope < 0  # better is higher
    advice = re.search(r'<circle class="advice" cx="([\d.]+)" cy="([\d.]+)"', figure)
    assert float(advice[1]) == pytest.approx(46 + share * 520, abs=0.051)
    assert float(advice[2]) == pytest.approx(
        offset + slope * np.interp(share, FRACTIONS, pair.curve["margin"]), abs=0.12
    )
    assert f"defer {math.ceil(100 * share - 1e-4)}" in figure and "95 % interval" in figure
    assert figure.count("<svg") == figure.count("</svg>") == 2 and "nan" not in figure
    # from c_small / c_large = 1/100 upward
    labels = re.findall(r'<text[^>]*text-anchor="middle">(\d+)</text>', figure)
    assert labels[:11] == ["0", "20", "40", "60", "80", "100", "21", "41", "61", "81", "101"]


def test_the_picture_recommends_nothing_that_is_not_shown(cheap):
    pair, shares = cheap.widest, cheap.widest.least_share["margin"]

    def shown_with(**changes):
        other = replace(pair, **changes)
        return picture(replace(cheap, pairs=[other]), 0.95)

    assert "advice" in shown_with() and "recommend" not in shown_with()
    for changes, reason in (
        ({"gap": Estimate(0.02, -0.01, 0.05)}, "large isn't shown to be the better model"),
        ({"least_share": {"margin": replace(shares, within_epsilon=1.0)}}, "No share short of all examples"),
        ({"least_share": {"margin": replace(shares, within_epsilon=math.nan)}}, "No share short of all examples"),
        ({"least_share": {"margin": replace(shares, within_epsilon=0.992)}}, "but costs more than large alone"),
    ):
        figure = unescape(shown_with(**changes))
        assert "advice" not in figure and reason in figure


def test_the_picture_without_a_second_size_intervals_or_flops():
    assert picture(analysed(sizes={"small": (10, 1.5)}), 0.95) == ""
    bare = analysed(Metrics(resamples=0))
    for size in bare.grid.sizes:
        size.flops_per_example = 0.0
    figure = picture(bare, 0.95)
    assert 'class="band"' not in figure and "FLOPs" not in figure and "nan" not in figure and "interval" not in figure


def test_the_picture_s_costs_are_prices_where_there_are_any(cheap):
    prices = Prices({"small": 0.5, "large": 4.0}, "<ms>")
    figure = picture(cheap, 0.95, prices)
    assert "price, &lt;ms&gt; per example" in figure and "FLOPs" not in figure and "% cheaper" in figure
    labels = re.findall(r'<text[^>]*text-anchor="middle">([\d.]+)</text>', figure)
    assert labels[6:11] == [f"{0.5 + share * 4:.3g}" for share in (0.2, 0.4, 0.6, 0.8, 1.0)]
    dear = Prices({"small": 3.9, "large": 4.0}, "ms")
    assert "but costs more than large alone" in picture(cheap, 0.95, dear)
    assert math.isnan(recommended_share(cheap, cheap.widest, dear))


def test_names_in_the_picture_are_escaped():
    figure = picture(analysed(sizes={NASTY: (10, 1.5), "<large>": (20, 2.0)}, seeds=2), 0.95)
    assert "<script" not in figure and "<large>" not in figure and "&lt;large&gt;" in figure


# ---- what is folded, and what is not there


def test_tables_past_the_third_are_folded_and_empty_ones_are_named():
    columns = (Column("a", "A", "", "d"),)
    tables = [Table("full", "Full", "", columns, [{"a": 1}]), Table("empty", "Empty", "", columns, [], ["<why> not."])]
    page = result_tables([], {}, tables, 0.95)
    assert 'href="#full"' in page and 'href="#empty"' not in page and 'id="empty"' not in page
    assert (
        '<details class="folded"><summary>Full <span class="soft">(1 row)</span></summary><div class="table" id="full">'
        in page
    )
    assert "nothing in them here: Empty (&lt;why&gt; not)." in page


def test_figure_6_without_a_pair_in_its_range_is_a_sentence(analysis):
    svg = '<svg width="10pt" height="10pt"></svg>'
    pair = analysis.pairs[0]
    far, near = (replace(analysis, pairs=[replace(pair, gaps=np.full_like(pair.gaps, g))]) for g in (0.2, 0.007))
    assert "<svg" not in figure("fig6", svg, [far], 0.95) and "0.5 to 1 point apart" in figure("fig6", svg, [far], 0.95)
    assert "<svg" in figure("fig6", svg, [near], 0.95) and "<svg" in figure("fig4", svg, [far], 0.95)
    alone = analysed(sizes={"small": (10, 1.5)})
    assert "one size only" in figure("fig4", svg, [alone], 0.95) and "<svg" in figure("fig1", svg, [alone], 0.95)


def test_sizes_whose_flops_are_not_known_show_a_dash():
    bare = analysed(Metrics(resamples=0), seeds=2)
    for size in bare.grid.sizes:
        size.flops_per_example = 0.0
    page = overview([bare], 0.95)
    assert page.count('<td class=n data-order="">–</td>') == 3
