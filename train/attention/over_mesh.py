"""Runs on each device of a mesh, on its own rows and heads, what XLA can't divide among devices by itself."""

import math
from collections.abc import Callable, Mapping

import jax
from jax.sharding import PartitionSpec

from train.sharding import BATCH

ROWS = BATCH[0]  # the axes of the mesh that share a batch's rows
HEADS = "tensor"  # the axis that shares the heads


def platform_of(device_kind: str) -> str:
    """Returns "cpu", "tpu" or "gpu": the platform of devices of this kind, as JAX names it."""
    if device_kind == "cpu":
        return "cpu"
    return "tpu" if device_kind.startswith("TPU") else "gpu"


def mesh_parts() -> tuple[str, int, int, int]:
    """Returns the devices' kind and number, and among how many of them rows and heads are shared.

    They are those of the mesh that `train.sharding.on_mesh` has set; without one, JAX's default devices, and 0, 1, 1.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return jax.devices()[0].device_kind, 0, 1, 1
    assert mesh.abstract_device is not None
    return mesh.abstract_device.device_kind, mesh.size, math.prod(mesh.shape[axis] for axis in ROWS), mesh.shape[HEADS]


def over_mesh(
    function: Callable[[Mapping[str, jax.Array]], jax.Array],
    arrays: Mapping[str, jax.Array],
    axes: Mapping[str, tuple[str, ...]],
    out_axes: tuple[str, ...],
    heads: int,
) -> jax.Array:
    """Calls `function` with `arrays` by name: on a mesh of several devices, with each device's own part of them.

    `axes` names each array's axes, and `out_axes` those of the result: "rows" and "heads" are shared among devices, any
    other is whole on each. Heads that can't be cut into equal parts are whole too.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return function(arrays)
    shared = {"rows": ROWS, "heads": HEADS if heads % mesh.shape[HEADS] == 0 else None}

    def spec(names: tuple[str, ...]) -> PartitionSpec:
        return PartitionSpec(*(shared.get(name) for name in names))

    divided = jax.shard_map(
        function,
        in_specs=({name: spec(axes[name]) for name in arrays},),
        out_specs=spec(out_axes),
        check_vma=False,  # a Pallas kernel does not say how its results vary over the mesh
    )
    result: jax.Array = divided(dict(arrays))
    return result
