"""Makes the HLO texts that tests/test_train_compile_hlo.py reads: `python -m tests.golden.make_hlo` (needs libtpu).

Three layers tanh(x @ w) in a scan, x [64, 256] with its rows over 4 devices, w [3, 256, 256] cut along its second axis
over them, and the result summed to a scalar: forward and backward, by the compilers of the CPU and of a TPU v5e.
"""

import os
import re
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
from train.compile.topology import prepare_environment, topology_devices

prepare_environment()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jax.sharding import AxisType, NamedSharding, PartitionSpec  # noqa: E402


def loss(w: jax.Array, x: jax.Array) -> jax.Array:
    def layer(x, w):
        return jnp.tanh(x @ w), None

    return jax.lax.scan(layer, x, w)[0].sum()


def compiled_text(devices: list) -> str:
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,), devices=devices)
    w = jax.ShapeDtypeStruct((3, 256, 256), jnp.bfloat16, sharding=NamedSharding(mesh, PartitionSpec(None, "d")))
    x = jax.ShapeDtypeStruct((64, 256), jnp.bfloat16, sharding=NamedSharding(mesh, PartitionSpec("d")))
    return jax.jit(jax.grad(loss), out_shardings=w.sharding).lower(w, x).compile().as_text() or ""


def without_notes(text: str) -> str:
    """Without what no test reads: metadata, source lines, tiles, and of the backend's settings all but trip counts."""
    text = re.sub(r"^(?:FileNames|FunctionNames|FileLocations|StackFrames)\n(?:\d+ .*\n)*\n*", "", text, flags=re.M)
    text = re.sub(r", metadata=\{[^{}]*\}", "", text)
    text = re.sub(r'(, backend_config=\{).*("known_trip_count":\{"n":"\d+"\}\}).*', r"\1\2", text)
    text = re.sub(r", backend_config=(?!\{\"known_trip_count).*", "", text)
    return re.sub(r"\{([\d,]*):[^}]*\}", r"{\1}", text)


if __name__ == "__main__":
    folder = Path(__file__).parent
    for name, devices in (("cpu", jax.devices()), ("v5e", topology_devices("v5e:2x2"))):
        text = without_notes(compiled_text(devices))
        (folder / f"scan_{name}.hlo").write_text(text)
        print(name, len(text))
