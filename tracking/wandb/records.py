"""A run at W&B as a record of the store's kind, and what this program keeps of it where W&B has no place for it."""

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tracking.interface import Artifact, RunRecord
from tracking.wandb.sdk import plain

if TYPE_CHECKING:
    from wandb.apis.public import Run as ApiRun

OWN = "edgewise"  # under this key of a run's config and summary stands what W&B itself has no place for
SUPERSEDED = "edgewise:superseded"  # tag of a run that was started afresh: the next attempt has an id of its own
RELOGGED = "edgewise:relogged"  # tag of a run that logged content which was there already: W&B names one creator only


def attempt(run_id: str, number: int) -> str:
    """The id at W&B of a run's first, second, … attempt, counted from 1."""
    return run_id if number == 1 else f"{run_id}-again{number - 1}"


def _own_config(run: "ApiRun") -> dict[str, Any]:
    own = plain(run.config.get(OWN))
    return own if isinstance(own, dict) else {}


def own_summary(run: "ApiRun") -> dict[str, Any]:
    """What this program keeps of a run's end in its summary."""
    own = plain(run.summary_metrics.get(OWN))
    return own if isinstance(own, dict) else {}


def relogged(run: "ApiRun", artifact: Artifact) -> bool:
    """Whether a run logged this version after another had."""
    return any(
        (name, digest) == (artifact.name, artifact.digest) for _, name, digest in own_summary(run).get("relogged", [])
    )


def media_keys(run: "ApiRun") -> set[str]:
    """The keys under which a run shows tables, charts, images and pages."""
    return {key for key, value in run.summary_metrics.items() if isinstance(value, dict) and "_type" in value}


def record_of(run: "ApiRun") -> RunRecord:
    """The run's record; host and process are not known there."""
    config, ended = _own_config(run), own_summary(run)
    state = "running"
    if run.state != "running":
        state = ended.get("state") or ("finished" if run.state == "finished" else "failed")
    summary = {
        key: plain(value)
        for key, value in run.summary_metrics.items()
        if not key.startswith("_") and key != OWN and not (isinstance(value, dict) and "_type" in value)
    }
    created = seconds_of(run.created_at) or time.time()
    return RunRecord(
        id=config.get("run") or run.id,
        job_type=run.job_type or "",
        name=run.name or run.id,
        group=run.group or None,
        state=state,
        config=plain({key: value for key, value in run.config.items() if key != OWN}),
        summary=summary,
        tags=[tag for tag in run.tags if not tag.startswith(f"{OWN}:")],
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
