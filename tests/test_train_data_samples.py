"""Each dataset's real sample, and the Hub's layout, through the commands: train, infer, metrics."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from metrics.scores import read_scores
from tests.hub_repositories import IMDB, IMDB_CARD, parquet
from tests.hub_server import HubServer
from tests.support import REPO, shared_data
from tracking.store import Store
from train import t5
from train.pretrained import hf

SHARED = shared_data()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SHARED is None, reason="needs EDGEWISE_SHARED, the folder of real text"),
]

TINY = [
    "size=nano",
    "size.layers=1",
    "size.d_model=32",
    "size.d_ff=64",
    "size.heads=2",
    "size.d_kv=16",
    "train.steps=3",
    "train.batch_size=8",
    "dataset.max_input_length=128",
    "infer.batch_tokens=4096",
]
VOCABULARY = ["tokenizer=t5", f"tokenizer.path={SHARED}/t5/spiece.model", "size.vocabulary_size=32128"]


def rows_of(name: str) -> list[dict[str, str]]:
    with (SHARED / name).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write(file: Path, rows: list[dict[str, str]], names: list[str] | None = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, names or list(rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def imdb(folder: Path) -> list[str]:
    """The sample has one file and other names for the columns and labels: the config says so."""
    write(folder / "sample.csv", rows_of("imdb/sample.csv"))
    renamed = "dataset.columns={review: text, sentiment: label}"
    classes = "dataset.classes={negative: negative, positive: positive}"
    return [
        "dataset=text_classification",
        "dataset.name=imdb",
        f"dataset.path={folder}",
        renamed,
        classes,
        "dataset.test_share=0.2",
        "dataset.template='sentiment: {text}'",
    ]


def amazon(folder: Path) -> list[str]:
    write(folder / "sample.csv", rows_of("amazon/sample.csv"))
    template = "dataset.template='{Text}'"
    return ["dataset=amazon_video_games", f"dataset.path={folder}", template, "dataset.label_column=Score"]


def toxicity(folder: Path) -> list[str]:
    """In Jigsaw's own layout: the test rows' labels, half of them -1, in a file beside them."""
    test = rows_of("toxicity/test.csv")
    write(folder / "train.csv", rows_of("toxicity/train.csv"))
    write(folder / "test.csv", test, ["id", "comment_text"])
    write(folder / "test_labels.csv", test, ["id", "toxic"])
    return ["dataset=wiki_toxicity", f"dataset.path={folder}"]


def yahoo(folder: Path) -> list[str]:
    """No header: one is written."""
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        text = (SHARED / f"yahoo/{split}_2topics.csv").read_text(encoding="utf-8")
        (folder / f"{split}.csv").write_text(f"best_answer,topic\n{text}", encoding="utf-8")
    with (folder / "test.csv").open(newline="", encoding="utf-8") as stream:
        topics = sorted({row["topic"] for row in csv.DictReader(stream)})
    classes = ", ".join(f"{topic}: {topic}" for topic in topics)
    return [
        "dataset=text_classification",
        "dataset.name=yahoo_answers",
        f"dataset.path={folder}",
        "dataset.template='{best_answer}'",
        "dataset.label_column=topic",
        f"dataset.classes={{{classes}}}",
    ]


def squad(folder: Path) -> list[str]:
    folder.mkdir(parents=True)
    for split, name in (("train", "train"), ("test", "validation")):  # named as on the Hub
        lines = (SHARED / f"squad/{split}.jsonl").read_text(encoding="utf-8").splitlines()
        unanswerable = json.dumps({"id": "x", "question": "?", "context": "c", "answers": {"text": []}})
        (folder / f"{name}.jsonl").write_text("\n".join([*lines[:250], unanswerable]), encoding="utf-8")
    return ["dataset=squad", f"dataset.path={folder}", "dataset.max_target_length=24"]


def wmt(folder: Path) -> list[str]:
    """newstest2019: the first 1,700 sentences train, the rest is translated, by a beam search."""
    folder.mkdir(parents=True)
    english, german = (
        (SHARED / f"wmt/newstest2019.{language}").read_text(encoding="utf-8").splitlines() for language in ("en", "de")
    )
    pairs = [json.dumps({"translation": {"en": en, "de": de}}) for en, de in zip(english, german, strict=True)]
    (folder / "train.jsonl").write_text("\n".join(pairs[:1700]), encoding="utf-8")
    (folder / "test.jsonl").write_text("\n".join([*pairs[1700:1800], '{"translation": {"en": "?"}}']), encoding="utf-8")
    return ["dataset=wmt_ende", f"dataset.path={folder}", "dataset.max_target_length=24"]


def run(command: str, *overrides: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", command, *overrides]
    result = subprocess.run(arguments, cwd=REPO, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result


def through(tmp_path: Path, dataset: list[str], env: dict[str, str] | None = None) -> tuple[Store, str]:
    """Trains, scores and tabulates two seeds of a tiny model; returns the store and what was said on stderr."""
    root = f"tracking.root={tmp_path / 'runs'}"
    said = ""
    for seed in (0, 1):
        for command in ("train", "infer"):
            said += run(command, *dataset, *TINY, *VOCABULARY, root, f"seed={seed}", env=env).stderr
    out = tmp_path / "out"
    run("metrics", *dataset, root, f"metrics.out={out}", "metrics.resamples=20", env=env)
    assert (out / "summary.json").stat().st_size > 0
    return Store(tmp_path / "runs"), said


@pytest.mark.parametrize("sample", [imdb, amazon, toxicity, yahoo, squad, wmt])
def test_a_real_sample_goes_through(tmp_path, sample) -> None:
    store, said = through(tmp_path, sample(tmp_path / "data"))
    (data,) = {a.name: a for a in store.artifacts(type="data")}.values()
    record = json.loads(data.file("data.json").read_text())
    splits = record["splits"]
    assert splits["train"]["rows"] > 200 and splits["test"]["rows"] >= 26
    assert all(
        len(file["sha256"]) == 64 for file in record["from"].values() if isinstance(file, dict) and "file" in file
    )
    scores = read_scores(store.artifact(f"scores-{record['dataset']}-nano-s1-test").file("scores.parquet"))
    assert len(scores.example_id) == splits["test"]["rows"]
    assert scores.metadata.data == splits["test"]["fingerprint"]
    cut = "targets (71.0%) are longer than 24" if sample is wmt else "longer than 128"
    assert f"{cut} tokens and are cut" in said
    left_out = {squad: {"no answers": 1}, wmt: {"no de": 1}, toxicity: {"label -1": 25}}
    assert splits["test"].get("skipped") == left_out.get(sample)
    if sample in (squad, wmt):
        assert scores.gold_tokens.lengths.max() <= 24 and scores.self_tokens.lengths.min() >= 1
    if sample is toxicity:
        assert splits["test"]["rows"] == 26
        assert splits["train"]["difference"] == splits["train"]["rows"] - 159571
        assert "note: wiki_toxicity train:" in said


def test_a_hugging_face_checkpoint_of_size_small_is_fine_tuned(tmp_path, compose) -> None:
    """Random weights in the official layout and size, on reviews of up to 512 tokens."""
    size = compose("size=small").size
    checkpoint = tmp_path / "t5-small"
    checkpoint.mkdir()
    hf.save(checkpoint, size, jax.tree.map(np.asarray, t5.init_params(size, jax.random.key(0))))
    shutil.copy(SHARED / "t5/spiece.model", checkpoint)
    cell = [*imdb(tmp_path / "data"), "size=small", f"tracking.root={tmp_path / 'runs'}"]
    steps = ["tokenizer=t5", f"train.init={checkpoint}", "train.steps=3", "train.batch_size=8"]
    for seed in (0, 1):
        for command in ("train", "infer"):
            run(command, *cell, *steps, f"seed={seed}")
    out = tmp_path / "out"
    run("metrics", *cell, *steps, f"metrics.out={out}", "metrics.resamples=20")
    store = Store(tmp_path / "runs")
    model = store.artifact("model-imdb-small-s0")
    assert model.metadata["parameters"] == 60_506_624
    scores = read_scores(store.artifact("scores-imdb-small-s0-test").file("scores.parquet"))
    held_out = store.artifact("data-imdb").metadata["splits"]["test"]["rows"]
    assert scores.metadata.model == model.digest and len(scores.example_id) == held_out
    assert 70 < held_out < 130  # a fifth of 499, by a hash of the text
    assert (out / "report" / "index.html").is_file()


def test_the_hubs_files_go_through_and_again_offline(tmp_path) -> None:
    reviews = rows_of("imdb/sample.csv")
    labels = [int(row["sentiment"] == "positive") for row in reviews]
    texts = [row["review"] for row in reviews]
    server = HubServer()
    files = {"README.md": IMDB_CARD.split("  - {split: unsupervised")[0].encode() + b"---\n"}
    for split, some in (("train", slice(0, 400)), ("test", slice(400, None))):
        files[f"plain_text/{split}-00000-of-00001.parquet"] = parquet({"text": texts[some], "label": labels[some]})
    commit = server.commit(IMDB, files)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    env = kept | {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": server.endpoint}
    try:
        store, said = through(tmp_path, ["dataset=imdb"], env)
        assert "warning: imdb train: 400 rows, 24,600 fewer than the paper's 25,000" in said
        assert store.artifact("data-imdb").metadata["from"]["revision"] == commit
        assert server.unknown == []
    finally:
        server.close()
    # Another model of the same data, without a network: the cache has it all.
    offline = ["dataset=imdb", *TINY, *VOCABULARY, f"tracking.root={tmp_path / 'offline'}"]
    run("train", *offline, env=env | {"HF_HUB_OFFLINE": "1"})
    assert Store(tmp_path / "offline").artifact("data-imdb").digest == store.artifact("data-imdb").digest
