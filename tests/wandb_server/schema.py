"""The part of W&B's GraphQL schema that the SDK uses here: a class a type, a method a field (see `graphql`)."""

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any

from tests.wandb_server.state import (
    ENTITY,
    FEATURES,
    ArtifactState,
    CollectionState,
    ProjectState,
    Refused,
    RunState,
    State,
    ViewState,
    find,
    matches,
    move_aliases,
    node_id,
    timestamp,
)


class Node:
    GRAPHQL = True
    INTERFACES: tuple[str, ...] = ()


def record(kind: str, **values: Any) -> Node:
    """An object of a type with plain fields and no arguments."""
    return type(kind, (Node,), {name: _field(value) for name, value in values.items()})()


def _field(value: Any) -> Callable[[Any], Any]:
    return lambda self: value


def connection(nodes: Sequence[Any], after: str | None, first: int | None, **of_edge: Callable[[Any], Any]) -> Node:
    """One page of a Relay connection; a cursor is the number of nodes before it."""
    start = int(after or 0)
    page = nodes[start : start + (first or 50)]
    end = start + len(page)
    edges = [
        record("Edge", node=node, cursor=str(start + i + 1), **{name: of(node) for name, of in of_edge.items()})
        for i, node in enumerate(page)
    ]
    info = record("PageInfo", endCursor=str(end) if page else None, hasNextPage=end < len(nodes))
    return record("Connection", edges=edges, pageInfo=info, totalCount=len(nodes))


def only(given: dict[str, Any], kind: str, *allowed: str) -> dict[str, Any]:
    if unknown := sorted(set(given) - set(allowed)):
        raise Refused(f"{kind} has no field {', '.join(unknown)}")
    return given


class Query(Node):
    def __init__(self, state: State, base: str) -> None:
        self._state, self._base = state, base

    def viewer(self) -> Node:
        return user(self._state.entity)

    def serverInfo(self) -> Node:
        features = [record("ServerFeature", name=name, isEnabled=True) for name in FEATURES]
        return record("ServerInfo", features=features)

    def entity(self, name: str) -> Node:
        if name != self._state.entity:
            raise Refused(f"entity {name!r} does not exist")
        return record("Entity", id=node_id("Entity", name), name=name, organization=None)

    def project(self, name: str, entityName: str) -> Node | None:
        if entityName != self._state.entity or name not in self._state.projects:
            return None
        return Project(self._state.projects[name], self._base)

    def model(self, name: str, entityName: str) -> Node | None:
        return self.project(name, entityName)

    def models(self, entityName: str, after: str | None = None, first: int | None = None) -> Node:
        projects = [Project(project, self._base) for project in self._state.projects.values()]
        return connection(projects if entityName == self._state.entity else [], after, first)

    def artifact(self, id: str) -> Node | None:
        found = self._state.artifacts.get(id)
        return Artifact(found, self._base) if found else None

    def artifactCollection(self, id: str) -> Node | None:
        for project in self._state.projects.values():
            for collection in project.collections.values():
                if node_id("ArtifactSequence", collection.number) == id:
                    return ArtifactSequence(collection, self._base)
        return None

    def view(self, id: str) -> Node | None:
        for project in self._state.projects.values():
            for view in project.views:
                if view.id == id:
                    return View(view)
        return None


class Mutation(Node):
    def __init__(self, state: State, base: str) -> None:
        self._state, self._base = state, base

    def upsertBucket(self, input: dict[str, Any]) -> Node:
        only(
            input,
            "UpsertBucketInput",
            "id",
            "name",
            "groupName",
            "modelName",
            "entityName",
            "description",
            "displayName",
            "notes",
            "config",
            "commit",
            "host",
            "debug",
            "jobProgram",
            "jobRepo",
            "jobType",
            "state",
            "sweep",
            "tags",
            "summaryMetrics",
        )
        inserted = False
        if "id" in input:
            run = next((r for p in self._state.projects.values() for r in p.runs.values() if r.id == input["id"]), None)
            if run is None:
                raise Refused(f"upsertBucket: no run with the id {input['id']}")
        else:
            project = self._state.project(input["entityName"], input["modelName"])
            name = input["name"]
            inserted = name not in project.runs
            if inserted:
                project.runs[name] = RunState(self._state.number(), name, project, input.get("displayName") or name)
            run = project.runs[name]
        for key, attribute in (
            *(("groupName", "group"), ("jobType", "job_type"), ("displayName", "display_name"), ("tags", "tags")),
            *(("notes", "notes"), ("description", "description"), ("commit", "commit"), ("state", "state")),
        ):
            if input.get(key) is not None:
                setattr(run, attribute, input[key])
        if input.get("config"):
            run.config = json.loads(input["config"])
        if input.get("summaryMetrics"):
            run.summary = json.loads(input["summaryMetrics"])
        return record("UpsertBucketPayload", bucket=Run(run, self._base), inserted=inserted)

    def deleteRun(self, input: dict[str, Any]) -> Node:
        only(input, "DeleteRunInput", "id", "deleteArtifacts")
        for project in self._state.projects.values():
            for run in [run for run in project.runs.values() if run.id == input["id"]]:
                del project.runs[run.name]
                if input.get("deleteArtifacts"):
                    for collection in project.collections.values():
                        collection.versions = [v for v in collection.versions if v.created_by is not run]
                return record("DeleteRunPayload", clientMutationId="")
        raise Refused(f"deleteRun: no run with the id {input['id']}")

    def createArtifact(self, input: dict[str, Any]) -> Node:
        only(
            input,
            "CreateArtifactInput",
            "aliases",
            "artifactCollectionName",
            "artifactCollectionNames",
            "artifactTypeName",
            "clientID",
            "clientMutationId",
            "description",
            "digest",
            "digestAlgorithm",
            "distributedID",
            "enableDigestDeduplication",
            "entityName",
            "historyStep",
            "labels",
            "metadata",
            "projectName",
            "runName",
            "sequenceClientID",
            "storageRegion",
            "ttlDurationSeconds",
            "tags",
        )
        if input["digestAlgorithm"] != "MANIFEST_MD5" or not input["enableDigestDeduplication"]:
            raise Refused("createArtifact: expected MANIFEST_MD5 and deduplication")
        name = input["artifactCollectionName"]
        if any(alias["artifactCollectionName"] != name for alias in input["aliases"]):
            raise Refused(f"createArtifact: aliases of another collection than {name}")
        artifact = self._state.create_artifact(
            self._state.run(input["entityName"], input["projectName"], input["runName"]),
            input["artifactTypeName"],
            name,
            input["digest"],
            metadata=json.loads(input.get("metadata") or "{}"),
            wanted_aliases=[alias["alias"] for alias in input["aliases"]],
            client_id=input.get("clientID"),
            description=input.get("description"),
            history_step=input.get("historyStep"),
        )
        return record("CreateArtifactPayload", artifact=Artifact(artifact, self._base))

    def createArtifactManifest(self, input: dict[str, Any]) -> Node:
        only(
            input,
            "CreateArtifactManifestInput",
            "artifactID",
            "baseArtifactID",
            "name",
            "digest",
            "entityName",
            "projectName",
            "runName",
            "type",
        )
        if input["name"] != "wandb_manifest.json" or input["type"] != "FULL":
            raise Refused(f"createArtifactManifest: {input['name']}, {input['type']}")
        return record("CreateArtifactManifestPayload", artifactManifest=self._manifest(self._artifact(input)))

    def updateArtifactManifest(self, input: dict[str, Any]) -> Node:
        only(input, "UpdateArtifactManifestInput", "artifactManifestID", "digest", "baseArtifactID")
        number = int(base64.b64decode(input["artifactManifestID"]).decode().partition(":")[2])
        artifact = next(a for a in self._state.artifacts.values() if a.number == number)
        return record("UpdateArtifactManifestPayload", artifactManifest=self._manifest(artifact))

    def _manifest(self, artifact: ArtifactState) -> Node:
        file = record(
            "File",
            id=node_id("File", f"{artifact.number}:manifest"),
            uploadUrl=f"{self._base}/storage/manifest/{artifact.number}/wandb_manifest.json",
            uploadHeaders=[],
            directUrl=f"{self._base}/storage/manifest/{artifact.number}/wandb_manifest.json",
        )
        return record("ArtifactManifest", id=node_id("ArtifactManifest", artifact.number), file=file)

    def createArtifactFiles(self, input: dict[str, Any]) -> Node:
        only(input, "CreateArtifactFilesInput", "artifactFiles", "clientMutationId", "cloudRegionID", "storageLayout")
        files = []
        for spec in input["artifactFiles"]:
            only(
                spec,
                "CreateArtifactFileSpecInput",
                "artifactID",
                "artifactManifestID",
                "md5",
                "mimetype",
                "name",
                "uploadPartsInput",
            )
            artifact = self._artifact(spec)
            artifact.files[spec["name"]] = spec["md5"]
            md5 = base64.b64decode(spec["md5"]).hex()
            held = md5 in self._state.blobs
            files.append(
                record(
                    "File",
                    storagePath=f"md5/{md5}",
                    uploadUrl=None if held else f"{self._base}/storage/md5/{md5}",
                    uploadHeaders=[],
                    uploadMultipartUrls=None,
                    artifact=Artifact(artifact, self._base),
                )
            )
        return record("CreateArtifactFilesPayload", files=connection(files, None, len(files) or 1))

    def commitArtifact(self, input: dict[str, Any]) -> Node:
        only(input, "CommitArtifactInput", "artifactID")
        artifact = self._artifact(input)
        self._state.commit(artifact)
        return record("CommitArtifactPayload", artifact=Artifact(artifact, self._base))

    def deleteArtifact(self, input: dict[str, Any]) -> Node:
        only(input, "DeleteArtifactInput", "artifactID", "clientMutationId", "deleteAliases")
        artifact = self._artifact(input)
        if artifact.aliases and not input.get("deleteAliases"):
            raise Refused(f"deleteArtifact: {artifact.collection.name} has aliases")
        self._state.delete_artifact(artifact)
        return record("DeleteArtifactPayload", artifact=Artifact(artifact, self._base))

    def useArtifact(self, input: dict[str, Any]) -> Node:
        only(
            input,
            "UseArtifactInput",
            "artifactID",
            "entityName",
            "projectName",
            "runName",
            "usedAs",
            "artifactEntityName",
            "artifactProjectName",
        )
        artifact = self._artifact(input)
        if artifact.state != "COMMITTED":
            raise Refused(f"useArtifact: {artifact.collection.name} is {artifact.state}")
        run = self._state.run(input["entityName"], input["projectName"], input["runName"])
        if artifact not in run.inputs:
            run.inputs.append(artifact)
            artifact.used_by.append(run)
        return record("UseArtifactPayload", artifact=Artifact(artifact, self._base))

    def addAliases(self, input: dict[str, Any]) -> Node:
        only(input, "AddAliasesInput", "aliases", "artifactID", "clientMutationId")
        move_aliases(self._artifact(input), [alias["alias"] for alias in input["aliases"]])
        return record("AddAliasesPayload", success=True)

    def deleteAliases(self, input: dict[str, Any]) -> Node:
        only(input, "DeleteAliasesInput", "aliases", "artifactID", "clientMutationId")
        artifact, gone = self._artifact(input), [alias["alias"] for alias in input["aliases"]]
        artifact.aliases = [alias for alias in artifact.aliases if alias not in gone]
        return record("DeleteAliasesPayload", success=True)

    def updateArtifact(self, input: dict[str, Any]) -> Node:
        only(
            input,
            "UpdateArtifactInput",
            "aliases",
            "artifactID",
            "clientMutationId",
            "description",
            "labels",
            "metadata",
            "tagsToAdd",
            "tagsToDelete",
            "ttlDurationSeconds",
        )
        artifact = self._artifact(input)
        if input.get("metadata") is not None:
            artifact.metadata = json.loads(input["metadata"])
        if input.get("description") is not None:
            artifact.description = input["description"]
        return record("UpdateArtifactPayload", artifact=Artifact(artifact, self._base))

    def createRunFiles(self, input: dict[str, Any]) -> Node:
        only(input, "CreateRunFilesInput", "entityName", "projectName", "runName", "files")
        run = self._state.run(input["entityName"], input["projectName"], input["runName"])
        urls = [(name, f"{self._base}/storage/run/{run.project.name}/{run.name}/{name}") for name in input["files"]]
        files = [record("File", name=name, uploadUrl=url) for name, url in urls]
        return record("CreateRunFilesPayload", runID=run.id, uploadHeaders=[], files=files)

    def upsertView(self, input: dict[str, Any]) -> Node:
        only(
            input,
            "UpsertViewInput",
            "id",
            "entityName",
            "projectName",
            "name",
            "displayName",
            "description",
            "type",
            "createdUsing",
            "spec",
        )
        json.loads(input["spec"])
        view = None
        if input.get("id"):
            view = next((v for p in self._state.projects.values() for v in p.views if v.id == input["id"]), None)
            if view is None:
                raise Refused(f"upsertView: no view {input['id']}")
        inserted = view is None
        if view is None:
            project = self._state.project(input["entityName"], input["projectName"])
            view = ViewState(self._state.number(), project, input["type"], input["name"], "", "", "")
            project.views.append(view)
        view.display_name = input.get("displayName") or view.display_name
        view.description = input.get("description") or ""
        view.spec, view.type = input["spec"], input["type"]
        return record("UpsertViewPayload", view=View(view), inserted=inserted)

    def _artifact(self, input: dict[str, Any]) -> ArtifactState:
        try:
            return self._state.artifacts[input["artifactID"]]
        except KeyError:
            raise Refused(f"no artifact {input['artifactID']}") from None


def user(entity: str = ENTITY) -> Node:
    teams = connection([record("Team", name=entity)], None, None)
    keys = connection([], None, None)
    return record(
        "User",
        id=node_id("User", 1),
        name="tester",
        username="tester",
        email="tester@example.invalid",
        entity=entity,
        flags="{}",
        admin=False,
        deletedAt=None,
        photoUrl=None,
        teams=teams,
        apiKeys=keys,
    )


class Project(Node):
    def __init__(self, project: ProjectState, base: str) -> None:
        self._project, self._base = project, base

    def id(self) -> str:
        return self._project.id

    def internalId(self) -> str:
        return str(self._project.number)

    def name(self) -> str:
        return self._project.name

    def entityName(self) -> str:
        return self._project.entity

    def entity(self) -> Node:
        return record("Entity", id=node_id("Entity", self._project.entity), name=self._project.entity)

    def createdAt(self) -> str:
        return timestamp(self._project.created)

    def readOnly(self) -> bool:
        return False

    def isBenchmark(self) -> bool:
        return False

    def user(self) -> Node:
        return user()

    def bucket(self, name: str, missingOk: bool = False) -> Node | None:
        return self.run(name)

    def run(self, name: str) -> Node | None:
        run = self._project.runs.get(name)
        return Run(run, self._base) if run else None

    def _runs(self, filters: str | None) -> list[RunState]:
        return [run for run in self._project.runs.values() if matches(run, json.loads(filters or "{}"))]

    def runCount(self, filters: str | None = None) -> int:
        return len(self._runs(filters))

    def runs(
        self, filters: str | None = None, after: str | None = None, first: int | None = None, order: str | None = None
    ) -> Node:
        runs = sorted(self._runs(filters), key=lambda run: run.number, reverse=(order or "").startswith("-"))
        return connection([Run(run, self._base) for run in runs], after, first)

    def artifact(self, name: str) -> Node | None:
        found = self._project.artifact(name)
        return Artifact(found, self._base) if found else None

    def artifactCollectionMembership(self, name: str) -> Node | None:
        found = self._project.artifact(name)
        return ArtifactCollectionMembership(found, self._base) if found else None

    def artifactCollection(self, name: str) -> Node | None:
        collection = self._project.collections.get(name)
        return ArtifactSequence(collection, self._base) if collection else None

    def artifactTypes(self, after: str | None = None, first: int | None = None) -> Node:
        names = dict.fromkeys(collection.type for collection in self._project.collections.values())
        return connection([ArtifactType(self._project, name, self._base) for name in names], after, first)

    def artifactType(self, name: str) -> Node | None:
        if all(collection.type != name for collection in self._project.collections.values()):
            return None
        return ArtifactType(self._project, name, self._base)

    def allViews(
        self,
        viewType: str,
        viewName: str | None = None,
        first: int | None = None,
        after: str | None = None,
    ) -> Node:
        views = [View(view) for view in self._project.views if view.type == viewType and viewName in (None, view.name)]
        return connection(views, after, first)


class Run(Node):
    INTERFACES = ("ArtifactCreator", "ArtifactUser")

    def __init__(self, run: RunState, base: str) -> None:
        self._run, self._base = run, base

    def id(self) -> str:
        return self._run.id

    def projectId(self) -> int:
        return self._run.project.number

    def project(self) -> Node:
        return Project(self._run.project, self._base)

    def name(self) -> str:
        return self._run.name

    def displayName(self) -> str:
        return self._run.display_name

    def description(self) -> str | None:
        return self._run.description

    def notes(self) -> str | None:
        return self._run.notes

    def tags(self) -> list[str]:
        return list(self._run.tags)

    def group(self) -> str | None:
        return self._run.group

    def jobType(self) -> str | None:
        return self._run.job_type

    def commit(self) -> str | None:
        return self._run.commit

    def state(self) -> str:
        return self._run.state

    def sweepName(self) -> None:
        return None

    def readOnly(self) -> bool:
        return False

    def createdAt(self) -> str:
        return timestamp(self._run.created)

    def heartbeatAt(self) -> str:
        return timestamp(self._run.heartbeat)

    def config(self) -> str:
        return json.dumps(self._run.config)

    def wandbConfig(self, keys: list[str]) -> str:
        kept = self._run.config.get("_wandb", {}).get("value", {})
        return json.dumps({key: kept[key] for key in keys if key in kept})

    def summaryMetrics(self) -> str:
        return json.dumps(self._run.summary)

    def systemMetrics(self) -> str:
        return "{}"

    def user(self) -> Node:
        return user()

    def _lines(self, name: str) -> list[str]:
        return self._run.lines.get(name, [])

    def historyLineCount(self) -> int:
        return len(self._lines("wandb-history.jsonl"))

    def eventsLineCount(self) -> int:
        return len(self._lines("wandb-events.jsonl"))

    def logLineCount(self) -> int:
        return len(self._lines("output.log"))

    def historyTail(self) -> str:
        return json.dumps(self._lines("wandb-history.jsonl")[-1:])

    def eventsTail(self) -> str:
        return json.dumps(self._lines("wandb-events.jsonl")[-1:])

    def historyKeys(self) -> dict[str, Any]:
        history = self._run.history
        keys = dict.fromkeys(key for point in history for key in point)
        counts = {key: {"typeCounts": [{"type": "number"}], "monotonic": False} for key in keys}
        return {"sets": [], "keys": counts, "lastStep": max((point["_step"] for point in history), default=-1)}

    def history(self, minStep: int = 0, maxStep: int = 1 << 62, samples: int | None = None) -> list[str]:
        points = [point for point in self._run.history if minStep <= point["_step"] < maxStep]
        return [json.dumps(point) for point in points[: samples or 500]]

    def parquetHistory(self, liveKeys: list[str]) -> Node:
        return record("ParquetHistory", parquetUrls=[], liveData=self._run.history)

    def inputArtifacts(self, after: str | None = None, first: int | None = None) -> Node:
        return connection([Artifact(artifact, self._base) for artifact in self._run.inputs], after, first)

    def outputArtifacts(self, after: str | None = None, first: int | None = None) -> Node:
        return connection([Artifact(artifact, self._base) for artifact in self._run.outputs], after, first)

    def fileCount(self) -> int:
        return len(self._run.files)

    def files(
        self,
        names: list[str] | None = None,
        after: str | None = None,
        first: int | None = None,
        pattern: str | None = None,
    ) -> Node:
        kept = [name for name in self._run.files if not names or name in names]
        return connection([self._file(name) for name in kept], after, first)

    def _file(self, name: str) -> Node:
        url = f"{self._base}/storage/run/{self._run.project.name}/{self._run.name}/{name}"
        return record(
            "File",
            id=node_id("RunFile", f"{self._run.number}:{name}"),
            name=name,
            url=url,
            directUrl=url,
            sizeBytes=len(self._run.files[name]),
            mimetype=None,
            updatedAt=timestamp(self._run.heartbeat),
            md5=None,
        )


class ArtifactType(Node):
    def __init__(self, project: ProjectState, name: str, base: str) -> None:
        self._project, self._name, self._base = project, name, base

    def id(self) -> str:
        return node_id("ArtifactType", f"{self._project.number}:{self._name}")

    def name(self) -> str:
        return self._name

    def description(self) -> None:
        return None

    def createdAt(self) -> str:
        return timestamp(self._project.created)

    def _collections(self) -> list[CollectionState]:
        return [c for c in self._project.collections.values() if c.type == self._name and c.versions]

    def artifactCollections(
        self, after: str | None = None, first: int | None = None, filters: str | None = None, order: str | None = None
    ) -> Node:
        if json.loads(filters or "{}"):
            raise Refused(f"artifactCollections: filters {filters} are not known")
        return connection([ArtifactSequence(c, self._base) for c in self._collections()], after, first)

    def artifactCollection(self, name: str) -> Node | None:
        found = next((c for c in self._collections() if c.name == name), None)
        return ArtifactSequence(found, self._base) if found else None


class ArtifactSequence(Node):
    INTERFACES = ("ArtifactCollection",)

    def __init__(self, collection: CollectionState, base: str) -> None:
        self._collection, self._base = collection, base

    def id(self) -> str:
        return node_id("ArtifactSequence", self._collection.number)

    def name(self) -> str:
        return self._collection.name

    def description(self) -> None:
        return None

    def state(self) -> str:
        return "READY"

    def createdAt(self) -> str:
        return timestamp(self._collection.created)

    def updatedAt(self) -> str:
        return timestamp(self._collection.created)

    def project(self) -> Node:
        return Project(self._collection.project, self._base)

    def defaultArtifactType(self) -> Node:
        return ArtifactType(self._collection.project, self._collection.type, self._base)

    def tags(self) -> Node:
        return connection([], None, None)

    def latestArtifact(self) -> Node | None:
        return Artifact(self._collection.versions[-1], self._base) if self._collection.versions else None

    def aliases(self, after: str | None = None, first: int | None = None) -> Node:
        names = [(alias, version) for version in self._collection.versions for alias in version.aliases]
        return connection([alias_node(version, alias, self._base) for alias, version in names], after, first)

    def artifacts(
        self, after: str | None = None, first: int | None = None, order: str | None = None, filters: str | None = None
    ) -> Node:
        if json.loads(filters or "{}") not in ({}, {"state": "COMMITTED"}):
            raise Refused(f"artifacts: filters {filters} are not known")
        nodes = [Artifact(version, self._base) for version in reversed(self._collection.versions)]
        return connection(nodes, after, first, version=lambda node: f"v{node.versionIndex()}")

    def artifactMembership(self, aliasName: str) -> Node | None:
        found = find(self._collection, aliasName)
        return ArtifactCollectionMembership(found, self._base) if found else None


class ArtifactCollectionMembership(Node):
    def __init__(self, artifact: ArtifactState, base: str) -> None:
        self._artifact, self._base = artifact, base

    def id(self) -> str:
        return node_id("ArtifactCollectionMembership", self._artifact.number)

    def versionIndex(self) -> int | None:
        return self._artifact.version

    def createdAt(self) -> str:
        return timestamp(self._artifact.created)

    def aliases(self) -> list[Node]:
        return [alias_node(self._artifact, alias, self._base) for alias in self._artifact.aliases]

    def artifactCollection(self) -> Node:
        return ArtifactSequence(self._artifact.collection, self._base)

    def artifact(self) -> Node:
        return Artifact(self._artifact, self._base)

    def files(self, names: list[str] | None = None, after: str | None = None, first: int | None = None) -> Node:
        artifact = self._artifact
        kept = [name for name in artifact.files if not names or name in names]
        return connection([self._file(name) for name in kept], after, first)

    def _file(self, name: str) -> Node:
        md5 = self._artifact.files[name]
        return record(
            "File",
            id=node_id("File", f"{self._artifact.number}:{name}"),
            name=name,
            displayName=name,
            url=None,
            directUrl=f"{self._base}/storage/md5/{base64.b64decode(md5).hex()}",
            sizeBytes=self._artifact.sizes[name],
            storagePath=None,
            mimetype=None,
            updatedAt=timestamp(self._artifact.created),
            digest=md5,
            md5=md5,
        )


def alias_node(artifact: ArtifactState, alias: str, base: str) -> Node:
    return record(
        "ArtifactAlias",
        id=node_id("ArtifactAlias", f"{artifact.collection.number}:{alias}"),
        alias=alias,
        artifactCollection=ArtifactSequence(artifact.collection, base),
    )


class Artifact(Node):
    def __init__(self, artifact: ArtifactState, base: str) -> None:
        self._artifact, self._base = artifact, base

    def id(self) -> str:
        return self._artifact.id

    def state(self) -> str:
        return self._artifact.state

    def digest(self) -> str:
        return self._artifact.digest

    def digestAlgorithm(self) -> str:
        return "MANIFEST_MD5"

    def versionIndex(self) -> int | None:
        return self._artifact.version

    def description(self) -> str | None:
        return self._artifact.description

    def metadata(self) -> str:
        return json.dumps(self._artifact.metadata)

    def historyStep(self) -> int | None:
        return self._artifact.history_step

    def ttlDurationSeconds(self) -> int:
        return -2

    def ttlIsInherited(self) -> bool:
        return True

    def tags(self) -> list[Node]:
        return []

    def size(self) -> int:
        return sum(self._artifact.sizes.values())

    def fileCount(self) -> int:
        return len(self._artifact.files)

    def commitHash(self) -> str:
        return self._artifact.digest[:20]

    def createdAt(self) -> str:
        return timestamp(self._artifact.created)

    def updatedAt(self) -> str:
        return timestamp(self._artifact.created)

    def artifactType(self) -> Node:
        return ArtifactType(self._artifact.collection.project, self._artifact.collection.type, self._base)

    def artifactSequence(self) -> Node:
        return ArtifactSequence(self._artifact.collection, self._base)

    def aliases(self) -> list[Node]:
        return [alias_node(self._artifact, alias, self._base) for alias in self._artifact.aliases]

    def currentManifest(self) -> Node:
        url = f"{self._base}/storage/manifest/{self._artifact.number}/wandb_manifest.json"
        return record("ArtifactManifest", file=record("File", directUrl=url))

    def createdBy(self) -> Node:
        return Run(self._artifact.created_by, self._base)

    def usedBy(self) -> Node:
        runs = [Run(run, self._base) for run in self._artifact.used_by]
        return connection(runs, None, len(runs) or 1)


class View(Node):
    def __init__(self, view: ViewState) -> None:
        self._view = view

    def id(self) -> str:
        return self._view.id

    def type(self) -> str:
        return self._view.type

    def name(self) -> str:
        return self._view.name

    def displayName(self) -> str:
        return self._view.display_name

    def description(self) -> str:
        return self._view.description

    def spec(self) -> str:
        return self._view.spec

    def user(self) -> Node:
        return user()

    def project(self) -> Node:
        return Project(self._view.project, "")

    def createdAt(self) -> str:
        return timestamp(self._view.created)

    def updatedAt(self) -> str:
        return timestamp(self._view.updated)
