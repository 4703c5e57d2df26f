"""Reads the HLO text of a compiled program into its instructions, and counts how often each of them runs.

The text is a list of computations, each a list of instructions. A computation runs as often as its callers do, the body
of a loop as many times more as the loop turns. A partitioned program is the program of one device.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_BITS = {"pred": 8, "bf16": 16, "token": 0, "opaque": 0}


@dataclass(frozen=True)
class Instruction:
    """Holds one instruction.

    `shape` is the result's text, such as `bf16[8,512]{1,0}` or a tuple of such; `operands` are names, or the value of a
    constant.
    """

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str


@dataclass
class Module:
    """Holds a program's computations, by name.

    `runs` says how often each computation runs. `open_loops` are loops whose number of turns the text hides: their
    bodies are counted once.
    """

    computations: dict[str, list[Instruction]]
    entry: str
    instructions: dict[str, Instruction] = field(default_factory=dict)  # of all computations
    runs: dict[str, int] = field(default_factory=dict)
    open_loops: list[str] = field(default_factory=list)

    def running(self) -> Iterator[tuple[str, Instruction, int]]:
        """Yields every instruction that runs, with its computation's name and how often it runs."""
        for name, instructions in self.computations.items():
            if self.runs[name]:
                for instruction in instructions:
                    yield name, instruction, self.runs[name]


def parse(text: str) -> Module:
    """Returns the module of an HLO text, as `Compiled.as_text()` of JAX gives it.

    Raises ValueError where there is no entry.
    """
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        header = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$", line)
        if header:
            current = computations.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (instruction := _instruction(line)):
            current.append(instruction)
    if not entry:
        raise ValueError("no ENTRY computation: expected the text of an HLO module")
    module = Module(computations, entry)
    module.instructions = {i.name: i for instructions in computations.values() for i in instructions}
    module.runs = _runs(module)
    return module


def _instruction(line: str) -> Instruction | None:
    """Returns the instruction of a line; None where the line holds none."""
    match = re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)", line)
    if not match:
        return None
    rest = re.sub(r"/\*.*?\*/", "", match[2])  # /*index=5*/ in long tuples
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    opcode = re.match(r"([\w\-]+)\(", rest)
    if not opcode:
        return None
    close = _closing(rest, opcode.end() - 1)
    operands = tuple(re.findall(r"%([\w.\-]+)", rest[opcode.end() : close]))
    if opcode[1] in ("constant", "parameter"):
        operands = (rest[opcode.end() : close],)  # the value, the number
    return Instruction(match[1], shape, opcode[1], operands, rest[close + 1 :])


def _closing(text: str, start: int) -> int:
    """Returns the index of the bracket that closes the one at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i
    raise ValueError(f"brackets do not match in {text[:80]!r}")


def _runs(module: Module) -> dict[str, int]:
    """Returns how often each computation runs, and notes the open loops.

    Callers come after what they call in the text, so the walk goes backwards.
    """
    runs = dict.fromkeys(module.computations, 0)
    runs[module.entry] = 1
    for name in reversed(list(module.computations)):
        for instruction in module.computations[name]:
            turns = 1
            if instruction.opcode == "while":
                counted = _turns(module, instruction)
                if counted is None:
                    module.open_loops.append(instruction.name)
                turns = counted or 1
            for called in called_computations(instruction):
                if called in runs:
                    runs[called] += runs[name] * turns
    return runs


def called_computations(instruction: Instruction) -> list[str]:
    """Returns the names of the computations that an instruction runs, such as a loop's body and its condition."""
    names = re.findall(
        r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)", instruction.attributes
    )
    for group in re.findall(r"(?:branch_computations|called_computations)=\{([^}]*)\}", instruction.attributes):
        names += re.findall(r"%?([\w.\-]+)", group)
    return names


def _turns(module: Module, loop: Instruction) -> int | None:
    """Returns how often a loop turns, as XLA says or as its counter does; None where neither is plain.

    A counter is an element of the loop's tuple that starts at a constant, goes up by a constant, and ends the loop when
    it is no longer below a third one: JAX's `scan`, `map` and `fori_loop`, and the loops that XLA makes of them.
    """
    by_compiler = re.search(r'known_trip_count"?[:=]\s*\{"?n"?:"?(\d+)', loop.attributes)
    if by_compiler:
        return int(by_compiler[1])
    condition, body = (_role(module, loop, name) for name in ("condition", "body"))
    compare = next((i for i in condition if i.opcode == "compare" and "direction=LT" in i.attributes), None)
    if compare is None or not body:
        return None
    counter = _index(_source(module, compare.operands[0]))
    before, after = _source(module, loop.operands[0]), body[-1]
    if counter is None or before is None or before.opcode != "tuple" or after.opcode != "tuple":
        return None
    addition = _source(module, after.operands[counter])
    if addition is None or addition.opcode != "add" or _index(_source(module, addition.operands[0])) != counter:
        return None
    start = _constant(module, before.operands[counter])
    limit = _constant(module, compare.operands[1])
    step = _constant(module, addition.operands[1])
    if start is None or limit is None or not step:
        return None
    return max(0, -(-(limit - start) // step))


def _role(module: Module, loop: Instruction, role: str) -> list[Instruction]:
    """Returns the instructions of a loop's `condition` or `body`; none where the loop doesn't name it."""
    name = re.search(rf"{role}=%?([\w.\-]+)", loop.attributes)
    return module.computations.get(name[1], []) if name else []


def _source(module: Module, name: str) -> Instruction | None:
    """Returns the instruction of that name, or the one that it copies; None where there is none."""
    instruction = module.instructions.get(name)
    while instruction is not None and instruction.opcode in ("copy", "bitcast"):
        instruction = module.instructions.get(instruction.operands[0])
    return instruction


def _index(instruction: Instruction | None) -> int | None:
    """Returns which element of a tuple a get-tuple-element takes; None where it is another instruction."""
    if instruction is None or instruction.opcode != "get-tuple-element":
        return None
    index = re.search(r"index=(\d+)", instruction.attributes)
    return int(index[1]) if index else None


def _constant(module: Module, name: str) -> int | None:
    """Returns the integer that an instruction is; None where it is no constant."""
    instruction = _source(module, name)
    if instruction is None or instruction.opcode != "constant" or not re.fullmatch(r"-?\d+", instruction.operands[0]):
        return None
    return int(instruction.operands[0])


# --- shapes ----------------------------------------------------------------------------------------------------------


def arrays(shape: str) -> list[tuple[str, tuple[int, ...]]]:
    """Returns the dtype and dimensions of each array in a shape's text."""
    texts = re.findall(r"([a-z]\w*)\[([\d,]*)\]", shape)
    return [(dtype, tuple(int(n) for n in dimensions.split(",") if n)) for dtype, dimensions in texts]


def dimensions(shape: str) -> tuple[int, ...]:
    """Returns the dimensions of the first array in a shape's text."""
    return arrays(shape)[0][1]


def size_in_bytes(shape: str) -> float:
    """Returns the bytes of a shape's elements, without padding."""

    def bits(dtype: str) -> int:
        if dtype in _BITS:
            return _BITS[dtype]
        width = re.search(r"\d+", dtype)
        return int(width[0]) if width else 0

    return sum(bits(dtype) * math.prod(dims) for dtype, dims in arrays(shape)) / 8
