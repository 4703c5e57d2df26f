"""The study of least shares and certificates in a small form: the same functions, a few draws, and its tables."""

from bench.decision_coverage import (
    DELTA,
    EXAMPLES,
    MARKS,
    PAGE,
    PARTS,
    RUNS,
    WITHIN,
    Measured,
    mean_curve,
    shares,
    shares_table,
    violations,
    violations_table,
)
from bench.populations import REGIMES


def test_least_shares_hold_what_they_claim():
    regime = REGIMES[1]
    rows = shares(regime, 3, 500, draws=40, truth=mean_curve(regime, 8, seed=1), seed=1)
    assert [row.goal for row in rows] == [*(f"{part:g}" for part in PARTS), WITHIN]
    for row in rows:
        assert row.held >= 0.82  # at 95 % fewer than 33 of 40 hold in 1 of 1,000 studies
        assert 0 < row.width < 1


def test_certificates_hold_what_they_claim():
    found = violations(2000, draws=60, epsilon=0.03, seed=1)
    # at 10 % more than 15 of 60 break in 1 of 2,000 studies
    assert DELTA == 0.1 and max(broken for broken, _ in found.values()) <= 15 / 60
    assert 0.2 < found["certified"][1] < 0.8 and found["kept"][1] < 1  # and something is saved


def test_the_tables_and_their_place():
    rows = [
        Measured(regime.name, runs, examples, goal, 0.951, 0.123)
        for regime in REGIMES
        for runs in RUNS
        for examples in EXAMPLES
        for goal in (*(f"{part:g}" for part in PARTS), WITHIN)
    ]
    lines = shares_table(rows, 400).splitlines()
    assert len(lines) == 4 + len(REGIMES) * len(EXAMPLES) * 5
    assert lines[4] == "| example by example | 1,000 | 50 % of the gain |" + " 0.951 (12) |" * len(RUNS)
    table = violations_table({(2000, 0.01): {"certified": (0.04, 0.43), "kept": (0.01, 0.7)}}, 800)
    assert table.splitlines()[-1] == "| 2,000 | 1 | 0.040 (43 %) | 0.010 (70 %) |"
    assert all(mark in PAGE.read_text(encoding="utf-8") for mark in MARKS)
