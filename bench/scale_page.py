"""Writes the tables of docs/scale.md, by the TPU's own compiler: `just scale`.

For every size of the paper on every slice, it takes the first recipe of LADDER that fits; then 3b on ever more chips;
then plain attention beside the project's own kernel, which the first two take as every run does. The compiler's reports
are kept in out/scale/ and used again; --again compiles everything anew, --only makes one table.
"""

import argparse
import re
from pathlib import Path
from typing import Any

from bench.kept_report import kept_report
from bench.markdown import markdown_table
from bench.marked_page import write_between_marks
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
ATTENTION = (  # slice, its compiler's name, size, recipe: each by both ways
    ("v5e-16", "v5e:4x4", "base", ("mesh=auto", "train.remat=none")),
    ("v5e-16", "v5e:4x4", "3b", ("mesh=fsdp", "train.remat=none")),
    ("v5e-16", "v5e:4x4", "3b", ("mesh=fsdp", "train.remat=dots")),
)
COMMON = ("dataset=yahoo_answers", "compile.json=true")


def compiled(kept: Path, again: bool, *overrides: str) -> dict[str, Any]:
    """Returns the report of `python -m train.compile`, from the kept file where there is one."""
    file = kept / (re.sub(r"[^\w.=-]+", "-", "_".join(overrides)) + ".json")
    return kept_report(file, [*COMMON, *overrides], again)


def first_that_fits(
    kept: Path, again: bool, topology: str, size: str
) -> tuple[dict[str, Any], dict[str, Any] | None, str]:
    """Returns the reports of the train step and of scoring by the first recipe of LADDER that fits both; the recipe.

    Where none does, the train step's report is the last recipe's, and scoring has none.
    """
    for mesh, remat in LADDER:
        overrides = (f"topology={topology}", f"size={size}", f"mesh={mesh}", f"train.remat={remat}")
        train, recipe = compiled(kept, again, *overrides, "compile.step=train"), " ".join(overrides[2:])
        if train["steps"][0]["fits"]:
            scoring = compiled(kept, again, *overrides, "compile.step=score")
            if scoring["steps"][0]["fits"]:
                return train, scoring, recipe
    return train, None, recipe


def slice_row(name: str, report: dict[str, Any], scoring: dict[str, Any] | None, recipe: str) -> list[str]:
    """Returns a row of the table of slices: the train step, and the memory of the scoring step."""
    [train] = report["steps"]
    if scoring is None:
        return [name, report["size"], f"`{recipe}`", "does not fit", "", "", "", "", "", ""]
    [score] = scoring["steps"]
    sent = sum(collective["sent"] for collective in train["collectives"])
    return [
        name,
        report["size"],
        f"`{recipe}`",
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


def attention_row(name: str, size: str, recipe: tuple[str, ...], ways: dict[str, dict[str, Any]]) -> list[str]:
    """Returns a row of the table of attention: a train step with plain attention and with the kernel."""
    cells = zip(*(attention_cells(ways[way]["steps"][0]) for way in ("plain", "kernel")), strict=True)
    return [name, size, f"`{' '.join(recipe)}`", *(" → ".join(both) for both in cells)]


def attention_cells(train: dict[str, Any]) -> list[str]:
    """Returns temporaries, all memory, operations and traffic of a train step; what is not known is a dash.

    Where a step does not fit, its temporaries are those that the compiler's message names.
    """
    if not train["fits"]:
        wanted = re.search(r"temporaries \(([\d.]+)G\)", train["error"] or "")
        return [f"{wanted[1]} GiB" if wanted else "–", "does not fit", "–", "–"]
    share, teraflops = train["memory"] / train["hbm"], train["flops"] / 1e12
    return [gib(train["temporaries"]), f"{share:.0%}", f"{teraflops:.1f}", gib(train["accessed"])]


def gib(size: float) -> str:
    """Returns a number of bytes in GiB, as text."""
    return f"{size / 2**30:.2f} GiB"


def slices_table(kept: Path, again: bool) -> str:
    """Compiles every size on every slice, and returns the table."""
    rows = []
    for name, topology in SLICES.items():
        for size in SIZES:
            rows.append(shown(slice_row(name, *first_that_fits(kept, again, topology, size))))
    header = [
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
    ]
    return "\n".join(markdown_table(header, rows, (0, 1, 2)))


def growth_table(kept: Path, again: bool) -> str:
    """Compiles 3b on ever more chips, and returns the table."""
    rows = []
    for name, topology, overrides in GROWTH:
        arguments = (f"topology={topology}", "size=3b", "train.remat=full", "compile.step=train", *overrides)
        rows.append(shown(growth_row(name, compiled(kept, again, *arguments))))
    header = [
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
    ]
    return "\n".join(markdown_table(header, rows, (0, 1)))


def attention_table(kept: Path, again: bool) -> str:
    """Compiles with both ways of attention, and returns the table."""
    rows = []
    for name, topology, size, recipe in ATTENTION:
        arguments = (f"topology={topology}", f"size={size}", *recipe, "compile.step=train")
        ways = {way: compiled(kept, again, *arguments, f"train.attention={way}") for way in ("plain", "kernel")}
        rows.append(shown(attention_row(name, size, recipe, ways)))
    header = ["slice", "size", "recipe", "temporaries", "of HBM", "TFLOP", "read from and written to HBM"]
    return "\n".join(markdown_table(header, rows, (0, 1, 2)))


def shown(row: list[str]) -> list[str]:
    """Prints a finished row, and returns it."""
    print(*row, sep="  ", flush=True)
    return row


TABLES = {"slices": slices_table, "growth": growth_table, "attention": attention_table}


def main() -> None:
    """Compiles what is missing and writes the tables into docs/scale.md."""
    parser = argparse.ArgumentParser(prog="just scale", description=__doc__)
    parser.add_argument("--again", action="store_true", help="compile everything anew")
    parser.add_argument("--only", choices=TABLES, help="make this table alone")
    options = parser.parse_args()
    kept = REPO / "out/scale"
    made = {name: TABLES[name](kept, options.again) for name in TABLES if options.only in (None, name)}
    page = REPO / "docs/scale.md"
    for name, rows in made.items():
        write_between_marks(page, (f"<!-- {name} -->", "<!-- end -->"), rows.strip())


if __name__ == "__main__":
    main()
