"""`python -m tracking`: looks into the store. REF is `name:alias`, `name:vN`, `name` or a digest prefix."""

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from conf.errors import SwitchyardError
from tracking.process import is_alive
from tracking.store import Store

if TYPE_CHECKING:  # rich is loaded where something is drawn: `--json` answers without it
    from rich.console import Console


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit status: 1 for an error or, from `verify`, for damage."""
    options = _parser().parse_args(arguments)
    options.root, options.json = getattr(options, "root", "runs"), getattr(options, "json", False)
    try:
        store = Store(options.root, create=False)
        try:
            status = options.command(store, options) or 0
            sys.stdout.flush()
            return status
        finally:
            store.close()
    except SwitchyardError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head`: whoever read has what they wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument(
        "--root", metavar="DIR", help="the store's directory, tracking.root of the runs (default: runs)"
    )
    shared.add_argument("--json", action="store_true", help="print JSON")
    parser = argparse.ArgumentParser(prog="python -m tracking", description=__doc__, parents=[shared])
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


def _ls(store: Store, options: argparse.Namespace) -> None:
    if options.runs:
        return _ls_runs(store, options)
    artifacts = store.versions(options.glob)
    if options.json:
        return _print_json(
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
            _size(artifact.size),
            _time(artifact.created),
            artifact.digest[:12],
        )
        for artifact in artifacts
    ]
    _print_table(
        ("name", "version", "aliases", "type", "size", "created", "digest"), rows, f"artifacts in {store.root}"
    )


def _ls_runs(store: Store, options: argparse.Namespace) -> None:
    runs = [run for run in store.runs() if fnmatchcase(run.id, options.glob) or fnmatchcase(run.name, options.glob)]
    if options.json:
        return _print_json([{**asdict(run), "alive": is_alive(run)} for run in runs])
    rows = [
        (
            run.id,
            run.name,
            run.job_type,
            run.group or "",
            "running, but its process is gone" if run.state == "running" and not is_alive(run) else run.state,
            _time(run.started),
            _duration((run.heartbeat if run.ended is None else run.ended) - run.started),
            f"{run.host}:{run.pid}",
        )
        for run in runs
    ]
    _print_table(
        ("id", "name", "job type", "group", "state", "started", "took", "process"), rows, f"runs in {store.root}"
    )


def _show(store: Store, options: argparse.Namespace) -> None:
    """With `--json`: `version` is `vN`; `files` maps each name to its `size` in bytes and base64 `md5`."""
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
        return _print_json(values)
    console = _console()
    console.print(f"{artifact.ref}  {artifact.type}", style="bold")
    console.print(f"digest   {artifact.digest}")
    console.print(f"aliases  {', '.join(artifact.aliases) or 'none'}")
    console.print(f"created  {_time(artifact.created)}")
    for verb, runs in (("logged by", store.logged_by(artifact)), ("used by", store.used_by(artifact))):
        console.print(f"{verb}  {', '.join(run.id for run in runs) or 'no run'}")
    if artifact.metadata:
        console.print("metadata")
        console.print(json.dumps(_strict(artifact.metadata), indent=2, ensure_ascii=False))
    rows = [(name, _size(file.size), file.md5) for name, file in artifact.files.items()]
    _print_table(("file", "size", "md5"), rows, f"files in {artifact.ref}")


def _get(store: Store, options: argparse.Namespace) -> None:
    artifact = store.artifact(options.ref)
    if artifact.size > 1 << 28 and sys.stderr.isatty():
        print(f"copying {_size(artifact.size)} …", file=sys.stderr)
    directory = artifact.download(options.directory)
    if options.json:
        _print_json({"artifact": artifact.ref, "directory": str(directory), "files": sorted(artifact.files)})
    else:
        count = len(artifact.files)
        print(f"{artifact.ref} → {directory}: {count} file{'s' * (count != 1)}, {_size(artifact.size)}")


def _lineage(store: Store, options: argparse.Namespace) -> None:
    from tracking.lineage import as_json, as_tree, lineage

    graph = lineage(store, options.ref)
    if options.json:
        _print_json(as_json(graph))
    else:
        _console().print(as_tree(graph))


def _verify(store: Store, options: argparse.Namespace) -> int:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from tracking.upkeep import verify

    columns = (TextColumn("verifying"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("verifying")
        result = verify(store, lambda done, total: progress.update(task, completed=done, total=total))
    if options.json:
        _print_json(asdict(result))
    else:
        for problem in result.problems:
            print(problem)
        print(
            f"{result.artifacts} artifact versions, {result.files} files, {_size(result.bytes)} read: "
            + (f"{len(result.problems)} problems" if result.problems else "all is as it was logged")
        )
    return 1 if result.problems else 0


def _gc(store: Store, options: argparse.Namespace) -> None:
    from tracking.upkeep import collect

    result = collect(store, options.grace)
    if options.json:
        _print_json(asdict(result))
    else:
        print(f"removed {result.temporary} temporary files and {result.blobs} unnamed blobs: {_size(result.bytes)}")


# ---- printing


def _print_json(value: Any) -> None:
    print(json.dumps(_strict(value), indent=2, allow_nan=False))


def _strict(value: Any) -> Any:
    """The value with NaN and infinities written as W&B writes them, since JSON has none: "NaN", "Infinity"."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return value


def _print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], what: str) -> None:
    if not rows:
        print(f"no {what}")
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        right = column in ("size", "took")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    _console().print(table)


def _console(stderr: bool = False) -> "Console":
    from rich.console import Console

    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 10_000  # a pipe has no width: nothing is to be cut or folded there
    return console


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _time(seconds: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _seconds(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise ValueError
    return value


if __name__ == "__main__":
    sys.exit(main())
