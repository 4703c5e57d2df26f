"""Small forms of `just calibrate`: clusters, peaks and tests hold what they claim, and each part has its own table."""

from bench import calibrate
from bench.error_rates import error_rates
from bench.further_coverage import CHURN, CLOSE, clusters, peaks_and_churn
from bench.populations import REGIMES
from bench.resampled_coverage import CURVE, DISAGREEMENT, HELD_OUT, resampled_intervals


def test_examples_in_clusters_are_covered_together_and_not_one_by_one():
    together = clusters(REGIMES[0], runs=4, draws=40, seed=3, truth_draws=50)
    for quantity, (covered, width) in together.items():
        assert covered >= 0.95 - 3 * (0.95 * 0.05 / 40) ** 0.5, quantity
        assert width < 1.6, quantity
    apart = clusters(REGIMES[0], runs=4, draws=40, seed=3, together=False, truth_draws=50)
    assert apart["accuracy"][0] < 0.8


def test_peaks_and_churn_are_covered():
    found = peaks_and_churn(REGIMES[0], runs=3, draws=30, seed=1, truth_examples=50_000, titles=(CLOSE,))
    for quantity in (CLOSE, CHURN):
        assert found[quantity][0] >= 0.95 - 3 * (0.95 * 0.05 / 30) ** 0.5, quantity


def test_percentile_intervals_of_the_bootstrap_are_covered():
    found = resampled_intervals(REGIMES[0], runs=3, draws=20, seed=1, truth_draws=2)
    for quantity in (CURVE, DISAGREEMENT, HELD_OUT):
        assert found[quantity][0] >= 0.95 - 3 * (0.95 * 0.05 / 20) ** 0.5, quantity


def test_tests_seldom_find_what_is_not_there():
    """Where runs differ as a whole, which is where the tests of resamples found it in a quarter of cases."""
    rates = error_rates(REGIMES[2], runs=2, examples=300, worlds=30, seed=2, resampled=True)
    assert set(rates) == {"table1", "table3", "subgroups"}
    assert max(rates.values()) <= 0.05 + 3 * (0.05 * 0.95 / 30) ** 0.5


def test_a_table_is_written_between_its_marks(tmp_path, monkeypatch):
    page = tmp_path / "metrics.md"
    page.write_text(calibrate.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(calibrate, "PAGE", page)
    before = page.read_text(encoding="utf-8")
    cells = {(regime.name, runs): {"gap": f"0.95 ({runs})"} for regime in REGIMES for runs in (2, 5)}
    text = calibrate.cells_table("Head.", cells, ["gap"])
    assert text.splitlines()[2] == "| runs differ | quantity | R = 2 | R = 5 |"
    assert text.splitlines()[4] == "| example by example | gap | 0.95 (2) | 0.95 (5) |"
    for part in calibrate.PARTS:
        calibrate.write_part(part, f"{part}: {text}")
    after = page.read_text(encoding="utf-8")
    assert all(f"{part}: Head." in after for part in calibrate.PARTS)
    assert after.split("<!--")[0] == before.split("<!--")[0] and after.endswith(before[-200:])
    calibrate.write_part("tests", "again")
    assert "tests: Head." not in page.read_text(encoding="utf-8")
