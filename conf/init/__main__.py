"""Looks at a folder of data, or at one file, and writes the dataset's config: `python -m conf.init DIR_OR_FILE`.

It prints what it saw and the command to type next. What it guessed is in the YAML, to be changed there. The command is
the one module of `conf` that imports from rooms to its right, which read rows; nothing imports it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from conf.dataset_file import CONF, dataset_yaml
from conf.errors import EdgewiseError, no_room
from conf.overrides import shell_quoted
from conf.pipes import run_command
from tracking.files import written_whole
from train.data.draft import Draft, draft

SIZES = "words_s,words_m"  # that the next command names, of a classification
SEQUENCE_SIZES = "micro,tiny"  # and where text is generated
COMMENT = """\
Written by `python -m conf.init` from {files}. dataset={name} is this file; change what was guessed.
{classes}recipe: for the sizes {sizes} from scratch; with T5's own weights (train.init=HUB_ID) remove the line, which
leaves T5X's values for fine-tuning. conf/sections/data.py (Dataset) describes every key."""
CLASSES = (
    "classes: a label as it is in the files, and what the model learns to say for it (words are better than digits).\n"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the YAML file and returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        drafted = draft(Path(options.path), options.name, options.text, options.label)
        out = Path(options.out) if options.out else CONF / "dataset" / f"{drafted.dataset.name}.yaml"
        write(drafted, out)
    except EdgewiseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {no_room(error) or error}", file=sys.stderr)
        return 1
    print("\n".join(drafted.seen))
    print(f"\nwrote {_shown(out)}. Next:\n{_next_command(drafted, out)}")
    return 0


def write(drafted: Draft, out: Path) -> None:
    """Writes the file whole. Raises EdgewiseError where there is one already, and OSError where it can't be written."""
    if out.exists():
        raise EdgewiseError(
            f"{_shown(out)} is there already and is not replaced; remove it first, or give --name NAME or --out FILE"
        )
    dataset = drafted.dataset
    with written_whole(out) as partial:
        comment = COMMENT.format(
            files=Path(dataset.path or "").name,
            name=out.stem,
            classes=CLASSES if dataset.classes else "",
            sizes=_sizes(drafted).replace(",", " and "),
        )
        partial.write_text(dataset_yaml(dataset, comment), encoding="utf-8")


def _sizes(drafted: Draft) -> str:
    """Returns the sizes that the dataset's recipe is for."""
    return SIZES if drafted.dataset.classes else SEQUENCE_SIZES


def _next_command(drafted: Draft, out: Path) -> str:
    """Returns the command that trains a small grid on the dataset, from wherever its file is."""
    command = f"just sweep -m dataset={out.stem} size={_sizes(drafted)} 'seed=range(3)'"
    folder = out.absolute().parent
    if folder == CONF / "dataset":
        return command
    if folder.name == "dataset":
        return f"{command} {shell_quoted(f'hydra.searchpath=[file://{folder.parent}]')}"
    return f"{command}   # once the file is in conf/dataset/"


def _shown(path: Path) -> Path:
    """Returns a path as it is from here, where it is below this folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conf.init",
        description="Looks at a folder of data or at one file, and writes the dataset's config. Asks nothing.",
    )
    parser.add_argument(
        "path",
        metavar="DIR_OR_FILE",
        help="a folder with train.csv, test.csv (or .tsv, .json, .jsonl, .parquet), or one file of all rows",
    )
    parser.add_argument("--name", help="of the dataset; default: the folder's or the file's name")
    parser.add_argument("--out", metavar="FILE", help="default: conf/dataset/NAME.yaml; a file there is not replaced")
    parser.add_argument("--text", metavar="COLUMN", help="the text; default: the column of the longest values")
    parser.add_argument(
        "--label", metavar="COLUMN", help="the label; default: by its name, or the column of the fewest distinct values"
    )
    return parser


if __name__ == "__main__":
    run_command(main)
