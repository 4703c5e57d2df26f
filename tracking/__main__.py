"""Looks into the store, or with `--backend wandb` into W&B, and carries one over to the other.

REF is `name:alias`, `name:vN`, `name` or a digest prefix.
"""

import argparse
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from conf.errors import EdgewiseError
from conf.pipes import run_command
from conf.version import version_line
from tracking.commands import look, runs, transfer, upkeep
from tracking.interface import RUN_STATES, Reader
from tracking.store import Store

if TYPE_CHECKING:  # the SDK is loaded where W&B is asked
    Command = Callable[[Any, argparse.Namespace], int | None]


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit status: 1 for an error or, from `verify`, for damage."""
    options = _parser().parse_args(arguments)
    for name, default in (("root", "runs"), ("json", False), ("backend", "local")):
        setattr(options, name, getattr(options, name, default))
    try:
        source = _open(options)
        try:
            return options.command(source, options) or 0
        finally:
            source.close()
    except EdgewiseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


# What a command works on, where `--backend wandb` is given.
_READS = "the project at W&B"
_WRITES_BOTH = "the store and the project"
_CARRIES = "the store, and the project by itself"
_STORE_ALONE = "the store"


def _open(options: argparse.Namespace) -> Reader:
    """Opens what the command works on: W&B for a reading command with `--backend wandb`, else the store."""
    if options.backend == "wandb" and options.works_on == _READS:
        from tracking.wandb.server import Server

        return Server(transfer.project_of(options), remember=True)
    if options.backend == "wandb" and options.works_on == _WRITES_BOTH:
        from tracking.wandb.tracker import WandbTracker

        return WandbTracker(options.root, transfer.project_of(options))
    if options.backend == "wandb" and options.works_on == _STORE_ALONE:
        raise EdgewiseError("this command looks after the embedded store alone: leave out --backend wandb")
    return Store(options.root, create=options.command is transfer.pull)


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

    def command(name: str, function: "Command", help: str, *, works_on: str = _READS) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help, parents=[shared])
        added.set_defaults(command=function, works_on=works_on)
        return added

    ls = command("ls", look.ls, "lists artifact versions, or runs")
    ls.add_argument("glob", nargs="?", default="*", metavar="GLOB", help="only these names (runs: ids or names)")
    ls.add_argument("--runs", action="store_true", help="list runs instead")
    show = command("show", look.show, "shows one artifact version, or one run")
    show.add_argument("ref", metavar="REF|RUN", help="an artifact, or a run id or the start of one")
    history = command("history", runs.history, "shows what a run logged step by step")
    history.add_argument("run", metavar="RUN", help="a run id, or the start of one")
    history.add_argument("--keys", metavar="KEY,KEY", help="only these metrics, such as loss,validation_accuracy")
    history.add_argument("--csv", action="store_true", help="print CSV, at full precision")
    history.add_argument(
        "--plot",
        nargs="?",
        const="-",
        metavar="FILE",
        help="draw the losses and accuracies, or --keys: on the terminal, or into a .png, .svg or .pdf file",
    )
    get = command("get", look.get, "copies the files of an artifact version, checked, into a directory")
    get.add_argument("ref", metavar="REF")
    get.add_argument("directory", metavar="DIR")
    lineage = command("lineage", look.lineage, "shows where an artifact came from and what was made of it")
    lineage.add_argument("ref", metavar="REF")
    query = command("query", look.query, "finds artifacts and runs by dataset, size, seed, state and config values")
    query.add_argument(
        "values", nargs="*", metavar="KEY=VALUE", help="a config value, such as train.steps=600; upstream counts too"
    )
    query.add_argument("--artifacts", action="store_true", help="artifacts only")
    query.add_argument("--runs", action="store_true", help="runs only")
    query.add_argument("--name", default="*", metavar="GLOB", help="only these names (runs: ids or names)")
    query.add_argument("--type", help="only artifacts of this type, such as scores")
    query.add_argument("--job-type", help="only runs of this job type, such as train, and what they logged")
    query.add_argument(
        "--state", choices=RUN_STATES, help="only runs in this state, such as finished, and what they logged"
    )
    query.add_argument("--dataset")
    query.add_argument("--size")
    query.add_argument("--seed", type=int)
    query.add_argument("--uses", metavar="REF", help="only runs that used this artifact, and what they logged")
    push = command(
        "push",
        transfer.push,
        "sends to W&B what it has not confirmed; exit status 1 if something is left",
        works_on=_CARRIES,
    )
    push.add_argument("refs", nargs="*", metavar="REF", help="only these artifacts and all upstream of them")
    push.add_argument(
        "--again",
        action="store_true",
        help="ask W&B for all of it anew, also for content, and send what is gone or damaged there",
    )
    pull = command(
        "pull",
        transfer.pull,
        "brings runs and artifacts from W&B into the store; exit status 1 if something failed",
        works_on=_CARRIES,
    )
    pull.add_argument("refs", nargs="*", metavar="REF", help="only these artifacts and all upstream of them")
    alias = command(
        "alias",
        upkeep.alias,
        "gives an alias to a version, also `latest`; with --backend wandb at W&B too",
        works_on=_WRITES_BOTH,
    )
    alias.add_argument("ref", metavar="REF")
    alias.add_argument("alias", metavar="NAME", help="such as latest or best; no vN and no digest")
    rm = command(
        "rm", upkeep.rm, "removes versions that nothing was made from, from the store alone", works_on=_STORE_ALONE
    )
    rm.add_argument("refs", nargs="+", metavar="REF", help="a version: all of them go, or none")
    command(
        "verify",
        upkeep.verify,
        "hashes every file of every version again; exit status 1 if anything is wrong",
        works_on=_STORE_ALONE,
    )
    gc = command(
        "gc",
        upkeep.gc,
        "removes the files that dead writers left; versions only with --older-than",
        works_on=_STORE_ALONE,
    )
    gc.add_argument(
        "--older-than",
        type=_age,
        metavar="AGE",
        help="also remove versions older than this, such as 30d or 12h, that no run used and that have no alias",
    )
    gc.add_argument("--dry-run", action="store_true", help="remove nothing, and say what would be removed")
    gc.add_argument(
        "--grace",
        type=_seconds,
        default=3600.0,
        metavar="SECONDS",
        help="keep unnamed blobs younger than this (default: 3600)",
    )
    return parser


# ---- flags


def _seconds(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise ValueError
    return value


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}  # seconds


def _age(text: str) -> float:
    """Returns the seconds of an age such as `30d`."""
    match = re.fullmatch(r"(\d+)([smhdw])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number with s, m, h, d or w, such as 30d")
    return float(match[1]) * _UNITS[match[2]]


if __name__ == "__main__":
    run_command(main)
