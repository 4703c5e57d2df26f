"""Copies a switcher with its models into a folder that runs without a store: `python -m infer.switcher.bundle REF DIR`.

`switcher.ref=DIR` then names it, here or on another machine.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from conf.errors import EdgewiseError
from conf.pipes import run_command
from conf.schema import Tracking
from conf.version import version_line
from infer.switcher.find import MODELS, find_switcher
from train.new_folder import check_free, new_folder


def bundle(ref: str, directory: Path, tracking: Tracking) -> Path:
    """Writes the files of the switcher `ref` and the models of its stages, and returns the folder.

    It appears whole or not at all. Raises EdgewiseError where the switcher or a model can't be read, and as
    `new_folder` does.
    """
    check_free(directory)
    found = find_switcher(ref, tracking)
    if found.artifact is None:
        raise EdgewiseError(f"{ref} is a bundle already: copy the folder")
    with new_folder(directory) as unfinished:
        found.artifact.download(unfinished)
        for stage, model in zip(found.policy.stages, found.models, strict=True):
            model.download(unfinished / MODELS / stage.name)
    return directory


def main(arguments: Sequence[str] | None = None) -> int:
    """Copies the switcher that the arguments name; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m infer.switcher.bundle", description=__doc__)
    parser.add_argument("ref", metavar="REF", help="a switcher: name:alias, name:vN or a digest prefix")
    parser.add_argument("directory", metavar="DIR", type=Path, help="a folder that doesn't exist yet, or an empty one")
    parser.add_argument("--root", default="runs", help="the store's folder (tracking.root); default: %(default)s")
    parser.add_argument("--version", action="version", version=version_line())
    options = parser.parse_args(arguments)
    try:
        folder = bundle(options.ref, options.directory, Tracking(root=options.root))
    except EdgewiseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {folder}; answer new text: python -m infer.apply switcher.ref={folder} apply.input=… apply.output=…")
    return 0


if __name__ == "__main__":
    run_command(main)
