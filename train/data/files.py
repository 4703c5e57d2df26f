"""Reads a file of a dataset's rows, laid out as the dataset's config says or as its header row shows."""

from pathlib import Path

from conf.schema import Dataset
from metrics.rows import Columns, Layout, Wanted, read_columns, separator_name, separator_of
from train.data.notices import print_once


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
