"""Datasets from the Hub, over HTTP to a small one on the loopback: online, from the warm cache, and what goes wrong."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from conf.errors import EdgewiseError
from conf.schema import Dataset
from metrics.rows import Wanted
from tests.hub_repositories import IMDB, IMDB_CARD, parquet
from tests.hub_server import HubServer
from tests.support import REPO
from train.data import hub as hub_module

# Loads datasets as a command would, in a process of its own: the Hub's library reads its environment at import.
# Each argument is a conf/dataset name and what to change; prints a JSON object for each.
CLIENT = """
import json, sys
from omegaconf import OmegaConf
from conf.errors import EdgewiseError
from conf.schema import Dataset
from train.data.source import Source
from train.data.splits import load_split
for name, changes in json.loads(sys.argv[1]):
    values = OmegaConf.merge(OmegaConf.structured(Dataset), OmegaConf.load(f"conf/dataset/{name}.yaml"), changes)
    dataset = OmegaConf.to_object(values)
    dataset.check()
    try:
        splits = {split: load_split(dataset, split) for split in Source(dataset).names}
        rows = {split: list(map(list, zip(s.example_id, s.inputs, s.targets))) for split, s in splits.items()}
        shown = {"digest": Source(dataset).digest, "record": Source(dataset).provenance, "rows": rows}
        shown["skipped"] = {split: s.skipped for split, s in splits.items()}
    except EdgewiseError as error:
        shown = {"error": str(error)}
    print(json.dumps(shown))
"""

TOXIC = "dirtycomputer/Toxic_Comment_Classification_Challenge"
AMAZON, YAHOO = "McAuley-Lab/Amazon-Reviews-2023", "community-datasets/yahoo_answers_topics"
SQUAD, WMT = "rajpurkar/squad", "wmt/wmt_t2t"
WMT_CARD = """---
configs:
- config_name: de-en
  data_files:
  - {split: train, path: de-en/train-*}
  - {split: validation, path: de-en/validation-*}
  - {split: test, path: de-en/test-*}
---
"""


def imdb(*more: str) -> dict[str, bytes]:
    films = ["fine film", None, "dull film", *more]
    return {
        "README.md": IMDB_CARD.encode(),
        "plain_text/train-00000-of-00001.parquet": parquet({"text": films, "label": [1, 1, 0, *[1] * len(more)]}),
        "plain_text/test-00000-of-00001.parquet": parquet({"text": ["so so"], "label": [0]}),
        "plain_text/unsupervised-00000-of-00001.parquet": parquet({"text": ["who knows"], "label": [-1]}),
        "notes.pdf": b"not to be downloaded",
    }


@pytest.fixture(scope="module")
def hub():
    server = HubServer()
    server.commit(IMDB, imdb())
    comments = b'id,comment_text,toxic,insult\na,"Hello,\nyou",0,0\nb,"NA",1,1\n'
    tests = b'id,comment_text\nc,one\nd,"two, too"\ne,three\nf,four\n'
    labels = b"id,toxic,insult\nd,1,0\nc,-1,-1\ne,0,0\n"
    server.commit(TOXIC, {"train.csv": comments, "test.csv": tests, "test_labels.csv": labels})
    reviews = [{"rating": 1.0 + i % 5, "title": "t", "text": f"game {i}", "images": []} for i in range(20)]
    reviews += [{"rating": 5.0, "text": None}, {"rating": 4.0, "text": "lone \ud800"}, {"text": "no stars"}]
    lines = "".join(json.dumps(row) + "\n" for row in reviews)
    server.commit(AMAZON, {"raw/review_categories/Video_Games.jsonl": lines.encode(), "raw/other.jsonl": b"{}\n"})
    columns = {
        "id": [1, 2, 3],
        "topic": [4, 0, None],
        "question_title": ["why", "who", "lost"],
        "question_content": ["", None, ""],
        "best_answer": ["because", "me", ""],
    }
    topics = {f"yahoo/{split}-00000-of-00001.parquet": parquet(columns) for split in ("train", "test")}
    server.commit(YAHOO, topics)
    squad = {"id": ["q1", "q2"], "question": ["who?", "why?"], "context": ["Ann.", "No."]}
    golds = {"answers": [{"text": ["Ann", "Ann."], "answer_start": [0, 0]}, {"text": [], "answer_start": []}]}
    files = {f"plain_text/{split}-00000-of-00001.parquet": parquet(squad | golds) for split in ("train", "validation")}
    server.commit(SQUAD, files)
    pairs = [{"de": "Ein Hund.", "en": "A dog."}, {"de": "", "en": "Nothing."}]
    splits = ("train", "validation", "test")
    files = {f"de-en/{split}-00000-of-00001.parquet": parquet({"translation": pairs}) for split in splits}
    server.commit(WMT, {"README.md": WMT_CARD.encode(), **files})
    server.commit("someone/reviews", {"data/train.csv": b"text,label\nok,0\nnice,1\n"})
    yield server
    server.close()


def load(home: Path, endpoint: str, *asked: tuple[str, dict], offline: bool = False) -> tuple[list[dict], str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_") and "proxy" not in key.lower()}
    env = kept | {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": str(int(offline))}
    command = [sys.executable, "-c", CLIENT, json.dumps(asked)]
    result = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()], result.stderr


ASKED: list[tuple[str, dict]] = [
    (name, {}) for name in ("imdb", "wiki_toxicity", "amazon_video_games", "yahoo_answers", "squad", "wmt_ende")
]


@pytest.fixture(scope="module")
def loaded(hub, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    shown, said = load(home, hub.endpoint, *ASKED)
    return home, shown, said, list(hub.requests), list(hub.unknown)


def test_the_six_datasets_come_over_http(hub, loaded):
    _, (films, comments, games, topics, questions, pairs), said, requests, unknown = loaded
    assert unknown == []
    assert not [request for request in requests if "notes.pdf" in request or "raw/other" in request]
    assert films["rows"] == {
        "train": [["train-0", "sentiment: fine film", "positive"], ["train-2", "sentiment: dull film", "negative"]],
        "test": [["test-0", "sentiment: so so", "negative"]],
    }
    assert comments["rows"] == {
        "train": [["train-0", "Hello,\nyou", "not toxic"], ["train-1", "NA", "toxic"]],
        "test": [["test-1", "two, too", "toxic"], ["test-2", "three", "not toxic"]],
    }
    assert [row[1:] for row in topics["rows"]["train"]] == [
        ["why  because", "Computers & Internet"],
        ["who  me", "Society & Culture"],
    ]
    drawn = games["rows"]
    assert len(drawn["test"]) + len(drawn["train"]) == 20 and 3 <= len(drawn["test"]) <= 5
    assert {text: stars for rows in drawn.values() for _, text, stars in rows} == {
        f"game {i}": str(1 + i % 5) for i in range(20)
    }
    assert questions["rows"] == dict.fromkeys(("train", "test"), [["q1", "question: who? context: Ann.", "Ann"]])
    pair = ["translate English to German: A dog.", "Ein Hund."]
    assert pairs["rows"] == {"train": [["train-0", *pair]], "test": [["test-0", *pair]]}
    for line in (
        "squad test: 1 rows left out (no answers: 1), 1 kept",
        "wmt_ende test: 1 rows left out (no de: 1), 1 kept",
        "warning: wmt_ende train: 1 rows, 4,592,288 fewer than the paper's 4,592,289",
        "imdb train: 1 rows left out (no text: 1), 2 kept",
        "wiki_toxicity test: 2 rows left out (no label: 1, label -1: 1), 2 kept",
        "yahoo_answers train: 1 rows left out (no topic: 1), 2 kept",
        "warning: imdb train: 2 rows, 24,998 fewer than the paper's 25,000",
        "warning: amazon_video_games test:",
    ):
        assert line in said


def test_the_record_says_where_the_rows_are_from(hub, loaded):
    films, comments, games, *_, pairs = loaded[1]
    assert pairs["record"]["splits"] == {"train": "train", "test": "validation"}
    assert films["record"] == {"hub": IMDB, "config": "plain_text", "revision": hub.hash_of(IMDB, 0)}
    assert films["skipped"] == {"train": {"no text": 1}, "test": {}}
    assert comments["record"]["files"]["test_labels"] == "test_labels.csv"
    assert comments["record"]["drop_labels"] == ["-1"] and comments["record"]["join_column"] == "id"
    assert sum((Counter(skipped) for skipped in games["skipped"].values()), Counter()) == {
        "no review_body": 1,
        "not valid Unicode": 1,
        "no star_rating": 1,
    }


OWN = {"name": "own", "classes": {0: "bad", 1: "good"}}


@pytest.mark.parametrize("offline", [True, False])
def test_a_second_run_needs_no_network_and_a_first_says_what_to_do(hub, loaded, offline):
    home, shown, *_ = loaded
    before = len(hub.requests)
    absent = ("text_classification", {**OWN, "hub_id": "someone/reviews"})
    # Either the cache alone is allowed, or nobody answers.
    again, _ = load(home, hub.endpoint if offline else "http://127.0.0.1:9", *ASKED, absent, offline=offline)
    assert again[:-1] == shown
    assert len(hub.requests) == before
    error = again[-1]["error"]
    assert "dataset.path=DIR" in error and "someone/reviews is not whole in the cache" in error
    assert ("HF_HUB_OFFLINE is set" if offline else "can't be reached") in error


def test_a_new_commit_is_new_data_and_what_is_wrong_is_said(hub, loaded, tmp_path):
    films = loaded[1][0]
    first, second = hub.hash_of(IMDB, 0), hub.commit(IMDB, imdb("one more"))
    asked = [
        ("imdb", {}),
        ("imdb", {"hub_revision": first}),
        ("text_classification", {**OWN, "hub_id": "someone/reviews"}),
        ("text_classification", {**OWN, "hub_id": "someone/reviews", "template": "{words}"}),
        ("imdb", {"hub_id": "stanfordnlp/imbd"}),
        ("imdb", {"hub_id": "not an id"}),
        ("imdb", {"hub_revision": "v9"}),
        ("imdb", {"hub_config": "no_such"}),
        ("wiki_toxicity", {"hub_files": {"train": "train_v2.csv"}}),
    ]
    try:
        shown, _ = load(tmp_path / "home", hub.endpoint, *asked)
    finally:
        hub.repositories[IMDB].pop()
    moved, pinned, own = shown[:3]
    assert moved["record"]["revision"] == second and len(moved["rows"]["train"]) == 3
    assert moved["digest"] != films["digest"]
    assert pinned["digest"] == films["digest"] and pinned["rows"] == films["rows"]
    assert [row[1:] for row in own["rows"]["train"]] == [["ok", "bad"], ["nice", "good"]]

    said = [one["error"] for one in shown[3:]]
    assert "no column words; found text, label" in said[0]
    assert "dataset.hub_id=stanfordnlp/imbd" in said[1] and "no such dataset" in said[1] and "dataset.path=" in said[1]
    assert "dataset.hub_id=not an id: not an id of a dataset" in said[2]
    assert "dataset.hub_revision=v9" in said[3] and "no such revision" in said[3]
    assert "no_such" in said[4] and "plain_text" in said[4]
    assert "has no file train_v2.csv" in said[5]
    assert hub.unknown == []


def test_parts_may_have_their_columns_in_another_order(tmp_path, monkeypatch):
    (tmp_path / "a.jsonl").write_text('{"text": "one", "label": 0}\n')
    (tmp_path / "b.jsonl").write_text('{"label": 1, "text": "two"}\n')
    monkeypatch.setattr(hub_module, "_snapshot", lambda dataset: tmp_path)
    monkeypatch.setattr(hub_module, "revision", lambda dataset: "0" * 40)
    dataset = Dataset(name="parts", hub_id="me/parts", hub_files={"train": "*.jsonl"})
    names, columns = hub_module.read_split(dataset, "train", Wanted(frozenset(["text", "label"])))
    assert names == ["text", "label"] and columns == {"text": ["one", "two"], "label": ["0", "1"]}
    (tmp_path / "b.jsonl").write_text('{"label": 1, "body": "two"}\n')
    with pytest.raises(EdgewiseError, match="a.jsonl has the columns text, label, but b.jsonl has label, body"):
        hub_module.read_split(dataset, "train", Wanted(frozenset(["text", "label"])))
