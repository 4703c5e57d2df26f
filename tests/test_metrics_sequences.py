"""Span QA and translation: scores, churn, figures and intervals against the definitions written out slowly."""

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU

from conf.errors import EdgewiseError
from conf.schema import SCORES, Metrics
from metrics.analysis.dataset import analyse
from metrics.audit.finding import violated
from metrics.audit.output import audit_output
from metrics.bootstrap import GroupSamples, OutcomeSamples, quality_samples, switcher_samples
from metrics.bootstrap.resampling import Resampling
from metrics.grid.collect import GridError, collect_grids
from metrics.output.directory import Input, write_metrics
from metrics.statistics.bleu_switcher import bleu_statistics_of_switchers
from metrics.statistics.outcomes import OutcomeCodes
from metrics.statistics.switcher import deferral_order
from metrics.statistics.text import corpus_bleu, normalized
from metrics.statistics.uncertainty import uncertainties
from tests.synthetic_scores import synthetic_grid, write_grid

SIZES = {"small": (10, 1.4), "base": (20, 1.6), "large": (30, 2.0)}
SEEDS = {"small": [0, 1, 5], "base": [0, 1], "large": [2, 3]}


@pytest.fixture(scope="module", params=["span_qa", "translation"])
def scores(request):
    return synthetic_grid(SIZES, SEEDS, examples=70, task=request.param)


@pytest.fixture(scope="module")
def grid(scores):
    return collect_grids(scores)[0]


@pytest.fixture(scope="module")
def translations():
    return synthetic_grid(SIZES, SEEDS, examples=70, task="translation")


def rows(tokens, values):
    return [values[a:b].astype(float) for a, b in zip(tokens.offsets, tokens.offsets[1:])]


@pytest.mark.parametrize("context", ["gold", "self"])
def test_scores_are_means_over_tokens(scores, grid, context):
    got = uncertainties(grid.sizes[0], Metrics(context=context))
    of_size = [one for one in scores if one.metadata.size == "small"]
    margins, entropies = [], []
    for one in of_size:
        tokens = getattr(one, f"{context}_tokens")
        margins.append([1 - sum(row) / len(row) for row in rows(tokens, tokens.margins)])
        entropies.append([sum(row) / len(row) for row in rows(tokens, tokens.entropies)])
    for name, slow in (("margin", np.array(margins)), ("entropy", np.array(entropies))):
        np.testing.assert_allclose(np.exp(got[name]), slow, rtol=1e-12, atol=1e-15)
        for i in range(3):
            others = np.mean([slow[k] for k in range(3) if k != i], axis=0)
            np.testing.assert_allclose(np.exp(got[f"committee_{name}"][i]), others, rtol=1e-12, atol=1e-15)
    assert list(got) == list(SCORES)


def test_a_sequence_of_certain_tokens_is_the_most_certain(scores):
    one = replace(scores[0], gold_tokens=replace(scores[0].gold_tokens, margins=scores[0].gold_tokens.margins.copy()))
    first = slice(0, int(one.gold_tokens.offsets[1]))
    one.gold_tokens.margins[first] = 1 + 1e-7  # a float32's rounding above 1 is none
    margin = uncertainties(collect_grids([one])[0].sizes[0], Metrics())["margin"][0]
    assert margin[0] == -np.inf and np.isfinite(margin[1:]).all()


def test_churn_of_answers_is_after_normalisation():
    spans = synthetic_grid(SIZES, SEEDS, examples=70, task="span_qa")
    strings = [one.prediction for one in spans if one.metadata.size == "small"]
    for normalization, same in (("normalized", normalized), ("raw", str)):
        size = collect_grids(spans, normalization)[0].sizes[0]
        churn = uncertainties(size, Metrics(churn_normalization=normalization))["churn"]
        for i, x in np.ndindex(3, 70):
            assert churn[i, x] == sum(same(strings[k][x]) != same(strings[i][x]) for k in range(3) if k != i)
    counts = [collect_grids(spans, n)[0].sizes[0].prediction for n in ("normalized", "raw")]
    differing = [sum((a != b).sum() for a, b in combinations(p, 2)) for p in counts]
    assert differing[0] < differing[1]  # "The answer." and "answer" are one prediction, if normalised


def test_churn_of_translations_is_of_raw_strings(translations):
    strings = [one.prediction for one in translations if one.metadata.size == "small"]
    prediction = collect_grids(translations)[0].sizes[0].prediction
    for a, b in combinations(range(3), 2):
        np.testing.assert_array_equal(prediction[a] != prediction[b], strings[a] != strings[b])


def test_the_same_answer_is_as_right_in_every_run(grid):
    """So |b - a| ≤ disagreement holds of span QA too."""
    if grid.task == "span_qa":
        for small, large in grid.pairs:
            for i, j in np.ndindex(len(small.seeds), len(large.seeds)):
                apart = (small.prediction[i] != large.prediction[j]).mean()
                assert abs(large.quality[j] - small.quality[i]) <= apart + 1e-12


def test_quality_is_accuracy_or_corpus_bleu(scores, grid):
    for size in grid.sizes:
        of_size = [one for one in scores if one.metadata.size == size.name]
        for quality, one in zip(size.quality, of_size):
            if grid.task == "span_qa":
                assert quality == one.correct.mean()
            else:
                expected = BLEU(tokenize="intl").corpus_score(list(one.prediction), [list(one.target)]).score
                assert 100 * quality == pytest.approx(expected, abs=1e-9)
    assert grid.measure == ("accuracy" if grid.task == "span_qa" else "bleu")


def test_runs_in_other_orders_of_examples(scores, grid):
    order = np.random.default_rng(0).permutation(70)
    shuffled = [one if k == 0 else one.take(order) for k, one in enumerate(scores)]
    (again,) = collect_grids(shuffled)
    for size, other in zip(grid.sizes, again.sizes):
        for context in ("gold", "self"):
            for name, values in uncertainties(size, Metrics(context=context)).items():
                np.testing.assert_array_equal(values, uncertainties(other, Metrics(context=context))[name])
        np.testing.assert_array_equal(size.quality, other.quality)
    mixed = synthetic_grid(SIZES, SEEDS, examples=70, task="classification")
    with pytest.raises(GridError, match="differ in task"):
        collect_grids([*scores[:3], *mixed[3:]])


# ---- figures


def test_buckets_of_figure_3_are_bleu_of_the_buckets_sentences(translations):
    """100 buckets of 0.7 sentences: those that a bucket's edge cuts count by their share."""
    (grid,) = collect_grids(translations)
    result = analyse(grid, Metrics(resamples=0)).buckets
    margins = uncertainties(grid.sizes[0], Metrics())["margin"]
    for size in grid.sizes:
        expected = np.zeros(100)
        for i, margin in enumerate(margins):
            order = np.argsort(margin)
            runs = [grid.sizes[0].bleu_stats[i]] if size is grid.sizes[0] else size.bleu_stats
            for k in range(100):
                share = np.minimum(np.arange(1, 71), 0.7 * (k + 1)) - np.maximum(np.arange(70), 0.7 * k)
                share = np.clip(share, 0, None)[:, None]
                of_runs = [corpus_bleu(np.round((share * stats[order]).sum(axis=0), 9)) for stats in runs]
                expected[k] += np.mean(of_runs) / 100 / len(margins)
        np.testing.assert_allclose(result.quality[size.name], expected, atol=1e-9)


def test_outcomes_of_figures_1_and_2(scores, grid):
    result = analyse(grid, Metrics(resamples=0)).outcomes
    small, large = ([one for one in scores if one.metadata.size == name] for name in ("small", "large"))
    margins = np.exp(uncertainties(grid.sizes[0], Metrics())["margin"])

    def outcome(one, other, x):
        if grid.task == "span_qa":
            return {(1, 1): 0, (0, 0): 1, (0, 1): 2, (1, 0): 3}[int(one.correct[x]), int(other.correct[x])]
        bleu = BLEU(tokenize="intl", effective_order=True)
        a, b = (bleu.sentence_score(run.prediction[x], [run.target[x]]).score for run in (one, other))
        return 1 if abs(a - b) < 1e-9 else 0 if b > a else 2

    slow = np.array([[[outcome(one, other, x) for x in range(70)] for other in large] for one in small])
    np.testing.assert_array_equal(result.outcome, slow[0, 0])
    np.testing.assert_allclose(np.exp(result.log_uncertainty), margins[0])
    for t in (0, 10, 30, 60):
        counts = np.zeros(len(result.names))
        for i, j in np.ndindex(3, 2):
            counts += np.bincount(slow[i, j][margins[i] >= result.thresholds[t]], minlength=len(counts))
        if counts.sum():
            np.testing.assert_allclose(result.fraction[t], counts / counts.sum(), atol=1e-12)
        assert result.examples[t] * 6 == pytest.approx(counts.sum())


# ---- intervals


def test_samples_of_bleu_are_what_repeating_the_draws_gives(translations):
    (grid,) = collect_grids(translations)
    small, larger, resamples = grid.sizes[0], grid.sizes[1:], 12
    resampling = Resampling({size.name: len(size.seeds) for size in grid.sizes}, 70, resamples, seed=3)
    scores = uncertainties(small, Metrics())
    fast = switcher_samples(small, larger, resampling)
    for run in range(3):
        drawn = fast.run(run)
        for score in ("margin", "churn"):
            drawn.add(score, deferral_order(scores[score][run]))
    group = np.arange(70) % 3 - 1
    groups = GroupSamples(grid.sizes, group, 2, resampling)
    overall = {size.name: quality_samples(size, resampling) for size in grid.sizes}
    for b in range(resamples):
        examples = np.repeat(np.arange(70), resampling.everything.weights[:-1, b])
        runs = {size: np.repeat(np.arange(c.shape[1]), c[b].astype(int)) for size, c in resampling.seeds.items()}
        for size in grid.sizes:
            stats = size.bleu_stats[runs[size.name]][:, examples]
            assert overall[size.name][b] == pytest.approx(corpus_bleu(stats.sum(axis=1)).mean() / 100, abs=1e-9)
            for value in range(2):
                inside = stats[:, group[examples] == value]
                expected = corpus_bleu(inside.sum(axis=1)).mean() / 100
                assert groups.quality[size.name][value, b] == pytest.approx(expected, abs=1e-9)
        for large in larger:
            stats = large.bleu_stats[runs[large.name]][:, examples]
            for score in ("margin", "churn"):
                slow = [
                    bleu_statistics_of_switchers(
                        deferral_order(scores[score][i][examples]), small.bleu_stats[i][examples], stats
                    )
                    for i in runs["small"]
                ]
                key = large.name, score
                curve = np.mean([s.curve.mean(axis=0) for s in slow], axis=0)
                # sums of 70 sentences are exact; what is interpolated between them rounds at about 1e-7
                np.testing.assert_allclose(fast.curve[key][:, b], curve, atol=5e-6)
                assert fast.peak_gain[key][b] == pytest.approx(np.mean([s.peak_gain for s in slow]), abs=5e-6)
                # by 101 points rather than at every sentence
                assert fast.area[key][b] == pytest.approx(np.mean([s.area for s in slow]), abs=2e-4)


def test_samples_of_outcomes(translations):
    (grid,) = collect_grids(translations)
    small, large = grid.sizes[0], grid.sizes[-1]
    resampling = Resampling({size.name: len(size.seeds) for size in grid.sizes}, 70, 8, seed=1)
    codes, group = OutcomeCodes(small, large), np.arange(70) % 4 - 1
    fast = OutcomeSamples(small, large, codes, 3, resampling)
    for run in range(3):
        fast.add(run, group)
    for b in range(8):
        examples = np.repeat(np.arange(70), resampling.everything.weights[:-1, b])
        counts = np.zeros((3, 3))
        for i, times_i in enumerate(resampling.seeds["small"][b]):
            for j, times_j in enumerate(resampling.seeds["large"][b]):
                for k in range(3):
                    some = codes.for_run(i)[j][examples[(group[examples] >= 0) & (group[examples] <= k)]]
                    counts[k] += times_i * times_j * np.bincount(some, minlength=3)
        np.testing.assert_allclose(fast.fraction[:, :, b], counts / counts.sum(axis=1, keepdims=True), atol=1e-9)


def test_intervals_of_bleu_hold_their_estimates():
    grid = collect_grids(synthetic_grid(seeds=3, examples=250, task="translation"))[0]
    (pair,) = analyse(grid, Metrics(resamples=100)).pairs
    for estimate in (
        pair.gap,
        pair.disagreement,
        pair.area["margin"],
        pair.area["churn"],
        pair.least_share["margin"].half,
    ):
        assert estimate.low < estimate.value < estimate.high
    low, high = pair.band["margin"]
    assert ((low <= pair.curve["margin"]) & (pair.curve["margin"] <= high)).all()


# ---- both contexts, and the output


def test_both_contexts_are_reported(grid):
    config = Metrics(resamples=20)
    result = analyse(grid, config)
    other = analyse(grid, replace(config, context="self"))
    assert (result.context, result.other_context.context) == ("gold", "self")
    for pair, same in zip(result.other_context.pairs, other.pairs):
        assert list(pair.area) == list(SCORES)
        for score in SCORES:  # churn, which is of no context, is taken from the first one
            assert pair.area[score] == same.area[score] and pair.peak_gain[score] == same.peak_gain[score]
            assert pair.area_over_margin[score] == same.area_over_margin[score]
            np.testing.assert_array_equal(pair.scores[score].curve, same.scores[score].curve)
            np.testing.assert_array_equal(pair.band[score][0], same.band[score][0])
    for size, ranks in result.other_context.percentiles.items():
        for score, values in ranks.items():
            np.testing.assert_array_equal(values, other.percentiles[size][score])
    for pair in result.other_context.pairs:
        assert pair.area["margin"] != result.pairs[0].area["margin"]
    for pair, same in zip(result.other_context.pairs, result.pairs):
        assert all(pair.area[score] == same.area[score] for score in SCORES if "churn" in score)  # of no context
    assert any("gold answer's tokens" in note and "tables/contexts" in note for note in result.notes)


@pytest.fixture(scope="module")
def out(scores, tmp_path_factory):
    directory = tmp_path_factory.mktemp("out") / "out"
    write_metrics(scores, [Input(str(k), str(k)) for k in range(len(scores))], Metrics(resamples=30), directory)
    return directory


def test_the_output_is_whole_and_keeps_every_relation(out, scores):
    names = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert {f"tables/{t}.{kind}" for t in ("table1", "contexts") for kind in ("csv", "md", "tex")} <= names
    assert {f"figures/fig{k}.{kind}" for k in range(1, 7) for kind in ("png", "svg", "csv")} <= names
    findings = audit_output(out)
    assert not violated(findings) and len(findings) > 50
    text = (out / "tables" / "table3.md").read_text(encoding="utf-8")
    assert "context:gold" in text and f"Scores: `{scores[0].metadata.signature}`" in text
    if scores[0].metadata.task == "translation":
        assert "bleu:corpus-smooth-exp-eff-no" in text and "tok:intl" in text
    else:
        assert "answers:normalized" in text


def test_bleu_is_written_in_its_own_unit(out, scores):
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    (result,) = summary["datasets"].values()
    runs = [one for one in scores if one.metadata.size == "small"]
    if result["measure"] == "accuracy":
        assert result["sizes"][0]["accuracy_by_seed"] == [one.correct.mean() for one in runs]
        return
    expected = [BLEU(tokenize="intl").corpus_score(list(r.prediction), [list(r.target)]).score for r in runs]
    assert result["sizes"][0]["bleu_by_seed"] == pytest.approx(expected, abs=1e-9)
    pair = result["pairs"][0]
    assert pair["gap"]["value"] == pytest.approx(
        result["sizes"][1]["bleu"]["value"] - result["sizes"][0]["bleu"]["value"], abs=1e-9
    )
    assert pair["scores"]["margin"]["curve"][0] == pytest.approx(np.mean(expected), abs=1e-9)
    assert summary["tables"]["table3"][0]["mean"] == pytest.approx(pair["scores"]["margin"]["area"]["value"], abs=1e-9)


def test_files_and_what_is_in_memory_give_the_same_bytes(scores, out, tmp_path, without_pictures):
    paths = write_grid(scores, tmp_path / "in")
    inputs = [Input(str(k), str(k)) for k in range(len(scores))]
    write_metrics(paths, inputs, Metrics(resamples=30), tmp_path / "out")
    drawn = {out / "figures", out / "report"}
    files = [path for path in out.rglob("*") if path.is_file() and path.parent not in drawn]
    assert {out / "tables" / "table1.csv", out / "summary.json"} <= set(files)
    for path in files:
        assert (tmp_path / "out" / path.relative_to(out)).read_bytes() == path.read_bytes(), path


def test_tasks_side_by_side(tmp_path, without_pictures):
    tasks = {"imdb": "classification", "squad": "span_qa", "wmt": "translation"}
    runs = [
        one
        for name, task in tasks.items()
        for one in synthetic_grid(seeds=2, examples=40, task=task, dataset=name, slices=name != "imdb")
    ]
    inputs = [Input(str(k), str(k)) for k in range(len(runs))]
    summary = write_metrics(runs, inputs, Metrics(resamples=10), tmp_path / "out")
    assert {name: result["measure"] for name, result in summary["datasets"].items()} == {
        "imdb": "accuracy",
        "squad": "accuracy",
        "wmt": "bleu",
    }
    assert {row["dataset"] for row in summary["tables"]["contexts"]} == {"squad", "wmt"}
    assert {row["deployable"] for row in summary["tables"]["contexts"] if row["context"] == "gold"} == {"no"}
    assert summary["signature"].count("|context:gold|") == 1
    assert not violated(audit_output(tmp_path / "out"))


@pytest.mark.parametrize("task", ["span_qa", "translation"])
@pytest.mark.parametrize("examples", [1, 3])
def test_few_examples(task, examples, tmp_path):
    runs = synthetic_grid(seeds=2, examples=examples, task=task)
    write_metrics(runs, [Input("", "")] * 4, Metrics(resamples=10), tmp_path / "out")
    assert not violated(audit_output(tmp_path / "out"))


def test_switches_are_checked():
    for wrong in ({"context": "silver"}, {"churn_normalization": "lower"}):
        with pytest.raises(EdgewiseError, match=rf"metrics\.{next(iter(wrong))}="):
            Metrics(**wrong).check()


def test_a_file_is_read_again_for_its_tokens(scores, tmp_path):
    paths = [Path(path) for path in write_grid(scores[:2], tmp_path)]
    (from_files,), (in_memory,) = collect_grids(paths), collect_grids(scores[:2])
    for context in ("gold", "self"):
        one, other = (grid.sizes[0].tokens(context, 1) for grid in (from_files, in_memory))
        np.testing.assert_array_equal(one.margins, other.margins)
        np.testing.assert_array_equal(one.offsets, other.offsets)
    predicted = from_files.sizes[0].runs[1].predictions().decoded()
    assert list(predicted) == list(scores[1].prediction)
