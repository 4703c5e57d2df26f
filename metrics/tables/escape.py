"""Writes names that people chose into CSV and Markdown so that no program takes them for anything but text."""

import re

# A spreadsheet takes a cell that starts so for a formula (OWASP, "CSV Injection").
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_HARMLESS = re.compile(r"[+-]|[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")  # a sign by itself, a number


def spreadsheet_text(text: str) -> str:
    """Returns a text cell of a CSV file with an apostrophe before it where a spreadsheet would take it for a formula.

    Plain numbers, such as `-1`, and a sign by itself stay. `text_of_spreadsheet` takes the apostrophe away again.
    """
    return f"'{text}" if _FORMULA.match(text) and not _HARMLESS.fullmatch(text) else text


def text_of_spreadsheet(cell: str) -> str:
    """Returns the text that `spreadsheet_text` made a cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def markdown_text(text: str) -> str:
    """Returns a text as one line of Markdown, for a table's cell or a list: no HTML, no line breaks, no cell's end."""
    text = " ".join(text.splitlines())
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def markdown_code(text: str) -> str:
    """Returns a text as one line of Markdown's code, whatever backticks it holds."""
    text = " ".join(text.splitlines())
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if longest else f"`{text}`"
