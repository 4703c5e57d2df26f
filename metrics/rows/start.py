"""Tells by its first bytes whether a file is what its name says."""

from pathlib import Path

from conf.errors import EdgewiseError
from metrics.rows.text import short

_START = 1 << 16  # bytes


def check_is_text(file: Path) -> None:
    """Raises EdgewiseError for a Parquet file, and for other binary content."""
    start = _start(file)
    if start[:4] == b"PAR1":
        raise EdgewiseError(f"{file}: a Parquet file by its content; name it {file.stem}.parquet")
    if (nul := start.find(b"\0")) >= 0:
        line = start.count(b"\n", 0, nul) + 1
        raise EdgewiseError(
            f"{file}: binary, not {file.suffix} text in UTF-8 (is it compressed, or UTF-16?): a NUL byte on line {line}"
        )


def check_is_parquet(file: Path) -> None:
    """Raises EdgewiseError for a file that doesn't start as Parquet does."""
    start = _start(file)
    if start[:4] != b"PAR1":
        raise EdgewiseError(f"{file}: not a Parquet file; it starts with {short(repr(start[:40])[2:-1])}")


def _start(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(_START)
