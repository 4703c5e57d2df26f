"""Runs the product's commands for measurements that take several of them, as a user types them."""

import shlex
import subprocess
import sys

from tests.support import REPO


def run(*arguments: str) -> None:
    """Prints and runs `python -m` with these arguments in the checkout; raises CalledProcessError where it fails."""
    print(f"$ python -m {shlex.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", *arguments], cwd=REPO, check=True)
