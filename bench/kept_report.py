"""Keeps what `python -m train.compile` reports, so that a page's table is made again without compiling."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support import REPO


def kept_report(file: Path, overrides: Sequence[str], again: bool = False) -> dict[str, Any]:
    """Returns the report in `file`; compiles with `overrides` and writes it where it is not there, or with `again`.

    Raises SystemExit where that fails. A step that does not fit has a report too.
    """
    if again or not file.exists():
        command = [sys.executable, "-m", "train.compile", *overrides]
        result = subprocess.run(command, cwd=REPO, stdout=subprocess.PIPE, text=True)
        if not result.stdout.startswith("{"):
            raise SystemExit(f"{' '.join(command)} ended with status {result.returncode}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(result.stdout)
    return dict(json.loads(file.read_text()))
