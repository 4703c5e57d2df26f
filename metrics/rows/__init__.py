"""Reads files of rows, CSV, TSV, JSON, JSON Lines and Parquet, strictly: training and `metrics.convert` share it.

A file is refused, with the place, for an open quote, text after a closing quote, a row with more or fewer values than
there are columns, two columns of one name, text that is not UTF-8, and a value that is no text where text is due. CSV
may be separated by semicolons, tabs or vertical bars, where its header row shows it. A missing value, `null` or NaN, is
None. TSV has no quoting: a quote in it is a character like others.
"""

from metrics.rows.columns import Columns, Wanted, flat_row, from_arrow, is_carried, read_columns
from metrics.rows.layout import Layout, separator_name, separator_of
from metrics.rows.objects import json_lines
from metrics.rows.records import FORMATS, Record, read_records
from metrics.rows.text import ListText, first_duplicate, invalid_unicode, listed, short, text_or_none

ENDINGS = FORMATS

__all__ = [
    "ENDINGS",
    "FORMATS",
    "Layout",
    "ListText",
    "Columns",
    "Record",
    "Wanted",
    "first_duplicate",
    "flat_row",
    "from_arrow",
    "invalid_unicode",
    "is_carried",
    "json_lines",
    "listed",
    "read_columns",
    "read_records",
    "separator_name",
    "separator_of",
    "short",
    "text_or_none",
]
