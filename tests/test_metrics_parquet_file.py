"""Parquet files whose bytes changed, whose footers lie, or that are made to fill the memory, are refused."""

import json
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conf.errors import EdgewiseError
from metrics.parquet_file import opened_parquet
from metrics.parquet_footer import column_claims
from metrics.rows.parquet import read_parquet
from metrics.scores import METADATA_KEY, ScoresError, read_metadata, read_scores, write_scores
from tests.synthetic_scores import synthetic_grid


@pytest.fixture
def path(tmp_path):
    write_scores(synthetic_grid(seeds=1, examples=60)[0], tmp_path / "scores.parquet")
    return tmp_path / "scores.parquet"


def flipped(path, place):
    data = bytearray(path.read_bytes())
    data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)


def bomb(path, groups, values, **options):
    """Makes a file whose lists hold `groups` × `values` zeros."""
    table = pq.read_table(path).slice(0, 1)
    lists = pa.ListArray.from_arrays(pa.array([0, values], pa.int32()), pa.array(np.zeros(values, np.float32)))
    table = table.set_column(table.schema.get_field_index("class_log_likelihoods"), "class_log_likelihoods", lists)
    with pq.ParquetWriter(path, table.schema, compression="zstd", **options) as writer:
        for _ in range(groups):
            writer.write_table(table)


def test_a_flipped_bit_of_a_likelihood_is_found_by_the_page_s_checksum(path):
    column = pq.ParquetFile(path).metadata.row_group(0).column(4)
    assert column.path_in_schema.startswith("class_log_likelihoods")
    flipped(path, 8 * (column.dictionary_page_offset + column.total_compressed_size - 3))
    with pytest.raises(ScoresError, match="damaged .*checksum.*score or copy it again"):
        read_scores(path)


def test_metadata_that_is_not_what_was_written_is_found_by_its_checksum(path):
    table = pq.read_table(path)
    metadata = table.schema.metadata
    changed = metadata | {METADATA_KEY: metadata[METADATA_KEY].replace(b'"seed": 0', b'"seed": 1')}
    pq.write_table(table.replace_schema_metadata(changed), path)
    with pytest.raises(ScoresError, match=r"isn't what was written: its checksum differs from 'edgewise\.crc32'"):
        read_metadata(path)


def test_metadata_that_another_program_wrote_needs_no_checksum(path):
    table = pq.read_table(path)
    raw = table.schema.metadata[METADATA_KEY].replace(b'"seed": 0', b'"seed": 7')
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: raw}), path)
    assert read_metadata(path).seed == 7 and len(read_scores(path).target) == 60
    own = {METADATA_KEY: raw, b"edgewise.crc32": str(zlib.crc32(raw)).encode()}
    pq.write_table(table.replace_schema_metadata(own), path)
    assert read_metadata(path).seed == 7


@pytest.mark.parametrize("dictionary", [True, False])
def test_a_small_file_that_asks_for_gigabytes_is_refused_by_its_footer(path, dictionary):
    bomb(path, 8, 10_000_000, use_dictionary=dictionary)
    size = path.stat().st_size
    assert size < 60_000
    for read in (read_scores, read_metadata, lambda file: read_parquet(file, lambda name: True)):
        with pytest.raises(EdgewiseError, match=r"a file of .* kB whose footer claims 3\d\d\.\d MB of data; expected"):
            read(path)


def test_rows_that_are_nearly_all_alike_are_no_bomb(path, tmp_path):
    n = 300_000
    table = pa.table({"text": pa.array(["the same text"] * n), "label": pa.array([1] * n), "none": pa.nulls(n)})
    pq.write_table(table, tmp_path / "alike.parquet", compression="zstd")
    with opened_parquet(tmp_path / "alike.parquet") as file:
        assert file.read().num_rows == n


@pytest.mark.parametrize("groups", [0, 1, 3])
def test_the_footer_is_read_as_pyarrow_reads_it(tmp_path, groups):
    rows = 20
    table = pa.table(
        {
            "text": pa.array(["a", None] * 10),
            "fixed": pa.array([b"1234"] * rows, pa.binary(4)),
            "time": pa.array(range(rows), pa.timestamp("us")),
            "nested": pa.array([{"a": [1.5, 2.5], "b": {"c": True}}] * rows),
            **{f"column {k}": pa.array(range(rows)) for k in range(20)},  # a list of more than 14 has a long header
        }
    )
    path = tmp_path / "x.parquet"
    with pq.ParquetWriter(path, table.schema, write_page_index=True) as writer:
        for _ in range(groups):
            writer.write_table(table)
    footer = pq.ParquetFile(path).metadata
    expected = [
        (group, rows, column.path_in_schema, column.num_values, column.total_uncompressed_size)
        for group in range(groups)
        for column in (footer.row_group(group).column(place) for place in range(footer.num_columns))
    ]
    found = [(c.row_group, c.rows, ".".join(c.path), c.values, c.uncompressed) for c in column_claims(path)]
    assert found == expected and len(found) == groups * (4 + 3 - 1 - 1 + 20)
    with opened_parquet(path) as file:
        assert file.read().num_rows == groups * rows


@pytest.mark.parametrize("levels", [101, 5_000, 100_000])
def test_metadata_that_is_nested_deeply_is_refused(path, levels):
    table = pq.read_table(path)
    values = json.loads(table.schema.metadata[METADATA_KEY]) | {"config": {"x": "HERE"}}
    raw = json.dumps(values).replace('"HERE"', "[" * levels + "]" * levels)
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: raw.encode()}), path)
    for read in (read_metadata, read_scores):
        with pytest.raises(ScoresError, match=r"'edgewise' is nested more than 100 levels deep"):
            read(path)
