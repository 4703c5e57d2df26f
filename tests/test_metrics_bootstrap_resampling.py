"""The multi-bootstrap: on the same draws it must give what repeating the drawn seeds and examples gives."""

import numpy as np
import pytest

from conf.schema import Metrics
from metrics.analysis.churn import churning_runs, ranked_churn
from metrics.analysis.dataset import analyse
from metrics.bootstrap import (
    DrawnPairs,
    GroupSamples,
    OutcomeSamples,
    churn_samples,
    disagreement_samples,
    quality_samples,
    switcher_samples,
)
from metrics.bootstrap.resampling import Resampling, grouped_sums, interval, micro_blocks
from metrics.grid.collect import collect_grids
from metrics.statistics.bleu_switcher import bleu_statistics_of_switchers
from metrics.statistics.churn import bucket_churn, differing_in_buckets, differing_pairs
from metrics.statistics.outcomes import OutcomeCodes
from metrics.statistics.switcher import deferral_order, sums_at, sums_at_knots, switcher_statistics
from metrics.statistics.text import bleu_statistics
from metrics.statistics.uncertainty import uncertainties
from tests.resamples import draws
from tests.synthetic_scores import synthetic_grid

B = 24
# sums are of whole numbers below 2^24 in float32, exactly; what is interpolated between them rounds at about 1e-7
ROUNDING = 2e-6


@pytest.fixture(scope="module", params=[2, 4])
def grid(request):
    sizes = {"small": (10, 1.4), "base": (20, 1.9), "large": (30, 2.3)}
    seeds = {"small": [0, 1, 5], "base": [0, 1], "large": [2, 3, 4, 5]}
    return collect_grids(synthetic_grid(sizes, seeds, examples=150, classes=request.param, seed_noise=1.0))[0]


@pytest.fixture(scope="module")
def scores(grid):
    return {size.name: uncertainties(size, Metrics()) for size in grid.sizes}


@pytest.fixture(scope="module", params=["one by one", "in groups"])
def resampling(grid, request):
    return resampled(grid, B, request.param == "in groups")


def resampled(grid, resamples, in_groups):
    runs = {size.name: len(size.seeds) for size in grid.sizes}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("metrics.bootstrap.resampling.MOST_DRAWN_ONE_BY_ONE", 10 if in_groups else 10_000)
        patched.setattr("metrics.bootstrap.resampling.GROUPS", 19)
        return Resampling(runs, grid.examples, resamples, seed=3)


def switchers(small, larger, scores, resampling):
    """Samples of every score of the small size."""
    samples = switcher_samples(small, larger, resampling)
    for run in range(len(small.seeds)):
        drawn = samples.run(run)
        for score, values in scores.items():
            drawn.add(score, deferral_order(values[run]))
    return samples


def test_draws(resampling, grid):
    for _, examples, runs, _ in draws(resampling):
        in_groups = resampling.unit is not None
        assert abs(len(examples) - grid.examples) <= (19 if in_groups else 0)  # of 150, groups have 7 or 8
        assert all(len(runs[size.name]) == len(size.seeds) for size in grid.sizes)


@pytest.mark.parametrize("in_groups", [False, True])
def test_examples_of_one_cluster_are_drawn_together(in_groups, monkeypatch):
    monkeypatch.setattr("metrics.bootstrap.resampling.MOST_DRAWN_ONE_BY_ONE", 10 if in_groups else 10_000)
    monkeypatch.setattr("metrics.bootstrap.resampling.GROUPS", 19)
    clusters = np.random.default_rng(0).permutation(150) // 5  # 30 of them
    resampling = Resampling({"small": 2}, 150, 2000, seed=3, clusters=clusters)
    values = np.zeros((150, 2), dtype=np.float32)
    values[:, 0], values[:, 1] = 1, clusters == 7
    total, of_cluster = resampling.total_sums(values)
    assert set(of_cluster % 5) == {0}  # all five examples or none, each as often
    assert of_cluster.mean() == pytest.approx(5, rel=0.1) and total.mean() == pytest.approx(150, rel=0.02)
    if in_groups:
        assert resampling.units == 19 and all(len(set(resampling.unit[clusters == k])) == 1 for k in range(30))
        assert resampling.note.endswith("single clusters.")
    else:
        weights = resampling.everything.weights[:-1]
        assert (weights[np.argsort(clusters, kind="stable")].reshape(30, 5, -1).std(axis=1) == 0).all()


def test_sums_do_not_depend_on_how_many_resamples_are_held(grid, scores, resampling, monkeypatch):
    small, larger, margins = grid.sizes[0], grid.sizes[1:], {"margin": scores["small"]["margin"]}
    whole = switchers(small, larger, margins, resampling)
    monkeypatch.setattr("metrics.bootstrap.resampling.NUMBERS_HELD", 20_000)
    parts = switchers(small, larger, margins, resampling)
    for kind in ("peak_gain", "area", "curve"):
        for key, values in getattr(whole, kind).items():
            np.testing.assert_array_equal(values, getattr(parts, kind)[key])


def test_switchers(grid, scores, resampling):
    small, larger = grid.sizes[0], grid.sizes[1:]
    fast = switchers(small, larger, scores["small"], resampling)
    for b, examples, runs, _ in draws(resampling):
        for large in larger:
            drawn_large = large.correct[runs[large.name]][:, examples]
            for score, values in scores["small"].items():
                slow = [
                    switcher_statistics(deferral_order(values[i][examples]), small.correct[i][examples], drawn_large)
                    for i in runs["small"]
                ]
                key = large.name, score
                assert fast.peak_gain[key][b] == pytest.approx(np.mean([s.peak_gain for s in slow]), abs=ROUNDING)
                assert fast.area[key][b] == pytest.approx(np.mean([s.area for s in slow]), abs=ROUNDING)
                expected = np.mean([s.curve.mean(axis=0) for s in slow], axis=0)
                np.testing.assert_allclose(fast.curve[key][:, b], expected, atol=ROUNDING)
            for i in set(runs["small"].tolist()):
                order = deferral_order(scores["small"]["margin"][i][examples])
                hump = switcher_statistics(order, small.correct[i][examples], large.correct[:, examples]).hump
                np.testing.assert_allclose(fast.hump[large.name][i, :, b], hump, atol=ROUNDING)


def test_switchers_of_translations_with_several_references():
    """The reference's length is that of the closest one, so it is another for every run."""
    scores = synthetic_grid(seeds=2, examples=100, task="translation", slices=False)
    for one in scores:
        references = [[text, " ".join(text.split()[::2])] for text in one.target]
        shortened = [" ".join(text.split()[:: 2 if one.metadata.size == "small" else 1]) for text in one.prediction]
        one.prediction[:] = shortened
        one.bleu_stats[:] = bleu_statistics(shortened, references)
    small, large = collect_grids(scores)[0].sizes
    assert (small.bleu_stats[0, :, 1] != large.bleu_stats[0, :, 1]).any()
    margin = np.random.default_rng(0).random((2, 100))
    resampling = Resampling({"small": 2, "base": 2}, 100, 6, seed=3)
    fast = switchers(small, [large], {"margin": margin}, resampling)
    for b, examples, runs, _ in draws(resampling):
        slow = [
            bleu_statistics_of_switchers(
                deferral_order(margin[i][examples]),
                small.bleu_stats[i][examples],
                large.bleu_stats[runs["base"]][:, examples],
            )
            for i in runs["small"]
        ]
        expected = np.mean([one.curve.mean(axis=0) for one in slow], axis=0)
        np.testing.assert_allclose(fast.curve["base", "margin"][:, b], expected, atol=ROUNDING)


def test_churn(grid, scores, resampling):
    churning = grid.sizes[-1]
    for uncertain in grid.sizes:
        margins = scores[uncertain.name]["margin"]
        orders = [deferral_order(margin) for margin in margins]
        fast = churn_samples(DrawnPairs(churning, resampling), uncertain, orders)
        for b, examples, runs, ranking in draws(resampling):
            drawn_runs = runs[churning.name]
            # copies of a run make no pair, so the mean is over pairs of different runs alone
            different = sum(one != other for k, one in enumerate(drawn_runs) for other in drawn_runs[k + 1 :])
            if not different:
                assert np.isnan(fast[:, b]).all()
                continue
            drawn = differing_pairs(churning.prediction[drawn_runs][:, examples])
            ranked = [deferral_order(margins[run][examples]) for run in ranking[uncertain.name]]
            in_buckets = np.array([differing_in_buckets(order, drawn) for order in ranked])
            slow = bucket_churn(in_buckets, len(drawn_runs), len(examples))
            expected = slow.churn * slow.pairs / different
            np.testing.assert_allclose(fast[:, b], expected, atol=20 * ROUNDING)


def test_groups(grid, resampling):
    group = np.arange(grid.examples) % 4 - 1
    fast = GroupSamples(grid.sizes, group, 3, resampling)
    overall = {size.name: quality_samples(size, resampling) for size in grid.sizes}
    for b, examples, runs, _ in draws(resampling):
        for size in grid.sizes:
            for value in range(3):
                right = size.correct[runs[size.name]][:, examples[group[examples] == value]]
                assert fast.quality[size.name][value, b] == pytest.approx(right.mean(), abs=1e-12)
            right = size.correct[runs[size.name]][:, examples]
            assert overall[size.name][b] == pytest.approx(right.mean(), abs=1e-12)


def test_outcomes(grid, scores, resampling):
    small, large = grid.sizes[0], grid.sizes[-1]
    margins = scores["small"]["margin"]
    thresholds = np.quantile(margins, [0.99, 0.8, 0.5, 0.1])
    fast = OutcomeSamples(small, large, OutcomeCodes(small, large), len(thresholds), resampling)
    for run, margin in enumerate(margins):
        reached = margin[:, None] >= thresholds
        fast.add(run, np.where(reached.any(axis=1), reached.argmax(axis=1), -1))
    for b, examples, runs, _ in draws(resampling):
        for t, threshold in enumerate(thresholds):
            counts = np.zeros(4)
            for i in runs["small"]:
                some = examples[margins[i][examples] >= threshold]
                for j in runs["large"]:
                    s, r = small.correct[i][some], large.correct[j][some]
                    counts += [(s & r).sum(), (~s & ~r).sum(), (~s & r).sum(), (s & ~r).sum()]
            if counts.sum():
                np.testing.assert_allclose(fast.fraction[t, :, b], counts / counts.sum(), atol=1e-9)


def test_disagreements(grid, resampling):
    small, large = grid.sizes[0], grid.sizes[1]
    samples = disagreement_samples(small, large, resampling)
    means = resampling.mean_over_pairs("small", "base", samples)
    kept = np.zeros((3, 2), bool)
    kept[0, 1] = True
    of_one = resampling.mean_over_pairs("small", "base", samples, kept)
    for b, examples, runs, _ in draws(resampling):
        one, other = small.prediction[runs["small"]][:, examples], large.prediction[runs["base"]][:, examples]
        assert means[b] == pytest.approx((one[:, None] != other[None]).mean(), abs=ROUNDING)
        drawn = 0 in runs["small"] and 1 in runs["base"]
        assert np.isnan(of_one[b]) != drawn


def test_micro_blocks_respect_ties():
    rng = np.random.default_rng(0)
    for score in (rng.random(5000), rng.integers(0, 7, 5000), np.round(rng.random(5000) ** 8, 3), np.zeros(5000)):
        deferral = deferral_order(score)
        blocks = micro_blocks(deferral, target=100)
        assert set(blocks.bounds) <= set(deferral.knots)  # no tie block is cut
        sizes = np.diff(blocks.bounds)
        assert sorted(blocks.pieces()[0][blocks.pieces()[0] < 5000]) == list(range(5000))
        several = [np.ptp(score[deferral.order[a:b]]) != 0 for a, b in zip(blocks.bounds, blocks.bounds[1:])]
        assert sizes.sum() == 5000 and (sizes[several] <= 2 * 50).all()


def test_micro_blocks_are_far_below_an_interval():
    """With more examples than blocks, the piece inside a block is taken for linear: what does that change?"""
    close = {"small": (10, 1.5), "base": (20, 1.6)}
    sizes = collect_grids(synthetic_grid(close, seeds=2, examples=6000))[0].sizes
    margins = uncertainties(sizes[0], Metrics())["margin"]
    resampling = Resampling({"small": 2, "base": 2}, 6000, 40, seed=0)
    fast = switchers(sizes[0], sizes[1:], {"margin": margins}, resampling)
    peak, area = np.zeros(40), np.zeros(40)
    for b, examples, runs, _ in draws(resampling):
        drawn = sizes[1].correct[runs["base"]][:, examples]
        slow = [
            switcher_statistics(deferral_order(margins[i][examples]), sizes[0].correct[i][examples], drawn)
            for i in runs["small"]
        ]
        peak[b], area[b] = np.mean([s.peak_gain for s in slow]), np.mean([s.area for s in slow])
    for samples, exact in ((fast.peak_gain["base", "margin"], peak), (fast.area["base", "margin"], area)):
        assert np.abs(samples - exact).max() < 0.05 * np.ptp(exact)


def test_percentiles():
    samples = np.vstack([np.arange(101.0), np.full(101, np.nan), np.r_[np.arange(100.0), np.nan]])
    low, high = interval(samples, 0.9)
    assert (low[0], high[0]) == pytest.approx((5, 95))
    assert np.isnan(low[1]) and low[2] == pytest.approx(4.95)
    assert np.isnan(interval(np.zeros((2, 0)), 0.95)[0]).all()


def test_intervals_hold_their_estimates_and_cover():
    """Table 3 of fresh draws of the same world falls into its 95 % interval about as often as it should."""
    truth = analyse(collect_grids(synthetic_grid(seeds=6, examples=20000, seed=99))[0], Metrics(resamples=0))
    expected, inside = truth.pairs[0].area["margin"].value, 0
    for seed in range(40):
        world = synthetic_grid(seeds=3, examples=300, seed=seed, slices=False)
        area = analyse(collect_grids(world)[0], Metrics(resamples=2)).pairs[0].area["margin"]
        assert area.low <= area.value <= area.high
        inside += area.low <= expected <= area.high
    # 38 expected; each world also draws its own examples' noise, and three seeds make intervals a little narrow
    assert inside >= 33


def test_a_single_seed_resamples_its_examples_alone():
    grid = collect_grids(synthetic_grid(seeds={"small": [0], "base": [0, 1]}, examples=200))[0]
    result = analyse(grid, Metrics(resamples=50))
    gap = result.pairs[0].gap
    assert gap.low < gap.value < gap.high
    assert any("One seed only of small" in note for note in result.notes)


def test_resampled_churn_in_the_middle_is_unbiased():
    """The mean of the samples is the estimate: ranking and churning runs of one size don't drag it up."""
    grid = collect_grids(synthetic_grid(seeds=6, examples=2000, seed_noise=1.0))[0]
    resampling = Resampling({size.name: 6 for size in grid.sizes}, grid.examples, 300, seed=0)
    churning = churning_runs(grid, resampling)
    for size in grid.sizes:
        orders = [deferral_order(margin) for margin in uncertainties(size, Metrics())["margin"]]
        ranked = ranked_churn(churning, size, orders, map)
        bias = np.nanmean(ranked.samples, axis=1) - ranked.point.churn
        # the mean of 300 samples has a standard error of 0.06 of their deviation; ranked by the churning runs
        # themselves, the middle buckets of the size's own margin would be off by 0.6 of it
        assert (abs(bias) < 0.2 * np.nanstd(ranked.samples, axis=1)).all(), size.name


def test_buckets_of_figure_3():
    """100 buckets by hand, cuts falling through examples and ties."""
    grid = collect_grids(synthetic_grid(seeds=2, examples=130))[0]
    result = analyse(grid, Metrics(resamples=20))
    margins = uncertainties(grid.sizes[0], Metrics())["margin"]
    for size in grid.sizes:
        expected = np.zeros(100)
        for i, margin in enumerate(margins):
            order = np.argsort(margin, kind="stable")
            right = (grid.sizes[0].correct[i] if size is grid.sizes[0] else size.correct.mean(axis=0))[order]
            for k in range(100):
                low, high = 1.3 * k, 1.3 * (k + 1)
                share = np.clip(np.minimum(np.arange(1, 131), high) - np.maximum(np.arange(130), low), 0, None)
                expected[k] += (share * right).sum() / 1.3 / len(margins)
        np.testing.assert_allclose(result.buckets.quality[size.name], expected, atol=1e-10)
        low, high = result.buckets.band[size.name]
        assert (low <= high + 1e-9).all()
    deferral = deferral_order(margins[0])
    assert sums_at(deferral, sums_at_knots(deferral, np.ones((1, 130), int)), np.array([65.0]))[0, 0] == 65


def test_outcomes_of_figure_2():
    grid = collect_grids(synthetic_grid(seeds=2, examples=60))[0]
    result = analyse(grid, Metrics(resamples=0)).outcomes
    margins = np.exp(uncertainties(grid.sizes[0], Metrics())["margin"])
    for t in (0, 20, 40, 60):
        counts = np.zeros(4)
        for margin, s in zip(margins, grid.sizes[0].correct):
            some = margin >= result.thresholds[t]
            for r in grid.sizes[1].correct:
                counts += [(s & r)[some].sum(), (~s & ~r)[some].sum(), (~s & r)[some].sum(), (s & ~r)[some].sum()]
        if counts.sum():
            np.testing.assert_allclose(result.fraction[t], counts / counts.sum(), atol=1e-12)
        assert result.examples[t] * 2 * 2 == pytest.approx(counts.sum())


@pytest.mark.parametrize("examples", [90, 500, 40_000])  # sums of groups that need one, two and four bytes
def test_small_whole_numbers_are_summed_exactly_in_few_bytes(examples):
    rng = np.random.default_rng(examples)
    group = np.minimum(rng.integers(0, 40, examples), 3).astype(np.int32)  # most are in the last one
    values = np.where(group[:, None] == 3, 1, rng.integers(-1, 2, (examples, 5))).astype(np.int8)
    expected = np.stack([values[group == k].sum(axis=0, dtype=int) for k in range(5)])
    found = grouped_sums(group, 5, values)
    np.testing.assert_array_equal(found, expected)
    assert found.itemsize == {90: 1, 500: 2, 40_000: 4}[examples]
    np.testing.assert_array_equal(grouped_sums(group, 5, values > 0)[3], expected[3])
    np.testing.assert_array_equal(grouped_sums(group, 5, values.astype(np.float32)), expected)


def test_totals_in_groups_of_more_examples_than_a_byte_counts(monkeypatch):
    monkeypatch.setattr("metrics.bootstrap.resampling.MOST_DRAWN_ONE_BY_ONE", 100)
    monkeypatch.setattr("metrics.bootstrap.resampling.GROUPS", 4)
    resampling = Resampling({}, 2001, 20, seed=0)
    values = np.ones((2001, 2), dtype=np.int8)
    values[:, 1] = np.random.default_rng(0).integers(-1, 2, 2001)
    assert resampling.unit is not None
    weights = resampling.everything.weights[resampling.unit].astype(float)  # of each example that of its group
    np.testing.assert_array_equal(resampling.total_sums(values), values.T @ weights)
    np.testing.assert_array_equal(resampling.total_sums(values.astype(np.float32)), values.T @ weights)
