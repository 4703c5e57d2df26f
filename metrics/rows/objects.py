"""Reads the objects of JSON and JSON Lines files."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conf.errors import EdgewiseError, first_line
from metrics.rows.start import check_is_text
from metrics.rows.text import listed, short

Row = dict[str, Any]


class _DuplicateKeyError(ValueError):
    """Reports an object that has one key twice."""


def json_objects(file: Path) -> list[Row]:
    """Returns the rows of a JSON file: a list of objects, or {"data": [objects]}.

    Raises EdgewiseError, with the line or the row, for what isn't UTF-8, JSON or a list of objects, and for an object
    with one key twice.
    """
    check_is_text(file)
    data = file.read_bytes()
    try:
        content = _parsed(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise EdgewiseError(
            f"{file}: line {line}: not UTF-8 ({error.reason} at byte {error.start}); save the file as UTF-8"
        ) from None
    except json.JSONDecodeError as error:
        hint = "; one object a line goes by the ending .jsonl" if error.msg == "Extra data" else ""
        raise EdgewiseError(f"{file}: line {error.lineno}: not JSON ({error.msg}){hint}") from None
    except (ValueError, RecursionError) as error:
        raise EdgewiseError(f"{file}: {_reason(error)}") from None
    rows = content.get("data", content) if isinstance(content, dict) else content
    if not isinstance(rows, list):
        found = f"an object with the keys {listed(list(rows))}" if isinstance(rows, dict) else type(rows).__name__
        raise EdgewiseError(f'{file}: expected a list of objects or {{"data": [...]}}, found {found}')
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise EdgewiseError(f"{file}: row {number}: expected an object with named values, found {short(repr(row))}")
    return rows


def json_lines(file: Path, finite: bool = False) -> Iterator[tuple[int, Row]]:
    """Yields the objects of a JSON Lines file, each with its line from 1; blank lines are left out.

    Raises EdgewiseError, with the line, for what isn't UTF-8, JSON or an object, for an object with one key twice and,
    where all numbers are to be `finite`, as they have to be to be written again, for one that is not.
    """
    check_is_text(file)
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = _parsed(line.decode("utf-8-sig" if number == 1 else "utf-8"), finite)
            except UnicodeDecodeError as error:
                raise EdgewiseError(
                    f"{file}: line {number}: not UTF-8 ({error.reason} at byte {error.start} of the line); "
                    "save the file as UTF-8"
                ) from None
            except json.JSONDecodeError as error:
                raise EdgewiseError(f"{file}: line {number}: not JSON ({error.msg}): {short(line.decode())}") from None
            except (ValueError, RecursionError) as error:
                raise EdgewiseError(f"{file}: line {number}: {_reason(error)}") from None
            if not isinstance(row, dict):
                raise EdgewiseError(
                    f"{file}: line {number}: expected an object with named values, found {short(repr(row))}"
                )
            yield number, row


def _parsed(text: str, finite: bool = False) -> Any:
    if finite:
        return json.loads(text, object_pairs_hook=_object, parse_float=_finite, parse_constant=_finite)
    return json.loads(text, object_pairs_hook=_object)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {short(text)} is not finite, and can't be written as JSON; leave it out")
    return number


def _object(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        duplicated = next(name for name in row if names.count(name) > 1)
        raise _DuplicateKeyError(f"two columns are named {duplicated!r}; rename or drop one")
    return row


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "lists or objects are nested too deeply to be read"
    if isinstance(error, ValueError) and "int_max_str_digits" in str(error):  # Python's advice is for programmers
        return "a whole number of more than 4,300 digits, which can't be read; write it as text, or leave it out"
    return first_line(error)  # a repeated key, or a number that is not finite
