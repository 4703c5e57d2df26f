"""Writes the tables of docs/scale.md, by the TPU's own compiler: `just scale`.

For every size of the paper on every slice, it takes the first recipe of LADDER that fits; then 3b on ever more chips.
The compiler's reports are kept in out/scale/ and used again; --again compiles everything anew.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support import REPO

SLICES = {"v4-8": "v4:2x2x1", "v5e-16": "v5e:4x4", "v5p-8": "v5p:2x2x1", "v6e-8": "v6e:2x4"}
SIZES = ("small", "base", "large", "3b")
# (mesh, train.remat), cheapest first: nothing is computed twice, then little, then everything; and at each of these,
# parameters that are whole on every device before parameters that are gathered.
LADDER = (("auto", "none"), ("fsdp", "none"), ("auto", "dots"), ("fsdp", "dots"), ("auto", "full"), ("fsdp", "full"))
GROWTH = (
    ("v5e-16", "v5e:4x4", ("mesh=fsdp",)),
    ("v5e-64", "v5e:8x8", ("mesh=fsdp",)),
    ("v5e-64", "v5e:8x8", ("mesh=fsdp", "mesh.data=4", "mesh.fsdp=16")),
    ("v5e-256", "v5e:16x16", ("mesh=pod",)),
    ("v5e-256", "v5e:16x16", ("mesh=pod", "mesh.data=1", "mesh.fsdp=128")),
)
COMMON = ("dataset=yahoo_answers", "compile.json=true")


def compiled(kept: Path, again: bool, *overrides: str) -> dict[str, Any]:
    """Returns the report of `python -m train.compile`, from the kept file where there is one."""
    file = kept / (re.sub(r"[^\w.=-]+", "-", "_".join(overrides)) + ".json")
    if again or not file.exists():
        command = [sys.executable, "-m", "train.compile", *COMMON, *overrides]
        result = subprocess.run(command, cwd=REPO, stdout=subprocess.PIPE, text=True)
        if not result.stdout.startswith("{"):
            raise SystemExit(f"{' '.join(command)} ended with status {result.returncode}")
        kept.mkdir(parents=True, exist_ok=True)
        file.write_text(result.stdout)
    return json.loads(file.read_text())


def first_that_fits(kept: Path, again: bool, topology: str, size: str) -> tuple[dict[str, Any], str]:
    """Returns the report of the first recipe of LADDER that fits, and that recipe's overrides."""
    for mesh, remat in LADDER:
        overrides = (f"topology={topology}", f"size={size}", f"mesh={mesh}", f"train.remat={remat}")
        report = compiled(kept, again, *overrides)
        if all(step["fits"] for step in report["steps"]):
            break
    return report, f"`mesh={mesh} train.remat={remat}`"


def slice_row(name: str, report: dict[str, Any], recipe: str) -> list[str]:
    """Returns a row of the table of slices: the train step, and the memory of the scoring step."""
    train, score = report["steps"]
    if not train["fits"]:
        return [name, report["size"], recipe, "does not fit", "", "", "", "", "", ""]
    sent = sum(collective["sent"] for collective in train["collectives"])
    return [
        name,
        report["size"],
        recipe,
        f"{gib(train['arguments'])} + {gib(train['temporaries'])}",
        f"{train['memory'] / train['hbm']:.0%}",
        f"{train['flops'] / 1e12:.1f}",
        f"{train['model_flops'] / train['flops']:.0%}",
        gib(sent),
        f"{score['memory'] / score['hbm']:.0%}",
        f"{train['seconds']:.0f} s",
    ]


def growth_row(name: str, report: dict[str, Any]) -> list[str]:
    """Returns a row of the table of ever more chips: the train step's collectives by kind."""
    [train, *_] = report["steps"]
    kinds = {collective["kind"]: collective for collective in train["collectives"] or []}
    mesh = " × ".join(f"{axis} {n}" for axis, n in report["mesh"].items() if n > 1)
    cells = [
        f"{kinds[kind]['count']:,} · {gib(kinds[kind]['sent'])}" if kind in kinds else ""
        for kind in ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")
    ]
    total = sum(collective["sent"] for collective in kinds.values())
    memory = f"{train['memory'] / train['hbm']:.0%}" if train["fits"] else "does not fit"
    return [
        name,
        mesh,
        memory,
        f"{train['flops'] / 1e12:.1f}",
        *cells,
        gib(total),
        f"{total * report['devices'] / 2**40:.2f} TiB",
    ]


def gib(size: float) -> str:
    """Returns a number of bytes in GiB, as text."""
    return f"{size / 2**30:.2f} GiB"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Returns a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Compiles what is missing and writes the tables into docs/scale.md."""
    parser = argparse.ArgumentParser(prog="just scale", description=__doc__)
    parser.add_argument("--again", action="store_true", help="compile everything anew")
    options = parser.parse_args()
    kept = REPO / "out/scale"
    fitting = []
    for name, topology in SLICES.items():
        for size in SIZES:
            report, recipe = first_that_fits(kept, options.again, topology, size)
            fitting.append(slice_row(name, report, recipe))
            print(*fitting[-1], sep="  ", flush=True)
    growing = []
    for name, topology, overrides in GROWTH:
        arguments = (f"topology={topology}", "size=3b", "train.remat=full", "compile.step=train", *overrides)
        growing.append(growth_row(name, compiled(kept, options.again, *arguments)))
        print(*growing[-1], sep="  ", flush=True)
    tables = {
        "slices": table(
            [
                "slice",
                "size",
                "recipe",
                "arguments + temporaries",
                "of HBM",
                "TFLOP",
                "the model's",
                "sent",
                "scoring, of HBM",
                "compiled in",
            ],
            fitting,
        ),
        "growth": table(
            [
                "slice",
                "mesh",
                "of HBM",
                "TFLOP",
                "all-gather",
                "reduce-scatter",
                "all-reduce",
                "all-to-all",
                "permute",
                "sent",
                "by all chips",
            ],
            growing,
        ),
    }
    page = REPO / "docs/scale.md"
    text = page.read_text()
    for name, made in tables.items():
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", lambda m, made=made: m[1] + made + m[2], text, flags=re.S
        )
    page.write_text(text)


if __name__ == "__main__":
    main()
