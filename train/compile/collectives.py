"""Counts the collectives of a compiled program on one device, and the bytes that they move."""

import math
import re
from dataclasses import dataclass

from train.compile.hlo import Instruction, Module, size_in_bytes

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


@dataclass
class Collective:
    """Holds what all collectives of one kind come to on a device: how many run, and how many bytes they move.

    `bytes` are those of the whole arrays that are reduced, gathered or exchanged. `sent` is what a device sends for
    that by the ring algorithms: of n devices, an all-gather, a reduce-scatter and an all-to-all send (n-1)/n of the
    bytes, an all-reduce, which is a reduce-scatter and an all-gather, twice as much (Thakur, Rabenseifner and Gropp
    2005).
    """

    kind: str
    count: int = 0
    bytes: float = 0.0
    sent: float = 0.0


def collectives(module: Module) -> list[Collective]:
    """Returns the collectives by kind, in the order of COLLECTIVES; only the kinds that there are."""
    totals = {kind: Collective(kind) for kind in COLLECTIVES}
    seen: set[tuple[str, str]] = set()
    for name, instruction, times in module.running():
        kind = instruction.opcode.removesuffix("-start")
        if kind not in COLLECTIVES or instruction.opcode.endswith("-done"):
            continue
        if (chain := _chain(instruction)) is not None:
            if chain in seen:
                continue
            seen.add(chain)
        devices = group_size(instruction.attributes)
        size = size_in_bytes(_result(instruction))
        if kind == "reduce-scatter":
            size *= devices or 1
        if name.startswith("all-reduce-scatter"):  # the TPU's name for a fused all-reduce of which each keeps a part
            kind = "reduce-scatter"
        total = totals[kind]
        total.count += times
        total.bytes += times * size
        total.sent += times * size * _sent_share(kind, devices)
    return [total for total in totals.values() if total.count]


def _chain(instruction: Instruction) -> tuple[str, str] | None:
    """Returns what the pieces of one collective have in common; None where it is in one piece.

    The TPU's compiler cuts a collective that overlaps with work into pieces of one chain, each with the whole
    collective written in it.
    """
    chain = re.search(r'chain_id="(\d+)"', instruction.attributes)
    channel = re.search(r"channel_id=(\d+)", instruction.attributes)
    return (chain[1], channel[1]) if chain and channel else None


def _sent_share(kind: str, devices: int | None) -> float:
    """Returns how many bytes a device of a group sends for each byte of the whole array: see `Collective`."""
    if kind == "collective-permute":
        return 1.0
    return (1 - 1 / devices if devices else 1.0) * (2 if kind == "all-reduce" else 1)


def _result(instruction: Instruction) -> str:
    """Returns the shape of the result, which a `-start` has in a tuple of operand, result and context."""
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
    """Returns how many devices are in one group of a collective; None where all are and the text doesn't count them.

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
