"""Trains the demo's smallest cells in tests: their config, and how to wait for their checkpoints."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from conf.schema import Config
from tracking.interface import Artifact
from tracking.store import Store

# Every input is longer than 8 tokens and is cut: all batches have one shape, and each other takes seconds to compile.
SMALL = (
    "dataset=demo",
    "dataset.train_examples=200",
    "dataset.test_examples=60",
    "dataset.max_input_length=8",
    "size.d_model=8",
    "size.d_kv=4",
    "size.d_ff=8",
    "tokenizer.vocabulary_size=128",
    "train.batch_size=8",
    "train.steps=30",
    "train.log_every=5",
    "train.eval_every=10",
    "train.eval_examples=20",
)
# The arguments of a sweep of two sizes and two seeds.
SMALL_GRID = (
    "-m",
    *(override for override in SMALL if not override.startswith("size.")),
    "train.steps=10",
    "size=nano,micro",
    "seed=range(2)",
)


def config_in(compose: Callable[..., Config], folder: Path, *overrides: str) -> Config:
    """Returns the config of a small cell that keeps its runs in `folder`."""
    return compose(*SMALL, f"tracking.root={folder}", *overrides)


def train_here(config: Config) -> Artifact:
    """Trains a cell in this process, as the command does where there is no model yet, and returns its model."""
    from train.loop import train
    from train.pretrained.find import resolved

    return train(resolved(config), Store(config.tracking.root))


def score_here(config: Config) -> Artifact:
    """Scores a cell's split by its model in this process, as the command does, and returns the scores."""
    from infer.identity import find_model
    from infer.scoring import score
    from train.pretrained.find import resolved

    config, store = resolved(config), Store(config.tracking.root)
    return score(config, store, find_model(config, store))


def saved_steps(root: Path) -> list[int]:
    """Returns the steps of all checkpoints under a store's folder, in order."""
    return sorted(int(path.name) for path in root.glob("checkpoints/*/*") if path.name.isdigit())


def wait_for_checkpoint(root: Path, process: subprocess.Popen[str], at_least: int = 20) -> None:
    """Waits until `process` has saved a checkpoint of that step or a later one; fails where it ends before."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if any(step >= at_least for step in saved_steps(root)):
            return
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.01)
    raise AssertionError(f"no checkpoint of step {at_least} or later appeared in {root} in 240 s")
