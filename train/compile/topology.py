"""Asks libtpu, the TPU's compiler, for the devices of a TPU slice on a machine that has none."""

import importlib.util
import os
import re
from typing import TYPE_CHECKING

from conf.errors import EdgewiseError, first_line

if TYPE_CHECKING:  # JAX starts only once `prepare_environment` has told it to look for no TPU
    import jax

INSTALL = "uv pip install --python .venv -r pyproject.toml --extra tpu"
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    # libtpu asks what machine it is on and complains where nobody answers; what it compiles for is the topology's alone
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_MIN_LOG_LEVEL": "3",
    # it recurses deeper into a program of this size than the 64 KiB of its threads' stacks: 3b would crash it
    "LIBTPU_INIT_ARGS": "--fibers_default_thread_stack_size=4194304",
}


def prepare_environment() -> None:
    """Tells JAX to look for no TPU here, and libtpu to ask for none: to be called before either starts."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def require_compiler() -> None:
    """Raises EdgewiseError, which says how to install it, where libtpu is not installed."""
    if importlib.util.find_spec("libtpu") is None:
        raise EdgewiseError(f"libtpu, the TPU's compiler, is not installed. Install it with: {INSTALL}")


def topology_devices(name: str) -> list["jax.Device"]:
    """Returns the devices of a TPU slice, one a chip. Raises EdgewiseError for a name that libtpu doesn't know."""
    import jax
    from jax.experimental import topologies

    # A v4 chip's two cores work as one device, as they do by default on a real one.
    options = {"chip_config_name": "megacore"} if name.startswith("v4:") else {}
    try:
        return list(topologies.get_topology_desc(name, "tpu", **options).devices)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        raise EdgewiseError(
            f"topology={name}: {first_line(error)}; expected a TPU's name and its chips in each direction, "
            "such as v4:2x2x1 (v4-8), v5e:4x4 (v5e-16), v5p:2x2x1 (v5p-8) or v6e:2x4 (v6e-8)"
        ) from None


def available_memory(device: "jax.Device") -> float:
    """Returns the bytes of HBM that the compiler lets a program have, which it tells a program that asks for more."""
    import jax
    import jax.numpy as jnp

    sharding = jax.sharding.SingleDeviceSharding(device)
    far_too_much = jax.ShapeDtypeStruct((2**40,), jnp.float32, sharding=sharding)
    try:
        jax.jit(lambda x: x + 1, out_shardings=sharding).lower(far_too_much).compile()
    except jax.errors.JaxRuntimeError as error:
        limit = re.search(r"available HBM \(([\d.]+)G\)", str(error))
        if limit:
            return float(limit[1]) * 2**30
        raise
    raise AssertionError("4 TiB fit on one device")
