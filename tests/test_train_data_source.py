"""What is kept of a dataset: every split is read once, the rows are bounded, changed files are read anew."""

import gc
import threading
from collections import Counter
from pathlib import Path

import pytest

from conf.errors import EdgewiseError
from conf.schema import Dataset, Recipe
from tracking.store import Store
from train.data import files
from train.data.source import KEPT_BYTES, KEPT_SOURCES, KeptSplits, Source, source_of, text_bytes

ROWS = "text,label\n" + "".join(f"some words number {i},{i % 2}\n" for i in range(40))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts how often the rows of each file are read."""
    counted: Counter[str] = Counter()
    read_columns = files.read_columns

    def counting(file, *how):
        counted[file.name] += 1
        return read_columns(file, *how)

    monkeypatch.setattr(files, "read_columns", counting)
    return counted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "rows"
    path.mkdir()
    for name in ("train", "validation", "test"):
        (path / f"{name}.csv").write_text(ROWS)
    return path


def dataset(folder: Path, **changes) -> Dataset:
    return Dataset(**{"name": "own", "path": str(folder), "classes": {"0": "bad", "1": "good"}} | changes)


def test_training_and_scoring_two_cells_read_every_split_once(folder, reads, compose, tmp_path) -> None:
    from infer.identity import find_model
    from infer.scoring import score
    from train.loop import train

    store = Store(tmp_path / "runs")
    small = ("size.d_model=8", "size.d_kv=4", "size.d_ff=8", "train.steps=2", "train.batch_size=4")
    own = ("dataset=text_classification", "dataset.name=own", f"dataset.path={folder}")
    classes = ("dataset.classes={0: bad, 1: good}", "tokenizer.vocabulary_size=60", f"tracking.root={store.root}")
    for seed in (0, 1):
        config = compose(*own, *classes, *small, f"seed={seed}", "tracking.group=grid")
        train(config, store)
        score(config, store, find_model(config, store))
    assert reads == {"train.csv": 1, "validation.csv": 1, "test.csv": 1}
    assert f'path: "{folder}"' in (store.root / "conf/dataset/own.yaml").read_text()  # for later commands by name
    [data] = store.artifacts(type="data")
    assert {run.group for run in store.logged_by(data)} == {"grid"}


def test_threads_that_ask_at_once_share_one_reading(folder, reads) -> None:
    barrier, found = threading.Barrier(4), []

    def ask() -> None:
        barrier.wait()
        source = source_of(dataset(folder))
        found.append((source.split("test"), source.record()))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(split) for split, _ in found}) == 1
    assert all(record == found[0][1] for _, record in found)
    assert reads == {"train.csv": 1, "validation.csv": 1, "test.csv": 1}


def test_a_source_is_shared_until_config_or_files_change(folder, reads) -> None:
    source = source_of(dataset(folder))
    assert source_of(dataset(folder, recipe=Recipe(steps=3))) is source  # it decides no row
    assert source_of(dataset(folder, template="say: {text}")) is not source
    turned = source_of(dataset(folder, classes={"1": "good", "0": "bad"}))
    assert turned is not source and turned.record()["classes"] != source.record()["classes"]
    assert source_of(dataset(folder)) is source

    reads.clear()
    rows = source.split("test")
    (folder / "test.csv").write_text(ROWS + "one more,1\n")
    changed = source_of(dataset(folder))
    assert changed is not source and changed.digest != source.digest
    assert len(changed.split("test")) == len(rows) + 1 and reads["test.csv"] == 1
    assert changed.record()["splits"]["test"]["rows"] == 41


def test_files_that_change_under_a_source_are_not_taken_for_its_own(folder) -> None:
    source = Source(dataset(folder), KeptSplits(0))
    (folder / "test.csv").write_text(ROWS + "one more,1\n")
    with pytest.raises(EdgewiseError, match="dataset=own: its files changed while test was read"):
        source.split("test")


def test_the_rows_kept_are_bounded_and_the_record_outlives_them(folder, reads) -> None:
    measured = text_bytes(Source(dataset(folder), KeptSplits(0)).split("test"))
    assert measured > len(ROWS)
    reads.clear()
    kept = KeptSplits(2 * measured + measured // 2)
    source = Source(dataset(folder), kept)
    record = source.record()
    gc.collect()
    assert kept.held_bytes <= 2 * measured + measured // 2  # two of the three, of about one size
    source.split("validation"), source.split("test")
    assert reads == {"train.csv": 1, "validation.csv": 1, "test.csv": 1}
    source.split("train")
    assert reads["train.csv"] == 2  # it was asked for longest ago
    source.split("test")
    assert reads["test.csv"] == 1
    assert source.record() == record and reads["validation.csv"] == 1


def test_a_split_too_large_to_keep_is_shared_while_somebody_holds_it(folder, reads) -> None:
    kept = KeptSplits(10)
    source = Source(dataset(folder), kept)
    held = source.split("test")
    assert source.split("test") is held and kept.held_bytes == 0 and reads["test.csv"] == 1
    del held
    gc.collect()
    source.split("test")
    assert reads["test.csv"] == 2


def test_few_sources_are_kept(folder) -> None:
    assert KEPT_BYTES <= 1 << 30
    first = source_of(dataset(folder))
    for i in range(KEPT_SOURCES):
        source_of(dataset(folder, template=f"{i} {{text}}"))
    assert source_of(dataset(folder)) is not first
