"""Counts what a compiled program gives a device to do, and the bytes that go to and from its main memory (HBM)."""

import math
import re

from train.compile.hlo import Instruction, Module, dimensions, size_in_bytes

# What moves no data: names for data that is there, and the second halves of what is counted at its start.
STILL = {
    "after-all",
    "bitcast",
    "call",
    "conditional",
    "constant",
    "get-tuple-element",
    "iota",
    "opt-barrier",
    "parameter",
    "partition-id",
    "replica-id",
    "tuple",
    "while",
}
STILL_CALLS = ("AllocateBuffer", "ConcatBitcast")  # those custom calls of the TPU's compiler that move none either


def hbm_bytes(module: Module, start: str | None = None) -> float:
    """Returns the bytes that all instructions read and write; an array that lies in tiles has whole tiles.

    With `start`, the name of a loop's body, they are those of one turn of that loop.

    An instruction reads its operands once and writes its result once; what happens inside a fusion or a kernel stays on
    the chip, as does what the compiler puts into another memory than HBM. Of an array that is only sliced, the slices
    count; where a slice is written into an array in place, the slice alone.
    """
    total = 0.0
    for name in control_computations(module, start):
        for instruction in module.computations[name]:
            if does_something(instruction):
                total += module.runs[name] * instruction_bytes(module, instruction)
    return total if start is None else total / module.runs[start]


def launches(module: Module) -> int:
    """Returns how many operations a device is given in one run: kernels, library calls and copies.

    What is inside a fusion or a reduction is part of it, and the end of an asynchronous operation of its start.
    """
    return sum(
        module.runs[name]
        for name in control_computations(module)
        for instruction in module.computations[name]
        if does_something(instruction)
    )


def does_something(instruction: Instruction) -> bool:
    """Tells whether a device has something to do for an instruction: it moves data, or computes."""
    if instruction.opcode in STILL or instruction.opcode.endswith("-done"):
        return False
    return not any(f'custom_call_target="{name}"' in instruction.attributes for name in STILL_CALLS)


def control_computations(module: Module, start: str | None = None) -> list[str]:
    """Returns the computations whose instructions run one by one: the entry, and loops' and branches' bodies.

    With `start`, they are that computation and what it runs.
    """
    found, waiting = [], [start or module.entry]
    while waiting:
        name = waiting.pop()
        if name in found or name not in module.computations:
            continue
        found.append(name)
        for instruction in module.computations[name]:
            if instruction.opcode in ("while", "call", "conditional"):
                roles = r"(?:body|condition|to_apply|true_computation|false_computation)=%?([\w.\-]+)"
                waiting += re.findall(roles, instruction.attributes)
                for group in re.findall(r"branch_computations=\{([^}]*)\}", instruction.attributes):
                    waiting += re.findall(r"%?([\w.\-]+)", group)
    return found


def instruction_bytes(module: Module, instruction: Instruction) -> float:
    """Returns the bytes that one instruction moves to and from HBM when it runs once."""
    operands = [module.instructions[name].shape for name in instruction.operands if name in module.instructions]
    if instruction.opcode in ("dynamic-slice", "slice", "gather"):
        return 2 * in_hbm(instruction.shape)
    if instruction.opcode == "dynamic-update-slice":
        return 2 * in_hbm(operands[1])
    if instruction.opcode == "slice-start":  # the result names the operand, then the slice
        copied = array_texts(instruction.shape)[1]
        return stored_bytes(copied) * (is_in_hbm(operands[0]) + is_in_hbm(copied))
    if instruction.opcode == "fusion":
        return fusion_bytes(module, instruction, operands)
    read, written = sum(map(in_hbm, operands)), in_hbm(instruction.shape)
    if instruction.opcode.endswith("-start"):  # the result names the operands again
        written = max(0.0, written - read)
    return read + written


def fusion_bytes(module: Module, fusion: Instruction, operands: list[str]) -> float:
    """Returns the bytes of one fusion: of operands that are only sliced inside it, those of the slices."""
    read = sum(
        min(whole, read_by(module, fusion, i)) for i, shape in enumerate(operands) if (whole := in_hbm(shape)) > 0
    )
    return read + written_by(fusion, module)


def fused_body(module: Module, fusion: Instruction) -> list[Instruction]:
    """Returns the instructions that a fusion consists of; the last one is its root."""
    called = re.search(r"calls=%?([\w.\-]+)", fusion.attributes)
    return module.computations.get(called[1], []) if called else []


def read_by(module: Module, fusion: Instruction, operand: int) -> float:
    """Returns how many bytes of an operand, counted from 0, a fusion reads; infinity stands for all of them."""
    body = fused_body(module, fusion)
    for instruction in body:
        if instruction.opcode == "parameter" and int(instruction.operands[0]) == operand:
            return read_of(module, instruction, body)
    return math.inf


def read_of(module: Module, value: Instruction, body: list[Instruction]) -> float:
    """Returns how many bytes of a value in a fusion's body are read; infinity stands for all of them.

    A fusion may consist of fusions in turn, as the TPU's compiler makes them: what is sliced inside those counts alike.
    """
    total = 0.0
    for user in body:
        for i, name in enumerate(user.operands):
            if name != value.name:
                continue
            if user.opcode == "bitcast":
                total += read_of(module, user, body)
            elif user.opcode == "fusion":
                total += read_by(module, user, i)
            elif user.opcode in ("dynamic-slice", "slice", "gather") and i == 0:
                total += stored_bytes(user.shape)
            elif user.opcode != "dynamic-update-slice" or i > 0:  # the array that is updated is written, not read
                return math.inf
    return total


def written_by(fusion: Instruction, module: Module) -> float:
    """Returns the bytes that a fusion writes: of arrays that are updated in place, those of the update."""
    body = fused_body(module, fusion)
    if not body:
        return in_hbm(fusion.shape)
    root = body[-1]
    results = [module.instructions[name] for name in root.operands] if root.opcode == "tuple" else [root]
    shapes = array_texts(fusion.shape)
    total = 0.0
    for result, shape in zip(results, shapes, strict=False):
        made = maker(module, result)
        size = in_hbm(shape)
        if size and made.opcode == "dynamic-update-slice":
            size = min(size, stored_bytes(module.instructions[made.operands[1]].shape))
        total += size
    return total


def maker(module: Module, result: Instruction) -> Instruction:
    """Returns the instruction that a fusion's result comes from, through bitcasts and the roots of fusions inside."""
    while True:
        if result.opcode == "bitcast" and result.operands[0] in module.instructions:
            result = module.instructions[result.operands[0]]
        elif result.opcode == "fusion" and (body := fused_body(module, result)):
            result = body[-1]
        else:
            return result


def array_texts(shape: str) -> list[str]:
    """Returns the text of each array in a shape, with its layout."""
    return [match[0] for match in re.finditer(r"[a-z]\w*\[[\d,]*\](?:\{[^}]*\})?", shape)]


def in_hbm(shape: str) -> float:
    """Returns the bytes of a shape's arrays that lie in HBM."""
    return sum(stored_bytes(array) for array in array_texts(shape) if is_in_hbm(array))


def is_in_hbm(array: str) -> bool:
    """Tells whether an array lies in HBM: the layout of others names their memory, such as S(1)."""
    return not re.search(r"S\([1-9]\d*\)", array)


def stored_bytes(array: str) -> float:
    """Returns the bytes of an array's text with the padding of its tiles, as TPUs have them.

    A layout such as {2,0,1:T(8,128)} names the axes from the innermost one out, and fills up the two innermost ones to
    multiples of 128 and of 8.
    """
    layout = re.search(r"\{([\d,]+):T\(([\d,]+)\)", array)
    size = size_in_bytes(array)
    if layout is None:
        return size
    axes, tile = ([int(n) for n in text.split(",")] for text in layout.groups())
    lengths = dimensions(array)
    for axis, multiple in zip(axes, reversed(tile), strict=False):
        if lengths[axis]:
            size *= -(-lengths[axis] // multiple) * multiple / lengths[axis]
    return size
