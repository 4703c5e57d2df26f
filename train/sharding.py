"""The mesh, and one table that says how every parameter is laid over it."""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from conf.errors import EdgewiseError
from conf.schema import Infer, Mesh

AXES = ("data", "fsdp", "tensor")
BATCH = PartitionSpec(("data", "fsdp"))
BATCH_TOKENS = 32768  # positions of a batch that is scored or decoded, unless the config says how many
CPU_BATCH_TOKENS = 4096  # of one that is scored on a CPU, where more no longer fit the caches: docs/performance.md

# The first pattern found in a parameter's path decides. Stacked layers have a leading axis [L], which is never cut.
RULES = (
    (r"layers/.*/(query|key|value|wi|wi_0|wi_1)/kernel", PartitionSpec(None, "fsdp", "tensor")),
    (r"layers/.*/(out|wo)/kernel", PartitionSpec(None, "tensor", "fsdp")),
    (r"logits_dense/kernel", PartitionSpec("fsdp", "tensor")),
    (r"^embedding", PartitionSpec("tensor", "fsdp")),
    (r"", PartitionSpec()),  # norms and relative position biases are small: every device holds them
)


def make_mesh(config: Mesh, over: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
    """The mesh of all devices (or those of `over`); one axis of -1 takes the devices that the others leave."""
    devices = jax.device_count() if over is None else len(over)
    shape = [config.data, config.fsdp, config.tensor]
    if shape.count(-1) > 1 or any(n == 0 or n < -1 for n in shape):
        raise EdgewiseError(
            f"mesh data={shape[0]} fsdp={shape[1]} tensor={shape[2]}: expected sizes ≥ 1, one may be -1"
        )
    known = int(np.prod([n for n in shape if n != -1]))
    shape = [devices // known if n == -1 else n for n in shape]
    if int(np.prod(shape)) != devices:
        raise EdgewiseError(
            f"mesh data={config.data} fsdp={config.fsdp} tensor={config.tensor} does not fit {devices} devices: "
            "their product must be the number of devices; one of them may be -1"
        )
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 3, devices=over)


def device_groups(n: int) -> list[list[jax.Device]]:
    """All devices, in order, cut into `n` equal groups: one for each seed of mesh.seed=n.

    Raises EdgewiseError where they can't be cut so, and where there are several processes.
    """
    if jax.process_count() > 1:
        raise EdgewiseError(
            f"mesh.seed={n} with several processes: expected 1; start a job for each seed instead (seed=N)"
        )
    devices = jax.devices()
    if len(devices) % n:
        raise EdgewiseError(
            f"mesh.seed={n} does not fit {len(devices)} devices: each seed gets an equal group of them, so expected a "
            "number that divides theirs"
        )
    each = len(devices) // n
    return [devices[start : start + each] for start in range(0, len(devices), each)]


def whole_rows(mesh: jax.sharding.Mesh, rows: int) -> int:
    """`rows` rounded up, so that every device that shares a batch gets as many."""
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    return -(-rows // shards) * shards


def scoring_tokens(infer: Infer, mesh: jax.sharding.Mesh) -> int:
    """How many positions a batch may have that is scored on `mesh`."""
    return infer.batch_tokens or (CPU_BATCH_TOKENS if mesh.devices.flat[0].platform == "cpu" else BATCH_TOKENS)


def spec_of(path: str) -> PartitionSpec:
    """The table's entry for a parameter's path, such as `encoder/layers/mlp/wi/kernel`."""
    return next(spec for pattern, spec in RULES if re.search(pattern, path))


def state_shardings(mesh: jax.sharding.Mesh, abstract_state: Any) -> Any:
    """A sharding for every leaf of a train state: a leaf whose path ends in a parameter's, and whose rank is the
    parameter's, is laid out like it (Adam's moments, Adafactor's unfactored ones); every other leaf is replicated.
    """

    def sharding(path: tuple, leaf: Any) -> NamedSharding:
        names = [str(getattr(entry, "key", getattr(entry, "name", getattr(entry, "idx", "")))) for entry in path]
        start = next((i for i, name in enumerate(names) if name in ("encoder", "decoder", "embedding")), None)
        # the labels of the optimizer's partitions are named encoder and decoder too: the parameter's path comes last
        while start is not None and any(n in ("encoder", "decoder", "embedding") for n in names[start + 1 :]):
            start = next(i for i in range(start + 1, len(names)) if names[i] in ("encoder", "decoder", "embedding"))
        spec = PartitionSpec() if start is None else spec_of("/".join(names[start:]))
        fits = len(spec) == leaf.ndim and all(
            axis is None or leaf.shape[i] % mesh.shape[axis] == 0 for i, axis in enumerate(spec)
        )
        return NamedSharding(mesh, spec if fits else PartitionSpec())

    return jax.tree_util.tree_map_with_path(sharding, abstract_state)


def on_mesh(function: Callable, mesh: jax.sharding.Mesh) -> Callable:
    """`function`, traced with `mesh` in use: that is where `by_rows` finds it."""

    @functools.wraps(function)
    def traced(*args: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args)

    return traced


def by_rows(x: jax.Array) -> jax.Array:
    """`x` [B, …], with its rows shared among the devices that share a batch, where a mesh of several is in use.

    Without this the compiler lets the parameters' layout decide: where they are cut along d_model, so are the
    activations, each device works on all rows, and every product ends in a sum over the devices. With it, a layer's
    parameters are gathered when they are needed, which for a batch of any size moves far less.
    """
    return _laid(x, BATCH)


def by_vocabulary(table: jax.Array) -> jax.Array:
    """The embedding [V, D], gathered along d_model: each device looks up its own rows' tokens, and multiplies by it."""
    return _laid(table, PartitionSpec("tensor"))


def scan(body: Callable, carry: Any, each: Any) -> tuple[Any, Any]:
    """`jax.lax.scan`, written out turn by turn where a mesh of several CPU devices is in use.

    XLA's CPU backend keeps a program's collectives in one order on all devices, but not those inside a loop with those
    outside it: two devices may each wait in one for the other. Such meshes are for trying things out, with few layers.
    """
    return jax.lax.scan(body, carry, each, unroll=cpus() > 1)


def cpus() -> int:
    """How many CPU devices what is traced is for, by the mesh that `on_mesh` has set; 0 for other devices."""
    mesh = jax.sharding.get_abstract_mesh()
    return 0 if mesh.empty or mesh.abstract_device.device_kind != "cpu" else mesh.size


def _laid(x: jax.Array, spec: PartitionSpec) -> jax.Array:
    """`x` with its first axis cut as `spec` says, where it can be cut into equal parts."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    axes = spec[0] if isinstance(spec[0], tuple) else (spec[0],)
    parts = int(np.prod([mesh.shape[axis] for axis in axes]))
    return jax.lax.with_sharding_constraint(x, spec if x.shape[0] % parts == 0 else PartitionSpec())
