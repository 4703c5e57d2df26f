"""Makes the files of a dataset's repository on the Hub, as IMDB's are laid out."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet

IMDB = "stanfordnlp/imdb"
IMDB_CARD = """---
configs:
- config_name: plain_text
  data_files:
  - {split: train, path: plain_text/train-*}
  - {split: test, path: plain_text/test-*}
  - {split: unsupervised, path: plain_text/unsupervised-*}
---
"""


def parquet(columns: dict[str, list[Any]]) -> bytes:
    """Returns the bytes of a Parquet file of these columns."""
    written = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), written)
    return written.getvalue()
