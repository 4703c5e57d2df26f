"""Writes what both sides of `just bench-torch` work on: the same weights, token ids and batches of examples."""

import json
from pathlib import Path

import hydra
import jax
import numpy as np

from conf.app import CONF, to_config
from conf.schema import Config
from train import t5
from train.cell_data import cell_size
from train.data.batches import TrainBatches
from train.data.encodings import encode_split
from train.data.splits import load_split
from train.data.tokens import Encoded, get_vocabulary
from train.labels import as_labels
from train.loop import row_cost
from train.pretrained import hf
from train.step import dtype_of

SCORE_BATCH_SIZE = {"cpu": 16, "cuda": 64}  # for torch: on a CPU within 1 % of the fastest of 8, 16, 32 and 64


def write_work(
    config: Config, labels: list[str], folder: Path, *, steps: int, scored: int, device: str, memory_share: float = 0.45
) -> dict[str, float]:
    """Writes the weights, the token ids and the settings of a comparison into a folder, and returns its FLOPs.

    `weights/` has Hugging Face's layout; the weights are random, of the config's size and seed. `work.npz` holds
    `steps` training batches of the config's training split, and its first `scored` examples, to be scored against
    `labels`. `settings.json` has what both sides must agree on.

    Returns the model's own floating-point operations per example, without padding, under `train` (the forward pass, and
    twice that for the backward pass) and `score` (the example is encoded once).
    """
    split = load_split(config.dataset, "train")
    vocabulary = get_vocabulary(config.tokenizer, split, folder)
    size = cell_size(config, vocabulary)
    inputs = encode_split(vocabulary, split, config.dataset.max_input_length, folder)
    classes = vocabulary.encode(labels, max_length=1 << 20)
    targets = vocabulary.encode(split.targets, max_length=1 << 20)
    batches = TrainBatches(inputs, targets, config.train.batch_size, config.seed, row_cost(size))
    trained, some = np.stack([batches.indices(step) for step in range(steps)]), np.arange(min(scored, len(inputs)))
    np.savez(
        folder / "work.npz",
        inputs=inputs.flat,
        input_offsets=inputs.offsets,
        targets=targets.flat,
        target_offsets=targets.offsets,
        labels=as_labels(classes).padded,
        batches=trained,
        scored=some,
    )
    params = jax.jit(lambda key: t5.init_params(size, key))(jax.random.key(config.seed))
    (folder / "weights").mkdir(parents=True)
    hf.save(folder / "weights", size, jax.device_get(params))
    settings = {
        "device": device,
        "memory_share": memory_share,
        "dtype": dtype_of(config),
        "learning_rate": config.optimizer.learning_rate,
        "score_batch_size": SCORE_BATCH_SIZE[device],
        "max_input_length": config.dataset.max_input_length,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    forward = t5.forward_flops(size, inputs.lengths[trained], targets.lengths[trained])
    scoring = t5.forward_flops(size, inputs.lengths[some], classes.lengths.sum())
    return {"train": 3 * float(forward.mean()), "score": float(scoring.mean())}


def read_encoded(arrays: np.lib.npyio.NpzFile, name: str) -> Encoded:
    """Returns the token ids of `inputs` or `targets` from the arrays of `work.npz`."""
    return Encoded(arrays[name], arrays[f"{name.removesuffix('s')}_offsets"], 0)


def composed(overrides: list[str]) -> Config:
    """Returns the typed config that a command would get from these overrides."""
    with hydra.initialize_config_dir(CONF, version_base="1.3"):
        return to_config(hydra.compose("config", overrides))
