"""Answers the commands that look at artifacts and runs: `ls`, `show`, `get`, `lineage` and `query`."""

import argparse
import json
import sys
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from tracking.commands.runs import find_run, show_run, state_of
from tracking.interface import NotFound
from tracking.printing import at_time, in_bytes, in_hours, open_console, print_json, print_table, strict
from tracking.process import is_alive
from tracking.store import Store

if TYPE_CHECKING:  # the SDK is loaded where W&B is asked
    from tracking.query import Found, FoundRun
    from tracking.wandb.server import Server

    Source = Store | Server


def ls(store: "Source", options: argparse.Namespace) -> None:
    """Prints artifact versions, or with `--runs` runs."""
    if options.runs:
        return _ls_runs(store, options)
    artifacts = store.versions(options.glob)
    if options.json:
        return print_json(
            [
                {
                    "name": artifact.name,
                    "version": f"v{artifact.version}",
                    "aliases": artifact.aliases,
                    "type": artifact.type,
                    "size": artifact.size,
                    "created": artifact.created,
                    "digest": artifact.digest,
                }
                for artifact in artifacts
            ]
        )
    rows = [
        (
            artifact.name,
            f"v{artifact.version}",
            ", ".join(artifact.aliases),
            artifact.type,
            in_bytes(artifact.size),
            at_time(artifact.created),
            artifact.digest[:12],
        )
        for artifact in artifacts
    ]
    print_table(
        ("name", "version", "aliases", "type", "size", "created", "digest"),
        rows,
        f"artifacts{_named(options)} in {_source_name(store)}",
    )


def _named(options: argparse.Namespace) -> str:
    return "" if options.glob == "*" else f" named {options.glob}"


def _ls_runs(store: "Source", options: argparse.Namespace) -> None:
    runs = [run for run in store.runs() if fnmatchcase(run.id, options.glob) or fnmatchcase(run.name, options.glob)]
    if options.json:
        found = [{**asdict(run), "alive": is_alive(run)} for run in runs]
        return print_json([{key: value for key, value in run.items() if key != "process"} for run in found])
    rows = [
        (
            run.id,
            run.name,
            run.job_type,
            run.group or "",
            state_of(run),
            at_time(run.started),
            in_hours((run.heartbeat if run.ended is None else run.ended) - run.started),
            f"{run.host}:{run.pid}" if run.host else "",
        )
        for run in runs
    ]
    print_table(
        ("id", "name", "job type", "group", "state", "started", "took", "process"),
        rows,
        f"runs{_named(options)} in {_source_name(store)}",
    )


def show(store: "Source", options: argparse.Namespace) -> None:
    """Prints one version, or one run where nothing is named so.

    With `--json`, `files` of a version maps each name to its `size` in bytes and base64 `md5`.
    """
    try:
        artifact = store.artifact(options.ref)
    except NotFound as error:
        if (run := find_run(store, options.ref)) is not None:
            return show_run(store, run, as_json=options.json)
        raise NotFound(f"{error}; no run has that id either, see `python -m tracking ls --runs`") from error
    values = {
        "name": artifact.name,
        "type": artifact.type,
        "version": f"v{artifact.version}",
        "digest": artifact.digest,
        "aliases": artifact.aliases,
        "metadata": artifact.metadata,
        "files": {name: asdict(file) for name, file in artifact.files.items()},
    }
    if options.json:
        return print_json(values)
    console = open_console()
    console.print(f"{artifact.ref}  {artifact.type}", style="bold")
    console.print(f"digest   {artifact.digest}")
    console.print(f"aliases  {', '.join(artifact.aliases) or 'none'}")
    console.print(f"created  {at_time(artifact.created)}")
    for verb, runs in (("logged by", store.logged_by(artifact)), ("used by", store.used_by(artifact))):
        console.print(f"{verb}  {', '.join(run.id for run in runs) or 'no run'}")
    if artifact.metadata:
        console.print("metadata")
        console.print(json.dumps(strict(artifact.metadata), indent=2, ensure_ascii=False))
    rows = [(name, in_bytes(file.size), file.md5) for name, file in artifact.files.items()]
    print_table(("file", "size", "md5"), rows, f"files in {artifact.ref}")


def get(store: "Source", options: argparse.Namespace) -> None:
    """Copies the files of a version into a directory, and prints how many."""
    artifact = store.artifact(options.ref)
    if artifact.size > 1 << 28 and sys.stderr.isatty():
        print(f"copying {in_bytes(artifact.size)} …", file=sys.stderr)
    directory = artifact.download(options.directory)
    if options.json:
        print_json({"artifact": artifact.ref, "directory": str(directory), "files": sorted(artifact.files)})
    else:
        count = len(artifact.files)
        print(f"{artifact.ref} → {directory}: {count} file{'s' * (count != 1)}, {in_bytes(artifact.size)}")


def lineage(store: "Source", options: argparse.Namespace) -> None:
    """Prints where an artifact came from and what was made of it."""
    from tracking import lineage as graphs

    graph = graphs.lineage(store, options.ref)
    if options.json:
        print_json(graphs.as_json(graph))
    else:
        open_console().print(graphs.as_tree(graph))


def query(store: "Source", options: argparse.Namespace) -> None:
    """Prints artifacts and runs that fit. With `--json`, `made_from` lists what an artifact's runs used."""
    from tracking.query import Query, find_artifacts, find_runs, parse_values

    wanted = ("name", "type", "job_type", "state", "dataset", "size", "seed", "uses")
    sought = Query(values=parse_values(options.values), **{key: getattr(options, key) for key in wanted})
    both = options.artifacts == options.runs
    artifacts = find_artifacts(store, sought) if both or options.artifacts else []
    runs = find_runs(store, sought) if (both and sought.type is None) or options.runs else []
    if options.json:
        return print_json({"artifacts": [_found(one) for one in artifacts], "runs": [_found_run(one) for one in runs]})
    rows = [
        (
            found.artifact.ref,
            ", ".join(found.artifact.aliases),
            found.artifact.type,
            *_about(found.about),
            ", ".join(run.id for run in found.logged_by),
            found.artifact.digest[:12],
        )
        for found in artifacts
    ]
    about = ("dataset", "model", "seed")
    if both or options.artifacts:
        columns = ("artifact", "aliases", "type", *about, "logged by", "digest")
        print_table(columns, rows, f"artifacts like that in {_source_name(store)}")
    if (both and sought.type is None) or options.runs:
        rows = [
            (one.record.id, one.record.job_type, one.record.state, *_about(one.about), one.record.group or "")
            for one in runs
        ]
        print_table(("run", "job type", "state", *about, "group"), rows, f"runs like that in {_source_name(store)}")


def _about(about: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(about.get(key, "")) for key in ("dataset", "size", "seed"))


def _found(found: "Found") -> dict[str, Any]:
    artifact = found.artifact
    return {
        "name": artifact.name,
        "version": f"v{artifact.version}",
        "type": artifact.type,
        "digest": artifact.digest,
        "aliases": artifact.aliases,
        **found.about,
        "logged_by": [record.id for record in found.logged_by],
        "made_from": [{"artifact": used.ref, "digest": used.digest} for used in found.made_from],
    }


def _found_run(found: "FoundRun") -> dict[str, Any]:
    record = found.record
    kept = {key: getattr(record, key) for key in ("id", "name", "job_type", "state", "group", "tags", "code_version")}
    return kept | found.about


def _source_name(source: "Source") -> str:
    return str(source.root if isinstance(source, Store) else source.project)
