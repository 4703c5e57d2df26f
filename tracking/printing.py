"""Prints what the commands answer: strict JSON, tables that a pipe gets whole, and numbers with units."""

import json
import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # rich is loaded where something is drawn: `--json` answers without it
    from rich.console import Console


def print_json(value: Any) -> None:
    """Prints a value as strict JSON."""
    print(json.dumps(strict(value), indent=2, allow_nan=False))


def strict(value: Any) -> Any:
    """Returns the value with NaN and infinities as W&B writes them, since JSON has none: "NaN", "Infinity"."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    return value


def print_table(
    columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], noun: str, *, right: Collection[str] = ("size", "took")
) -> None:
    """Prints rows under their columns, those named in `right` to the right; where there are none, `no` and the noun."""
    if not rows:
        print(f"no {noun}")
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    open_console().print(table)


def open_console(stderr: bool = False) -> "Console":
    """Returns a console that prints text as it is, without markup, and gives a pipe every line whole."""
    from rich.console import Console

    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 10_000  # a pipe has no width: nothing is to be cut or folded there
    return console


def in_bytes(size: float, *, binary: bool = False) -> str:
    """Returns a number of bytes with its unit: decimal, such as 281.8 kB, or `binary`, such as 1.25 GiB."""
    thousand, digits, units = (1024, 2, "B KiB MiB GiB TiB") if binary else (1000, 1, "B kB MB GB TB")
    for unit in units.split():
        if size < thousand or unit[0] == "T":
            break
        size /= thousand
    return f"{size:.0f} B" if unit == "B" else f"{size:.{digits}f} {unit}"


def at_time(seconds: float) -> str:
    """Returns the local date and time of seconds since the epoch."""
    from datetime import datetime

    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def in_hours(seconds: float) -> str:
    """Returns seconds as h:mm:ss."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
