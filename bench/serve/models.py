"""Makes the switcher that all servers answer by: tiny before mini, random weights, a fifth of the inputs deferred."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from bench.work import composed
from conf.schema import Config, Dataset
from infer.engine.engine import Engine
from infer.switcher.find import MODELS, FolderArtifact
from infer.switcher.policy import Policy, Stage, policy_json
from infer.switcher.stage import POLICY
from train import t5
from train.cell_data import cell_size
from train.data.splits import load_split
from train.data.tokens import Vocabulary, get_vocabulary
from train.model_artifact import Model, model_artifact
from train.sharding import make_mesh

SIZES = ("tiny", "mini")
DEFERRED = 0.2
SPREAD = 3.0  # times the weights of an initialization, whose answers would hardly differ from input to input
CALIBRATION = 2000  # texts that the threshold is of
SETTINGS = "settings.json"


@dataclass(frozen=True)
class Work:
    """Holds what the servers are compared on: the switcher's folder, and texts that it wasn't calibrated on."""

    bundle: Path
    texts: list[str]
    tokens: float  # of a text, on average
    deferred: float  # share of the texts


def make_work(folder: Path, texts: int = 2000, sizes: Sequence[str] = SIZES) -> Work:
    """Writes a switcher's folder, of two sizes, which torch's servers read their weights from too.

    The texts are the built-in reviews, one sentence each; the weights are random.
    """
    config = composed(["dataset=demo", f"size={sizes[0]}", f"dataset.train_examples={CALIBRATION + texts}"])
    dataset = config.dataset
    split = load_split(dataset, "train")
    vocabulary = get_vocabulary(config.tokenizer, split, folder)
    lengths = vocabulary.encode(split.inputs, dataset.max_input_length).lengths
    models, stages = [], []
    for number, name in enumerate(sizes):
        size = cell_size(composed(["dataset=demo", f"size={name}"]), vocabulary)
        params = jax.tree.map(lambda value: SPREAD * value, t5.init_params(size, jax.random.key(number)))
        place = folder / "bundle" / MODELS / f"{name}-s0"
        place.mkdir(parents=True)
        model_artifact(place, name, size, params, vocabulary, {"size": {"name": name}})
        models.append(Model(size, params, vocabulary, {}))
        labels = vocabulary.encode(list((dataset.classes or {}).values()), max_length=1 << 20).lengths.sum()
        flops = float(t5.forward_flops(size, lengths, np.full(len(lengths), labels)).mean())
        stages.append(
            Stage(
                size=name,
                seed=0,
                model=FolderArtifact(place, "model").digest,
                parameters=t5.count_parameters(size),
                flops_per_example=flops,
                score="margin" if number == 0 else None,
                threshold=0.0 if number == 0 else None,
            )
        )
    policy = _policy(dataset, stages)
    engine = Engine(policy, models, make_mesh(config.mesh), config.infer)
    _, scores = engine.run_stage(0, split.inputs)
    calibration, threshold = np.sort(scores[:CALIBRATION]), float(np.quantile(scores[:CALIBRATION], 1 - DEFERRED))
    first = dataclasses.replace(stages[0], threshold=threshold)
    policy = dataclasses.replace(policy, stages=[first, stages[1]], calibration=[calibration.tolist()])
    (folder / "bundle" / POLICY).write_text(policy_json(policy), encoding="utf-8")
    _write_settings(folder / "bundle", config, policy, vocabulary)
    reviews = split.texts()[CALIBRATION:]
    deferred = float((scores[CALIBRATION:] >= threshold).mean())
    return Work(folder / "bundle", reviews, float(lengths[CALIBRATION:].mean()), deferred)


def _policy(dataset: Dataset, stages: list[Stage]) -> Policy:
    """Returns the policy; what was found when it was chosen is made up, as nothing was."""
    return Policy(
        dataset=dataset.name,
        task=dataset.task,
        labels=[list(pair) for pair in (dataset.classes or {}).items()],
        template=dataset.template,
        max_input_length=dataset.max_input_length,
        max_target_length=None,
        decoding={},
        dtype="float32",
        stages=stages,
        goal={"name": "budget", "limit": DEFERRED, "delta": 0.1, "candidates": 1, "unit": "FLOPs"},
        certificate={
            "deferred": {"at_most": DEFERRED},
            "loss": {"at_most": None, "reason": "random weights: nothing is promised of the loss"},
            "reference": stages[-1].name,
        },
        expected={
            "examples": CALIBRATION,
            "deferred": _exactly(DEFERRED),
            "answered": [_exactly(1 - DEFERRED), _exactly(DEFERRED)],
            "loss": _exactly(0.0),
            **dict.fromkeys(("quality", "quality_of_largest", "quality_of_smallest"), _exactly(0.5)),
            "cost_share": _exactly(stages[0].flops_per_example / stages[1].flops_per_example + DEFERRED),
        },
        over_seeds={},
        parts={"split": "train", "select": 0, "certify": CALIBRATION, "evaluate": 0, "seed": 0},
        calibration=[[0.0]],
        self_check=None,
        inputs={},
    )


def _exactly(value: float) -> dict[str, float]:
    """Returns a number as a policy has it, with an interval of no width."""
    return {"value": value, "low": value, "high": value}


def _write_settings(bundle: Path, config: Config, policy: Policy, vocabulary: Vocabulary) -> None:
    """Writes what torch's servers need beside the weights: the template, the labels' tokens, the threshold."""
    labels = vocabulary.encode(policy.classes, max_length=1 << 20)
    settings = {
        "models": [f"{MODELS}/{stage.name}" for stage in policy.stages],
        "template": policy.template,
        "max_input_length": policy.max_input_length,
        "classes": policy.classes,
        "labels": [labels[k].tolist() for k in range(len(labels))],
        "log_threshold": policy.stages[0].threshold,
    }
    (bundle / SETTINGS).write_text(json.dumps(settings))
