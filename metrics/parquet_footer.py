"""Reads what a Parquet file's footer claims of its columns, without pyarrow.

pyarrow 26 ends the whole process where a column's description in a damaged footer contradicts itself and a program asks
for it (`RowGroupMetaData.column`), so the few fields that are compared are read here. The footer is a struct in
Thrift's compact protocol, and its fields have the numbers of Apache's `parquet.thrift`.
"""

import struct
from pathlib import Path
from typing import Any, NamedTuple

# Thrift's types that a byte tells
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 11, 12
_INTEGERS = (4, 5, 6)
_DEEPEST = 32  # structs and lists inside each other; parquet.thrift has fewer than ten

# bytes that a value takes in memory at least, by its physical type; of a text or binary value, its offset
_WIDTHS = {0: 0.125, 1: 4, 2: 8, 3: 8, 4: 4, 5: 8, 6: 4, 7: 1}


class ColumnClaim(NamedTuple):
    """Holds what the footer says of one column in one row group."""

    row_group: int
    rows: int  # of the row group
    path: tuple[str, ...]  # the names from the outermost column in
    width: float  # bytes that a value takes in memory at least
    values: int
    uncompressed: int  # bytes of its pages once decompressed

    @property
    def bytes(self) -> int:
        """Returns the bytes that the column takes in memory at least."""
        return max(0, self.uncompressed, int(self.values * self.width))


def column_claims(path: Path | str) -> list[ColumnClaim]:
    """Returns what a file's footer claims, column by column. Raises ValueError for a damaged footer, and OSError."""
    with open(path, "rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - 8))
        length, magic = struct.unpack("<I4s", file.read(8).rjust(8, b"\0"))
        if magic != b"PAR1" or length > end - 12:
            raise ValueError("the file doesn't end with a footer and PAR1")
        file.seek(end - 8 - length)
        footer = _Reader(file.read(length)).fields(0)
    try:
        return [
            ColumnClaim(
                group,
                row_group[3],
                tuple(name.decode() for name in column[3][3]),
                _WIDTHS[column[3][1]],
                column[3][5],
                column[3][6],
            )
            for group, row_group in enumerate(footer[4])
            for column in row_group[1]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the footer lacks what every column has ({type(error).__name__}: {error})") from None


class _Reader:
    """Reads values of Thrift's compact protocol one after the other. Every method raises ValueError for damage."""

    def __init__(self, data: bytes):
        self.data, self.place = data, 0

    def fields(self, depth: int) -> dict[int, Any]:
        """Reads a struct: field number -> value; depth counts what is around it."""
        if depth > _DEEPEST:
            raise ValueError("the footer is nested too deeply")
        found: dict[int, Any] = {}
        number = 0
        while (head := self.byte()) != _STOP:
            step, kind = head >> 4, head & 15
            number = number + step if step else self.integer()
            found[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self.value(kind, depth + 1)
        return found

    def value(self, kind: int, depth: int) -> Any:
        """Reads a value of a type."""
        if kind in _INTEGERS:
            return self.integer()
        if kind == _BINARY:
            return self.take(self.varint())
        if kind == _STRUCT:
            return self.fields(depth)
        if kind in (_LIST, _SET):
            return self.items(depth)
        if kind in (_BYTE, _TRUE, _FALSE):  # a boolean in a list takes a byte
            return self.byte()
        if kind == _DOUBLE:
            return self.take(8)
        if kind == _MAP:
            return self.pairs(depth)
        raise ValueError(f"the footer has a value of the unknown type {kind}")

    def items(self, depth: int) -> list[Any]:
        """Reads a list's values."""
        if depth > _DEEPEST:
            raise ValueError("the footer is nested too deeply")
        head = self.byte()
        count = self.count(head >> 4 if head >> 4 < 15 else self.varint())
        return [self.value(head & 15, depth + 1) for _ in range(count)]

    def pairs(self, depth: int) -> list[Any]:
        """Reads a map's keys and values, one after the other."""
        count = self.count(self.varint())
        kinds = self.byte() if count else 0
        return [self.value(kind, depth + 1) for _ in range(count) for kind in (kinds >> 4, kinds & 15)]

    def count(self, count: int) -> int:
        """Checks the number of a list's values: each takes a byte at least."""
        if count > len(self.data) - self.place:
            raise ValueError("the footer has a list that is longer than itself")
        return count

    def integer(self) -> int:
        """Reads a signed integer."""
        number = self.varint()
        return number >> 1 ^ -(number & 1)

    def varint(self) -> int:
        """Reads an unsigned integer, seven bits a byte, the lowest first."""
        number = shift = 0
        while True:
            byte = self.byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            if (shift := shift + 7) > 63:
                raise ValueError("the footer has a number of more than 64 bits")

    def byte(self) -> int:
        """Reads a byte."""
        return self.take(1)[0]

    def take(self, length: int) -> bytes:
        """Reads so many bytes."""
        part = self.data[self.place : self.place + length]
        if len(part) < length:
            raise ValueError("the footer ends too early")
        self.place += length
        return part
