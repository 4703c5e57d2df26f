"""Reads and writes scores files: one run's scores of each example as Parquet, schema version 1.

`schema.py` says what a run's scores are, `check.py` what they must satisfy when they are written and read, `layout.py`
which columns a file has. `write.py` and `read.py` go from scores to a file and back; `columns.py` holds many rows by
column, and `arrays.py` makes arrays of a file's columns.
"""

from metrics.scores.check import validate
from metrics.scores.columns import Columns, Strings, indices
from metrics.scores.layout import METADATA_KEY, OPTIONAL_STRINGS
from metrics.scores.read import read_columns, read_field, read_metadata, read_scores, read_text
from metrics.scores.schema import SCHEMA_VERSION, SLICE_PREFIX, Scores, ScoresError, ScoresMetadata, TokenScores
from metrics.scores.write import write_scores

__all__ = [
    "METADATA_KEY",
    "OPTIONAL_STRINGS",
    "SCHEMA_VERSION",
    "SLICE_PREFIX",
    "Columns",
    "Scores",
    "ScoresError",
    "ScoresMetadata",
    "Strings",
    "TokenScores",
    "indices",
    "read_columns",
    "read_field",
    "read_metadata",
    "read_scores",
    "read_text",
    "validate",
    "write_scores",
]
