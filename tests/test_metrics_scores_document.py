"""docs/scores.md is true: its example writes scores files that read back, and it names every column and key."""

import re
from dataclasses import fields

import numpy as np
import pytest

from conf.schema import Metrics
from metrics.convert.__main__ import main as convert
from metrics.output.directory import Input, write_metrics
from metrics.scores import read_scores
from metrics.scores.layout import FIELD_COLUMNS, OPTIONAL_STRINGS, STRINGS
from metrics.scores.schema import ScoresMetadata
from tests.support import REPO

TEXT = (REPO / "docs" / "scores.md").read_text()


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The files that the page's example writes."""
    [example] = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/scores.md", "exec"), {})
    return sorted(tmp_path.glob("*.parquet"))


def test_the_example_reads_back(written):
    assert [path.name for path in written] == [
        f"reviews-{size}-{seed}.parquet" for size in ("large", "small") for seed in (0, 1)
    ]
    scores = read_scores(written[2])
    assert (scores.metadata.dataset, scores.metadata.size, scores.metadata.seed) == ("reviews", "small", 0)
    assert scores.prediction.tolist() == ["negative", "positive", "negative", "positive"]
    assert scores.correct.tolist() == [True, True, False, False]
    assert np.allclose(np.exp(scores.class_log_likelihoods[:, 1]), [0.30, 0.80, 0.45, 0.60])
    assert scores.slices["slice_language"].tolist() == ["en", "en", "de", "de"]


def test_the_example_makes_tables(written, tmp_path):
    inputs = [Input(path.name, path.name) for path in written]
    write_metrics(written, inputs, Metrics(resamples=5, beyond=False), tmp_path / "out")
    table = (tmp_path / "out/tables/table3.csv").read_text()
    assert "reviews,small,large,margin" in table


def test_the_page_names_every_column_and_key():
    columns = {*STRINGS, *OPTIONAL_STRINGS, *(column for held in FIELD_COLUMNS.values() for column in held)}
    keys = {field.name for field in fields(ScoresMetadata)}
    named = set(re.findall(r"`([a-z_]+)`", TEXT))
    assert columns | keys <= named, (columns | keys) - named


def test_the_converter_s_help_points_to_the_page(capsys):
    with pytest.raises(SystemExit):
        convert(["--help"])
    assert "docs/scores.md" in capsys.readouterr().out
