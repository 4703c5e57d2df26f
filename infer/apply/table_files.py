"""Reads files of rows in chunks, and writes the rows of a chunk with their answers: CSV, TSV, JSON Lines, Parquet.

Whatever the size of a file, one chunk is held at a time. The columns of the input are kept, and COLUMNS are added.
"""

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from conf.errors import EdgewiseError, first_line
from metrics.parquet_file import opened_parquet
from metrics.rows import first_duplicate, invalid_unicode, json_lines, listed, text_or_none
from metrics.rows.delimited import read_delimited
from metrics.rows.layout import Layout, separator_of
from metrics.rows.start import check_is_parquet

COLUMNS = ("prediction", "model", "score", "deferred")
FORMATS = ("csv", "tsv", "jsonl", "parquet")


class Answer(NamedTuple):
    """Holds what is added to a row; each is None where the row could not be answered."""

    prediction: str | None
    model: str | None
    score: float | None
    deferred: bool | None


NO_ANSWER = Answer(None, None, None, None)


@dataclass(frozen=True)
class Chunk:
    """Holds some rows of a file as its format has them, and the template's columns of each as text.

    `columns` maps each of the template's fields to [n] texts, "" where a row has none to answer; `bad` maps the places
    of such rows, from 0, to what is wrong with them.
    """

    rows: Any
    columns: dict[str, list[str]]
    bad: dict[int, str]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


class TableFile(ABC):
    """Reads one file of rows, and writes files of the same form with answers.

    `fields` maps each of the template's fields to the file's column for it.
    """

    def __init__(self, path: Path, fields: Mapping[str, str]):
        self.path, self.fields = path, fields

    @abstractmethod
    def chunks(self, size: int) -> Iterator[Chunk]:
        """Yields the rows in order, at most `size` at a time; the same file gives the same chunks.

        Raises EdgewiseError, with the row from 1, for what the format doesn't allow.
        """

    @abstractmethod
    def write_part(self, part: Path, chunk: Chunk, answers: Sequence[Answer]) -> None:
        """Writes a chunk's rows with their answers, as `join` takes them."""

    @abstractmethod
    def join(self, parts: Sequence[Path], output: Path) -> None:
        """Writes one file of several parts, in order."""

    def _check_names(self, names: Sequence[str]) -> None:
        """Raises EdgewiseError where a field's column is missing, or one of COLUMNS is there already."""
        if missing := [column for column in self.fields.values() if column not in names]:
            raise EdgewiseError(
                f"{self.path}: no column {listed(missing)}, which the switcher reads; it has "
                f"{listed(names) or 'none'}. Name the file's own for it: 'apply.columns={{OWN: {missing[0]}}}'"
            )
        if taken := [name for name in COLUMNS if name in names]:
            raise EdgewiseError(
                f"{self.path} has a column {listed(taken)} already, which the answers are written to: rename it"
            )

    def _chunk(self, rows: Any, values: Mapping[str, Sequence[Any]]) -> Chunk:
        """Returns a chunk of rows, whose fields have these values of any type."""
        bad: dict[int, str] = {}
        columns = {
            field: [self._text(place, field, value, bad) for place, value in enumerate(values[field])]
            for field in self.fields
        }
        return Chunk(rows, columns, bad)

    def _text(self, place: int, field: str, value: Any, bad: dict[int, str]) -> str:
        """Returns a field's text, "" with a note in `bad` where there is none."""
        if isinstance(value, str) and value.isascii():
            return value
        column = self.fields[field]
        problem = None
        text: str | None = None
        if isinstance(value, (bytes, bytearray, memoryview, list, tuple, dict)):
            problem = f"{column} is a {type(value).__name__}, expected text"  # without the value: it may be private
        else:
            text = text_or_none("", column, value)
            if text is None:
                problem = f"{column} is missing"
            elif (reason := invalid_unicode(text)) is not None:
                problem = f"{column} is not valid Unicode ({reason})"
        if problem is not None:
            bad.setdefault(place, problem)
            return ""
        assert text is not None
        return text


class DelimitedFile(TableFile):
    """Reads and writes CSV, whose values may be quoted, or TSV, whose can't."""

    def __init__(self, path: Path, fields: Mapping[str, str], quoted: bool):
        super().__init__(path, fields)
        self._kind, self._quoted = "csv" if quoted else "tsv", quoted
        self._names: list[str] = []
        self._separator = "\t"

    def chunks(self, size: int) -> Iterator[Chunk]:
        """Yields the rows as `TableFile` says; each is the list of its values."""
        self._separator = separator_of(self.path, self._kind, Layout())
        table = read_delimited(self.path, self._kind, Layout(), lambda _: True, unnamed=True)
        self._names = table.names
        self._check_names(table.names)
        places = {field: table.names.index(column) for field, column in self.fields.items()}
        for rows in _batched((values for _, values in table.rows), size):
            yield self._chunk(rows, {field: [row[place] for row in rows] for field, place in places.items()})

    def write_part(self, part: Path, chunk: Chunk, answers: Sequence[Answer]) -> None:
        """Writes the rows without a header."""
        with part.open("w", encoding="utf-8", newline="") as out:
            for row, answer in zip(chunk.rows, answers, strict=True):
                out.write(self._line([*row, *map(self._written, answer)]))

    def join(self, parts: Sequence[Path], output: Path) -> None:
        """Writes the header and the parts."""
        with output.open("wb") as out:
            out.write(self._line([*self._names, *COLUMNS]).encode())
            for part in parts:
                _copy(part, out)

    def _line(self, values: Sequence[str]) -> str:
        """Returns a line; of CSV, with quotes around what would be read in another way without."""
        if self._quoted:
            special = f'{self._separator}"\r\n'
            values = [f'"{v.replace(chr(34), chr(34) * 2)}"' if any(c in v for c in special) else v for v in values]
        return self._separator.join(values) + "\n"

    def _written(self, value: str | float | bool | None) -> str:
        """Writes one added value; a TSV can't hold tabs and line ends, which become spaces."""
        if value is None:
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, float):
            return repr(value)
        return value if self._quoted or not any(c in value for c in "\t\r\n") else " ".join(value.split())


class JsonLinesFile(TableFile):
    """Reads and writes JSON Lines: an object a line, blank lines left out."""

    def chunks(self, size: int) -> Iterator[Chunk]:
        """Yields the rows as `TableFile` says; each is an object.

        A column is missing where no row of the whole file has it: any row may leave it out.
        """
        names: dict[str, None] = {}
        found = False

        def rows() -> Iterator[dict[str, Any]]:
            for line, row in json_lines(self.path, finite=True):
                if taken := [name for name in COLUMNS if name in row]:
                    raise EdgewiseError(
                        f"{self.path}: line {line} has {listed(taken)} already, which the answers are written to: "
                        "rename it"
                    )
                yield row

        for chunk in _batched(rows(), size):
            names.update(dict.fromkeys(itertools.chain.from_iterable(chunk)))
            found = True
            yield self._chunk(chunk, {field: [row.get(c) for row in chunk] for field, c in self.fields.items()})
        if found:
            self._check_names(list(names))

    def write_part(self, part: Path, chunk: Chunk, answers: Sequence[Answer]) -> None:
        """Writes the objects with the answers at their ends."""
        with part.open("wb") as out:
            for row, answer in zip(chunk.rows, answers, strict=True):
                out.write(_json_line(row | answer._asdict()))

    def join(self, parts: Sequence[Path], output: Path) -> None:
        """Writes the parts, one after the other."""
        with output.open("wb") as out:
            for part in parts:
                _copy(part, out)


class ParquetFile(TableFile):
    """Reads and writes Parquet; the columns keep their types."""

    def chunks(self, size: int) -> Iterator[Chunk]:
        """Yields the rows as `TableFile` says; a chunk's rows are a record batch."""
        check_is_parquet(self.path)
        try:
            with opened_parquet(self.path) as file:
                names = file.schema_arrow.names
                if duplicated := first_duplicate(names):
                    raise EdgewiseError(f"{self.path}: two columns are named {duplicated!r}; rename or drop one")
                self._check_names(names)
                for batch in file.iter_batches(batch_size=size):
                    values = {field: self._values(batch, column) for field, column in self.fields.items()}
                    yield self._chunk(batch, values)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise EdgewiseError(f"{self.path}: can't be read as Parquet: {first_line(error)}") from None

    def write_part(self, part: Path, chunk: Chunk, answers: Sequence[Answer]) -> None:
        """Writes a Parquet file of the chunk."""
        columns = list(zip(*answers, strict=True))
        table = pa.Table.from_batches([chunk.rows])
        for name, kind, values in zip(COLUMNS, _TYPES, columns, strict=True):
            table = table.append_column(pa.field(name, kind), pa.array(values, kind))
        pq.write_table(table, part, compression="zstd")

    def join(self, parts: Sequence[Path], output: Path) -> None:
        """Writes one file with a row group for each part."""
        with pq.ParquetFile(self.path) as file:
            schema = file.schema_arrow
        for name, kind in zip(COLUMNS, _TYPES, strict=True):
            schema = schema.append(pa.field(name, kind))
        with pq.ParquetWriter(output, schema, compression="zstd", write_page_checksum=True) as out:
            for part in parts:
                with pq.ParquetFile(part) as file:
                    out.write_table(file.read())

    def _values(self, batch: pa.RecordBatch, column: str) -> list[Any]:
        """Returns a column's values; one that isn't UTF-8 as bytes, which are noted as no text."""
        values = batch.column(column)
        try:
            found: list[Any] = values.to_pylist()
        except UnicodeDecodeError:
            found = [_value_or_bytes(value) for value in values]
        return found


def _value_or_bytes(value: pa.Scalar) -> Any:
    """Returns a value as Python's, and b"" for text that isn't UTF-8."""
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return b""


_TYPES = (pa.string(), pa.string(), pa.float64(), pa.bool_())


def table_file(path: Path, fields: Mapping[str, str]) -> TableFile:
    """Returns the reader of a file, by its ending. Raises EdgewiseError for another ending than those of FORMATS."""
    ending = path.suffix[1:].lower()
    if ending in ("csv", "tsv"):
        return DelimitedFile(path, fields, quoted=ending == "csv")
    if ending == "jsonl":
        return JsonLinesFile(path, fields)
    if ending == "parquet":
        return ParquetFile(path, fields)
    raise EdgewiseError(f"{path}: expected a name that ends in .{', .'.join(FORMATS)}")


def _batched(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yields lists of at most `size` rows."""
    iterator = iter(rows)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def _json_line(row: Mapping[str, Any]) -> bytes:
    """Returns an object as a line of JSON in UTF-8; half characters, which that can't hold, as JSON's escapes."""
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row).encode() + b"\n"


def _copy(part: Path, out: Any) -> None:
    """Appends a file to an open one, a megabyte at a time."""
    with part.open("rb") as source:
        while block := source.read(1 << 20):
            out.write(block)
