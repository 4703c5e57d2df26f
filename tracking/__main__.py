"""Looks into the store, or with `--backend wandb` into W&B, and carries one over to the other.

REF is `name:alias`, `name:vN`, `name` or a digest prefix.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from conf.errors import EdgewiseError
from conf.version import version_line
from tracking.printing import at_time, in_bytes, in_hours, open_console, print_json, print_table, strict
from tracking.process import is_alive
from tracking.store import Store
from tracking.wandb.project import WandbProject

if TYPE_CHECKING:  # the SDK is loaded where W&B is asked
    from tracking.query import Found, FoundRun
    from tracking.wandb.server import Server

    Source = Store | Server


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit status: 1 for an error or, from `verify`, for damage."""
    options = _parser().parse_args(arguments)
    for name, default in (("root", "runs"), ("json", False), ("backend", "local")):
        setattr(options, name, getattr(options, name, default))
    try:
        source = _open(options)
        try:
            status = options.command(source, options) or 0
            sys.stdout.flush()
            return status
        finally:
            source.close()
    except EdgewiseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head`: whoever read has what they wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _open(options: argparse.Namespace) -> "Source":
    """Opens what the command looks into: W&B for a reading command with `--backend wandb`, else the store."""
    if options.backend == "wandb" and options.command in _READING:
        from tracking.wandb.server import Server

        return Server(_project(options), remember=True)
    if options.backend == "wandb" and options.command not in (_push, _pull):
        raise EdgewiseError("this command looks after the embedded store alone: leave out --backend wandb")
    return Store(options.root, create=options.command is _pull)


def _project(options: argparse.Namespace) -> WandbProject:
    return WandbProject.chosen(*(getattr(options, name, None) for name in ("entity", "project", "base_url")))


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument(
        "--root", metavar="DIR", help="the store's directory, tracking.root of the runs (default: runs)"
    )
    shared.add_argument("--json", action="store_true", help="print JSON")
    shared.add_argument("--backend", choices=("local", "wandb"), help="where to look: the store (default), or W&B")
    shared.add_argument("--entity", help="of W&B; default: WANDB_ENTITY, else the API key's own")
    shared.add_argument("--project", help="of W&B; default: WANDB_PROJECT, else edgewise")
    shared.add_argument("--base-url", metavar="URL", help="W&B's server; default: WANDB_BASE_URL, else the SDK's")
    parser = argparse.ArgumentParser(prog="python -m tracking", description=__doc__, parents=[shared])
    parser.add_argument("--version", action="version", version=version_line())
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Any, help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help, parents=[shared])
        added.set_defaults(command=function)
        return added

    ls = command("ls", _ls, "lists artifact versions, or runs")
    ls.add_argument("glob", nargs="?", default="*", metavar="GLOB", help="only these names (runs: ids or names)")
    ls.add_argument("--runs", action="store_true", help="list runs instead")
    show = command("show", _show, "shows one artifact version")
    show.add_argument("ref", metavar="REF")
    get = command("get", _get, "copies the files of an artifact version, checked, into a directory")
    get.add_argument("ref", metavar="REF")
    get.add_argument("directory", metavar="DIR")
    lineage = command("lineage", _lineage, "shows where an artifact came from and what was made of it")
    lineage.add_argument("ref", metavar="REF")
    query = command("query", _query, "finds artifacts and runs by dataset, size, seed, state and config values")
    query.add_argument(
        "values", nargs="*", metavar="KEY=VALUE", help="a config value, such as train.steps=600; upstream counts too"
    )
    query.add_argument("--artifacts", action="store_true", help="artifacts only")
    query.add_argument("--runs", action="store_true", help="runs only")
    query.add_argument("--name", default="*", metavar="GLOB", help="only these names (runs: ids or names)")
    query.add_argument("--type", help="only artifacts of this type, such as scores")
    query.add_argument("--job-type", help="only runs of this job type, such as train, and what they logged")
    query.add_argument("--state", help="only runs in this state, such as finished, and what they logged")
    query.add_argument("--dataset")
    query.add_argument("--size")
    query.add_argument("--seed", type=int)
    query.add_argument("--uses", metavar="REF", help="only runs that used this artifact, and what they logged")
    push = command("push", _push, "sends to W&B what it has not confirmed; exit status 1 if something is left")
    push.add_argument("refs", nargs="*", metavar="REF", help="only these artifacts and all upstream of them")
    push.add_argument(
        "--again",
        action="store_true",
        help="ask W&B for all of it anew, also for content, and send what is gone or damaged there",
    )
    pull = command(
        "pull", _pull, "brings runs and artifacts from W&B into the store; exit status 1 if something failed"
    )
    pull.add_argument("refs", nargs="*", metavar="REF", help="only these artifacts and all upstream of them")
    command("verify", _verify, "hashes every file of every version again; exit status 1 if anything is wrong")
    gc = command("gc", _gc, "removes the files that dead writers left; no version is ever removed")
    gc.add_argument(
        "--grace",
        type=_seconds,
        default=3600.0,
        metavar="SECONDS",
        help="keep unnamed blobs younger than this (default: 3600)",
    )
    return parser


def _ls(store: "Source", options: argparse.Namespace) -> None:
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
        ("name", "version", "aliases", "type", "size", "created", "digest"), rows, f"artifacts in {_source_name(store)}"
    )


def _ls_runs(store: "Source", options: argparse.Namespace) -> None:
    runs = [run for run in store.runs() if fnmatchcase(run.id, options.glob) or fnmatchcase(run.name, options.glob)]
    if options.json:
        return print_json([{**asdict(run), "alive": is_alive(run)} for run in runs])
    rows = [
        (
            run.id,
            run.name,
            run.job_type,
            run.group or "",
            "running, but its process is gone" if run.state == "running" and not is_alive(run) else run.state,
            at_time(run.started),
            in_hours((run.heartbeat if run.ended is None else run.ended) - run.started),
            f"{run.host}:{run.pid}" if run.host else "",
        )
        for run in runs
    ]
    print_table(
        ("id", "name", "job type", "group", "state", "started", "took", "process"),
        rows,
        f"runs in {_source_name(store)}",
    )


def _show(store: "Source", options: argparse.Namespace) -> None:
    """Shows one version. With `--json`, `files` maps each name to its `size` in bytes and base64 `md5`."""
    artifact = store.artifact(options.ref)
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


def _get(store: "Source", options: argparse.Namespace) -> None:
    artifact = store.artifact(options.ref)
    if artifact.size > 1 << 28 and sys.stderr.isatty():
        print(f"copying {in_bytes(artifact.size)} …", file=sys.stderr)
    directory = artifact.download(options.directory)
    if options.json:
        print_json({"artifact": artifact.ref, "directory": str(directory), "files": sorted(artifact.files)})
    else:
        count = len(artifact.files)
        print(f"{artifact.ref} → {directory}: {count} file{'s' * (count != 1)}, {in_bytes(artifact.size)}")


def _lineage(store: "Source", options: argparse.Namespace) -> None:
    from tracking.lineage import as_json, as_tree, lineage

    graph = lineage(store, options.ref)
    if options.json:
        print_json(as_json(graph))
    else:
        open_console().print(as_tree(graph))


def _query(store: "Source", options: argparse.Namespace) -> None:
    """Finds artifacts and runs. With `--json`, `made_from` lists what the runs that logged an artifact used."""
    from tracking.query import Query, find_artifacts, find_runs, parse_values

    wanted = ("name", "type", "job_type", "state", "dataset", "size", "seed", "uses")
    query = Query(values=parse_values(options.values), **{key: getattr(options, key) for key in wanted})
    both = options.artifacts == options.runs
    artifacts = find_artifacts(store, query) if both or options.artifacts else []
    runs = find_runs(store, query) if (both and query.type is None) or options.runs else []
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
    if (both and query.type is None) or options.runs:
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


def _push(store: Store, options: argparse.Namespace) -> int:
    from tracking.wandb.transfer import push

    project = _project(options)
    result = push(store, project, options.refs, again=options.again, report=_report)
    if options.json:
        print_json(asdict(result))
    elif result.pending:
        reason = result.problem or next(iter(result.failed.values()), "")
        because = f" ({reason})" if reason else ""
        print(f"not delivered to {project}: {result.pending}{because}; the same command goes on from there")
    else:
        count = len(result.delivered)
        print(f"{project} has all of it, and showed it: {count or 'no'} run{'s' * (count != 1)} sent just now")
    return 1 if result.pending else 0


def _pull(store: Store, options: argparse.Namespace) -> int:
    from tracking.wandb.transfer import pull

    result = pull(store, _project(options), options.refs, report=_report)
    if options.json:
        print_json(asdict(result))
    else:
        print(f"{len(result.runs)} runs and {len(result.artifacts)} artifact versions brought to {store.root}")
        for name, text in result.failed.items():
            print(f"not brought: {name}: {text}")
    return 1 if result.failed else 0


def _report(text: str) -> None:
    print(text, file=sys.stderr)


_READING = (_ls, _show, _get, _lineage, _query)


def _source_name(source: "Source") -> str:
    return str(source.root if isinstance(source, Store) else source.project)


def _verify(store: Store, options: argparse.Namespace) -> int:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from tracking.upkeep import verify

    columns = (TextColumn("verifying"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=open_console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as progress:
        task = progress.add_task("verifying")
        result = verify(store, lambda done, total: progress.update(task, completed=done, total=total))
    if options.json:
        print_json(asdict(result))
    else:
        for problem in result.problems:
            print(problem)
        print(
            f"{result.artifacts} artifact versions, {result.files} files, {in_bytes(result.bytes)} read: "
            + (f"{len(result.problems)} problems" if result.problems else "all is as it was logged")
        )
    return 1 if result.problems else 0


def _gc(store: Store, options: argparse.Namespace) -> None:
    from tracking.upkeep import collect

    result = collect(store, options.grace)
    if options.json:
        print_json(asdict(result))
    else:
        print(f"removed {result.temporary} temporary files and {result.blobs} unnamed blobs: {in_bytes(result.bytes)}")


# ---- flags


def _seconds(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise ValueError
    return value


if __name__ == "__main__":
    sys.exit(main())
