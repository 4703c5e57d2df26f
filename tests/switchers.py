"""Makes stores with scored runs to choose switchers from, and an engine that answers without a model."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conf.schema import Config, Dataset, Size, Tracking
from infer.engine.engine import Answers
from infer.switcher.find import FoundSwitcher
from infer.switcher.policy import Policy
from infer.switcher.stage import make_switcher
from metrics.scores import write_scores
from tests.synthetic_scores import DEFAULT_SIZES, synthetic_grid
from tracking.interface import Artifact, ArtifactDraft
from tracking.store import Store

FLOPS = {"small": 1e6, "base": 4e6, "large": 1.6e7}
SIZES = {**DEFAULT_SIZES, "large": (770_000_000, 3.0)}


def log_runs(store: Store, folder: Path, sizes: Sequence[str] = ("small", "base"), **choices: Any) -> None:
    """Logs a model of a few bytes and scores for every size and seed of a synthetic data set."""
    for scores in synthetic_grid(sizes={size: SIZES[size] for size in sizes}, **choices):
        metadata = scores.metadata
        name = f"{metadata.dataset}-{metadata.size}-s{metadata.seed}"
        weights = folder / f"{name}.bin"
        weights.write_bytes(name.encode())
        with store.start_run(f"train-{name}", job_type="train", config={}, restart=True) as run:
            model = run.log_artifact(ArtifactDraft(f"model-{name}", "model", files={"model.safetensors": weights}))
        classes = [[str(k), target] for k, target in enumerate(metadata.classes)]
        dataset = {"classes": classes or None, "template": "say: {text}", "max_input_length": 32}
        if metadata.task != "classification":
            dataset["max_target_length"] = 16
        metadata = dataclasses.replace(
            metadata,
            model=model.digest,
            flops_per_example=FLOPS[metadata.size],
            config={"scoring": {"dataset": dataset, "beams": 1}},
            signature=metadata.signature + "|dtype:float32",
        )
        file = folder / f"{name}.parquet"
        write_scores(dataclasses.replace(scores, metadata=metadata), file)
        kept = {key: value for key, value in vars(metadata).items() if key != "config"}
        with store.start_run(f"infer-{name}", job_type="infer", config={}, restart=True) as run:
            draft = ArtifactDraft(f"scores-{name}-{metadata.split}", "scores", kept, {"scores.parquet": file})
            run.log_artifact(draft)


def applying(root: Path, ref: str, source: Path | None = None, output: Path | None = None, **keys: Any) -> Config:
    """Returns the config that applies the switcher `ref` of a store to a file; `keys` are apply's."""
    config = Config(dataset=Dataset(name="synthetic"), size=Size(name="none"), tracking=Tracking(root=str(root)))
    config.switcher.ref = ref
    for key, value in {"input": source and str(source), "output": output and str(output), **keys}.items():
        setattr(config.apply, key, value)
    config.apply.check()
    return config


def made_switcher(store: Store, config: Config) -> tuple[Artifact, Policy]:
    """Chooses a switcher as the command does."""
    artifact, policy, _ = make_switcher(config, store)
    return artifact, policy


def budget_switcher(folder: Path, budget: float, examples: int) -> tuple[Store, str]:
    """Returns a new store in `folder` with a grid's scores, and the reference of a switcher of that budget in it."""
    store = Store(folder / "runs")
    log_runs(store, folder, examples=examples, seeds=1)
    config = Config(dataset=Dataset(name="synthetic"), size=Size(name="none"), tracking=Tracking(root=str(store.root)))
    config.switcher.goal, config.switcher.budget = "budget", budget
    return store, made_switcher(store, config)[0].ref


class EchoEngine:
    """Answers each text with itself in capitals; passes on those whose length is odd. Counts how often it was asked."""

    def __init__(self, policy: Policy):
        self.policy, self.asked = policy, 0

    def answer(self, columns: Mapping[str, Sequence[str]], advance: Callable[[int], None]) -> Answers:
        """Answers as the real engine does, by the column `text`."""
        self.asked += 1
        texts = columns["text"]
        advance(len(texts))
        lengths = np.array([len(text) for text in texts])
        prediction = np.array([text.upper() for text in texts], dtype=object)
        return Answers(prediction, (lengths % 2).astype(np.int8), -lengths / 3)


def start_echo(found: FoundSwitcher, config: Config) -> Any:
    """Starts an EchoEngine where `apply` would start the real one."""
    return EchoEngine(found.policy)
