"""A server's own process with real models: changed text raises an alarm, and a restart keeps it."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest

from conf.schema import Dataset
from tests.support import REPO
from train.data.demo import rows

pytestmark = pytest.mark.slow
COMMON = ["dataset.train_examples=300", "dataset.test_examples=400", "dataset.max_input_length=48"]
TRAIN = ["train.steps=20", "train.batch_size=32", "tokenizer.vocabulary_size=200"]


def run(*arguments):
    """Runs a command of the project to its end."""
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A store with a switcher of two sizes that were trained for a few steps on the demo's data."""
    folder = tmp_path_factory.mktemp("store")
    root = f"tracking.root={folder / 'runs'}"
    run(
        "sweeps",
        "-m",
        "dataset=demo",
        "size=nano,micro",
        "seed=0",
        *COMMON,
        *TRAIN,
        root,
        f"metrics.out={folder / 'out'}",
    )
    run(
        "infer.switcher",
        "dataset=demo",
        "switcher.goal=budget",
        "switcher.budget=0.4",
        "switcher.scores=[margin]",
        root,
    )
    return folder


class Process:
    """Represents a server's process."""

    def __init__(self, folder):
        arguments = ["switcher.ref=switcher-demo-nano-micro:latest", "serve.port=0", f"tracking.root={folder / 'runs'}"]
        watch = [f"serve.state={folder / 'state'}", "serve.shadow=0.5", "serve.on_alarm=larger"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "infer.serve", *arguments, *watch],
            cwd=REPO,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ},
        )
        self.lines = []
        self.port = int(self.until("listening at").rsplit(":", 1)[1])
        self.until("ready: switcher-demo-nano-micro")

    def until(self, part):
        """Returns the log's next line that has this part."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if part in line:
                return line
        raise AssertionError("".join(self.lines[-20:]))

    def predict(self, texts):
        """Returns the answers to texts."""
        body = json.dumps({"inputs": [{"text": text} for text in texts]}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/predict", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)

    def metrics(self):
        """Returns the metrics' text."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=300) as answer:
            return answer.read().decode()

    def end(self):
        """Ends it by SIGTERM and returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        self.lines += self.process.stderr
        return self.process.wait(60)


def test_changed_text_raises_an_alarm_that_a_restart_keeps(root):
    fresh = [row["text"] for row in rows("test", Dataset(name="demo", test_examples=1000))][400:]
    server = Process(root)
    try:
        for start in range(0, 600, 50):
            answer = server.predict(fresh[start : start + 50])
        metrics = server.metrics()
        assert answer["certified"] is True and 'edgewise_watch{what="alarm"} 0.0' in metrics
        assert 'edgewise_watch{what="inputs"} 600.0' in metrics
        for _ in range(20):
            answer = server.predict(["xyzzy plugh " * 4] * 50)
            if not answer["certified"]:
                break
        assert not answer["certified"] and 'edgewise_watch{what="alarm"} 1.0' in server.metrics()
        assert {one["model"] for one in server.predict(fresh[:20])["outputs"]} == {"micro-s0"}
        assert server.end() == 0
        assert any("alarm, " in line for line in server.lines)
        assert not any("xyzzy" in line or fresh[0] in line for line in server.lines)
    finally:
        server.process.kill()
    again = Process(root)
    try:
        assert again.predict(fresh[:1])["certified"] is False
        assert again.end() == 0
    finally:
        again.process.kill()
