"""Opens Parquet files of others warily: page checksums are verified, and what the footer claims is within reason."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq

from conf.errors import EdgewiseError
from metrics.parquet_footer import column_claims
from tracking.printing import in_bytes

# A file may claim so many bytes whatever its own size, and beyond that so many for each byte of its own. Scores and
# texts shrink to a tenth, at most to a hundredth where nearly every row is the same.
CLAIM_ALLOWED = 256 << 20
CLAIM_PER_BYTE = 1000


@contextmanager
def opened_parquet(path: Path | str, buffer_bytes: int = 0) -> Iterator[pq.ParquetFile]:
    """Opens a Parquet file, whose pages will be compared with their checksums where they have some.

    With `buffer_bytes`, columns are read so many bytes at a time instead of a whole row group at once.

    Raises EdgewiseError, before anything is read, for a footer that is damaged or claims far more data than a file of
    its size can be worth; OSError and ArrowException as pyarrow does.
    """
    # ParquetFile, not read_table: that one turns `seed=0/` in a path into a column.
    with pq.ParquetFile(
        path, page_checksum_verification=True, buffer_size=buffer_bytes, pre_buffer=not buffer_bytes
    ) as file:
        _check_footer(path, file)
        yield file


def _check_footer(path: Path | str, file: pq.ParquetFile) -> None:
    """Raises EdgewiseError for a footer that contradicts itself, or claims far more data than the file can hold."""
    try:
        claims = column_claims(path)
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    groups = file.metadata.num_row_groups
    columns = [file.schema.column(place) for place in range(len(file.schema.names))]
    if [".".join(claim.path) for claim in claims] != [column.path for column in columns] * groups:
        raise _damaged(path, "its row groups don't have the file's columns")
    if sum({claim.row_group: claim.rows for claim in claims}.values()) != file.metadata.num_rows and columns:
        raise _damaged(path, "its row groups don't have as many rows as the file")
    for claim, column in zip(claims, columns * groups, strict=True):
        if column.max_repetition_level == 0 and claim.values != claim.rows:
            raise _damaged(path, f"it counts {claim.values:,} values of {column.path} in {claim.rows:,} rows")
    size, claimed = Path(path).stat().st_size, sum(claim.bytes for claim in claims)
    if claimed > CLAIM_ALLOWED + CLAIM_PER_BYTE * size:
        raise EdgewiseError(
            f"{path}: a file of {in_bytes(size)} whose footer claims {in_bytes(claimed)} of data; expected at most "
            f"{CLAIM_PER_BYTE} bytes for each of its own beyond {in_bytes(CLAIM_ALLOWED)}. It is damaged, or made to "
            "fill the memory: write it again"
        )


def _damaged(path: Path | str, reason: str) -> EdgewiseError:
    return EdgewiseError(f"{path}: the footer is damaged ({reason}): write or copy the file again")
