"""Answers the commands that look at one run: `show RUN` and `history RUN`."""

import argparse
import csv
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tracking.interface import Artifact, NotFound, Reader, RunRecord, TrackingError
from tracking.line_chart import draw_with_characters, write_figure
from tracking.printing import at_time, in_hours, open_console, print_json, print_table, strict
from tracking.process import is_alive

_MOST_NAMED = 5  # runs in an error message
_CHART_HEIGHT = 8  # lines
_CHART_WIDTH = (40, 100)  # characters, at least and at most


def find_run(reader: Reader, text: str) -> RunRecord | None:
    """Returns the run with this id, or whose id alone starts so; None if there is none.

    Raises TrackingError for the start of several ids.
    """
    if (record := reader.run(text)) is not None:
        return record
    found = [record for record in reader.runs() if record.id.startswith(text)] if text else []
    if len(found) > 1:
        found.sort(key=lambda record: record.started, reverse=True)
        named = ", ".join(f"{r.id} ({r.state}, started {at_time(r.started)})" for r in found[:_MOST_NAMED])
        more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        raise TrackingError(f"{text} is the start of {len(found)} run ids, name one of them: {named}{more}")
    return found[0] if found else None


def state_of(record: RunRecord) -> str:
    """Returns a run's state for a person: of one that says `running`, also whether its process is gone."""
    return "running, but its process is gone" if record.state == "running" and not is_alive(record) else record.state


def duration_of(record: RunRecord) -> float:
    """Returns how many seconds a run took, or has taken so far."""
    until = record.ended or (time.time() if is_alive(record) else record.heartbeat)
    return until - record.started


def show_run(reader: Reader, record: RunRecord, *, as_json: bool) -> None:
    """Prints all that is known of a run: what it was given, how it went, what it used and made, and its traceback."""
    used, logged = reader.inputs(record.id), reader.outputs(record.id)
    points = reader.history(record.id)
    metrics = _metrics(points)
    if as_json:
        return print_json(
            {
                "id": record.id,
                "name": record.name,
                "job_type": record.job_type,
                "group": record.group,
                "state": record.state,
                "alive": is_alive(record),
                "tags": record.tags,
                "code_version": record.code_version,
                "started": record.started,
                "ended": record.ended,
                "duration": duration_of(record),
                "host": record.host,
                "pid": record.pid,
                "config": record.config,
                "summary": record.summary,
                "error": record.error,
                "inputs": [_reference(artifact) for artifact in used],
                "outputs": [_reference(artifact) for artifact in logged],
                "points": len(points),
                "metrics": metrics,
            }
        )
    console = open_console()
    console.print(f"{record.id}  {record.job_type}  {state_of(record)}", style="bold")
    about = {
        "name": record.name,
        "group": record.group,
        "tags": ", ".join(record.tags),
        "started": at_time(record.started),
        "took": in_hours(duration_of(record)),
        "process": f"{record.pid} on {record.host}" if record.host else "",
        "code": record.code_version,
        "used": ", ".join(artifact.ref for artifact in used) or "nothing",
        "logged": ", ".join(artifact.ref for artifact in logged) or "nothing",
    }
    if points:
        about["history"] = (
            f"{len(points)} points, steps {points[0]['step']:g} to {points[-1]['step']:g}: {', '.join(metrics)}; "
            f"see `python -m tracking history {record.id}`"
        )
    for key, value in about.items():
        if value:
            console.print(f"{key:8} {value}")
    for title, values in (("config", record.config), ("summary", record.summary)):
        if values:
            console.print(f"\n{title}", style="bold")
            for key, value in _flat(values):
                console.print(f"{key} = {json.dumps(strict(value), ensure_ascii=False)}")
    if record.error:
        console.print("\nerror", style="bold")
        console.print(record.error.rstrip())


def _reference(artifact: Artifact) -> dict[str, str]:
    return {"artifact": artifact.ref, "type": artifact.type, "digest": artifact.digest}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields nested values by dotted keys, such as `train.steps`, as the command line and `query` take them."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


# ---- history


def history(reader: Reader, options: argparse.Namespace) -> None:
    """Prints the points of a run, as a table, CSV, JSON or a chart, or draws them into a file."""
    record = find_run(reader, options.run)
    if record is None:
        raise NotFound(
            f"no run {options.run!r}: expected a run id or the start of one; see `python -m tracking ls --runs`"
        )
    points = reader.history(record.id)
    keys = _chosen(options.keys, points, record.id)
    if options.plot is not None:
        return _plot(record, points, keys or _telling(_metrics(points)), options.plot)
    keys = keys or _metrics(points)
    rows = [{"step": point["step"], **{key: point[key] for key in keys if key in point}} for point in points]
    if options.json:
        return print_json(rows)
    if options.csv:
        writer = csv.DictWriter(sys.stdout, ["step", *keys], restval="", lineterminator="\n")
        writer.writeheader()
        return writer.writerows(rows)
    shown = [tuple(_shown(row[key]) if key in row else "" for key in ("step", *keys)) for row in rows]
    print_table(("step", *keys), shown, f"points in the history of {record.id}", right=("step", *keys))


def _metrics(points: Sequence[Mapping[str, float]]) -> list[str]:
    """Returns the names of all that was logged, in the order in which they first were."""
    return [key for key in dict.fromkeys(key for point in points for key in point) if key != "step"]


def _chosen(text: str | None, points: Sequence[Mapping[str, float]], run_id: str) -> list[str]:
    """Returns the metrics that `--keys` names, [] where it is not given. Raises TrackingError for an unknown one."""
    if text is None:
        return []
    known = _metrics(points)
    chosen = [key.strip() for key in text.split(",") if key.strip()]
    for key in chosen:
        if key not in known:
            close = get_close_matches(key, known)
            hint = f"did you mean {' or '.join(close)}? " if close else ""
            raise TrackingError(f"--keys {key}: {hint}run {run_id} logged {', '.join(known) or 'nothing'}")
    return chosen


def _telling(metrics: Sequence[str]) -> list[str]:
    """Returns the metrics that a chart shows unless others are asked for: losses and accuracies, else the first few."""
    telling = [key for key in metrics if ("loss" in key or "accuracy" in key) and key != "z_loss"]
    return telling or [*metrics[:4]]


def _plot(record: RunRecord, points: Sequence[Mapping[str, float]], keys: Sequence[str], file: str) -> None:
    """Draws metrics over steps: into a file, or on the terminal where `file` is `-`."""
    lines = {key: [(point["step"], point[key]) for point in points if key in point] for key in keys}
    drawn = {key: line for key, line in lines.items() if any(math.isfinite(value) for _, value in line)}
    if not drawn:
        raise TrackingError(f"run {record.id} has no numbers to draw in its history")
    if file != "-":
        write_figure(Path(file), record.id, drawn)
        return print(f"drew {', '.join(drawn)} of {record.id} into {file}")
    console = open_console()
    braille = "utf" in (sys.stdout.encoding or "").lower()
    width = min(max(console.width if console.is_terminal else 80, _CHART_WIDTH[0]), _CHART_WIDTH[1])
    console.print(f"{record.id}  {state_of(record)}", style="bold")
    for key, line in drawn.items():
        missing = sum(not math.isfinite(value) for _, value in line)
        note = f", {missing} of {len(line)} values are not finite" if missing else ""
        console.print(f"\n{key} by step, last {_shown(line[-1][1])}{note}")
        for text in draw_with_characters(line, width, _CHART_HEIGHT, braille=braille):
            console.print(text)
    if others := [key for key in _metrics(points) if key not in drawn]:
        console.print(f"\nalso logged: {', '.join(others)} (--keys {others[0]})")


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
