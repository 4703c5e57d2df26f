"""Reads a run at W&B as a record of the store's kind, with what W&B itself has no field for."""

import re
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tracking.interface import Artifact, RunRecord
from tracking.wandb.sdk import plain_value
from tracking.wandb.words import as_sent, marks_of

if TYPE_CHECKING:
    from wandb.apis.public import Run as ApiRun

OWN_KEY = "edgewise"  # the key of a run's config and summary under which what W&B itself has no field for is kept
OWN_METADATA_KEY = f"{OWN_KEY}:marks"  # the same of an artifact's metadata
SUPERSEDED = "edgewise:superseded"  # tag of a run that was started afresh: the next attempt has an id of its own
RELOGGED = "edgewise:relogged"  # tag of a run that logged content which was there already: W&B names one creator only


def split_attempt(remote: str) -> tuple[str, int]:
    """Returns the id of a run's first attempt at W&B and the number of the attempt, given any attempt's id."""
    again = re.fullmatch(r"(.+)-again(\d+)", remote)
    return (again[1], int(again[2]) + 1) if again else (remote, 1)


def attempt_id(run_id: str, number: int) -> str:
    """Returns the id at W&B of a run's first, second, … attempt, counted from 1."""
    return run_id if number == 1 else f"{run_id}-again{number - 1}"


def _own_config(run: "ApiRun") -> dict[str, Any]:
    own = plain_value(run.config.get(OWN_KEY))
    return own if isinstance(own, dict) else {}


def own_summary(run: "ApiRun") -> dict[str, Any]:
    """Returns what is kept of a run's end in its summary, under a key of our own."""
    own = plain_value(run.summary_metrics.get(OWN_KEY))
    return own if isinstance(own, dict) else {}


def is_relogged(run: "ApiRun", artifact: Artifact) -> bool:
    """Returns whether a run logged this version after another run had."""
    return any(
        (name, digest) == (artifact.name, artifact.digest) for _, name, digest in own_summary(run).get("relogged", [])
    )


def media_keys(run: "ApiRun") -> set[str]:
    """Returns the keys under which a run shows tables, charts, images and pages."""
    return {key for key, value in run.summary_metrics.items() if isinstance(value, dict) and "_type" in value}


def record_of(run: "ApiRun") -> RunRecord:
    """Returns the run's record; W&B is not sent the host and the process."""
    config, ended = _own_config(run), own_summary(run)
    state = "running"
    if run.state != "running":
        state = ended.get("state") or ("finished" if run.state == "finished" else "failed")
    summary = {
        key: value
        for key, value in run.summary_metrics.items()
        if not key.startswith("_") and key != OWN_KEY and not (isinstance(value, dict) and "_type" in value)
    }
    created = seconds_of(run.created_at) or time.time()
    return RunRecord(
        id=config.get("run") or run.id,
        job_type=run.job_type or "",
        name=run.name or run.id,
        group=run.group or None,
        state=state,
        config=as_sent({key: value for key, value in run.config.items() if key != OWN_KEY}, marks_of(config)),
        summary=as_sent(summary, marks_of(ended)),
        tags=[tag for tag in run.tags if not tag.startswith(f"{OWN_KEY}:")],
        code_version=config.get("code_version", "unknown"),
        started=config.get("started") or created,
        ended=ended.get("ended") if state != "running" else None,
        heartbeat=seconds_of(getattr(run, "heartbeat_at", None)) or created,
        host="",
        pid=0,
        error=ended.get("error") if state != "running" else None,
    )


def seconds_of(stamp: str | None) -> float | None:
    """Seconds since the epoch of one of W&B's timestamps."""
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp() if stamp else None
