"""What the loopback server holds, and the rules by which it changes: runs, artifacts, files, report pages."""

import base64
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

ENTITY = "test-entity"
FEATURES = ("ARTIFACT_TAGS", "CLIENT_IDS")


class Refused(Exception):
    """A request that breaks a rule of the protocol. The server keeps it in `problems`, and a test fails by it."""


def node_id(kind: str, number: int | str) -> str:
    return base64.b64encode(f"{kind}:{number}".encode()).decode()


def loads(text: str) -> Any:
    """JSON as the SDK streams it: with bare NaN and Infinity, which W&B keeps as words, since JSON has none."""
    return json.loads(text, parse_constant=lambda word: word)


def timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class RunState:
    number: int
    name: str
    project: "ProjectState"
    display_name: str
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    description: str | None = None
    commit: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    state: str = "running"
    lines: dict[str, list[str]] = field(default_factory=dict)  # by file of the file stream
    files: dict[str, bytes] = field(default_factory=dict)
    inputs: list["ArtifactState"] = field(default_factory=list)
    outputs: list["ArtifactState"] = field(default_factory=list)
    created: float = field(default_factory=time.time)
    heartbeat: float = field(default_factory=time.time)

    @property
    def id(self) -> str:
        return node_id("Run", f"v1:{self.name}:{self.project.name}:{self.project.entity}")

    @property
    def history(self) -> list[dict[str, Any]]:
        return [loads(line) for line in self.lines.get("wandb-history.jsonl", [])]

    def stream(self, body: dict[str, Any]) -> None:
        """Takes one request of the file stream: lines by file and offset, and whether the run has ended."""
        allowed = {"files", "uploaded", "complete", "exitcode", "preempting", "dropped"}
        if unknown := set(body) - allowed:
            raise Refused(f"file_stream of {self.name}: unknown keys {sorted(unknown)}")
        self.heartbeat = time.time()
        if self.state != "running":
            self.state = "running"
        for name, chunk in (body.get("files") or {}).items():
            if name not in ("wandb-history.jsonl", "wandb-summary.json", "wandb-events.jsonl", "output.log"):
                raise Refused(f"file_stream of {self.name}: unknown file {name}")
            if set(chunk) != {"offset", "content"}:
                raise Refused(f"file_stream of {self.name}, {name}: keys {sorted(chunk)}")
            if name == "wandb-summary.json":
                self.summary = loads(chunk["content"][-1])
                continue
            lines = self.lines.setdefault(name, [])
            if chunk["offset"] > len(lines):
                raise Refused(f"file_stream of {self.name}, {name}: offset {chunk['offset']} leaves a gap")
            lines[chunk["offset"] :] = chunk["content"]
        if body.get("complete"):
            self.state = "finished" if body.get("exitcode") == 0 else "failed"


@dataclass
class CollectionState:
    number: int
    name: str
    type: str
    project: "ProjectState"
    versions: list["ArtifactState"] = field(default_factory=list)
    committed: int = 0  # versions that there ever were: a number is not given twice
    created: float = field(default_factory=time.time)


@dataclass
class ArtifactState:
    """One version. It has a version number and aliases only once it is committed."""

    number: int
    collection: CollectionState
    digest: str
    metadata: dict[str, Any]
    wanted_aliases: list[str]
    created_by: RunState
    client_id: str | None
    description: str | None = None
    history_step: int | None = None
    state: str = "PENDING"
    version: int | None = None
    aliases: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)  # name -> base64 md5, as announced
    sizes: dict[str, int] = field(default_factory=dict)
    manifest: bytes | None = None
    used_by: list[RunState] = field(default_factory=list)
    created: float = field(default_factory=time.time)

    @property
    def id(self) -> str:
        return node_id("Artifact", self.number)


@dataclass
class ViewState:
    number: int
    project: "ProjectState"
    type: str
    name: str
    display_name: str
    description: str
    spec: str
    created: float = field(default_factory=time.time)
    updated: float = field(default_factory=time.time)

    @property
    def id(self) -> str:
        return node_id("View", self.number)


@dataclass
class ProjectState:
    number: int
    entity: str
    name: str
    runs: dict[str, RunState] = field(default_factory=dict)
    collections: dict[str, CollectionState] = field(default_factory=dict)
    views: list[ViewState] = field(default_factory=list)
    created: float = field(default_factory=time.time)

    @property
    def id(self) -> str:
        return node_id("Project", self.number)

    def artifact(self, name: str) -> ArtifactState | None:
        """The committed version that `collection:vN`, `collection:alias` or `collection` names."""
        collection, _, alias = name.partition(":")
        if collection not in self.collections:
            return None
        return find(self.collections[collection], alias or "latest")


def find(collection: CollectionState, alias: str) -> ArtifactState | None:
    """The committed version with this alias or `vN`."""
    for artifact in collection.versions:
        if alias in artifact.aliases or alias == f"v{artifact.version}":
            return artifact
    return None


class State:
    """Everything, under one lock: the server answers from several threads."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.projects: dict[str, ProjectState] = {}
        self.artifacts: dict[str, ArtifactState] = {}  # by id, pending ones too
        self.blobs: dict[str, bytes] = {}  # by md5 in hex
        self.entity = ENTITY  # the one that exists, and the API key's own
        self._count = 0

    def number(self) -> int:
        self._count += 1
        return self._count

    def project(self, entity: str, name: str) -> ProjectState:
        """The project, made where it is not there yet, as W&B does with the first run."""
        if entity != self.entity:
            raise Refused(f"entity {entity!r} does not exist")
        if name not in self.projects:
            self.projects[name] = ProjectState(self.number(), entity, name)
        return self.projects[name]

    def run(self, entity: str, project: str, name: str) -> RunState:
        try:
            return self.project(entity, project).runs[name]
        except KeyError:
            raise Refused(f"no run {entity}/{project}/{name}") from None

    def create_artifact(self, run: RunState, type: str, name: str, digest: str, **values: Any) -> ArtifactState:
        """A pending version; or the committed one with this digest, which the run then counts as logged by it too."""
        collection = run.project.collections.get(name)
        if collection is None:
            collection = CollectionState(self.number(), name, type, run.project)
            run.project.collections[name] = collection
        if collection.type != type:
            raise Refused(f"collection {name} has type {collection.type}, not {type}")
        if not re.fullmatch(r"[A-Za-z0-9_.\-]{1,128}", name):
            raise Refused(f"artifact name {name!r}")
        for held in collection.versions:
            if held.digest == digest:
                move_aliases(held, values["wanted_aliases"])
                if held not in run.outputs:
                    run.outputs.append(held)
                return held
        artifact = ArtifactState(self.number(), collection, digest, created_by=run, **values)
        self.artifacts[artifact.id] = artifact
        return artifact

    def commit(self, artifact: ArtifactState) -> None:
        """Makes a pending version visible. Raises Refused unless all that its manifest names has arrived."""
        if artifact.state == "COMMITTED":
            return
        if artifact.manifest is None:
            raise Refused(f"{artifact.collection.name}: committed without a manifest")
        entries = json.loads(artifact.manifest)["contents"]
        md5 = hashlib.md5(b"wandb-artifact-manifest-v1\n", usedforsecurity=False)
        for name in sorted(entries):
            md5.update(f"{name}:{entries[name]['digest']}\n".encode())
            content = self.blobs.get(base64.b64decode(entries[name]["digest"]).hex())
            if content is None or len(content) != entries[name]["size"]:
                raise Refused(f"{artifact.collection.name}: file {name} was never uploaded whole")
        if md5.hexdigest() != artifact.digest:
            raise Refused(f"{artifact.collection.name}: the manifest does not give the digest {artifact.digest}")
        artifact.files = {name: entry["digest"] for name, entry in entries.items()}
        artifact.sizes = {name: entry["size"] for name, entry in entries.items()}
        twin = next((held for held in artifact.collection.versions if held.digest == artifact.digest), None)
        artifact.version = artifact.collection.committed if twin is None else twin.version
        if twin is not None:  # another run committed the same content meanwhile
            artifact.state = "DELETED"
            move_aliases(twin, artifact.wanted_aliases)
            artifact.created_by.outputs.append(twin)
            return
        artifact.state = "COMMITTED"
        artifact.collection.versions.append(artifact)
        artifact.collection.committed += 1
        artifact.created_by.outputs.append(artifact)
        move_aliases(artifact, artifact.wanted_aliases)

    def delete_artifact(self, artifact: ArtifactState) -> None:
        """Takes a version and its edges away, and the contents that no other version names."""
        artifact.state, artifact.aliases = "DELETED", []
        artifact.collection.versions.remove(artifact)
        for run in artifact.collection.project.runs.values():
            run.inputs = [held for held in run.inputs if held is not artifact]
            run.outputs = [held for held in run.outputs if held is not artifact]
        named = {md5 for held in self.artifacts.values() if held.state == "COMMITTED" for md5 in held.files.values()}
        for md5 in set(artifact.files.values()) - named:
            self.blobs.pop(base64.b64decode(md5).hex(), None)

    def put_blob(self, md5: str, content: bytes) -> None:
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            raise Refused(f"upload of {md5}: another content arrived")
        self.blobs[md5] = content


def move_aliases(artifact: ArtifactState, aliases: list[str]) -> None:
    """Gives the version these aliases and takes them from the collection's others."""
    for other in artifact.collection.versions:
        if other is not artifact:
            other.aliases = [alias for alias in other.aliases if alias not in aliases]
    artifact.aliases += [alias for alias in aliases if alias not in artifact.aliases]


def matches(run: RunState, filters: Any) -> bool:
    """Whether a run passes a Mongo-style filter. Raises Refused for a key or an operator that is not known."""
    for key, wanted in (filters or {}).items():
        if key == "$and":
            if not all(matches(run, each) for each in wanted):
                return False
        elif key == "$or":
            if not any(matches(run, each) for each in wanted):
                return False
        elif not _passes(_value(run, key), wanted):
            return False
    return True


def _value(run: RunState, key: str) -> Any:
    plain = {
        "name": run.name,
        "display_name": run.display_name,
        "displayName": run.display_name,
        "state": run.state,
        "group": run.group,
        "jobType": run.job_type,
        "tags": run.tags,
    }
    if key in plain:
        return plain[key]
    first, *path = key.split(".")
    if first not in ("config", "summary_metrics") or not path:
        raise Refused(f"filter key {key!r} is not known")
    found: Any = run.config if first == "config" else run.summary
    for part in path:
        if not isinstance(found, dict) or part not in found:
            return None
        found = found[part]
    return found


def _passes(value: Any, wanted: Any) -> bool:
    if not isinstance(wanted, dict):
        return value == wanted or (isinstance(value, list) and wanted in value)
    for operator, operand in wanted.items():
        if operator == "$in":
            passed = any(item in operand for item in value) if isinstance(value, list) else value in operand
        elif operator == "$nin":
            passed = not (any(item in operand for item in value) if isinstance(value, list) else value in operand)
        elif operator == "$ne":
            passed = value != operand
        elif operator == "$regex":
            passed = isinstance(value, str) and re.search(operand, value) is not None
        else:
            raise Refused(f"filter operator {operator!r} is not known")
        if not passed:
            return False
    return True
