"""Looks after a store: the commands `verify`, `gc`, `rm` and `alias`."""

import argparse
import re
import sys
from dataclasses import asdict

from tracking.interface import Artifact, NotFound, Tracker, TrackingError
from tracking.printing import in_bytes, open_console, print_json
from tracking.removal import remove, remove_unused
from tracking.store import Store


def verify(store: Store, options: argparse.Namespace) -> int:
    """Checks the whole store and prints what is wrong; returns the exit status."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from tracking import upkeep

    columns = (TextColumn("verifying"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=open_console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as progress:
        task = progress.add_task("verifying")
        result = upkeep.verify(store, lambda done, total: progress.update(task, completed=done, total=total))
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


def gc(store: Store, options: argparse.Namespace) -> None:
    """Removes what dead writers left and, with `--older-than`, versions that nothing uses; prints what it freed.

    With `--json` and `--older-than`, `versions` lists what was removed and `version_bytes` is the size of it.
    """
    from tracking.upkeep import collect

    unused = None
    if options.older_than is not None:
        unused = remove_unused(store, options.older_than, dry_run=options.dry_run)
    result = collect(store, options.grace, dry_run=options.dry_run)
    if options.json:
        more = {} if unused is None else {"versions": unused.versions, "version_bytes": unused.bytes}
        return print_json(asdict(result) | more)
    removed = "would remove" if options.dry_run else "removed"
    if unused is not None:
        for ref in unused.versions:
            print(f"{removed} {ref}")
        print(f"{removed} {_versions(len(unused.versions))} that nothing uses: {in_bytes(unused.bytes)}")
    print(f"{removed} {result.temporary} temporary files and {result.blobs} unnamed blobs: {in_bytes(result.bytes)}")


def rm(store: Store, options: argparse.Namespace) -> None:
    """Removes the versions that are named, all or none, and prints what is the latest in their place."""
    result = remove(store, options.refs)
    if options.json:
        return print_json(asdict(result))
    print(f"removed {', '.join(result.versions)}: {in_bytes(result.bytes)} freed")
    for ref in result.latest.values():
        print(f"{ref} is the latest now")
    if result.aliases:
        print(f"nothing is named {', '.join(result.aliases)} any more")
    if result.users:
        runs = ", ".join(dict.fromkeys(result.users))
        print(f"it is no longer among the inputs of {runs}, which made nothing that is still there")


def alias(tracker: Tracker, options: argparse.Namespace) -> int:
    """Gives an alias to a version, and prints which one had it; returns 1 where W&B did not take it."""
    name: str = options.alias
    if re.fullmatch(r"[0-9a-fA-F]{12,}", name):
        raise TrackingError(f"alias {name!r}: it reads as a digest; choose a name, such as best")
    artifact = tracker.artifact(options.ref)
    try:
        former = tracker.artifact(f"{artifact.name}:{name}").ref
    except NotFound:
        former = None
    tracker.move_alias(artifact, name)
    undelivered = options.backend == "wandb" and not _shows(tracker, artifact, name)
    if options.json:
        print_json({"artifact": artifact.ref, "alias": name, "former": former})
    else:
        was = f", which was {former}" if former not in (None, artifact.ref) else ""
        print(f"{artifact.name}:{name} is {artifact.ref} now{was}")
        if undelivered:
            print("W&B has not shown it yet: `python -m tracking push` delivers it", file=sys.stderr)
    return 1 if undelivered else 0


def _shows(tracker: Tracker, artifact: Artifact, name: str) -> bool:
    """Returns whether W&B has shown that a version has an alias."""
    from tracking.wandb.tracker import WandbTracker

    assert isinstance(tracker, WandbTracker)
    return name not in tracker.ledger.unconfirmed_aliases(tracker.adopt(artifact))


def _versions(count: int) -> str:
    return f"{count} version{'s' * (count != 1)}"
