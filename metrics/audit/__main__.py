"""Checks the relations that tables of this kind must keep: python -m metrics.audit paper, or metrics.audit DIR.

`paper` checks the published Tables 1-3 (Narayan et al. 2022, shipped with Edgewise), each number ± half a unit of its
last digit. DIR checks a metrics output directory (metrics.out) at full precision.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from conf.errors import EdgewiseError
from conf.pipes import run_command
from metrics.audit.finding import as_json, as_text, violated


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints every finding and returns the exit status that `--help` explains."""
    options = _parser().parse_args(arguments)
    try:
        if options.what == "paper":
            from metrics.audit.paper import audit_paper

            findings, status = audit_paper(), 0
        else:
            from metrics.audit.output import audit_output

            findings = audit_output(Path(options.what))
            status = 1 if violated(findings) else 0
    except EdgewiseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(as_json(findings), indent=1, ensure_ascii=False) if options.json else as_text(findings))
    if status:
        print("error: an identity does not hold; look for 'cannot hold' above", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m metrics.audit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: `paper` 0, whatever is found, as a finding about the paper is no error; DIR 0 if every "
        "identity holds, 1 if one does not or DIR can't be read. 'cannot hold' is said of numbers that no rounding, to "
        "the nearest, up or down, brings into line, 'rounded differently' of those that rounding up or down does. "
        "Claims (such as 'churn beats margin', which a small metrics.committee_size often contradicts) are reported "
        "and never an error.",
    )
    parser.add_argument("what", metavar="paper|DIR", help="`paper`, or a directory that `python -m metrics` wrote")
    parser.add_argument("--json", action="store_true", help="print the findings as a JSON list")
    return parser


if __name__ == "__main__":
    run_command(main)
