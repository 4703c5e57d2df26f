"""Fills a dataset's template, such as `{question} {passage}`, with the columns of a row."""

import string
from collections.abc import Mapping, Sequence

import numpy as np

from conf.errors import EdgewiseError


def template_fields(template: str) -> list[str]:
    """Returns the column names in a template, each once, in order.

    Raises EdgewiseError unless there is at least one, and each is a plain name.
    """
    fields = list(dict.fromkeys(column for _, column in _parts(template) if column is not None))
    if not fields:
        raise EdgewiseError(f"dataset.template={template!r}: expected at least one column in braces, such as {{text}}")
    return fields


def fill_template(template: str, columns: Mapping[str, Sequence[str]], n: int) -> list[str]:
    """Returns the template filled in for each of `n` rows; `columns` maps each of its names to `n` texts."""
    pieces: list[Sequence[str]] = []
    for literal, column in _parts(template):
        if literal:
            pieces.append([literal] * n)
        if column is not None:
            pieces.append(columns[column])
    return list(map("".join, zip(*pieces, strict=True)))


def field_lengths(template: str, columns: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
    """Returns how many characters each of the template's fields has in each row: name -> [n] int32."""
    return {
        name: np.fromiter(map(len, columns[name]), np.int32, len(columns[name])) for name in template_fields(template)
    }


def given_texts(template: str, filled: Sequence[str], lengths: Mapping[str, np.ndarray]) -> list[str]:
    """Returns what the template was filled with, cut out of the `filled` texts [n]: the inputs as they were given.

    Of one field the text is its value; of several, a line `name: value` for each, in the template's order. `lengths`
    is as `field_lengths` returns it.
    """
    parts, several = _parts(template), len(lengths) > 1
    rows = []
    for i, text in enumerate(filled):
        values: dict[str, str] = {}
        start = 0
        for literal, column in parts:
            start += len(literal)
            if column is not None:
                end = start + int(lengths[column][i])
                values[column], start = text[start:end], end
        rows.append("\n".join(f"{name}: {value}" if several else value for name, value in values.items()))
    return rows


def _parts(template: str) -> list[tuple[str, str | None]]:
    """Cuts the template into pairs of literal text and the column that follows it, None at the end."""
    setting = f"dataset.template={template!r}"
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise EdgewiseError(
            f"{setting}: {error}; expected text with column names in braces, such as {{text}}"
        ) from None
    parts: list[tuple[str, str | None]] = []
    for literal, column, spec, conversion in parsed:
        if column is not None and (column == "" or column.isdigit()):
            raise EdgewiseError(f"{setting}: {{{column}}} has no column name; write it as {{text}}")
        if spec or conversion:
            raise EdgewiseError(f"{setting}: expected a plain column name in the braces of {{{column}}}, no format")
        parts.append((literal, column))
    return parts
