"""Measures the metrics at the paper's largest sizes, each beside the obvious way to the same number.

`python -m bench.metrics_grid` measures them alone; `just bench` includes them.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU

from conf.schema import SCORES, Metrics
from metrics.bootstrap import switcher_samples
from metrics.bootstrap.resampling import Resampling
from metrics.bootstrap.threads import one_thread_a_product
from metrics.grid.collect import collect_grids
from metrics.scores import read_scores
from metrics.statistics.bleu_switcher import switcher_bleu
from metrics.statistics.switcher import deferral_order
from metrics.statistics.uncertainty import uncertainties
from tests.support import REPO
from tests.synthetic_scores import synthetic_grid, synthetic_runs, write_grid

SIZES = {"small": (60_000_000, 1.5), "base": (220_000_000, 1.8), "large": (770_000_000, 2.0), "3b": (3 * 10**9, 2.1)}
AMAZON, WMT, IMDB = 357_199, 3_003, 25_000  # test examples

Row = tuple[str, str, str]  # what was measured, the measurement, its limit or nothing


def metrics_rows(folder: Path) -> list[Row]:
    """Returns the rows of all measurements of this module; `folder` takes their files."""
    return [*largest(folder / "amazon"), *ten_times_the_examples(folder / "growth"), *bleu(), *bootstrap()]


def largest(folder: Path) -> list[Row]:
    """Measures `python -m metrics` on 4 sizes × 10 seeds of as many examples as Amazon's test set, of five classes."""
    paths = write_grid(synthetic_runs(SIZES, 10, AMAZON, classes=5, slices=False), folder / "scores")
    took, gigabytes = run_metrics(folder, "metrics.beyond=false")
    with_beyond, more = run_metrics(folder)
    small, large = read_scores(paths[0]), read_scores(paths[-1])
    curves = 600 * len(SCORES)  # 6 pairs of sizes × 10 × 10 pairs of runs, by six scores
    one = timed(lambda: obvious_switcher(small, large))[0]
    what = f"metrics of 4 sizes × 10 seeds × {AMAZON:,} examples, 1,000 resamples"
    return [
        (what, f"{took:.0f} s", "60 s"),
        ("its peak memory", f"{gigabytes:.2f} GiB", "4 GB"),
        ("the same with the tables past the paper's", f"{with_beyond:.0f} s, {more:.2f} GiB", ""),
        (f"obvious: its {curves:,} curves, 101 means over examples each", f"{one * curves / 60:.0f} min, by one", ""),
    ]


def ten_times_the_examples(folder: Path) -> list[Row]:
    """Measures how time and memory of `python -m metrics` grow when there are ten times as many examples."""
    rows = []
    for examples in (400_000, 4_000_000):
        case = folder / str(examples)
        write_grid(synthetic_runs(dict(list(SIZES.items())[:2]), 2, examples, slices=False), case / "scores")
        took, gigabytes = run_metrics(case, "metrics.beyond=false")
        rows.append((f"metrics of 2 × 2 × {examples:,} examples", f"{took:.0f} s, {gigabytes:.2f} GiB", ""))
    return rows


def bleu() -> list[Row]:
    """Measures the BLEU switcher of one pair of runs on as many sentences as WMT's test set."""
    small, large = synthetic_grid(seeds=1, examples=WMT, task="translation", slices=False)
    deferral = deferral_order(uncertainties(collect_grids([small])[0].sizes[0], Metrics())["margin"][0])
    assert small.bleu_stats is not None and large.bleu_stats is not None
    statistics = small.bleu_stats, large.bleu_stats
    fast, curve = timed(lambda: switcher_bleu(deferral, *statistics))
    positions = np.linspace(0, WMT, 101).astype(int)

    def rescored() -> list[float]:
        metric, references = BLEU(tokenize="intl"), [list(small.target)]
        scores = []
        for position in positions:
            mixed = small.prediction.copy()
            mixed[deferral.order[:position]] = large.prediction[deferral.order[:position]]
            scores.append(metric.corpus_score(list(mixed), references).score)
        return scores

    slow, expected = timed(rescored)
    off = np.abs(curve[positions] - expected).max()
    return [
        (f"BLEU switcher of {WMT:,} sentences, all {WMT + 1:,} fractions", f"{1000 * fast:.1f} ms", ""),
        ("obvious: sacreBLEU again at 101 fractions", f"{slow:.1f} s, {slow / fast:,.0f} times as long", ""),
        ("the two differ by", f"{off:.1e}", "1e-9"),
    ]


def bootstrap() -> list[Row]:
    """Measures 1,000 resamples of Tables 1 and 3 for one pair of sizes and six scores."""
    grid = collect_grids(synthetic_grid(seeds=10, examples=IMDB, slices=False))[0]
    small, large = grid.sizes
    scores = uncertainties(small, Metrics())

    def fast() -> np.ndarray:
        resampling = Resampling({size.name: 10 for size in grid.sizes}, IMDB, 1000, seed=0)
        samples = switcher_samples(small, [large], resampling)
        for run in range(10):
            drawn = samples.run(run)
            for score in SCORES:
                drawn.add(score, deferral_order(scores[score][run]))
        return samples.area[large.name, "margin"]

    def obvious() -> float:
        """Computes one resample by margin: every drawn pair of runs on the drawn examples, at 101 fractions."""
        rng = np.random.default_rng(0)
        examples = rng.integers(0, IMDB, IMDB)
        areas = []
        assert small.correct is not None and large.correct is not None
        for i in rng.integers(0, 10, 10):
            ranked = np.argsort(-scores["margin"][i][examples], kind="stable")
            for j in rng.integers(0, 10, 10):
                curve = curve_by_means(ranked, small.correct[i][examples], large.correct[j][examples])
                areas.append(np.trapezoid(curve - np.linspace(curve[0], curve[-1], 101), dx=0.01))
        return float(np.mean(areas))

    with one_thread_a_product():
        took = timed(fast)[0]
    one = timed(obvious)[0]
    return [
        (f"1,000 resamples of one pair, {IMDB:,} × 10 × 10, six scores", f"{took:.1f} s", "30 s"),
        ("obvious: resampled runs and examples, mean by mean", f"{1000 * len(SCORES) * one / 60:.0f} min, by one", ""),
    ]


def obvious_switcher(small: Any, large: Any) -> np.ndarray:
    """Computes one switcher curve by margin, float64 [101], from two scores files' contents."""
    p = np.exp(small.class_log_likelihoods.astype(np.float64))
    first, second = np.sort(p / p.sum(axis=1, keepdims=True), axis=1)[:, :-3:-1].T
    return curve_by_means(np.argsort(first - second, kind="stable"), small.correct, large.correct)


def curve_by_means(ranked: np.ndarray, small: np.ndarray, large: np.ndarray) -> np.ndarray:
    """Computes S(f) at 101 fractions, float64 [101]: the mean of `large` where deferred and of `small` elsewhere."""
    n, curve = len(ranked), []
    for k in range(101):
        deferred = np.zeros(n, dtype=bool)
        deferred[ranked[: round(k * n / 100)]] = True
        curve.append(np.where(deferred, large, small).mean())
    return np.array(curve)


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Returns the wall time of a call in seconds, and what it returned."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def run_metrics(folder: Path, *more: str) -> tuple[float, float]:
    """Returns the wall time in seconds and the peak memory in GiB of `python -m metrics` on `folder / "scores"`."""
    arguments = [f"metrics.scores={folder / 'scores'}/*.parquet", f"metrics.out={folder / 'out'}", *more]
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "metrics", *arguments], cwd=REPO, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"python -m metrics {' '.join(arguments)} ended with status {process.returncode}")
    return time.monotonic() - start, usage.ru_maxrss / 2**20


def main() -> None:
    """Prints each measurement on a line."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for what, measured, limit in metrics_rows(Path(folder)):
            print(f"{what}: {measured}{f' (limit {limit})' if limit else ''}")


if __name__ == "__main__":
    main()
