"""Writes one run's scores as Parquet: a row an example, and the run's metadata as JSON in that of the file."""

import json
import zlib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from metrics.scores.check import validate
from metrics.scores.layout import CHECKSUM_KEY, METADATA_KEY, OPTIONAL_STRINGS, STRINGS, TOKEN_PARTS
from metrics.scores.schema import BLEU_STATISTICS, Scores, ScoresError, TokenScores
from tracking.files import written_whole


def write_scores(scores: Scores, path: Path | str) -> None:
    """Writes one run's scores, whole or not at all; the same scores give the same bytes.

    A file holds the columns of its own task alone. Log-likelihoods and token scores are written as float32. Each page
    has a checksum, and so has the metadata; `read_scores` compares them. Raises ScoresError, before anything is
    written, for scores that `read_scores` would refuse.
    """
    path = Path(path)
    checked = _as_float32(scores, str(path))
    validate(checked, str(path))
    n = len(scores.example_id)
    columns: dict[str, pa.Array] = {name: pa.array(list(getattr(scores, name)), pa.string()) for name in STRINGS}
    columns["correct"] = (
        pa.nulls(n, pa.bool_()) if scores.correct is None else pa.array(np.asarray(scores.correct), pa.bool_())
    )
    likelihoods = checked.class_log_likelihoods
    if likelihoods is not None:
        columns["class_log_likelihoods"] = _lists(likelihoods.ravel(), np.arange(n + 1) * likelihoods.shape[1])
    for prefix, tokens in (("", checked.gold_tokens), ("self_", checked.self_tokens)):
        if tokens is not None:
            for part, name in TOKEN_PARTS.items():
                columns[prefix + name] = _lists(getattr(tokens, part), tokens.offsets)
    if checked.bleu_stats is not None:
        columns["bleu_stats"] = _lists(checked.bleu_stats.ravel(), np.arange(n + 1) * BLEU_STATISTICS)
    for name in OPTIONAL_STRINGS:
        if getattr(scores, name) is not None:
            columns[name] = pa.array(list(getattr(scores, name)), pa.string())
    for name in sorted(scores.slices):
        columns[name] = pa.array(list(scores.slices[name]), pa.string())
    try:
        metadata = json.dumps(asdict(scores.metadata), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ScoresError(f"{path}: the metadata can't be written as JSON: {error}") from error
    described = {METADATA_KEY: metadata.encode(), CHECKSUM_KEY: str(zlib.crc32(metadata.encode())).encode()}
    table = pa.table(columns).replace_schema_metadata(described)
    with written_whole(path) as partial:
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)


def _as_float32(scores: Scores, where: str) -> Scores:
    """Returns the scores with log-likelihoods and token scores as float32."""
    likelihoods = scores.class_log_likelihoods
    if likelihoods is not None:
        likelihoods = np.asarray(likelihoods)
        if likelihoods.ndim != 2:
            raise ScoresError(
                f"{where}: class_log_likelihoods has shape {likelihoods.shape}, expected [examples, classes]"
            )
        likelihoods = likelihoods.astype(np.float32)

    def narrowed(tokens: TokenScores | None) -> TokenScores | None:
        if tokens is None:
            return None
        parts = {part: np.asarray(getattr(tokens, part)).astype(np.float32) for part in TOKEN_PARTS}
        return TokenScores(**parts, offsets=np.asarray(tokens.offsets))

    return replace(
        scores,
        class_log_likelihoods=likelihoods,
        gold_tokens=narrowed(scores.gold_tokens),
        self_tokens=narrowed(scores.self_tokens),
    )


def _lists(values: np.ndarray, offsets: np.ndarray) -> pa.ListArray:
    """Makes a column of lists; list i is values[offsets[i]] to values[offsets[i + 1] - 1]."""
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))
