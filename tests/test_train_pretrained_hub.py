"""Checkpoints over HTTP, from a small server on the loopback that speaks the Hub's routes; and from a bucket's."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from conf.schema import Size
from infer.identity import find_model
from infer.scoring import score
from tests.support import REPO
from tracking.store import Store
from train import t5
from train.data.tokens import Vocabulary
from train.loop import train
from train.pretrained import hf, t5x
from train.pretrained.find import resolved

COMMIT, OLDER = "a" * 40, "b" * 40
SIZE = Size(name="tiny", d_model=8, d_kv=4, d_ff=8, layers=1, heads=2, vocabulary_size=128)


class Routes(BaseHTTPRequestHandler):
    """GET and HEAD of the Hub's model info and files, and of a bucket's objects."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = urllib.parse.urlsplit(self.path).path
        self.server.asked.append(path)
        parts = [urllib.parse.unquote(part) for part in path.strip("/").split("/")]
        if parts[:2] == ["storage", "v1"]:
            file = self.server.root / "bucket" / parts[-1]
            return self.answer(file.read_bytes()) if file.is_file() else self.answer(b"{}", 404)
        id = "/".join(parts[2:4] if parts[:2] == ["api", "models"] else parts[:2])
        folder = self.server.root / id
        if not folder.is_dir():
            return self.answer(b"{}", 401, {"X-Error-Code": "RepoNotFound"})
        revision = parts[-1] if "revision" in parts else parts[3] if "resolve" in parts else "main"
        commit = {"main": COMMIT, COMMIT: COMMIT, "v1": OLDER, OLDER: OLDER}.get(revision)
        if commit is None:
            return self.answer(b"{}", 404, {"X-Error-Code": "RevisionNotFound"})
        if parts[0] == "api":
            files = [{"rfilename": file.name} for file in sorted(folder.iterdir())]
            return self.answer(json.dumps({"id": id, "modelId": id, "sha": commit, "siblings": files}).encode())
        file = folder / parts[4]
        if not file.is_file():
            return self.answer(b"", 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        etag = hashlib.sha1(file.read_bytes()).hexdigest()
        return self.answer(file.read_bytes(), 200, {"ETag": f'"{etag}"', "X-Repo-Commit": commit})

    def answer(self, data, status=200, headers=()):
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "x-goog-generation": "1", **dict(headers)}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A running server with acme/tiny, acme/pickled and a T5X checkpoint in a bucket."""
    root = tmp_path_factory.mktemp("hub")
    params = t5.init_params(SIZE, jax.random.key(0))
    for name in ("tiny", "pickled", "bare"):
        (root / "acme" / name).mkdir(parents=True)
        hf.save(root / "acme" / name, SIZE, params)
    vocabulary = Vocabulary.train(["a good film and a bad one", "negative", "positive"], 100)
    (root / "acme/tiny/spiece.model").write_bytes(vocabulary.model)
    (root / "acme/tiny/pytorch_model.bin").write_bytes(b"never fetched")
    (root / "acme/pickled/model.safetensors").rename(root / "acme/pickled/pytorch_model.bin")
    (root / "bucket/t5_tiny/checkpoint_9").mkdir(parents=True)
    t5x.save(root / "bucket/t5_tiny/checkpoint_9", SIZE, params)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Routes)
    server.root, server.asked, server.params = root, [], params
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def environment(hub, home, **more):
    address = "http://127.0.0.1:9" if hub is None else f"http://127.0.0.1:{hub.server_port}"
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and "proxy" not in k.lower()}
    return {**kept, "HF_ENDPOINT": address, "HF_HOME": str(home), "TENSORSTORE_GCS_HTTP_URL": address, **more}


FIND = """
import dataclasses, json, sys
from conf.errors import EdgewiseError
from conf.schema import Tracking
from train.pretrained.find import find
for given in sys.argv[1:]:
    try:
        checkpoint = find(given, "train.init", Tracking(root="nowhere"))
        size, weights = checkpoint.size, checkpoint.open()
        part = weights.read(size, ("embedding",), None, (slice(2, 4), slice(None)))
        has = checkpoint.vocabulary is not None and checkpoint.vocabulary.is_file()
        print(json.dumps([checkpoint.content, size.name, size.d_model, has, weights.faults(size), part.tolist()]))
    except EdgewiseError as error:
        print(json.dumps(str(error)))
assert "jax" not in sys.modules
"""


def find_there(environment, *given):
    """What is found for each, in a process of its own: the Hub's client reads its environment once."""
    result = subprocess.run(
        [sys.executable, "-c", FIND, *given], cwd=REPO, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_hub_ids_by_http_then_offline_from_the_cache(hub, tmp_path):
    hub.asked.clear()
    here = environment(hub, tmp_path)
    found = find_there(here, "acme/tiny", "acme/tiny@v1", "acme/bare", "acme/pickled", "acme/none", "acme/tiny@nope")
    tiny, older, bare, pickled, none, nope = found
    embedding = np.asarray(hub.params["embedding"])[2:4].tolist()
    assert tiny == [f"acme/tiny@{COMMIT}", "tiny", 8, True, [], embedding]
    assert older[0] == f"acme/tiny@{OLDER}"
    assert bare[:4] == [f"acme/bare@{COMMIT}", "bare", 8, False]
    assert "only as torch pickles (pytorch_model.bin)" in pickled
    assert "acme/none is no folder here and no model on the Hub" in none
    assert "acme/tiny on the Hub has no revision nope" in nope
    assert not any("pytorch_model" in path for path in hub.asked)

    dead = environment(None, tmp_path)  # the cache stands in for a network that isn't there
    [again, absent] = find_there(dead, "acme/tiny", "acme/other")
    assert again == tiny
    assert "acme/other can't be fetched from the Hub and is not in the local cache" in absent
    assert "train.init=PATH" in absent
    [offline, bare_offline] = find_there({**dead, "HF_HUB_OFFLINE": "1"}, "acme/tiny", "acme/bare")
    assert offline == tiny and bare_offline == bare


def test_a_bucket_s_t5x_checkpoint_by_http(hub, tmp_path):
    address = "gs://bucket/t5_tiny/checkpoint_9"
    missing = "gs://bucket/t5_none/checkpoint_9"
    found, absent = find_there(environment(hub, tmp_path), address, missing)
    assert found[0].startswith(f"{address}#") and found[1:5] == ["t5_tiny", 8, False, []]
    assert found[5] == np.asarray(hub.params["embedding"])[2:4].tolist()
    assert f"{missing} has no file named checkpoint" in absent
    [dead] = find_there(environment(None, tmp_path), address)
    assert "can't be read" in dead and "train.init=PATH" in dead


OVERRIDES = (
    "dataset=demo",
    "dataset.train_examples=40",
    "dataset.test_examples=20",
    "train.steps=2",
    "train.batch_size=4",
    "size=auto",
    "seed=1",
)


def command(name, env, root, *overrides):
    arguments = [sys.executable, "-m", name, *OVERRIDES, f"tracking.root={root}", *overrides]
    return subprocess.run(arguments, cwd=REPO, env=env, capture_output=True, text=True)


@pytest.mark.slow
def test_a_cell_is_fine_tuned_from_the_hub_and_skipped_offline(hub, tmp_path):
    root = tmp_path / "runs"
    result = command("train", environment(hub, tmp_path), root, "train.init=acme/tiny")
    assert result.returncode == 0, result.stderr
    store = Store(root)
    model = store.artifact("model-demo-tiny-s1")
    assert model.metadata["cell"]["train"]["init"] == f"acme/tiny@{COMMIT}"
    assert model.file("spiece.model").read_bytes() == (hub.root / "acme/tiny/spiece.model").read_bytes()
    result = command("train", environment(None, tmp_path), root, "train.init=acme/tiny")
    assert "model-demo-tiny-s1:v0 is trained already" in result.stdout, result.stderr


@pytest.mark.slow  # from an artifact: test_train_text_data; from a checkpoint: test_train_pretrained_load
def test_a_cell_is_fine_tuned_from_an_artifact_and_a_checkpoint_is_scored(hub, tmp_path, compose):
    def config(*overrides):
        return resolved(compose(*OVERRIDES, f"tracking.root={tmp_path / 'runs'}", *overrides))

    store = Store(tmp_path / "runs")
    first = train(config(f"train.init={hub.root / 'acme/tiny'}", "train.steps=1", "optimizer.learning_rate=0"), store)
    assert first.name == "model-demo-tiny-s1"
    before, after = (load_file(f) for f in (hub.root / "acme/tiny/model.safetensors", first.file("model.safetensors")))
    assert all((before[name] == after[name]).all() for name in before)  # nothing was learnt, and nothing is lost
    second = train(config(f"train.init={first.ref}", "seed=2"), store)
    [run] = store.logged_by(second)
    assert first.ref in [artifact.ref for artifact in store.inputs(run.id)]
    assert run.config["train"]["init"] == first.digest
    outside = config(f"infer.checkpoint={hub.root / 'acme/tiny'}")
    source = find_model(outside, store)
    scores = score(outside, store, source)
    assert scores.name == "scores-demo-tiny-s1-test" and scores.metadata["model"] == source.digest
