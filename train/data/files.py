"""Reads a file of a dataset's rows, laid out as the config says or as its header shows; says why one isn't found."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from conf.errors import EdgewiseError
from conf.schema import Dataset
from metrics.rows import Columns, Layout, Wanted, read_columns, separator_name, separator_of
from train.data.notices import print_once

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")


def check_link(file: Path) -> None:
    """Raises EdgewiseError for a link to a file that is not there, which would be taken for no file at all."""
    if file.is_symlink() and not file.exists():
        raise EdgewiseError(
            f"{file}: a link to {os.readlink(file)}, which can't be found; put the file there, or remove the link"
        )


def what_to_rename(names: Iterable[str], endings: Sequence[str]) -> str:
    """Returns what to do about files that only their ending keeps from being read, as a sentence; "" for none."""
    for name in sorted(names):
        plain = name.lower()
        packed = next((ending for ending in _COMPRESSED if plain.endswith(ending)), "")
        if plain.removesuffix(packed).rpartition(".")[2] not in endings:
            continue
        if packed:
            return f". {name} is compressed: unpack it"
        if name.rpartition(".")[2] != plain.rpartition(".")[2]:
            return f". Names are in lower case: rename {name} to {plain}"
    return ""


def layout_of(dataset: Dataset) -> Layout:
    """Returns what the config says of the layout of CSV and TSV files."""
    names = tuple(dataset.columns) if isinstance(dataset.columns, list) else None
    return Layout("\t" if dataset.separator == "tab" else dataset.separator, names)


def read_file(file: Path, dataset: Dataset, wanted: Wanted) -> tuple[list[str], Columns]:
    """Returns the names of all columns and the values of the wanted ones, as `read_columns` does.

    Prints on stderr, once, what separates the values where that is seen and not said by the config. Raises
    EdgewiseError as `read_columns` does.
    """
    layout, kind = layout_of(dataset), file.suffix[1:]
    if kind == "csv" and layout.separator is None and (separator := separator_of(file, kind, layout)) != ",":
        print_once(f"note: {file.name}: a {separator_name(separator)} separates its values")
    return read_columns(file, wanted, layout)
