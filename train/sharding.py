"""Makes the mesh of devices, and holds the one table that says how every parameter is laid over it."""

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from conf.errors import EdgewiseError
from conf.schema import Infer, Mesh

P = ParamSpec("P")
R = TypeVar("R")
Carry = TypeVar("Carry")

AXES = ("data", "fsdp", "tensor")
BATCH = PartitionSpec(("data", "fsdp"))
BATCH_TOKENS = 32768  # the positions in a batch that is scored or decoded, unless the config says how many
CPU_BATCH_TOKENS = 4096  # the same where a CPU scores: more no longer fit its caches (docs/performance.md)

# The first pattern found in a parameter's path decides. Stacked layers have a leading axis [L], which is never cut.
RULES = (
    (r"layers/.*/(query|key|value|wi|wi_0|wi_1)/kernel", PartitionSpec(None, "fsdp", "tensor")),
    (r"layers/.*/(out|wo)/kernel", PartitionSpec(None, "tensor", "fsdp")),
    (r"logits_dense/kernel", PartitionSpec("fsdp", "tensor")),
    (r"^embedding", PartitionSpec("tensor", "fsdp")),
    (r"", PartitionSpec()),  # norms and relative position biases are small: every device holds them
)


def make_mesh(config: Mesh, devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
    """Returns the mesh over `devices`, or over all devices; one axis of -1 takes the devices that the others leave.

    Raises EdgewiseError for sizes below 1, for more than one -1, and where the sizes' product is not the number of
    devices.
    """
    count = jax.device_count() if devices is None else len(devices)
    asked = f"mesh data={config.data} fsdp={config.fsdp} tensor={config.tensor}"
    shape = [config.data, config.fsdp, config.tensor]
    if shape.count(-1) > 1 or any(n == 0 or n < -1 for n in shape):
        raise EdgewiseError(f"{asked}: expected sizes ≥ 1, one may be -1")
    fixed = math.prod(n for n in shape if n != -1)
    shape = [count // fixed if n == -1 else n for n in shape]
    if math.prod(shape) != count:
        raise EdgewiseError(
            f"{asked} does not fit {count} devices: their product must be the number of devices; one of them may be -1"
        )
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def device_groups(n: int) -> list[list[jax.Device]]:
    """Returns all devices, in order, cut into `n` equal groups: one for each seed of mesh.seed=n.

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
    """Rounds a number of rows up, so that every device that shares a batch gets as many."""
    shards: int = mesh.shape["data"] * mesh.shape["fsdp"]
    return -(-rows // shards) * shards


def platform_of(mesh: jax.sharding.Mesh) -> str:
    """Returns what kind of devices a mesh lies over: `cpu`, `gpu` or `tpu`."""
    platform: str = mesh.devices.flat[0].platform
    return "gpu" if platform in ("cuda", "rocm") else platform  # as a device that is only described calls itself


def scoring_tokens(infer: Infer, mesh: jax.sharding.Mesh) -> int:
    """Returns how many positions a batch may have that is scored on `mesh`."""
    if infer.batch_tokens is not None:
        return infer.batch_tokens
    return CPU_BATCH_TOKENS if platform_of(mesh) == "cpu" else BATCH_TOKENS


def batches_in_flight(mesh: jax.sharding.Mesh) -> int:
    """Returns how many scored batches are on their way at a time.

    Two on an accelerator, which would else wait while the host reads one's results and makes the next; one on a CPU,
    where host and device are the same cores and two batches would share the caches.
    """
    return 1 if platform_of(mesh) == "cpu" else 2


# --- the layout of parameters ----------------------------------------------------------------------------------------


def spec_of(path: str) -> PartitionSpec:
    """Returns the table's entry for a parameter's path, such as `encoder/layers/mlp/wi/kernel`."""
    return next(spec for pattern, spec in RULES if re.search(pattern, path))


def state_shardings(mesh: jax.sharding.Mesh, abstract_state: Any) -> Any:
    """Returns a tree like `abstract_state` with a sharding for every leaf.

    A leaf whose path ends in a parameter's, and whose rank is the parameter's, is laid out like it (Adam's moments,
    Adafactor's unfactored ones). Every other leaf is replicated, as is a parameter whose axes can't be cut equally.
    """

    def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        parameter = parameter_path(path)
        spec = PartitionSpec() if parameter is None else spec_of(parameter)
        fits = len(spec) == leaf.ndim and all(
            axis is None or leaf.shape[i] % mesh.shape[axis] == 0 for i, axis in enumerate(spec)
        )
        return NamedSharding(mesh, spec if fits else PartitionSpec())

    return jax.tree_util.tree_map_with_path(sharding, abstract_state)


def parameter_path(path: tuple[Any, ...]) -> str | None:
    """Returns the parameter's path in which a path of a train state's tree ends; None where it ends in none.

    The optimizer's partitions are named encoder and decoder too: the last such name starts the parameter's path.
    """
    names = [str(getattr(entry, "key", getattr(entry, "name", getattr(entry, "idx", "")))) for entry in path]
    starts = [i for i, name in enumerate(names) if name in ("encoder", "decoder", "embedding")]
    return "/".join(names[starts[-1] :]) if starts else None


# --- the layout of activations ---------------------------------------------------------------------------------------


def on_mesh(function: Callable[P, R], mesh: jax.sharding.Mesh) -> Callable[P, R]:
    """Wraps `function` so that it is traced with `mesh` in use, which is where `by_rows` finds it."""

    @functools.wraps(function)
    def traced(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args, **kwargs)

    return traced


def by_rows(x: jax.Array) -> jax.Array:
    """Shares the rows of `x` [B, …] among the devices that share a batch, where a mesh of several is in use.

    Without this the compiler lets the parameters' layout decide: where they are cut along d_model, so are the
    activations, each device works on all rows, and every product ends in a sum over the devices. With it, a layer's
    parameters are gathered when they are needed, which for a batch of any size moves far less.
    """
    return _first_axis_cut(x, BATCH)


def by_vocabulary(table: jax.Array) -> jax.Array:
    """Gathers the embedding [V, D] along d_model: each device looks up its own rows' tokens, and multiplies by it."""
    return _first_axis_cut(table, PartitionSpec("tensor"))


def scan(body: Callable[[Carry, Any], tuple[Carry, Any]], carry: Carry, each: Any) -> tuple[Carry, Any]:
    """Runs `jax.lax.scan`, written out turn by turn where a mesh of several CPU devices is in use.

    XLA's CPU backend keeps a program's collectives in one order on all devices, but not those inside a loop with those
    outside it: two devices may each wait in one for the other. Such meshes are for trying things out, with few layers.
    """
    return jax.lax.scan(body, carry, each, unroll=cpus() > 1)


def cpus() -> int:
    """Returns how many CPU devices are in the mesh that `on_mesh` has set; 0 where it has other devices or none."""
    mesh = jax.sharding.get_abstract_mesh()
    return 0 if mesh.empty or mesh.abstract_device.device_kind != "cpu" else mesh.size


def _first_axis_cut(x: jax.Array, spec: PartitionSpec) -> jax.Array:
    """Returns `x` with its first axis cut as `spec` says, where it can be cut into equal parts."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    axes = spec[0] if isinstance(spec[0], tuple) else (spec[0],)
    parts = math.prod(mesh.shape[axis] for axis in axes)
    cut: jax.Array = jax.lax.with_sharding_constraint(x, spec if x.shape[0] % parts == 0 else PartitionSpec())
    return cut
