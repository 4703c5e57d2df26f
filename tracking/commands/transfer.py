"""Carries runs and artifacts over to W&B and back: the commands `push` and `pull`."""

import argparse
import sys
from dataclasses import asdict

from tracking.printing import print_json
from tracking.store import Store
from tracking.wandb.project import WandbProject


def push(store: Store, options: argparse.Namespace) -> int:
    """Sends what W&B has not confirmed, and prints what is left; returns the exit status."""
    from tracking.wandb import transfer

    project = project_of(options)
    result = transfer.push(store, project, options.refs, again=options.again, report=_report)
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


def pull(store: Store, options: argparse.Namespace) -> int:
    """Brings runs and artifacts from W&B into the store, and prints what failed; returns the exit status."""
    from tracking.wandb import transfer

    result = transfer.pull(store, project_of(options), options.refs, report=_report)
    if options.json:
        print_json(asdict(result))
    else:
        print(f"{len(result.runs)} runs and {len(result.artifacts)} artifact versions brought to {store.root}")
        for name, text in result.failed.items():
            print(f"not brought: {name}: {text}")
    return 1 if result.failed else 0


def _report(text: str) -> None:
    print(text, file=sys.stderr)


def project_of(options: argparse.Namespace) -> WandbProject:
    """Returns the W&B project that the flags `--entity`, `--project` and `--base-url` choose."""
    return WandbProject.chosen(*(getattr(options, name, None) for name in ("entity", "project", "base_url")))
