"""Follows the edges from an artifact both ways, on any backend: where it came from and what was made of it.

Upstream of an artifact are the runs that logged it, the artifacts those runs used, and so on to the data; downstream
are the runs that used it, the artifacts those logged, and so on to every table.
"""

from dataclasses import dataclass, field
from typing import Any

from rich.text import Text
from rich.tree import Tree

from tracking.interface import Artifact, Reader, RunRecord


@dataclass
class Walk:
    """Holds the edges followed one way: `runs` next to each artifact, by reference; `artifacts` beyond each run, by id.

    The keys of `runs` are every artifact reached, nearest first, after the one that the walk started from.
    """

    runs: dict[str, list[str]] = field(default_factory=dict)
    artifacts: dict[str, list[str]] = field(default_factory=dict)

    @property
    def reached(self) -> list[str]:
        """Returns the references of the artifacts reached, nearest first, without the one started from."""
        return list(self.runs)[1:]

    def near_edges(self) -> list[tuple[str, str]]:
        """Returns the (run, artifact) pairs on the artifact's own side of each run."""
        return [(run, ref) for ref, runs in self.runs.items() for run in runs]

    def far_edges(self) -> list[tuple[str, str]]:
        """Returns the (run, artifact) pairs beyond each run."""
        return [(run, ref) for run, refs in self.artifacts.items() for ref in refs]


@dataclass
class Lineage:
    """Holds the part of the graph that one artifact touches. Upstream near edges are `logged`, downstream ones `used`.

    Because equal content is one version, a run may use what it also logs: the graph may have cycles.
    """

    artifact: Artifact
    upstream: Walk = field(default_factory=Walk)
    downstream: Walk = field(default_factory=Walk)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    runs: dict[str, RunRecord] = field(default_factory=dict)


def lineage(tracker: Reader, artifact: Artifact | str) -> Lineage:
    """Follows the edges from an artifact (or a REF) as far as they go. Raises NotFound for an unknown REF."""
    graph = Lineage(tracker.artifact(artifact) if isinstance(artifact, str) else artifact)
    for walk, runs_of, artifacts_of in (
        (graph.upstream, tracker.logged_by, tracker.inputs),
        (graph.downstream, tracker.used_by, tracker.outputs),
    ):
        queue = [graph.artifact]
        graph.artifacts[graph.artifact.ref] = graph.artifact
        walk.runs[graph.artifact.ref] = []
        for near in queue:  # grows as it is walked: breadth first
            for run in runs_of(near):
                graph.runs[run.id] = run
                walk.runs[near.ref].append(run.id)
                if run.id in walk.artifacts:
                    continue
                beyond = artifacts_of(run.id)
                walk.artifacts[run.id] = [far.ref for far in beyond]
                for far in beyond:
                    if far.ref not in walk.runs:
                        walk.runs[far.ref] = []
                        graph.artifacts[far.ref] = far
                        queue.append(far)
    return graph


def as_json(graph: Lineage) -> dict[str, Any]:
    """Returns the graph as plain values: the artifacts each way, nearest first; each node once; and every edge."""
    logged = dict.fromkeys(graph.upstream.near_edges() + graph.downstream.far_edges())
    used = dict.fromkeys(graph.upstream.far_edges() + graph.downstream.near_edges())
    return {
        "artifact": graph.artifact.ref,
        "upstream": graph.upstream.reached,
        "downstream": graph.downstream.reached,
        "artifacts": {
            ref: {
                "type": artifact.type,
                "digest": artifact.digest,
                "aliases": artifact.aliases,
                "files": sorted(artifact.files),
            }
            for ref, artifact in graph.artifacts.items()
        },
        "runs": {
            run.id: {
                "job_type": run.job_type,
                "name": run.name,
                "group": run.group,
                "state": run.state,
                "code_version": run.code_version,
                "started": run.started,
                "ended": run.ended,
            }
            for run in graph.runs.values()
        },
        "edges": [
            {"kind": kind, "run": run, "artifact": ref}
            for kind, edges in (("logged", logged), ("used", used))
            for run, ref in edges
        ],
    }


def as_tree(graph: Lineage) -> Tree:
    """Returns the graph as a tree to print; a node that was drawn before is drawn again without its branches."""
    root = Tree(_artifact_label("", graph.artifact))
    upstream = root.add(Text("upstream: where it came from", style="bold"))
    _draw(graph, graph.upstream, upstream, ("logged by ", "used "))
    downstream = root.add(Text("downstream: what was made of it", style="bold"))
    _draw(graph, graph.downstream, downstream, ("used by ", "logged "), tables=True)
    for branch in (upstream, downstream):
        if not branch.children:
            branch.add(Text("nothing recorded", style="dim"))
    return root


def _draw(graph: Lineage, walk: Walk, branch: Tree, verbs: tuple[str, str], tables: bool = False) -> None:
    seen = {graph.artifact.ref}
    # A stack in place of recursion: a chain may be longer than Python's call stack. What is put last is drawn first.
    todo = [(branch, "run", run) for run in reversed(walk.runs[graph.artifact.ref])]
    while todo:
        parent, kind, name = todo.pop()
        key = f"{kind}/{name}" if kind == "run" else name  # no artifact's name holds a '/'
        again = key in seen
        seen.add(key)
        if kind == "run":
            node = parent.add(_run_label(verbs[0], graph.runs[name], again))
            beyond = [(node, "artifact", ref) for ref in walk.artifacts[name]]
        else:
            artifact = graph.artifacts[name]
            node = parent.add(_artifact_label(verbs[1], artifact, again))
            beyond = [(node, "run", run) for run in walk.runs[name]]
            if tables and not again:
                for file in sorted(artifact.files):
                    if file.startswith("tables/"):
                        node.add(Text(file))
        if not again:
            todo.extend(reversed(beyond))


def _artifact_label(verb: str, artifact: Artifact, again: bool = False) -> Text:
    return Text.assemble(
        (verb, "dim"),
        (artifact.ref, "cyan"),
        (f"  {artifact.type}  {artifact.digest[:12]}{'  (see above)' * again}", "dim"),
    )


def _run_label(verb: str, run: RunRecord, again: bool) -> Text:
    version, plus, commit = run.code_version.partition("+")
    commit, dash, dirty = commit.partition("-")
    code = f"{version}{plus}{commit[:12]}{dash}{dirty}"
    about = f"  {run.job_type}  {run.state}  {code}{'  (see above)' * again}"
    return Text.assemble((verb, "dim"), (f"run {run.id}", "green"), (about, "dim"))
