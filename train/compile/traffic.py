"""Counts what a compiled program gives a device to do, and the bytes that go to and from its main memory (HBM)."""

import math
import re

from train.compile.hlo import Instruction, Module, size_in_bytes

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


def hbm_bytes(module: Module, start: str | None = None) -> float:
    """Returns the bytes that all instructions read and write, without the padding of layouts.

    With `start`, the name of a loop's body, they are those of one turn of that loop.

    An instruction reads its operands once and writes its result once; what happens inside a fusion or a kernel stays on
    the chip, as does what the compiler puts into another memory than HBM. Of an array that is only sliced, the slices
    count; where a slice is written into an array in place, the slice alone.
    """
    total = 0.0
    for name in control_computations(module, start):
        for instruction in module.computations[name]:
            if instruction.opcode not in STILL and not instruction.opcode.endswith("-done"):
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
        if instruction.opcode not in STILL and not instruction.opcode.endswith("-done")
    )


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
    if instruction.opcode == "fusion":
        return fusion_bytes(module, instruction, operands)
    read, written = sum(map(in_hbm, operands)), in_hbm(instruction.shape)
    if instruction.opcode.endswith("-start"):  # the result names the operands again
        written = max(0.0, written - read)
    return read + written


def fusion_bytes(module: Module, fusion: Instruction, operands: list[str]) -> float:
    """Returns the bytes of one fusion: of operands that are only sliced inside it, those of the slices."""
    called = re.search(r"calls=%?([\w.\-]+)", fusion.attributes)
    body = module.computations.get(called[1], []) if called else []
    users: dict[str, list[Instruction]] = {}
    for instruction in body:
        for name in instruction.operands:
            users.setdefault(name, []).append(instruction)
    parameters = {int(i.operands[0]): i for i in body if i.opcode == "parameter"}
    total = 0.0
    for i, shape in enumerate(operands):
        whole = in_hbm(shape)
        if whole and i in parameters:
            total += min(whole, read_of(parameters[i], users))
        else:
            total += whole
    return total + written_by(fusion, body, module)


def read_of(value: Instruction, users: dict[str, list[Instruction]]) -> float:
    """Returns how many bytes of a fusion's operand are read; infinity stands for all of them."""
    total = 0.0
    for user in users.get(value.name, []):
        if user.opcode == "bitcast":
            total += read_of(user, users)
        elif user.opcode in ("dynamic-slice", "slice", "gather") and user.operands[0] == value.name:
            total += size_in_bytes(user.shape)
        elif user.opcode != "dynamic-update-slice" or user.operands[0] != value.name:  # that is written, not read
            return math.inf
    return total


def written_by(fusion: Instruction, body: list[Instruction], module: Module) -> float:
    """Returns the bytes that a fusion writes: of arrays that are updated in place, those of the update."""
    if not body:
        return in_hbm(fusion.shape)
    root = body[-1]
    results = [module.instructions[name] for name in root.operands] if root.opcode == "tuple" else [root]
    shapes = array_texts(fusion.shape)
    total = 0.0
    for result, shape in zip(results, shapes, strict=False):
        while result.opcode == "bitcast" and result.operands[0] in module.instructions:
            result = module.instructions[result.operands[0]]
        size = in_hbm(shape)
        if size and result.opcode == "dynamic-update-slice":
            size = min(size, size_in_bytes(module.instructions[result.operands[1]].shape))
        total += size
    return total


def array_texts(shape: str) -> list[str]:
    """Returns the text of each array in a shape, with its layout."""
    return [match[0] for match in re.finditer(r"[a-z]\w*\[[\d,]*\](?:\{[^}]*\})?", shape)]


def in_hbm(shape: str) -> float:
    """Returns the bytes of a shape's arrays that lie in HBM: the layout of others names their memory, such as S(1)."""
    return sum(size_in_bytes(array) for array in array_texts(shape) if not re.search(r"S\([1-9]\d*\)", array))
