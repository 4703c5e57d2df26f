"""Counts the floating-point operations of a compiled program on one device."""

import math
import re

from train.compile.hlo import Instruction, Module, dimensions


def flops(module: Module) -> float:
    """Returns the operations of the matrix products and convolutions; a multiply-add counts two.

    A kernel counts with what its author says of it. XLA's own `cost_analysis` counts a loop's body once.
    """
    total = 0.0
    for _, instruction, times in module.running():
        if instruction.opcode == "dot":
            total += times * _dot(module, instruction)
        elif instruction.opcode == "convolution":
            total += times * _convolution(module, instruction)
        elif instruction.opcode == "custom-call":
            estimate = re.search(r'"cost_estimate":\{"flops":"(\d+)"', instruction.attributes)
            total += times * float(estimate[1]) if estimate else 0.0
    return total


def _dot(module: Module, instruction: Instruction) -> float:
    """Returns the operations of one matrix product."""
    left = dimensions(module.instructions[instruction.operands[0]].shape)
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)
    inner = math.prod(left[int(i)] for i in contracted[1].split(",") if i) if contracted else 1
    return 2.0 * math.prod(dimensions(instruction.shape)) * inner


def _convolution(module: Module, instruction: Instruction) -> float:
    """Returns the operations of one convolution, as which the TPU's compiler writes matrix products.

    Of a window's places only those on an input element count, not those on padding or between dilated elements: a
    product with batch dimensions is written with many of them.
    """
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    if labels is None:
        return 0.0
    of_left, of_right, of_out = labels[1], labels[2], labels[3]
    left, right = (dimensions(module.instructions[name].shape) for name in instruction.operands[:2])
    out = dimensions(instruction.shape)
    spatial = sorted(letter for letter in of_left if letter.isdigit())
    window = _window(instruction, len(spatial))
    batch = left[of_left.index("b")] // _number(instruction, "batch_group_count", 1)
    features = right[of_right.index("i")] * right[of_right.index("o")]  # `i` is a group's share already
    pairs = 1
    for axis, settings in zip(spatial, window, strict=True):
        sizes = left[of_left.index(axis)], right[of_right.index(axis)], out[of_out.index(axis)]
        pairs *= _pairs(*sizes, *settings)
    return 2.0 * batch * features * pairs


def _window(instruction: Instruction, axes: int) -> list[tuple[int, int, int, int]]:
    """Returns each spatial axis's stride, padding before it, and the dilations of the input and of the window."""
    window = re.search(r"window=\{([^}]*)\}", instruction.attributes)
    parts = dict(part.split("=") for part in window[1].split()) if window else {}

    def values(key: str, default: int) -> list[int]:
        return [int(value.split("_")[0]) for value in parts[key].split("x")] if key in parts else [default] * axes

    settings = values("stride", 1), values("pad", 0), values("lhs_dilate", 1), values("rhs_dilate", 1)
    return list(zip(*settings, strict=True))


def _number(instruction: Instruction, key: str, default: int) -> int:
    """Returns an attribute that is a number."""
    value = re.search(rf"{key}=(\d+)", instruction.attributes)
    return int(value[1]) if value else default


def _pairs(n_in: int, window: int, n_out: int, stride: int, pad: int, left_dilation: int, right_dilation: int) -> int:
    """Returns how many pairs of an output and a window position meet an input element, along one axis."""
    last = (n_in - 1) * left_dilation
    count = 0
    for k in range(window):
        at = [o * stride + k * right_dilation - pad for o in range(n_out)]
        count += sum(0 <= i <= last and i % left_dilation == 0 for i in at)
    return count
