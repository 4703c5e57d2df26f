"""Serves a switcher without a model, in a thread, on a real port: what tests of the server share."""

import asyncio
import contextlib
import dataclasses
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from conf.schema import Config, Dataset, Size
from infer.engine.batches import ladder
from infer.serve.deployment import Deployment
from infer.serve.life import Life, bound_socket
from infer.switcher.find import FoundSwitcher
from infer.switcher.policy import Policy, Stage
from train.data.batches import ScoringBatch
from train.data.tokens import Encoded

THRESHOLD = -0.5


def letter_policy(stages: int = 2, template: str = "say: {text}") -> Policy:
    """Returns a policy of so many stages; what was found when it was chosen is made up."""
    common = {"seed": 0, "model": "0" * 32, "parameters": 1, "flops_per_example": 1.0}
    sizes = ["small", "base", "large"][:stages]
    return Policy(
        dataset="letters",
        task="classification",
        labels=[["0", "even"], ["1", "odd"]],
        template=template,
        max_input_length=48,
        max_target_length=None,
        decoding={},
        dtype="float32",
        stages=[
            *(Stage(size=size, score="margin", threshold=THRESHOLD, **common) for size in sizes[:-1]),
            Stage(size=sizes[-1], score=None, threshold=None, **common),
        ],
        goal={"name": "budget", "limit": 0.5, "delta": 0.1},
        certificate={"deferred": {"at_most": 0.5}, "reference": "base-s0"},
        expected={},
        over_seeds={},
        parts={},
        calibration=[[-1.0, -0.5, -0.1]] * (stages - 1),
        self_check=None,
        inputs={},
    )


class LetterEngine:
    """Answers a text with its letters in capitals and the stage's number; its tokens are its letters, at most 48.

    A text passes stage k where it has more than k letters `?`. `hold` keeps batches from being answered while it is
    set; `batches` are those that were run, as (stage, rows, length, row count). A text with `!` makes the batch fail.
    """

    device = "1 × stub"

    def __init__(self, policy: Policy | None = None, seconds: float = 0.0):
        self.policy = policy or letter_policy()
        self.batches: list[tuple[int, int, int, int]] = []
        self.hold = threading.Event()
        self.seconds = seconds
        self.lengths = ladder(self.policy.max_input_length)

    def row_counts(self, k: int, length: int) -> list[int]:
        """Returns 128 tokens' rows, and an eighth of them."""
        return sorted({128 // length, max(1, 16 // length)}, reverse=True)

    def vocabulary(self, k: int) -> str:
        """Returns one vocabulary's name for all stages."""
        return "letters"

    def encode(self, k: int, texts: Sequence[str]) -> Encoded:
        """Returns the letters' codes."""
        codes = [np.array([ord(letter) for letter in text[:47]] + [1], np.int32) for text in texts]
        return Encoded(np.concatenate(codes), np.cumsum([0, *map(len, codes)]), 0)

    def run_batch(self, k: int, inputs: Encoded, batch: ScoringBatch) -> tuple[np.ndarray, np.ndarray]:
        """Returns the answers and log scores."""
        while self.hold.is_set():
            time.sleep(0.001)
        time.sleep(self.seconds)
        assert len(batch.rows) <= batch.row_count and inputs.lengths.max() <= batch.length
        texts = ["".join(map(chr, inputs[row][:-1])) for row in batch.rows]
        self.batches.append((k, len(texts), batch.length, batch.row_count))
        if any("!" in text for text in texts):
            raise RuntimeError(f"the device fails at {texts}")
        answers = np.empty(len(texts), dtype=object)
        answers[:] = [f"{text.upper()} {k}" for text in texts]
        scores = np.array([-0.25 if text.count("?") > k else -1.0 for text in texts])
        return answers, scores

    def compile_shapes(self) -> None:
        """Compiles nothing."""


def letter_deployment(engine: LetterEngine | None = None, digest: str = "d" * 32) -> Deployment:
    """Returns a deployment of a LetterEngine."""
    engine = engine or LetterEngine()
    found = FoundSwitcher("switcher-letters-small-base:v3", digest, engine.policy, [], None)
    return Deployment(found, engine, 0.5)


def serve_config(**keys: Any) -> Config:
    """Returns a config with these keys of `serve`, checked, on a free port."""
    config = Config(dataset=Dataset(name="letters"), size=Size(name="none"))
    config.switcher.ref = "switcher-letters-small-base:latest"
    for key, value in {"port": 0, **keys}.items():
        setattr(config.serve, key, value)
    config.serve.check()
    return config


class Served:
    """Represents a server that runs in a thread."""

    def __init__(self, life: Life, port: int, loop: asyncio.AbstractEventLoop):
        self.life, self.port, self._loop = life, port, loop

    def on_loop(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns what calls a function on the server's own thread."""
        return lambda *arguments: self._loop.call_soon_threadsafe(function, *arguments)

    @property
    def connections(self) -> set[Any]:
        """Returns the connections that are open."""
        return self.life.server.server_state.connections

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str], Any]:
        """Sends a request, bytes as they are and anything else as JSON; returns status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            given = {"content-type": "application/json"} if headers is None else headers
            connection.request(method, path, data, given)
            answer = connection.getresponse()
            content = answer.read()
            kind = answer.getheader("content-type") or ""
            return answer.status, dict(answer.getheaders()), json.loads(content) if "json" in kind else content
        finally:
            connection.close()

    def predict(self, *texts: str, **members: Any) -> tuple[int, dict[str, str], Any]:
        """Asks for answers to texts."""
        return self.ask("POST", "/v1/predict", {"inputs": [{"text": text} for text in texts], **members})


@contextlib.contextmanager
def served(load: Any, config: Config | None = None, wait: bool = True) -> Iterator[Served]:
    """Serves what `load` returns for as long as the block runs; `wait`: until it is ready."""
    config = config or serve_config()
    life = Life(config, load)
    listener = bound_socket("127.0.0.1", 0)
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        await life.run(listener, signals=False)

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    port = listener.getsockname()[1]
    thread.start()
    while not loops:
        time.sleep(0.001)
    server = Served(life, port, loops[0])
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                status = server.ask("GET", "/v2/health/ready" if wait else "/v2/health/live")[0]
            except OSError:
                status = 0
            if status == 200:
                break
            assert time.monotonic() < deadline, "the server isn't ready"
            time.sleep(0.01)
        yield server
    finally:
        loops[0].call_soon_threadsafe(life.end, "the test's end")
        thread.join(20)
        assert not thread.is_alive()


WORDS = ["the", "film", "was", "good", "bad", "fine", "dull", "bright", "slow", "quick", "very", "never", "and", "but"]
CLASSES = ["good", "bad", "fine"]


def random_texts(n: int, seed: int = 0) -> list[str]:
    """Returns texts of 1 to 12 words."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 13))) for _ in range(n)]


def random_engine(task: str = "classification", longest: int = 24) -> Any:
    """Returns a real engine of two models with random weights, which pass on about half of `random_texts`."""
    import jax

    from conf.schema import Infer, Mesh
    from infer.engine.engine import Engine
    from train import t5
    from train.data.tokens import Vocabulary
    from train.model_artifact import Model
    from train.sharding import make_mesh

    texts = random_texts(200)
    vocabulary = Vocabulary.train(texts, 96, set(CLASSES))
    models = []
    for seed, width in ((0, 8), (1, 16)):
        shape = {"d_kv": 8, "d_ff": 16, "layers": 1, "heads": 1, "vocabulary_size": vocabulary.size}
        size = Size(name=f"w{width}", d_model=width, **shape)
        params = jax.tree.map(lambda x: 3 * x, t5.init_params(size, jax.random.key(seed)))
        models.append(Model(size, params, vocabulary, {}))
    labels = [[name, name] for name in CLASSES] if task == "classification" else []
    policy = dataclasses.replace(
        letter_policy(),
        task=task,
        labels=labels,
        max_input_length=longest,
        max_target_length=None if labels else 4,
        decoding={} if labels else {"beams": 1},
    )
    engine = Engine(policy, models, make_mesh(Mesh()), Infer(batch_tokens=256))
    _, scores = engine.run_stage(0, [f"say: {text}" for text in texts])
    first = dataclasses.replace(policy.stages[0], threshold=float(np.median(scores)))
    policy = dataclasses.replace(policy, stages=[first, policy.stages[1]])
    return Engine(policy, models, make_mesh(Mesh()), Infer(batch_tokens=256))
