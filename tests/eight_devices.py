"""Trains on eight devices, by each kind of mesh, what one device trains: `python -m tests.eight_devices` prints JSON.

A process of its own, because the number of the CPU's devices is fixed when JAX starts.
"""

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
# Each device's part of a collective waits in a thread, and a device may wait in several at once: with no more threads
# than devices, all of them can be waiting for one that finds none.
os.environ["PJRT_NPROC"] = "64"

import jax  # noqa: E402
import numpy as np  # noqa: E402

from conf.schema import Mesh, Size  # noqa: E402
from train.checkpoint import Checkpoints  # noqa: E402
from train.compilation_cache import keep_compiled  # noqa: E402
from train.compile import hlo  # noqa: E402
from train.compile.collectives import COLLECTIVES, collectives  # noqa: E402
from train.sharding import BATCH, make_mesh  # noqa: E402
from train.step import StepConfig, TrainState, compile_train_step  # noqa: E402

STEPS, ROWS, SOURCE, TARGET = 4, 16, 24, 4
SIZE = Size("tiny", d_model=32, d_kv=8, d_ff=64, layers=2, heads=4, vocabulary_size=64, decoder_layers=1)
MESHES = {
    "one": Mesh(data=1),
    "data": Mesh(data=8),
    "fsdp": Mesh(data=1, fsdp=8),
    "tensor": Mesh(data=1, tensor=4),
    "all": Mesh(data=2, fsdp=2, tensor=2),
}


def step_config(optimizer: str) -> StepConfig:
    from hydra import compose, initialize_config_dir

    from conf.app import CONF, to_config

    with initialize_config_dir(CONF, version_base="1.3"):
        composed = to_config(compose("config", [f"optimizer={optimizer}", "optimizer.min_dim_size_to_factor=16"]))
    return StepConfig.from_config(composed, SIZE)


def batch(step: int) -> dict[str, np.ndarray]:
    """Two examples a row, as packing lays them."""
    rng = np.random.default_rng(step)
    halves = np.array([1, 2]).repeat(SOURCE // 2), np.array([1, 2]).repeat(TARGET // 2)
    arrays = {
        "inputs": rng.integers(2, 64, (ROWS, SOURCE)),
        "input_segments": np.tile(halves[0], (ROWS, 1)),
        "targets": rng.integers(2, 64, (ROWS, TARGET)),
        "target_segments": np.tile(halves[1], (ROWS, 1)),
    }
    return {name: array.astype(np.int32) for name, array in arrays.items()}


def difference(a: Any, b: Any) -> float:
    """The largest difference between two trees of arrays, relative to the largest value of each array."""
    pairs = zip(jax.tree.leaves(jax.device_get(a)), jax.tree.leaves(jax.device_get(b)), strict=True)
    return max(float(np.abs(x - y).max() / max(np.abs(y).max(), 1e-30)) for x, y in pairs)


def mesh_of(name: str) -> jax.sharding.Mesh:
    wanted = MESHES[name]
    return make_mesh(wanted, jax.devices()[: wanted.data * wanted.fsdp * wanted.tensor])


def train(mesh: jax.sharding.Mesh, c: StepConfig, state: TrainState, until: int) -> tuple[TrainState, list[float]]:
    step, losses = compile_train_step(c, mesh).step, []
    for i in range(int(state.step), until):
        arrays = jax.device_put(batch(i), jax.sharding.NamedSharding(mesh, BATCH))
        state, metrics = step(state, arrays, jax.random.key(0))
        losses.append(float(metrics["loss"]))
    return state, losses


def on_meshes(c: StepConfig, names: Iterable[str]) -> dict[str, Any]:
    """Of each mesh: losses, how far the parameters are from the first mesh's, and how the state was born."""
    found, one = {}, None
    for name in names:
        mesh = mesh_of(name)
        state = compile_train_step(c, mesh).init(jax.random.key(0))
        leaves = jax.tree.leaves((state.params, state.opt_state))
        born = {
            "wi": list(state.params["encoder"]["layers"]["mlp"]["wi"]["kernel"].addressable_shards[0].data.shape),
            "held": sum(x.addressable_shards[0].data.nbytes for x in leaves) / sum(x.nbytes for x in leaves),
        }
        state, losses = train(mesh, c, state, STEPS)
        one = state.params if one is None else one
        found[name] = born | {"losses": losses, "difference": difference(state.params, one)}
    return found


def across_meshes(c: StepConfig) -> dict[str, Any]:
    """A checkpoint of the fsdp mesh, taken half way and gone on from on others: how far each is from one device's."""
    one, _ = train(mesh_of("one"), c, compile_train_step(c, mesh_of("one")).init(jax.random.key(0)), STEPS)
    first = mesh_of("fsdp")
    half, _ = train(first, c, compile_train_step(c, first).init(jax.random.key(0)), STEPS // 2)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), 1)
        checkpoints.save(half, int(half.step))
        checkpoints.close()
        for name in ("one", "tensor", "all"):
            checkpoints = Checkpoints(Path(folder), 1)
            state = checkpoints.restore(compile_train_step(c, mesh_of(name)).abstract)
            checkpoints.close()
            restored = difference(state, half)
            state, _ = train(mesh_of(name), c, state, STEPS)
            found[name] = {"restored": restored, "difference": difference(state.params, one.params)}
    return found


def traffic(c: StepConfig) -> dict[str, Any]:
    """Of a step on the fsdp mesh: the bytes of its collectives and those in loops; the bytes of the parameters."""
    mesh = mesh_of("fsdp")
    compiled = compile_train_step(c, mesh)
    arrays = jax.device_put(batch(0), jax.sharding.NamedSharding(mesh, BATCH))
    text = compiled.step.lower(compiled.abstract, arrays, jax.random.key(0)).compile().as_text()
    module = hlo.parse(text)
    loops = [i for i in module.instructions.values() if i.opcode == "while"]
    turned = [i for loop in loops for body in hlo.called_computations(loop) for i in module.computations[body]]
    return {
        "in_loops": [i.name for i in turned if i.opcode.removesuffix("-start") in COLLECTIVES],
        "moved": sum(collective.bytes for collective in collectives(module)),
        "parameters": sum(x.size * 4 for x in jax.tree.leaves(compiled.abstract.params)),
        "open_loops": module.open_loops,
    }


if __name__ == "__main__":
    keep_compiled()
    adafactor = step_config("adafactor")
    meshes = {"adafactor": on_meshes(adafactor, MESHES), "adamw": on_meshes(step_config("adamw"), ("one", "all"))}
    print(json.dumps({"meshes": meshes, "checkpoints": across_meshes(adafactor), "traffic": traffic(adafactor)}))
