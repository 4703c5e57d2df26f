"""Writes what was measured into a page of docs/, between two marks, so that no number is typed in."""

from pathlib import Path


def write_between_marks(page: Path, marks: tuple[str, str], text: str) -> None:
    """Replaces what stands between the two marks of a page. Raises ValueError for a page without them."""
    written = page.read_text(encoding="utf-8")
    before, first, rest = written.partition(marks[0])
    _, last, after = rest.partition(marks[1])
    if not (first and last):
        raise ValueError(f"{page} lacks the markers {marks[0]} and {marks[1]}")
    page.write_text(f"{before}{first}\n\n{text}\n\n{last}{after}", encoding="utf-8")
