"""Names the strict reader of files, which `metrics/rows/` has: `metrics.convert` refuses what training refuses."""

from metrics.rows import (
    ENDINGS,
    Columns,
    Wanted,
    first_duplicate,
    from_arrow,
    is_carried,
    listed,
    read_columns,
    short,
)

__all__ = [
    "ENDINGS",
    "Columns",
    "Wanted",
    "first_duplicate",
    "from_arrow",
    "is_carried",
    "listed",
    "read_columns",
    "short",
]
