"""Writes the Markdown tables of docs/."""

from collections.abc import Iterable, Sequence


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[int] = (0,)) -> list[str]:
    """Returns the lines of a table; the columns `words`, counted from 0, stand on the left, numbers on the right.

    Raises ValueError for a row that has not as many cells as there are heads.
    """
    lines = [heads, ["---" if column in words else "--:" for column in range(len(heads))]]
    for row in rows:
        if len(row) != len(heads):
            raise ValueError(f"a row of {len(row)} cells, expected {len(heads)}, as the heads: {list(row)}")
        lines.append(row)
    return [f"| {' | '.join(line)} |" for line in lines]
