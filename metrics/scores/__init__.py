"""The scores file: one run's per-example scores as Parquet, schema version 1.

`schema.py` says what a run's scores are, `check.py` what they must satisfy, on the way in and on the way out, and
`file.py` reads and writes them; `columns.py` holds them by column, for many rows.
"""

from metrics.scores.check import validate
from metrics.scores.columns import Columns, Strings, indices
from metrics.scores.file import METADATA_KEY, read_columns, read_field, read_metadata, read_scores, write_scores
from metrics.scores.schema import SCHEMA_VERSION, SLICE_PREFIX, Scores, ScoresError, ScoresMetadata, TokenScores

__all__ = [
    "METADATA_KEY",
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
    "validate",
    "write_scores",
]
