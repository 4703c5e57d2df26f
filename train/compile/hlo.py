"""What a compiled program does, read from its HLO text: the collectives and the floating-point operations.

The text is a list of computations, each a list of instructions. A computation runs as often as its callers do, the body
of a loop as many times more as the loop turns; everything here is counted with that number, and per device, for a
partitioned program is the program of one device.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

_BITS = {"pred": 8, "bf16": 16, "token": 0, "opaque": 0}


@dataclass(frozen=True)
class Instruction:
    """`shape` is the result's text, such as `bf16[8,512]{1,0}` or a tuple of such; `operands` are names."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str


@dataclass
class Module:
    """`runs` says how often each computation runs; `open_loops` are loops whose number of turns the text hides: their
    bodies are counted once.
    """

    computations: dict[str, list[Instruction]]
    entry: str
    instructions: dict[str, Instruction] = field(default_factory=dict)  # of all computations
    runs: dict[str, int] = field(default_factory=dict)
    open_loops: list[str] = field(default_factory=list)


@dataclass
class Collective:
    """All collectives of one kind: how many run on a device, and how much.

    `bytes` are of the whole arrays that are reduced, gathered or exchanged. `sent` is what a device sends for that by
    the ring algorithms: of n devices, an all-gather, a reduce-scatter and an all-to-all send (n-1)/n of the bytes, an
    all-reduce, which is a reduce-scatter and an all-gather, twice as much (Thakur, Rabenseifner and Gropp 2005).
    """

    kind: str
    count: int = 0
    bytes: float = 0.0
    sent: float = 0.0


# --- reading ---------------------------------------------------------------------------------------------------------


def parse(text: str) -> Module:
    """The module of an HLO text, as `Compiled.as_text()` of JAX gives it. Raises ValueError where there is no entry."""
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
    """The index of the bracket that closes the one at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i
    raise ValueError(f"brackets do not match in {text[:80]!r}")


def _runs(module: Module) -> dict[str, int]:
    """How often each computation runs. Callers come after what they call in the text, so the walk goes backwards."""
    runs = dict.fromkeys(module.computations, 0)
    runs[module.entry] = 1
    for name in reversed(list(module.computations)):
        for instruction in module.computations[name]:
            turns = 1
            if instruction.opcode == "while":
                found = _turns(module, instruction)
                if found is None:
                    module.open_loops.append(instruction.name)
                turns = found or 1
            for called in _called(instruction):
                if called in runs:
                    runs[called] += runs[name] * turns
    return runs


def _called(instruction: Instruction) -> list[str]:
    names = re.findall(
        r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)", instruction.attributes
    )
    for group in re.findall(r"(?:branch_computations|called_computations)=\{([^}]*)\}", instruction.attributes):
        names += re.findall(r"%?([\w.\-]+)", group)
    return names


def _turns(module: Module, loop: Instruction) -> int | None:
    """How often a loop turns: as XLA says, or as follows from a counter that starts at a constant, goes up by one, and
    is compared to a third (JAX's `scan`, `map` and `fori_loop`, and the loops that XLA makes of them).
    """
    known = re.search(r'known_trip_count"?[:=]\s*\{"?n"?:"?(\d+)', loop.attributes)
    if known:
        return int(known[1])
    condition, body = (
        module.computations.get(re.search(rf"{role}=%?([\w.\-]+)", loop.attributes)[1], [])  # type: ignore[index]
        for role in ("condition", "body")
    )
    compare = next((i for i in condition if i.opcode == "compare" and "direction=LT" in i.attributes), None)
    if compare is None:
        return None
    index = _index(_source(module, compare.operands[0]))
    before, after = _source(module, loop.operands[0]), body[-1]
    if index is None or before is None or before.opcode != "tuple" or after.opcode != "tuple":
        return None
    raised = _source(module, after.operands[index])
    if raised is None or raised.opcode != "add" or _index(_source(module, raised.operands[0])) != index:
        return None
    start, limit, step = (
        _constant(module, name) for name in (before.operands[index], compare.operands[1], raised.operands[1])
    )
    if start is None or limit is None or not step:
        return None
    return max(0, -(-(limit - start) // step))


def _source(module: Module, name: str) -> Instruction | None:
    """The instruction of that name, or the one that it copies."""
    instruction = module.instructions.get(name)
    while instruction is not None and instruction.opcode in ("copy", "bitcast"):
        instruction = module.instructions.get(instruction.operands[0])
    return instruction


def _index(instruction: Instruction | None) -> int | None:
    """Which element of a tuple a get-tuple-element takes; None where it is another instruction."""
    if instruction is None or instruction.opcode != "get-tuple-element":
        return None
    found = re.search(r"index=(\d+)", instruction.attributes)
    return int(found[1]) if found else None


def _constant(module: Module, name: str) -> int | None:
    instruction = _source(module, name)
    if instruction is None or instruction.opcode != "constant" or not re.fullmatch(r"-?\d+", instruction.operands[0]):
        return None
    return int(instruction.operands[0])


def arrays(shape: str) -> list[tuple[str, tuple[int, ...]]]:
    """The dtype and dimensions of each array in a shape's text."""
    found = re.findall(r"([a-z]\w*)\[([\d,]*)\]", shape)
    return [(dtype, tuple(int(n) for n in dims.split(",") if n)) for dtype, dims in found]


def size_in_bytes(shape: str) -> float:
    """The bytes of a shape's elements, without padding."""

    def bits(dtype: str) -> int:
        if dtype in _BITS:
            return _BITS[dtype]
        width = re.search(r"\d+", dtype)
        return int(width[0]) if width else 0

    return sum(bits(dtype) * math.prod(dims) for dtype, dims in arrays(shape)) / 8


# --- collectives -----------------------------------------------------------------------------------------------------


def collectives(module: Module) -> list[Collective]:
    """The collectives by kind, in the order of COLLECTIVES; only the kinds that there are."""
    totals = {kind: Collective(kind) for kind in COLLECTIVES}
    seen = set()
    for name, instruction in _running(module):
        kind = instruction.opcode.removesuffix("-start")
        if kind not in COLLECTIVES or instruction.opcode.endswith("-done"):
            continue
        # The TPU's compiler cuts a collective that overlaps with work into pieces of one chain, each with the whole
        # collective written in it.
        chain = re.search(r'chain_id="(\d+)"', instruction.attributes)
        channel = re.search(r"channel_id=(\d+)", instruction.attributes)
        if chain and channel:
            if (chain[1], channel[1]) in seen:
                continue
            seen.add((chain[1], channel[1]))
        devices = group_size(instruction.attributes)
        size = size_in_bytes(_result(instruction))
        if kind == "reduce-scatter":
            size *= devices or 1
        if name.startswith("all-reduce-scatter"):  # the TPU's name for a fused all-reduce of which each keeps a part
            kind = "reduce-scatter"
        share = 1.0 if kind == "collective-permute" else (1 - 1 / devices) if devices else 1.0
        total, times = totals[kind], module.runs[name]
        total.count += times
        total.bytes += times * size
        total.sent += times * size * share * (2 if kind == "all-reduce" else 1)
    return [total for total in totals.values() if total.count]


def _running(module: Module) -> Iterator[tuple[str, Instruction]]:
    for name, instructions in module.computations.items():
        if module.runs[name]:
            for instruction in instructions:
                yield name, instruction


def _result(instruction: Instruction) -> str:
    """The shape of the result; of a `-start`, whose own is a tuple of operand, result and context, the result's."""
    if instruction.opcode not in ("all-gather-start", "collective-permute-start", "reduce-scatter-start"):
        return instruction.shape
    parts, depth, last = [], 0, 1
    for i, letter in enumerate(instruction.shape):
        depth += (letter in "([{") - (letter in ")]}")
        if (letter == "," and depth == 1) or depth == 0:
            parts.append(instruction.shape[last:i])
            last = i + 1
    return parts[1]


def group_size(attributes: str) -> int | None:
    """How many devices take part in one group of a collective; None where all do and the text doesn't say how many.

    XLA writes groups as lists `{{0,1},{2,3}}`, as `[groups,size]<=[…]`, or as axes of a mesh.
    """
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return len(listed[1].split(","))
    if counted := re.search(r"replica_groups=\[\d+,(\d+)\]<=", attributes):
        return int(counted[1])
    if meshed := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", attributes):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", meshed[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", meshed[2]))
    if pairs := re.search(r"source_target_pairs=\{(.*?)\}\}", attributes):
        return pairs[1].count("{")
    return None


# --- floating-point operations ---------------------------------------------------------------------------------------


def flops(module: Module) -> float:
    """Floating-point operations of the matrix products and convolutions on one device; a multiply-add counts two.

    XLA's own `cost_analysis` counts a loop's body once.
    """
    total = 0.0
    for name, instruction in _running(module):
        if instruction.opcode == "dot":
            total += module.runs[name] * _dot(module, instruction)
        elif instruction.opcode == "convolution":
            total += module.runs[name] * _convolution(module, instruction)
    return total


def _dims(shape: str) -> tuple[int, ...]:
    return arrays(shape)[0][1]


def _dot(module: Module, instruction: Instruction) -> float:
    left = _dims(module.instructions[instruction.operands[0]].shape)
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)
    inner = math.prod(left[int(i)] for i in contracted[1].split(",") if i) if contracted else 1
    return 2.0 * math.prod(_dims(instruction.shape)) * inner


def _convolution(module: Module, instruction: Instruction) -> float:
    """The TPU's matrix products are convolutions. Of a window's places only those on an input element count, not those
    on padding or between dilated elements: a product with batch dimensions is written with many of them.
    """
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    if labels is None:
        return 0.0
    left, right = (_dims(module.instructions[name].shape) for name in instruction.operands[:2])
    out = _dims(instruction.shape)
    window = {}
    if found := re.search(r"window=\{([^}]*)\}", instruction.attributes):
        window = dict(part.split("=") for part in found[1].split())
    spatial = sorted(letter for letter in labels[1] if letter.isdigit())

    def values(key: str, default: str) -> list[str]:
        return window[key].split("x") if key in window else [default] * len(spatial)

    def number(key: str) -> int:
        given = re.search(rf"{key}=(\d+)", instruction.attributes)
        return int(given[1]) if given else 1

    batch = left[labels[1].index("b")] // number("batch_group_count")
    features = right[labels[2].index("i")] * right[labels[2].index("o")]  # `i` is a group's share already
    places = 1
    settings = zip(
        spatial, values("stride", "1"), values("pad", "0_0"), values("lhs_dilate", "1"), values("rhs_dilate", "1")
    )
    for axis, stride, pad, left_dilation, right_dilation in settings:
        places *= _places(
            left[labels[1].index(axis)],
            right[labels[2].index(axis)],
            out[labels[3].index(axis)],
            int(stride),
            int(pad.split("_")[0]),
            int(left_dilation),
            int(right_dilation),
        )
    return 2.0 * batch * features * places


def _places(n_in: int, window: int, n_out: int, stride: int, pad: int, left_dilation: int, right_dilation: int) -> int:
    """Pairs of an output and a window position that meet an input element, along one axis."""
    last = (n_in - 1) * left_dilation
    count = 0
    for k in range(window):
        at = [o * stride + k * right_dilation - pad for o in range(n_out)]
        count += sum(0 <= i <= last and i % left_dilation == 0 for i in at)
    return count
