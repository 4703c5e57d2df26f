"""Reads CSV and TSV row by row, and refuses what can't be read in one way only."""

import codecs
import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from conf.errors import EdgewiseError
from metrics.rows.layout import Layout, separator_name, separator_of
from metrics.rows.start import check_is_text
from metrics.rows.text import first_duplicate, listed, short

_CHUNK = 1 << 20  # bytes
_LONGEST_VALUE = 2**31 - 1  # the most that csv takes on every platform


@dataclass
class Delimited:
    """Holds the columns' names of a CSV or TSV file, and an iterator over its rows."""

    names: list[str]  # of all columns
    kept: list[str]  # of the wanted ones, in the file's order
    rows: Iterator[tuple[int, list[str]]]  # the line, from 1, on which a row starts, and its values of `kept`


def read_delimited(
    file: Path, kind: str, layout: Layout, wanted: Callable[[str], bool], unnamed: bool = False
) -> Delimited:
    """Reads the header, and the rows below it when they are asked for; empty lines are left out.

    `kind` is `csv` or `tsv`. In CSV values may stand in double quotes, with separators, line ends and doubled quotes
    inside. In TSV a quote is a character like others. `layout` says what separates the values, as `separator_of` reads
    it, and the columns' names where there is no header row. Columns without a name are read only where `unnamed` says
    so.

    Raises EdgewiseError, here or while the rows are read, for binary files, a header that is missing, isn't UTF-8 or
    repeats a name, a first row that holds the layout's names, a row with more or fewer values than there are columns,
    a quote that is never closed, text after a closing quote, and wanted text that isn't UTF-8.
    """
    check_is_text(file)
    separator, quoted = separator_of(file, kind, layout), kind == "csv"
    lines = _lines(file, separator, quoted, has_header=layout.names is None)
    try:
        line, first = next(lines)
    except StopIteration:
        raise EdgewiseError(f"{file}: the file is empty; expected a header row and examples") from None
    names = first if layout.names is None else list(layout.names)
    if layout.names is not None:
        if first == names:
            raise EdgewiseError(
                f"{file}: its first row is the header {listed(names)}, and it was to have none; leave out the list of "
                "columns (dataset.columns)"
            )
        lines = chain([(line, first)], lines)
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        raise EdgewiseError(f"{file}: the header is not UTF-8; save the file as UTF-8") from None
    # pandas writes its index under an empty name, which nobody can ask for
    if duplicated := first_duplicate([name for name in names if name]):
        raise EdgewiseError(f"{file}: two columns are named {duplicated!r}; rename or drop one")
    places = [place for place, name in enumerate(names) if (name or unnamed) and wanted(name)]

    def rows() -> Iterator[tuple[int, list[str]]]:
        count, whole, mark = len(names), _is_utf8(file), separator_name(separator)
        columns = f"the header has {count} columns" if layout.names is None else f"{count} columns are named"
        for number, (line, values) in enumerate(lines, 1):
            if len(values) != count:
                raise EdgewiseError(
                    f"{file}: row {number} has {len(values)} values, but {columns}: "
                    f"{short(separator.join(values))}. The row starts on line {line}."
                    + (f" Is a quote left open before it, or a {mark} in unquoted text?" if quoted else "")
                )
            if not whole:
                for place in places:
                    _check_utf8(file, number, names[place], values[place])
            yield line, [values[place] for place in places]

    return Delimited(names, [names[place] for place in places], rows())


def _lines(file: Path, separator: str, quoted: bool, has_header: bool) -> Iterator[tuple[int, list[str]]]:
    """Yields all rows, the header's too, each with its first line; what isn't UTF-8 becomes lone surrogates."""
    csv.field_size_limit(_LONGEST_VALUE)  # it holds for all of the process; 131,072 by default
    number = 0 if has_header else 1  # of the row that is read next; the header is row 0
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        reader = csv.reader(
            stream, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=True
        )
        start = 1
        try:
            for values in reader:
                if values:
                    yield start, values
                    number += 1
                start = reader.line_num + 1
        except csv.Error as error:
            row = f"row {number}" if number else "the header"
            raise EdgewiseError(f"{file}: {row}: {_what_is_wrong(error)}. The row starts on line {start}.") from None


def _what_is_wrong(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "a quote is opened and never closed; close it, or double the quotes inside a quoted value"
    if "expected after" in str(error):
        return "text follows a closing quote; is a quote left open before it, or one inside quotes not doubled?"
    return f"can't be read: {error}"


def _is_utf8(file: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _check_utf8(file: Path, row: int, name: str, value: str) -> None:
    try:
        value.encode("utf-8", "surrogateescape").decode()
    except UnicodeDecodeError as error:
        raise EdgewiseError(
            f"{file}: row {row}: {name} is not UTF-8 ({error.reason} at byte {error.start} of the value); "
            "save the file as UTF-8"
        ) from None
