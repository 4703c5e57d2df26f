"""Says what a compiled step of decoding reads and writes: `python -m bench.decoding_compiled topology=h200 size=base`.

Compiles decoding for a device that need not be there (as `python -m train.compile` does), and counts the bytes that one
turn of its loop moves to and from the main memory, beside those that a step has to read (`bench.decoding`). With
`--page docs/performance.md` it writes them there as a table, which `just scale` does for a TPU.
"""

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.compile.topology import prepare_environment, require_compiler, topology_devices

if __name__ == "__main__":
    prepare_environment()  # before JAX starts

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from bench.decoding import ALPHA, Shape, step_bytes
from bench.markdown import markdown_table
from bench.marked_page import write_between_marks
from bench.work import composed
from conf.schema import Size
from infer.decode import compile_decoding
from train import t5
from train.compile import hlo
from train.compile.traffic import control_computations, does_something, hbm_bytes, instruction_bytes
from train.sharding import BATCH, make_mesh

MARKS = ("<!-- decoding-compiled -->", "<!-- end of decoding-compiled -->")


def decoding_loop(module: hlo.Module) -> str:
    """Returns the name of the body of the loop over positions: the last loop of the entry.

    Raises ValueError where there is none.
    """
    loops = [instruction for instruction in module.computations[module.entry] if instruction.opcode == "while"]
    body = re.search(r"body=%?([\w.\-]+)", loops[-1].attributes) if loops else None
    if body is None:
        raise ValueError("the compiled program has no loop: expected decoding, which turns once a position")
    return body[1]


def heaviest(module: hlo.Module, body: str, n: int) -> list[tuple[str, float]]:
    """Returns what moves most in one turn of a loop: `n` times the JAX operation's name and its bytes."""
    moved: Counter[str] = Counter()
    for name in control_computations(module, body):
        for instruction in module.computations[name]:
            if does_something(instruction):
                written = re.search(r'op_name="([^"]*)"', instruction.attributes)
                label = f"{instruction.opcode} {written[1].split('/', 2)[-1] if written else instruction.name}"
                turns = module.runs[name] / module.runs[body]
                moved[label] += round(turns * instruction_bytes(module, instruction))
    return [(label, float(size)) for label, size in moved.most_common(n)]


def compile_step(size: Size, shape: Shape, devices: list[jax.Device], dtype: str, top: int) -> dict[str, Any]:
    """Returns what one step of decoding moves, and what it has to, on the first of the devices."""
    mesh = make_mesh(composed([]).mesh, devices[:1])
    whole, by_row = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, BATCH)
    in_head = {"embedding", "logits_dense"}  # these stay float32, as `train.t5.cast` leaves them
    params = jax.tree_util.tree_map_with_path(
        lambda path, x: jax.ShapeDtypeStruct(
            x.shape, x.dtype if in_head & {entry.key for entry in path} else dtype, sharding=whole
        ),
        t5.abstract_params(size),
    )
    inputs = jax.ShapeDtypeStruct((shape.rows, shape.source), jnp.int32, sharding=by_row)
    decode: Any = compile_decoding(size, dtype, shape.written, shape.beams, ALPHA, mesh)
    start = time.monotonic()
    executable = decode.lower(params, inputs).compile()
    module = hlo.parse(executable.as_text() or "")
    body = decoding_loop(module)
    width = jnp.dtype(dtype).itemsize
    least = sum(step_bytes(size, shape, position, width) for position in range(shape.written)) / shape.written
    moved = hbm_bytes(module, body)
    return {
        **vars(shape),
        "size": size.name,
        "device": devices[0].device_kind,
        "moved": moved,
        "least": least,
        "times_least": moved / least,
        "temporaries": executable.memory_analysis().temp_size_in_bytes,
        "seconds": time.monotonic() - start,
        "heaviest": heaviest(module, body, top),
    }


def page_table(found: Sequence[dict[str, Any]]) -> str:
    """Returns a table of what `compile_step` found, a row for each number of beams."""
    rows = []
    for step in found:
        name = "greedy" if step["beams"] == 1 else f"beam {step['beams']}"
        least, moved = (f"{step[key] / 1e9:.2f} GB" for key in ("least", "moved"))
        rows.append((name, least, moved, f"{step['times_least']:.2f} ×"))
    heads = (f"a {found[0]['device']}, by its compiler", "has to read", "moves", "of that")
    return "\n".join(markdown_table(heads, rows))


def main() -> None:
    """Compiles greedy decoding and a beam search, and prints a line of JSON for each."""
    parser = argparse.ArgumentParser(prog="python -m bench.decoding_compiled", description=__doc__)
    parser.add_argument("overrides", nargs="+", help="config overrides: topology=h200 size=base …")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--source", type=int, default=512, help="tokens of an input")
    parser.add_argument("--written", type=int, default=64, help="tokens of an answer at most")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--top", type=int, default=12, help="how many of the heaviest operations to name")
    parser.add_argument("--page", type=Path, help="the page into which the table is written")
    options = parser.parse_args()
    config = composed([*options.overrides, "dataset=demo"])
    require_compiler(str(config.topology))
    devices = topology_devices(str(config.topology))
    size = t5.with_vocabulary(config.size, config.tokenizer.vocabulary_size)
    found = []
    for beams in options.beams:
        shape = Shape(options.rows, options.source, beams, options.written)
        found.append(compile_step(size, shape, devices, "bfloat16", options.top))
        print(json.dumps(found[-1], indent=1), flush=True)
    if options.page:
        write_between_marks(options.page, MARKS, page_table(found))


if __name__ == "__main__":
    main()
