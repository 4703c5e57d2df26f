"""Fills a dataset's template, such as `{question} {passage}`, with the columns of a row."""

import string
from collections.abc import Mapping, Sequence

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
