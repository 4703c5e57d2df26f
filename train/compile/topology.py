"""Asks the compilers of TPUs and GPUs for devices to compile for, on a machine that has none.

A TPU slice comes from libtpu, by its own name for it. A GPU comes from JAX's CUDA plugin, by a description of what the
compiler asks of a device.
"""

import importlib.util
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conf.errors import EdgewiseError, first_line

if TYPE_CHECKING:  # JAX starts only once `prepare_environment` has told it to look for no TPU
    import jax

INSTALL = "uv pip install --python .venv -r pyproject.toml --extra tpu"
INSTALL_GPU = 'uv pip install --python .venv "jax[cuda12]"'
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    # libtpu asks what machine it is on and complains where nobody answers; what it compiles for is the topology's alone
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_MIN_LOG_LEVEL": "3",
    # it recurses deeper into a program of this size than the 64 KiB of its threads' stacks: 3b would crash it
    "LIBTPU_INIT_ARGS": "--fibers_default_thread_stack_size=4194304",
}


@dataclass(frozen=True)
class Gpu:
    """Describes an NVIDIA GPU; what is not said is that of the Hopper kind. Source: NVIDIA's data sheets."""

    name: str
    memory: int  # bytes
    bandwidth: int  # bytes a second
    gigahertz: float
    capability: str = "major: 9 minor: 0 feature_extension: ACCELERATED_FEATURES"
    cores: int = 132  # what NVIDIA calls streaming multiprocessors
    units_of_core: int = 128  # for float32
    shared_memory: int = 233_472  # bytes of a core
    cache: int = 50 * 2**20  # bytes of L2

    def target(self) -> str:
        """Returns the description that XLA's compiler takes, a text-format protocol buffer."""
        return f"""gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: {self.shared_memory - 1024}
  shared_memory_per_core: {self.shared_memory}
  core_count: {self.cores}
  fpus_per_core: {self.units_of_core}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  l2_cache_size: {self.cache}
  memory_bandwidth: {self.bandwidth}
  device_memory_size: {self.memory}
  clock_rate_ghz: {self.gigahertz}
  cuda_compute_capability {{ {self.capability} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{self.name}"
"""


GPUS = {
    "a100": Gpu(
        "NVIDIA A100-SXM4-80GB",
        80 * 2**30,
        2_039_000_000_000,
        1.41,
        capability="major: 8 minor: 0",
        cores=108,
        units_of_core=64,
        shared_memory=167_936,
        cache=40 * 2**20,
    ),
    "h100": Gpu("NVIDIA H100 80GB HBM3", 80 * 2**30, 3_350_000_000_000, 1.98),
    "h200": Gpu("NVIDIA H200 141GB HBM3e", 141 * 2**30, 4_800_000_000_000, 1.98),
}


def prepare_environment() -> None:
    """Tells JAX to look for no TPU here, and libtpu to ask for none: to be called before either starts."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def require_compiler(topology: str) -> None:
    """Raises EdgewiseError, which says how to install it, where the devices' compiler is not installed."""
    if topology in GPUS:
        if not any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
            raise EdgewiseError(
                f"JAX's CUDA plugin, which compiles for topology={topology}, is not installed. "
                f"Install it with: {INSTALL_GPU}"
            )
    elif importlib.util.find_spec("libtpu") is None:
        raise EdgewiseError(f"libtpu, the TPU's compiler, is not installed. Install it with: {INSTALL}")


def topology_devices(name: str) -> list["jax.Device"]:
    """Returns the GPU of that name, or a TPU slice's devices, one a chip.

    Raises EdgewiseError for a name that is none of GPUS and that libtpu doesn't know.
    """
    import jax
    from jax.experimental import topologies

    if name in GPUS:
        described = topologies.get_topology_desc(platform="cuda", target_config=GPUS[name].target(), topology="1x1x1")
        return list(described.devices)
    # A v4 chip's two cores work as one device, as they do by default on a real one.
    options = {"chip_config_name": "megacore"} if name.startswith("v4:") else {}
    try:
        return list(topologies.get_topology_desc(name, "tpu", **options).devices)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        raise EdgewiseError(
            f"topology={name}: {first_line(error)}; expected a TPU's name and its chips in each direction, "
            "such as v4:2x2x1 (v4-8), v5e:4x4 (v5e-16), v5p:2x2x1 (v5p-8) or v6e:2x4 (v6e-8), or a GPU: "
            f"{', '.join(GPUS)}"
        ) from None


def available_memory(device: "jax.Device") -> float:
    """Returns the bytes of memory that a program may have: of a TPU what its compiler says, of a GPU all that it has.

    A TPU's compiler says it to a program that asks for more.
    """
    import jax
    import jax.numpy as jnp

    for gpu in GPUS.values():
        if device.device_kind == gpu.name:
            return float(gpu.memory)
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
