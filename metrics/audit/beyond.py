"""Checks the relations that the tables past the paper's must keep, among themselves and with Tables 1 and 3."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from metrics.audit.finding import Finding, checked, same_rows
from metrics.beyond.retrained import MOST_EVALUATED
from metrics.bootstrap.resampling import Estimate

Row = Mapping[str, Any]

LEAST_SHARE_PARTS = (50, 80, 95, 99)  # percent of the gain, as the columns of both tables name them


def audit_beyond(directory: Path, summary: Mapping[str, Any]) -> Iterator[Finding]:
    """Yields every check on `summary.json`'s `beyond`; none if it was left out (metrics.beyond=false)."""
    tables = {name: table["rows"] for name, table in summary["beyond"].items()}
    for name, rows in tables.items():
        yield same_rows(directory, name, rows)
        yield from _intervals(name, rows)
    if not tables:
        return
    cells = _cells(summary)
    yield from _deferral_quality(tables["deferral_quality"], cells)
    yield from _least_shares(tables["least_share"], tables["cost"])
    yield from _score_comparison(tables["score_comparison"], cells)
    yield from _held_out(tables["held_out_peak"], cells)
    yield from _certified(tables["certified"], tables["certified_runs"])
    yield from _certified_elsewhere(tables["certified"], tables["certified_kept"], tables["certified_retrained"])
    yield from _costs(tables["cost"], tables["ensembles"])
    yield from _hulls(tables["aiq"], cells)
    yield from _chains(tables["chains"])
    yield from _multiplicity(tables["multiplicity"])
    yield from _learned(tables["post_hoc"], tables["token_quantiles"], tables["deferral_quality"], cells)
    yield from _selective(tables["selective"], tables["selective_runs"])
    yield from _subgroups(tables["subgroups"])


def _cells(summary: Mapping[str, Any]) -> dict[tuple[str, ...], float]:
    """Returns the means of Tables 1 and 3, in points, by (table, dataset, context, small, large, score)."""
    cells: dict[tuple[str, ...], float] = {}
    for table in ("table1", "table3"):
        for row in summary["tables"][table]:
            has_contexts = summary["datasets"][row["dataset"]]["context"]
            # Churn is the same in both contexts; scores that differ are read from `contexts` below.
            for context in ("gold", "self") if has_contexts else ("",):
                cells[table, row["dataset"], context, row["small"], row["large"], row["score"]] = row["mean"]
    for row in summary["tables"].get("contexts", []):
        cells[f"table{row['table']}", *_pair_key(row), row["score"]] = row["mean"]
    return cells


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _pair_key(row: Row) -> tuple[str, ...]:
    """Returns what names a pair of sizes in a context."""
    return row["dataset"], row["context"], row["small"], row["large"]


def _largest_difference(differences: Sequence[float]) -> float:
    """Returns the largest of some differences in points, as a fraction; numbers that aren't there are left out."""
    return max((abs(one) for one in differences if not math.isnan(one)), default=0.0) / 100


def _intervals(name: str, rows: Sequence[Row]) -> Iterator[Finding]:
    wrong = [
        _or_nan(row[key]) - _or_nan(row[key.replace("_ci_low", "_ci_high")])
        for row in rows
        for key in row
        if key.endswith("_ci_low")
    ]
    if wrong:
        yield checked("Intervals", "ci_low ≤ ci_high", f"{name}, {len(wrong)} intervals", _largest_excess(wrong))


def _largest_excess(values: Sequence[float]) -> float:
    """Returns the largest value; those that are not there are left out."""
    return max((one for one in values if not math.isnan(one)), default=0.0)


def _deferral_quality(rows: Sequence[Row], cells: Mapping[tuple[str, ...], float]) -> Iterator[Finding]:
    if not rows:
        return
    gains, shares, apgr = [], [], []
    for row in rows:
        gain, room = row["area"] - row["random_area"], _or_nan(row["perfect_area"]) - row["random_area"]
        gains.append(gain - cells["table3", *_pair_key(row), row["score"]])
        share = _or_nan(row["share_of_perfect"])
        shares.append(max(abs(share) - 100, abs(share * room / 100 - gain)))
        if row["apgr"] is not None:
            apgr.append((row["apgr"] - 0.5) * row["gap"] - gain)
    where = f"deferral_quality, {len(rows)} rows"
    yield checked("Area and Table 3", "area under the curve = Table 3 + (a + b)/2", where, _largest_difference(gains))
    yield checked(
        "Share of the perfect router",
        "within ±100 %, and share × the perfect router's gain is the score's",
        where,
        _largest_excess(shares) / 100,
    )
    yield checked("APGR", "1/2 + Table 3 / (b - a)", where, _largest_difference(apgr))


def _least_shares(rows: Sequence[Row], costs: Sequence[Row]) -> Iterator[Finding]:
    if not rows:
        return
    falling, outside, unreadable = [], [], []
    for row in rows:
        shares = [_or_nan(row[f"share_{part}"]) for part in LEAST_SHARE_PARTS]
        falling += [less - more for less, more in pairwise(shares)]
        outside += [max(-share, share - 100) for share in [*shares, _or_nan(row["share_within_epsilon"])]]
        no_gap = row["gap"] <= 0 or _or_nan(row["gap_ci_low"]) <= 0
        unreadable.append(float(no_gap and not all(math.isnan(share) for share in shares)))
    where = f"least_share, {len(rows)} rows"
    yield checked("Least shares", "a larger part of the gain takes no smaller share", where, _largest_excess(falling))
    yield checked("Least shares", "within 0-100 %", where, _largest_excess(outside))
    yield checked("Least shares", "none where the gap's interval is not above 0", where, max(unreadable))
    by_pair = {(*_pair_key(row), row["score"]): row for row in rows}
    keys = [*(f"{part}" for part in LEAST_SHARE_PARTS), "within_epsilon"]
    differences = [
        _or_nan(cost[f"cost_{key}"])
        - cost["score_cost"]
        - _or_nan(by_pair[*_pair_key(cost), cost["score"]][f"share_{key}"])
        for cost in costs
        for key in keys
    ]
    yield checked("Least costs", "the score's cost plus the least share", where, _largest_difference(differences))


def _score_comparison(rows: Sequence[Row], cells: Mapping[tuple[str, ...], float]) -> Iterator[Finding]:
    if not rows:
        return
    differences = [
        row["difference"]
        - cells[row["table"], *_pair_key(row), row["score"]]
        + cells[row["table"], *_pair_key(row), row["other"]]
        for row in rows
    ]
    where = f"score_comparison, {len(rows)} rows"
    yield checked("Paired differences", "one score's cell minus another's", where, _largest_difference(differences))
    tested = [row for row in rows if row["p"] is not None and not math.isnan(row["p"])]  # none of one run
    if not tested:
        return
    yield checked("Holm", "p ≤ Holm's p", where, max(row["p"] - row["p_holm"] for row in tested))
    smallest = {(*_pair_key(row), row["table"]): row for row in sorted(tested, key=lambda row: -row["p"])}
    differences = [row["p_holm"] - min(1.0, row["p"] * row["comparisons"]) for row in smallest.values()]
    yield checked("Holm", "the smallest of m is multiplied by m", where, max(map(abs, differences)))


def _held_out(rows: Sequence[Row], cells: Mapping[tuple[str, ...], float]) -> Iterator[Finding]:
    if not rows:
        return
    differences = [row["peak"] - cells["table1", *_pair_key(row), row["score"]] for row in rows]
    where = f"held_out_peak, {len(rows)} rows"
    yield checked(
        "Held-out peak and Table 1", "the peak beside it is Table 1's", where, _largest_difference(differences)
    )
    yield checked(
        "Random floor",
        "a random score's peak is largest between equally good models",
        where,
        max(row["floor"] - row["floor_equal"] for row in rows) / 100,
    )


def _certified(rows: Sequence[Row], runs: Sequence[Row]) -> Iterator[Finding]:
    if not rows:
        return
    order = [max(row["deferred_least"] - row["deferred"], row["deferred"] - row["deferred_most"]) for row in rows]
    where = f"certified, {len(rows)} rows"
    yield checked("Certified deferral", "least ≤ mean ≤ most", where, max(order) / 100)
    differences = [row["large_accuracy"] - row["loss"] - row["accuracy"] for row in runs]
    yield checked(
        "Certified deferral",
        "accuracy = the larger model's - loss",
        f"certified_runs, {len(runs)} rows",
        _largest_difference(differences),
    )
    # the half that was looked at is a sample: a loss above ε there contradicts no certificate
    over = max(row["loss"] - row["epsilon"] for row in rows)
    yield checked("Certified loss is kept", "mean loss on the other half ≤ ε", where, over / 100, identity=False)


def _certified_elsewhere(rows: Sequence[Row], kept: Sequence[Row], retrained: Sequence[Row]) -> Iterator[Finding]:
    if kept:
        order = [max(row["deferred_least"] - row["deferred"], row["deferred"] - row["deferred_most"]) for row in kept]
        yield checked(
            "Certified among those kept", "least ≤ mean ≤ most", f"certified_kept, {len(kept)} rows", max(order) / 100
        )
    # pairs that lose more than ε are counted twice, unless only a part of the other half is looked at again
    counted = [
        row["over_epsilon"] * row["pairs"] - _or_nan(reused["own_over"]) * reused["thresholds"]
        for row, reused in zip(rows, retrained, strict=True)
        if row["evaluation"] <= MOST_EVALUATED
    ]
    if counted:
        yield checked(
            "Reused thresholds",
            "on their own runs as many lose more than ε as are certified",
            f"certified_retrained, {len(counted)} rows",
            _largest_difference(counted),
        )


def _costs(rows: Sequence[Row], ensembles: Sequence[Row]) -> Iterator[Finding]:
    if rows:
        below = [
            row["score_cost"] - _or_nan(row[key])
            for row in rows
            for key in (*(f"cost_{share}" for share in LEAST_SHARE_PARTS), "cost_within_epsilon")
            if row[key]
        ]
        where = f"cost, {len(rows)} rows"
        yield checked("Costs", "nothing costs less than the score it needs", where, _largest_excess(below) / 100)
    if ensembles:
        differences = [row["switcher"] - row["ensemble"] - row["difference"] for row in ensembles]
        differences += [row["difference"] for row in ensembles if row["members"] == 1]
        yield checked(
            "Ensembles",
            "an ensemble of one is the small model; the difference is the switcher minus the ensemble",
            f"ensembles, {len(ensembles)} rows",
            _largest_difference(differences),
        )


def _hulls(rows: Sequence[Row], cells: Mapping[tuple[str, ...], float]) -> Iterator[Finding]:
    if not rows:
        return
    where = f"aiq, {len(rows)} rows"
    below = [-_or_nan(row["aiq_gain"]) for row in rows]
    yield checked("AIQ", "a hull's gain is at least 0", where, _largest_excess(below) / 100)
    differences = [_or_nan(row["aiq"]) - _or_nan(row["aiq_alone"]) - _or_nan(row["aiq_gain"]) for row in rows]
    differences += [row["table3"] - cells["table3", *_pair_key(row), row["score"]] for row in rows]
    yield checked("AIQ's gain", "AIQ minus that of both models alone", where, _largest_difference(differences))


def _chains(rows: Sequence[Row]) -> Iterator[Finding]:
    if not rows:
        return
    where = f"chains, {len(rows)} rows"
    above = [max(_or_nan(row["pair_quality"]), _or_nan(row["chain_quality"])) - row["oracle_quality"] for row in rows]
    above += [row["largest_quality"] - row["oracle_quality"] for row in rows]
    yield checked("Oracle", "no route is right more often", where, _largest_excess(above) / 100)
    differences = [
        _or_nan(row["chain_quality"]) - _or_nan(row["pair_quality"]) - _or_nan(row["difference"]) for row in rows
    ]
    yield checked("Chains", "chain minus pair", where, _largest_difference(differences))


def _multiplicity(rows: Sequence[Row]) -> Iterator[Finding]:
    if not rows:
        return
    alone = {_pair_key(row): row["churn"] for row in rows if row["deferred"] == 0}
    differences = [row["churn"] - alone[_pair_key(row)] - row["change"] for row in rows]
    where = f"multiplicity, {len(rows)} rows"
    yield checked("Change of churn", "churn minus the smaller model's", where, _largest_difference(differences))
    # two trainings differ where not all agree; of two there is no other pair
    below = [row["churn"] - row["ambiguity"] for row in rows]
    below += [row["ambiguity"] - row["churn"] for row in rows if row["trainings"] == 2]
    yield checked("Ambiguity", "at least the churn, and the churn itself of two", where, max(below) / 100)


def _learned(
    post_hoc: Sequence[Row],
    tokens: Sequence[Row],
    quality: Sequence[Row],
    cells: Mapping[tuple[str, ...], float],
) -> Iterator[Finding]:
    ceiling = {_pair_key(row): _or_nan(row["perfect_area"]) - row["random_area"] for row in quality}
    beaten = "no score's Table 3 is above the perfect router's"
    if post_hoc:
        where = f"post_hoc, {len(post_hoc)} rows"
        differences = [
            row["table3"] - cells["table3", *_pair_key(row), "margin"] for row in post_hoc if row["score"] == "margin"
        ]
        differences += [row["table3"] - ceiling[_pair_key(row)] for row in post_hoc if row["score"] == "perfect"]
        yield checked(
            "Post-hoc and its ends",
            "the margin's row and the perfect router's are theirs",
            where,
            _largest_difference(differences),
        )
        above = [abs(row["table3"]) - ceiling[_pair_key(row)] for row in post_hoc]
        yield checked("No score beats the perfect router", beaten, where, _largest_excess(above) / 100)
    if tokens:
        where = f"token_quantiles, {len(tokens)} rows"
        means = [row for row in tokens if row["quantile"] == "mean" and row["measure"] != "log_prob"]
        differences = [row["table3"] - cells["table3", *_pair_key(row), row["measure"]] for row in means]
        yield checked("Mean over tokens", "the mean's row is Table 3's", where, _largest_difference(differences))
        above = [abs(row["table3"]) - ceiling[_pair_key(row)] for row in tokens]
        yield checked("No score beats the perfect router", beaten, where, _largest_excess(above) / 100)


def _selective(rows: Sequence[Row], runs: Sequence[Row]) -> Iterator[Finding]:
    if not runs:
        return
    relation, order = [], []
    for row in runs:
        err = row["error"] / 100
        if row["auroc"] is not None:
            augrc = (1 - row["auroc"] / 100) * err * (1 - err) + err * err / 2
            relation.append(row["augrc"] - 100 * augrc)
        order += [-row["e_aurc"], row["e_aurc"] - row["aurc"], 50 * err * err - row["augrc"]]
    where = f"selective_runs, {len(runs)} rows"
    yield checked(
        "AUGRC and AUROC", "AUGRC = (1 - AUROC) acc (1 - acc) + (1 - acc)²/2", where, _largest_difference(relation)
    )
    yield checked("Selective risks", "0 ≤ E-AURC ≤ AURC, and AUGRC ≥ (1 - acc)²/2", where, max(order) / 100)
    grouped: dict[tuple[str, ...], list[Row]] = {}
    for row in runs:
        grouped.setdefault((row["dataset"], row["context"], row["size"], row["score"]), []).append(row)
    differences = [
        row[key] - sum(one[key] for one in of_runs) / len(of_runs)
        for row in rows
        for of_runs in [grouped[row["dataset"], row["context"], row["size"], row["score"]]]
        for key in ("error", "aurc", "e_aurc", "augrc")
    ]
    yield checked(
        "Selective means",
        "means over runs of each run's",
        f"selective, {len(rows)} rows",
        _largest_difference(differences),
    )


def _subgroups(rows: Sequence[Row]) -> Iterator[Finding]:
    if not rows:
        return
    where = f"subgroups, {len(rows)} rows"
    differences = [row["large_quality"] - row["small_quality"] - row["gain"] for row in rows]
    yield checked(
        "Subgroups", "gain = the larger model's quality minus the smaller's", where, _largest_difference(differences)
    )
    outside = [
        max(_or_nan(row["simultaneous_low"]) - row["gain"], row["gain"] - _or_nan(row["simultaneous_high"]))
        for row in rows
    ]
    yield checked("Simultaneous intervals", "hold the gain", where, _largest_excess(outside) / 100)
    contradicting = []
    for row in rows:
        gain = Estimate(*(_or_nan(row[key]) / 100 for key in ("gain", "simultaneous_low", "simultaneous_high")))
        contradicting.append(
            float(row["verdict"].startswith("helps") != gain.above_zero)
            + float(row["verdict"].startswith("hurts") != gain.below_zero)
        )
    yield checked("Verdicts", "helps or hurts just where the simultaneous interval leaves 0", where, max(contradicting))
