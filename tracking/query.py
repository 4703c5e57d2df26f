"""Finds artifacts and runs by dataset, size, seed, state and any config value, on any backend."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from tracking.interface import Artifact, Reader, RunRecord, TrackingError

_MISSING = object()


@dataclass
class Query:
    """Holds what is sought; None asks for nothing. `values` maps dotted keys to texts, as in `train.steps` to `600`.

    An artifact has a config value where its metadata has it, or the config of a run upstream of it: a metrics artifact
    has those of every model that it was made of. `uses` is a REF: runs that used it, and what those logged.
    """

    name: str = "*"
    type: str | None = None
    job_type: str | None = None
    state: str | None = None
    dataset: str | None = None
    size: str | None = None
    seed: int | None = None
    values: dict[str, str] = field(default_factory=dict)
    uses: str | None = None


@dataclass
class Found:
    """Holds an artifact with the runs that logged it and, in `made_from`, the versions that those runs used.

    `about` has its dataset, size and seed, as far as they are recorded.
    """

    artifact: Artifact
    about: dict[str, Any]
    logged_by: list[RunRecord]
    made_from: list[Artifact]


@dataclass
class FoundRun:
    """Holds a run's record with its dataset, size and seed in `about`, as far as they are recorded."""

    record: RunRecord
    about: dict[str, Any]


def parse_values(arguments: list[str]) -> dict[str, str]:
    """Returns `KEY=VALUE` arguments as a mapping. Raises TrackingError for one without a key or `=`."""
    values = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not key:
            raise TrackingError(f"{argument!r}: expected KEY=VALUE, such as train.steps=600")
        values[key] = value
    return values


def find_runs(reader: Reader, query: Query) -> list[FoundRun]:
    """Returns the runs that fit, oldest first. Raises NotFound where `uses` names no artifact."""
    used_by = None
    if query.uses is not None:
        used_by = {record.id for record in reader.used_by(reader.artifact(query.uses))}
    found = []
    for record in reader.runs(job_type=query.job_type, state=query.state):
        about = about_config(record.config)
        if (
            (used_by is None or record.id in used_by)
            and (fnmatchcase(record.id, query.name) or fnmatchcase(record.name, query.name))
            and _is_about(query, about)
            and all(_has([record.config, record.summary], key, text) for key, text in query.values.items())
        ):
            found.append(FoundRun(record, about))
    return found


def find_artifacts(reader: Reader, query: Query) -> list[Found]:
    """Returns the artifact versions that fit, by name and version. Raises NotFound where `uses` names no artifact."""
    consumers = None
    if query.uses is not None:
        consumers = {record.id for record in reader.used_by(reader.artifact(query.uses))}
    edges = _Edges(reader)
    found = []
    for artifact in reader.artifacts(query.name, type=query.type):
        runs = edges.logged_by(artifact)
        about = about_artifact(artifact, runs)
        if (
            (consumers is None or any(record.id in consumers for record in runs))
            and (query.job_type is None or any(record.job_type == query.job_type for record in runs))
            and (query.state is None or any(record.state == query.state for record in runs))
            and _is_about(query, about)
            and all(_has(edges.upstream_values(artifact), key, text) for key, text in query.values.items())
        ):
            made_from = {used.ref: used for record in runs for used in edges.inputs(record.id)}
            found.append(Found(artifact, about, runs, list(made_from.values())))
    return found


class _Edges:
    """Asks a backend for edges, and for each only once in a query."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._logged_by: dict[str, list[RunRecord]] = {}
        self._inputs: dict[str, list[Artifact]] = {}

    def logged_by(self, artifact: Artifact) -> list[RunRecord]:
        if artifact.ref not in self._logged_by:
            self._logged_by[artifact.ref] = self._reader.logged_by(artifact)
        return self._logged_by[artifact.ref]

    def inputs(self, run_id: str) -> list[Artifact]:
        if run_id not in self._inputs:
            self._inputs[run_id] = self._reader.inputs(run_id)
        return self._inputs[run_id]

    def upstream_values(self, artifact: Artifact) -> Iterator[Mapping[str, Any]]:
        """Yields the artifact's metadata and the metadata and configs upstream of it, nearest first."""
        queue, seen = [artifact], {artifact.ref}
        for near in queue:  # grows as it is walked
            yield near.metadata
            for record in self.logged_by(near):
                yield record.config
                for used in self.inputs(record.id):
                    if used.ref not in seen:
                        seen.add(used.ref)
                        queue.append(used)


def about_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `dataset`, `size` and `seed` of a run's config, or of a model's cell, as far as it has them."""
    found = {}
    for key in ("dataset", "size", "seed"):
        value = config.get(key)
        value = value.get("name") if isinstance(value, Mapping) else value
        if value is not None:
            found[key] = value
    return found


def about_artifact(artifact: Artifact, runs: list[RunRecord]) -> dict[str, Any]:
    """Returns the `dataset`, `size` and `seed` of an artifact, by its metadata, else by the runs that logged it."""
    cell = artifact.metadata.get("cell")
    found = about_config(artifact.metadata) | (about_config(cell) if isinstance(cell, Mapping) else {})
    for record in runs:
        found = about_config(record.config) | found
    return found


def _is_about(query: Query, about: Mapping[str, Any]) -> bool:
    wanted = {"dataset": query.dataset, "size": query.size, "seed": query.seed}
    return all(value is None or about.get(key) == value for key, value in wanted.items())


def _has(values: Any, key: str, text: str) -> bool:
    """Returns whether any mapping has, under a dotted key, the value that the text gives, as JSON or else as itself."""
    try:
        wanted = json.loads(text)
    except ValueError:
        wanted = text
    for value in values:
        found = _at(value, key)
        if found is not _MISSING and (str(found) == text or (found == wanted and type(found) is not bool)):
            return True
        if found is wanted:  # true, false, null
            return True
    return False


def _at(value: Any, key: str) -> Any:
    if isinstance(value, Mapping) and key in value:
        return value[key]
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value
