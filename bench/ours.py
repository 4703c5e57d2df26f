"""Runs Edgewise's training step and label scoring on what `bench.work` wrote.

python -m bench.ours FOLDER OVERRIDES…
"""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bench.train_step import peak_flops
from bench.work import composed, read_encoded
from bench.workers import serve
from conf.schema import Config
from train.compilation_cache import keep_compiled
from train.data.batches import TrainBatches, plan_batches
from train.data.prefetch import ahead
from train.label_tree import Labels
from train.labels import score_examples, scoring_budget
from train.loop import put, row_cost
from train.pretrained.find import find
from train.pretrained.load import load
from train.running_model import RunningModel
from train.sharding import make_mesh, platform_of
from train.step import StepConfig, compile_train_step


class Jobs:
    """Holds the model and its examples, and does the jobs that are compared."""

    def __init__(self, folder: Path, config: Config) -> None:
        settings = json.loads((folder / "settings.json").read_text())
        backend = jax.default_backend()
        if (settings["device"] == "cuda") != (backend == "gpu"):
            raise SystemExit(
                f"--device {settings['device']}, but JAX computes on {backend}: expected a JAX for that device; on a "
                "machine with a GPU set JAX_PLATFORMS=cpu to compare on the CPU"
            )
        arrays = np.load(folder / "work.npz")
        self.inputs, self.targets = read_encoded(arrays, "inputs"), read_encoded(arrays, "targets")
        self.labels, self.scored = Labels(arrays["labels"]), arrays["scored"]
        checkpoint = find(str(folder / "weights"), "train.init", config.tracking)
        self.size, self.mesh, self.config = checkpoint.size, make_mesh(config.mesh), config
        self.params = load(checkpoint, self.size, self.mesh)
        self.dtype = settings["dtype"]
        self.compiled = compile_train_step(StepConfig.from_config(config, self.size, platform_of(self.mesh)), self.mesh)
        self.steps = len(arrays["batches"])
        self.batches = TrainBatches(
            self.inputs, self.targets, config.train.batch_size, config.seed, row_cost(self.size)
        )
        assert all((self.batches.indices(i) == rows).all() for i, rows in enumerate(arrays["batches"]))

    def train(self) -> dict[str, Any]:
        """Trains on every batch once, as `train.loop` does: batches are packed and sent while the device computes."""
        state = self.compiled.fresh(jax.tree.map(lambda x: x.copy(), self.params))
        key = jax.random.key(0)
        jax.block_until_ready(state)
        for arrays in ahead(lambda step: put(self.batches(step), self.mesh), range(self.steps)):
            state, metrics = self.compiled.step(state, arrays, key)
        return {"examples": self.steps * self.config.train.batch_size, "loss": float(metrics["loss"])}

    def matrix_product(self) -> dict[str, Any]:
        """Measures in FLOP/s how fast the device multiplies two large matrices: the peak of the comparison."""
        return {"flops_per_second": peak_flops(self.dtype, n=4096, times=5)}

    def loss(self) -> dict[str, Any]:
        """Returns the mean loss over the first batch's target tokens, without dropout."""
        sums = self.compiled.eval_sums(self.params, put(self.batches(0), self.mesh))
        return {"loss": float(sums["nll"] / sums["tokens"])}

    def score(self) -> dict[str, Any]:
        """Scores every label of every example, and returns the first four examples' log-likelihoods."""
        budget = scoring_budget(self.config.infer, self.labels, self.mesh)
        batches = plan_batches(self.config.infer, self.inputs.lengths[self.scored], budget)
        model = RunningModel(self.params, self.size, self.dtype, self.mesh, self.config.train.attention)
        scores = np.empty((len(self.scored), len(self.labels)), np.float32)
        found = score_examples(model, self.inputs, self.labels, batches)
        for which, values in found:
            scores[which] = values
        return {"examples": len(scores), "scores": scores[:4].tolist()}


def main() -> None:
    """Serves the jobs to `python -m bench`."""
    keep_compiled()
    jobs = Jobs(Path(sys.argv[1]), composed(sys.argv[2:]))
    serve({"matrix product": jobs.matrix_product, "loss": jobs.loss, "train": jobs.train, "score": jobs.score})


if __name__ == "__main__":
    main()
