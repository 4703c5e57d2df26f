"""Reads one file of rows as columns of text: CSV, TSV, JSON, JSON Lines or Parquet.

Every value is read as the string the file holds: "01" stays "01", and nothing is guessed to be a number or a date. A
field of an object is a column of its own, `answers.text`; a list of texts, where one is wanted, is read as its JSON.
An error names the file and the data row (1-based, the header not counted) or the line.
"""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from conf.errors import EdgewiseError

ENDINGS = ("csv", "tsv", "json", "jsonl", "parquet")
CSV_BLOCK = 1 << 25  # bytes of a file that are parsed at a time; a row has to fit into one block

Columns = dict[str, list[str | None]]  # name -> [n]; None is a missing value


@dataclass(frozen=True)
class Wanted:
    """Says which columns to read: `names`, `example_id` and the `slice_*`. Those in `lists` may hold lists of texts."""

    names: frozenset[str]
    lists: frozenset[str] = frozenset()

    def __call__(self, name: str) -> bool:
        """Returns whether the column `name` is to be read."""
        return name in self.names or is_carried(name)

    def inside(self, name: str) -> bool:
        """Returns whether a field of the object `name` is wanted, as `answers.text` is of `answers`."""
        return any(other.startswith(f"{name}.") for other in self.names)


def is_carried(name: str) -> bool:
    """Returns whether a column is read of any dataset that has it: `example_id` and `slice_*`."""
    return name == "example_id" or name.startswith("slice_")


def read_columns(file: Path, wanted: Wanted) -> tuple[list[str], Columns]:
    """Reads a file as its ending says; returns the names of all columns, and the values of the wanted ones.

    Raises EdgewiseError for a file that can't be read so.
    """
    return _READERS[file.suffix[1:]](file, wanted)


def first_duplicate(names: Sequence[str]) -> str | None:
    """Returns the first name that is there a second time; None where all differ."""
    return next((name for i, name in enumerate(names) if name in names[:i]), None)


def _read_delimited(file: Path, wanted: Wanted, delimiter: str, quoted: bool) -> tuple[list[str], Columns]:
    """Reads CSV (quotes, newlines inside them) or TSV (a tab, no quoting). An empty value is "", never None."""
    _check_is_text(file)
    names = _header(file, delimiter, quoted)
    keys = [str(i) for i in range(len(names))]  # the header's own names may repeat
    kept = {key: name for key, name in zip(keys, names, strict=True) if wanted(name)}
    table = _parse_delimited(file, keys, list(kept), delimiter, quoted)
    if table is None:
        return names, {name: [] for name in kept.values()}
    if duplicated := first_duplicate(list(kept.values())):
        raise EdgewiseError(f"{file}: two columns are named {duplicated!r}; rename or drop one")
    # pyarrow closes an open quote at the end of the file, and the rows in between are lost in one value.
    last = table.column(keys[-1])[-1].as_py() if quoted and table.num_rows else b""
    if b"\n" in last and not _end(file).rstrip().endswith(b'"'):
        raise EdgewiseError(
            f"{file}: row {table.num_rows}: a quote is opened and never closed; the value starts with "
            f"{short(repr(last[:80])[2:-1])}"
        )
    return names, {kept[key]: _decoded(file, kept[key], table.column(key)) for key in kept}


def _parse_delimited(
    file: Path, keys: list[str], wanted_keys: list[str], delimiter: str, quoted: bool
) -> pa.Table | None:
    """Parses the rows after the header into columns of bytes: those of `wanted_keys`, and the last one.

    Returns None for a file that ends within its header. Raises EdgewiseError for a row that has not one value for each
    of `keys`, with its number, and for other text that pyarrow can't parse.
    """
    ragged: list[Any] = []

    def on_ragged(row: Any) -> str:
        ragged.append(row)
        return "error"

    try:
        return pyarrow.csv.read_csv(
            file,
            # One thread: only then does a ragged row come with its number.
            pyarrow.csv.ReadOptions(
                use_threads=False, block_size=CSV_BLOCK, column_names=keys, skip_rows_after_names=1
            ),
            pyarrow.csv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if quoted else False,
                newlines_in_values=quoted,
                invalid_row_handler=on_ragged,
            ),
            # As bytes, which the caller decodes: an error then can name the row.
            pyarrow.csv.ConvertOptions(
                column_types={key: pa.binary() for key in keys},
                include_columns=list(dict.fromkeys([*wanted_keys, keys[-1]])),
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        if ragged:
            raise EdgewiseError(
                f"{file}: row {ragged[0].number - 1} has {ragged[0].actual_columns} values, but the header has "
                f"{ragged[0].expected_columns} columns: {short(ragged[0].text)}"
                + (". Is a quote left open before it, or a comma in unquoted text?" if quoted else "")
            ) from None
        if "straddling" in str(error) and file.stat().st_size < CSV_BLOCK:  # a header without a line end
            return None
        raise EdgewiseError(f"{file}: can't be read as {file.suffix}: {error}") from None


def _header(file: Path, delimiter: str, quoted: bool) -> list[str]:
    """Reads the header row of a CSV or TSV file; EdgewiseError where there is none that can be read."""
    try:
        # Decoding runs ahead of the header: what is not UTF-8 further on is reported with its row, later.
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            rows = csv.reader(stream, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
            names = next((row for row in rows if row), None)
        if names is None:
            raise EdgewiseError(f"{file}: the file is empty; expected a header row and examples")
        "".join(names).encode()
    except UnicodeEncodeError:
        raise EdgewiseError(f"{file}: the header is not UTF-8; save the file as UTF-8") from None
    except csv.Error as error:
        raise EdgewiseError(f"{file}: the header can't be read: {error}") from None
    return names


def _decoded(file: Path, name: str, column: pa.ChunkedArray) -> list[str | None]:
    """Decodes a column of bytes as UTF-8; EdgewiseError, with the row, for a value that is not."""
    try:
        values: list[str | None] = column.cast(pa.string()).to_pylist()
        return values
    except pa.ArrowInvalid:
        for row, value in enumerate(column.to_pylist(), 1):
            try:
                value.decode()
            except UnicodeDecodeError as error:
                raise EdgewiseError(_not_utf8(file, row, name, error)) from None
        raise


def _read_json(file: Path, wanted: Wanted) -> tuple[list[str], Columns]:
    """Reads a list of objects, or {"data": [objects]}."""
    _check_is_text(file)
    data = file.read_bytes()
    try:
        rows = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise EdgewiseError(
            f"{file}: line {line}: not UTF-8 ({error.reason} at byte {error.start}); save the file as UTF-8"
        ) from None
    except json.JSONDecodeError as error:
        hint = "; one object a line goes by the ending .jsonl" if error.msg == "Extra data" else ""
        raise EdgewiseError(f"{file}: line {error.lineno}: not JSON ({error.msg}){hint}") from None
    if isinstance(rows, dict):
        rows = rows.get("data", rows)
    if not isinstance(rows, list):
        found = f"an object with the keys {listed(list(rows))}" if isinstance(rows, dict) else type(rows).__name__
        raise EdgewiseError(f'{file}: expected a list of objects or {{"data": [...]}}, found {found}')
    return _from_objects(file, rows, wanted)


def _read_jsonl(file: Path, wanted: Wanted) -> tuple[list[str], Columns]:
    """Reads one object a line; blank lines don't count."""
    _check_is_text(file)
    rows: list[Any] = []
    names: dict[str, None] = {}
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                raise EdgewiseError(
                    f"{file}: line {number}: not UTF-8 ({error.reason} at byte {error.start} of the line); "
                    "save the file as UTF-8"
                ) from None
            except json.JSONDecodeError as error:
                raise EdgewiseError(f"{file}: line {number}: not JSON ({error.msg}): {short(line.decode())}") from None
            if isinstance(row, dict):  # a review has ten times more in it than its text and stars
                row = _flat(row, wanted)
                names.update(dict.fromkeys(row))
                row = {name: value for name, value in row.items() if wanted(name)}
            rows.append(row)
    return list(names), _from_objects(file, rows, wanted)[1]


def _from_objects(file: Path, rows: list[Any], wanted: Wanted) -> tuple[list[str], Columns]:
    """Returns the names of all columns of rows of objects, and the wanted ones. Replaces `rows` by flat ones."""
    names: dict[str, None] = {}
    for i, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise EdgewiseError(f"{file}: row {i}: expected an object with named values, found {short(repr(row))}")
        rows[i - 1] = row = _flat(row, wanted)
        names.update(dict.fromkeys(row))
    return list(names), {
        name: texts(file, name, [row.get(name) for row in rows], wanted) for name in names if wanted(name)
    }


def _flat(row: dict[str, Any], wanted: Wanted) -> dict[str, Any]:
    """Returns the row with the fields of wanted objects beside the rest, by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict) and wanted.inside(name):
            flat |= _flat({f"{name}.{field}": inner for field, inner in value.items()}, wanted)
        else:
            flat[name] = value
    return flat


def _read_parquet(file: Path, wanted: Wanted) -> tuple[list[str], Columns]:
    """Reads a Parquet file; of its columns, only the wanted ones."""
    start = _start(file)
    if start[:4] != b"PAR1":
        raise EdgewiseError(f"{file}: not a Parquet file; it starts with {short(repr(start[:40])[2:-1])}")
    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            kept = [name for name in parquet.schema_arrow.names if wanted(name) or wanted.inside(name)]
            if duplicated := first_duplicate(kept):
                raise EdgewiseError(f"{file}: two columns are named {duplicated!r}; rename or drop one")
            table = parquet.read(columns=kept)
            return from_arrow(file, parquet.schema_arrow, table, wanted)
    except (pa.ArrowInvalid, OSError) as error:
        raise EdgewiseError(f"{file}: can't be read as Parquet: {error}") from None


def from_arrow(where: Path | str, schema: pa.Schema, table: pa.Table, wanted: Wanted) -> tuple[list[str], Columns]:
    """Returns the names of all columns of `schema`, and the wanted ones' values from `table`, which may hold more."""
    names = [name for field in schema for name in _flat_names(field, wanted)]
    columns: dict[str, pa.ChunkedArray] = {}
    for name in table.column_names:
        columns |= _flat_columns(name, table.column(name), wanted)
    return names, {
        name: texts(where, name, column.to_pylist(), wanted) for name, column in columns.items() if wanted(name)
    }


def _flat_names(field: pa.Field, wanted: Wanted) -> list[str]:
    """Returns the names of the columns that a field of a schema becomes."""
    if not (pa.types.is_struct(field.type) and wanted.inside(field.name)):
        return [field.name]
    return [
        name for inner in field.type for name in _flat_names(pa.field(f"{field.name}.{inner.name}", inner.type), wanted)
    ]


def _flat_columns(name: str, column: pa.ChunkedArray, wanted: Wanted) -> dict[str, pa.ChunkedArray]:
    """Returns a column of objects as one column a field where fields are wanted, any other as it is."""
    if not (pa.types.is_struct(column.type) and wanted.inside(name)):
        return {name: column}
    flat: dict[str, pa.ChunkedArray] = {}
    for field, inner in zip(column.type, column.flatten(), strict=True):
        flat |= _flat_columns(f"{name}.{field.name}", inner, wanted)
    return flat


_READERS: dict[str, Callable[[Path, Wanted], tuple[list[str], Columns]]] = {
    "csv": lambda file, wanted: _read_delimited(file, wanted, ",", quoted=True),
    "tsv": lambda file, wanted: _read_delimited(file, wanted, "\t", quoted=False),
    "json": _read_json,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}


def _start(file: Path) -> bytes:
    """Reads the first 64 KiB of a file."""
    with file.open("rb") as stream:
        return stream.read(1 << 16)


def _end(file: Path) -> bytes:
    """Reads the last 64 KiB of a file."""
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - (1 << 16)))
        return stream.read()


def _check_is_text(file: Path) -> None:
    """Raises EdgewiseError for a file whose beginning is not that of text in UTF-8."""
    start = _start(file)
    if start[:4] == b"PAR1":
        raise EdgewiseError(f"{file}: a Parquet file by its content; name it {file.stem}.parquet")
    if b"\0" in start:
        raise EdgewiseError(f"{file}: binary, not {file.suffix} text in UTF-8 (is it compressed, or UTF-16?)")


def texts(where: Path | str, name: str, values: list[Any], wanted: Wanted) -> list[str | None]:
    """Returns a column's values as text; EdgewiseError, with the row (from 1), for one that can't be text."""
    lists = name in wanted.lists
    return [
        value if value is None or isinstance(value, str) else _as_text(where, row, name, value, lists)
        for row, value in enumerate(values, 1)
    ]


def _as_text(where: Path | str, row: int, name: str, value: Any, lists: bool) -> str:
    """Writes a number or truth value as Python does, and a list of texts as JSON where there may be `lists`."""
    if lists and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (list, dict, bytes)):
        raise EdgewiseError(
            f"{where}: row {row}: {name} is a {type(value).__name__}, expected text or a number: {short(repr(value))}"
        )
    return str(value)


def _not_utf8(file: Path, row: int, name: str, error: UnicodeDecodeError) -> str:
    """Returns the message for a value that is not UTF-8."""
    return (
        f"{file}: row {row}: {name} is not UTF-8 ({error.reason} at byte {error.start} of the value); "
        "save the file as UTF-8"
    )


def listed(names: Sequence[str]) -> str:
    """Joins at most 20 names, each cut short: a file without a header row has whole texts for names."""
    shown = ", ".join(short(name, 40) if name else "''" for name in names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def short(text: str, most: int = 80) -> str:
    """Returns the text on one line, cut to `most` characters."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
