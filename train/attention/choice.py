"""Chooses how attention is computed: one function of what was asked for, the platform, the shapes, the dtype and JAX.

What is asked for (`train.attention`) is set by `asking` around the function that is traced, as `train.sharding.on_mesh`
sets the mesh, and what was chosen is noted where `recording` says: a run and `train.compile` say it.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from train.attention.over_mesh import platform_of

P = ParamSpec("P")
R = TypeVar("R")

PLAIN, ROW_BY_ROW, CUDNN, KERNEL = "plain", "row by row", "cudnn", "kernel"
NO_BIAS, BY_DISTANCE, AS_MATRIX = "no bias", "a bias by distance", "a bias for each pair"

ROW_BYTES = 128 * 2**10  # of a row's float32 weights: with fewer, a CPU is faster with all rows at once
FEWEST_FOR_CUDNN = 64  # queries and keys: with fewer, the weights are small, and plain attention fuses well
FEWEST_FOR_KERNEL = 128  # queries and keys: both kernels pad to multiples of this
KERNEL_JAX = ((0, 10), (0, 11))  # the versions of JAX with which the kernel for TPUs was compiled and tested
KERNEL_DEVICES = ("TPU v4", "TPU v5 lite", "TPU v5", "TPU v6 lite")  # for which it was compiled, by JAX's names
# The versions with which that for GPUs was; Pallas' way to them is deprecated since 0.11.
GPU_KERNEL_JAX = ((0, 10), (0, 11))
GPU_KERNEL_DEVICES = ("NVIDIA A100", "NVIDIA H100", "NVIDIA H200")  # how JAX's names of those begin it was compiled for
GPU_KERNEL_WIDTHS = (16, 32, 64, 128)  # of a head: a matrix product of Triton's has a power of 2, and 16 at the least
GPU_KERNEL_ROWS = 2**16  # of a batch, of which there have to be fewer: so many programs there are along an axis
GPU_KERNEL_NUMBERS = 2**31  # in an array, of which there have to be fewer: places are counted in int32
KERNEL_VMEM = 10 * 2**20  # bytes of VMEM that a program may take by its own estimate: what was compiled for all of them


@dataclasses.dataclass(frozen=True)
class Call:
    """Holds what of a call of attention decides how it is computed.

    `device_kind` is JAX's name of the devices ("cpu", "TPU v4", "NVIDIA H200", …), `devices` how many there are in the
    mesh (0 where none is in use), `row_parts` among how many of them a batch's rows are shared and `head_parts` among
    how many the heads are. `bias` is NO_BIAS, BY_DISTANCE or AS_MATRIX. The other shapes are those of the whole batch.
    """

    device_kind: str
    devices: int
    row_parts: int
    head_parts: int
    rows: int
    queries: int
    keys: int
    heads: int
    width: int
    dtype: str
    bias: str

    @property
    def platform(self) -> str:
        """Returns "cpu", "tpu" or "gpu"."""
        return platform_of(self.device_kind)

    @property
    def own_shape(self) -> tuple[int, int, int, int, int, jnp.dtype]:
        """Returns each device's rows, queries, keys, heads and width of a head, and the dtype."""
        heads = self.heads // self.head_parts if self.heads % self.head_parts == 0 else self.heads
        return self.rows // self.row_parts, self.queries, self.keys, heads, self.width, jnp.dtype(self.dtype)

    @property
    def row_bytes(self) -> int:
        """Returns the bytes of one row's float32 weights."""
        return 4 * self.heads * self.queries * self.keys


@dataclasses.dataclass(frozen=True)
class Choice:
    """Holds the way that attention is computed, and why it is not the one that was asked for (empty where it is)."""

    way: str
    reason: str = ""


def choose(asked: str, call: Call, version: tuple[int, ...] = jax.__version_info__) -> Choice:
    """Returns the way for a call, where `asked` is "auto", "plain", "cudnn" or "kernel".

    `auto` takes the kernel on a TPU and cuDNN on a GPU, each where it can be and pays, and on a CPU of one device one
    row after the other where rows are long. The kernel for GPUs is taken only where it is asked for, until it has been
    measured on one (`python -m bench.attention_on_gpu`). `version` is JAX's. Where what was asked for can't be, the way
    is auto's on a CPU, cuDNN in the place of the kernel on a GPU if that can be, and else plain.
    """
    if asked == PLAIN:
        return Choice(PLAIN)
    wanted = {"tpu": KERNEL, "gpu": CUDNN, "cpu": ""}[call.platform] if asked == "auto" else asked
    reason = ""
    if wanted == KERNEL:
        reason = kernel_obstacle(call, version, by_hand=asked == KERNEL)
    elif wanted == CUDNN:
        reason = cudnn_obstacle(call, by_hand=asked == CUDNN)
    if wanted and not reason:
        return Choice(wanted)
    if wanted == KERNEL and call.platform == "gpu" and not cudnn_obstacle(call, by_hand=False):
        return Choice(CUDNN, reason)
    one_cpu = call.platform == "cpu" and call.devices == 1
    return Choice(ROW_BY_ROW if one_cpu and call.row_bytes >= ROW_BYTES else PLAIN, reason)


def kernel_obstacle(call: Call, version: tuple[int, ...], by_hand: bool) -> str:
    """Returns why the project's own kernel is not taken for a call; empty where nothing is in the way.

    `by_hand` says that the config asks for it: then it is taken where it is slow, or was not compiled before, but for a
    GPU.
    """
    if call.rows % call.row_parts:
        return f"{call.rows} rows can't be shared among {call.row_parts} devices"
    if call.platform == "gpu" and (reason := gpu_kernel_obstacle(call, version)):
        return reason
    if call.platform == "cpu" and not by_hand:
        return "the kernel is interpreted on a CPU"
    if call.platform == "tpu" and not by_hand:
        if version[:2] not in KERNEL_JAX:
            return f"the kernel was not tested with JAX {version[0]}.{version[1]}"
        if call.device_kind not in KERNEL_DEVICES:
            return f"the kernel was not compiled for a {call.device_kind}"
        if min(call.queries, call.keys) < FEWEST_FOR_KERNEL:
            return f"fewer than {FEWEST_FOR_KERNEL} queries or keys"
        from train.attention.kernel import program_bytes

        if (needed := program_bytes(*call.own_shape)) > KERNEL_VMEM:
            return f"a row takes {needed / 2**20:.0f} MiB of VMEM, more than {KERNEL_VMEM / 2**20:.0f}"
    if call.bias == AS_MATRIX:  # last: where another reason stands against the kernel, the caller makes a matrix
        return "the kernel takes a bias by distance alone"
    return ""


def gpu_kernel_obstacle(call: Call, version: tuple[int, ...]) -> str:
    """Returns why the kernel for GPUs is not taken for a call, though it is asked for; empty where it is taken."""
    if version[:2] not in GPU_KERNEL_JAX:
        return f"the kernel for GPUs was not tested with JAX {version[0]}.{version[1]}"
    if not call.device_kind.startswith(GPU_KERNEL_DEVICES):
        return f"the kernel for GPUs was not compiled for a {call.device_kind}"
    if call.dtype != "bfloat16":
        return f"the kernel for GPUs takes bfloat16, not {call.dtype}"
    if call.width not in GPU_KERNEL_WIDTHS:
        return f"the kernel for GPUs takes heads of {', '.join(map(str, GPU_KERNEL_WIDTHS))}, not of {call.width}"
    if min(call.queries, call.keys) < FEWEST_FOR_KERNEL:
        return f"fewer than {FEWEST_FOR_KERNEL} queries or keys"
    rows, queries, keys, heads, width, _ = call.own_shape
    if rows >= GPU_KERNEL_ROWS or rows * max(queries, keys) * heads * width >= GPU_KERNEL_NUMBERS:
        return f"the kernel for GPUs takes fewer than {GPU_KERNEL_ROWS:,} rows and than 2³¹ numbers in an array"
    return ""


def cudnn_obstacle(call: Call, by_hand: bool) -> str:
    """Returns why cuDNN's attention is not taken for a call; empty where nothing is in the way.

    `by_hand` says that the config asks for it: then it is taken for short rows too.
    """
    if call.platform != "gpu":
        return "cuDNN needs an NVIDIA GPU"
    if call.rows % call.row_parts:
        return f"{call.rows} rows can't be shared among {call.row_parts} devices"
    if not by_hand and min(call.queries, call.keys) < FEWEST_FOR_CUDNN:
        return f"fewer than {FEWEST_FOR_CUDNN} queries or keys"
    from train.attention.cudnn import library_obstacle

    return library_obstacle(*call.own_shape)


# --- what is asked for, and what was taken ---------------------------------------------------------------------------


@dataclasses.dataclass
class Taken:
    """Holds the ways that were taken while a function was traced, by the numbers of queries and keys."""

    by_shape: dict[tuple[int, int], Choice] = dataclasses.field(default_factory=dict)

    def with_keys(self, lengths: Collection[int]) -> "Taken":
        """Returns those of shapes whose number of keys is among `lengths`, such as a batch's inputs' and targets'."""
        return Taken({shape: choice for shape, choice in self.by_shape.items() if shape[1] in lengths})

    def __str__(self) -> str:
        """Returns the ways with their shapes and reasons, for a person to read; empty where nothing was traced."""
        shapes: dict[Choice, list[str]] = {}
        for (queries, keys), choice in self.by_shape.items():
            shapes.setdefault(choice, []).append(f"{queries} × {keys}")
        return "; ".join(
            f"{choice.way} for {', '.join(of_choice)}" + (f" ({choice.reason})" if choice.reason else "")
            for choice, of_choice in shapes.items()
        )


_asked: ContextVar[str] = ContextVar("attention_asked", default="auto")
_records: ContextVar[tuple[Taken, ...]] = ContextVar("attention_records", default=())


def choose_here(call: Call) -> Choice:
    """Returns the way for a call where it is traced: by what the function around it asks for."""
    return choose(_asked.get(), call)


def note(call: Call, choice: Choice) -> None:
    """Notes a choice in every record that is being made."""
    for record in _records.get():
        record.by_shape[call.queries, call.keys] = choice


@contextlib.contextmanager
def recording(taken: Taken) -> Iterator[None]:
    """Notes in `taken` the ways that are taken by what is traced meanwhile."""
    token = _records.set((*_records.get(), taken))
    try:
        yield
    finally:
        _records.reset(token)


def asking(function: Callable[P, R], asked: str, taken: Taken | None = None) -> Callable[P, R]:
    """Wraps `function` so that it is traced with `asked` as its way of attention, and notes in `taken` what it got."""

    @functools.wraps(function)
    def traced(*args: P.args, **kwargs: P.kwargs) -> R:
        token = _asked.set(asked)
        try:
            with recording(taken) if taken is not None else contextlib.nullcontext():
                return function(*args, **kwargs)
        finally:
            _asked.reset(token)

    return traced
