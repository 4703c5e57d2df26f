"""Holds the colours of the report and of the server's page, as the first part of their style."""

from pathlib import Path

PAGE_COLORS = (Path(__file__).parent / "page_colors.css").read_text(encoding="utf-8")
