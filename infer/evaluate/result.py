"""Says what an evaluation found: quality, time, FLOPs and energy of each side, promises beside what was measured."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from infer.switcher.card import MEASURES
from infer.switcher.policy import Policy
from metrics.statistics.policies.resampled_sums import interval_of_share
from metrics.statistics.policies.routing import mean_quality

if TYPE_CHECKING:
    from infer.evaluate.measure import Side

SCHEMA_VERSION = 1


def evaluation(
    policy: Policy,
    sides: Sequence["Side"],
    qualities: Sequence[np.ndarray],
    facts: dict[str, Any],
    clusters: np.ndarray | None = None,
) -> dict[str, Any]:
    """Returns the evaluation as JSON values: `sides` in their order, and `promise` beside what was measured.

    `qualities` has each side's [n, 1] bool or [n, 10] BLEU statistics; `facts` say of what and where. Milliseconds and
    joules are of an example, the median over turns with the least and the most. FLOPs follow from who answered and each
    model's mean of an example when it was scored. Shares have Clopper-Pearson intervals or, where examples come in
    `clusters` [n] int, percentile-bootstrap ones over whole clusters.
    """
    confidence = policy.expected.get("confidence", 0.95)

    def share(hits: np.ndarray) -> dict[str, float]:
        low, high = interval_of_share(hits, np.ones(len(hits), bool), clusters, confidence, seed=0)
        return {"value": int(hits.sum()) / len(hits), "low": low, "high": high}

    flops = np.array([stage.flops_per_example for stage in policy.stages])
    rows: list[dict[str, Any]] = []
    for number, (side, quality) in enumerate(zip(sides, qualities, strict=True)):
        n = len(side.stage)
        spent = np.cumsum(flops)[side.stage] if number == 0 else flops[side.stage]
        joules = [value for value in side.joules if value is not None]
        rows.append(
            {
                "side": side.name,
                "quality": share(quality[:, 0]) if quality.shape[1] == 1 else {"value": mean_quality(quality)},
                "ms_per_example": _spread([1e3 * seconds / n for seconds in side.seconds]),
                "flops_per_example": float(spent.mean()),
                "joules_per_example": _spread([value / n for value in joules]) if joules else None,
                "deferred": share(side.stage > 0) if number == 0 else None,
            }
        )
    switcher, largest = rows[0]["quality"]["value"], rows[-1]["quality"]["value"]
    return {
        "schema_version": SCHEMA_VERSION,
        "measure": MEASURES[policy.task],
        "sides": rows,
        "promise": _promise(policy, rows[0]["deferred"], largest - switcher, len(sides[0].stage)),
        "speedup": rows[-1]["ms_per_example"]["median"] / rows[0]["ms_per_example"]["median"],
        **facts,
    }


def evaluation_page(found: dict[str, Any], name: str, picture: str) -> str:
    """Returns the evaluation as Markdown; `picture` is the file of the figure beside it."""
    joules = any(side["joules_per_example"] is not None for side in found["sides"])
    lines = [
        f"# {name}",
        "",
        f"{found['examples']:,} examples of {found['dataset']} {found['split']}, {found['rounds']} turns each on "
        f"{found['device']}.",
        "",
        f"![{found['measure']} against time]({picture})",
        "",
        f"| | {found['measure']} | ms an example | FLOPs an example | J an example | deferred |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *map(_table_row, found["sides"]),
        "",
        *(f"- {line}" for line in comparison_lines(found)),
    ]
    if not joules:
        lines += [f"- No energy was measured: {found['energy']}."]
    return "\n".join([*lines, ""])


def comparison_lines(found: dict[str, Any]) -> list[str]:
    """Returns the promise beside what was measured, a line each."""
    promise = found["promise"]
    lines = [f"{found['speedup']:.2f} times as fast as {found['sides'][-1]['side']} alone"]
    for key, unit in (("deferred", "% deferred"), ("loss", "points below the largest model")):
        at_most, seen = promise[key]["at_most"], promise[key]["measured"]
        if at_most is None:
            lines.append(f"no promise of the loss; measured {100 * seen:.2f}")
        else:
            verdict = "kept" if promise[key]["kept"] else "not kept on these examples"
            lines.append(f"promised at most {100 * at_most:.3g} {unit}, measured {100 * seen:.3g}: {verdict}")
    return lines


def _promise(policy: Policy, deferred: dict[str, float], loss: float, examples: int) -> dict[str, Any]:
    """Returns each promise beside what was measured; it is about the population, of which these are a sample."""
    certificate = policy.certificate
    limits = {key: certificate.get(key, {}).get("at_most") for key in ("deferred", "loss")}
    seen = {"deferred": deferred["value"], "loss": loss}
    return {
        key: {
            "at_most": limits[key],
            "measured": seen[key],
            # what was measured is a quotient of whole numbers, so that its rounding is far below 1e-12
            "kept": None if limits[key] is None else bool(seen[key] <= limits[key] + 1e-12),
        }
        for key in limits
    } | {"examples": examples}


def _table_row(side: dict[str, Any]) -> str:
    """Returns a side's row of the table."""
    joules, deferred = side["joules_per_example"], side["deferred"]
    quality = side["quality"]
    interval = f" ({100 * quality['low']:.2f} to {100 * quality['high']:.2f})" if "low" in quality else ""
    return (
        f"| {side['side']} | {100 * quality['value']:.2f}{interval} | {side['ms_per_example']['median']:.3f} | "
        f"{side['flops_per_example']:.3g} | {'–' if joules is None else format(joules['median'], '.3g')} | "
        f"{'–' if deferred is None else format(100 * deferred['value'], '.2f') + ' %'} |"
    )


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Returns the median, the least and the most of several turns."""
    return {"median": float(np.median(values)), "least": min(values), "most": max(values)}
