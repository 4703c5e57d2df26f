"""Set-ups that several test modules share: a test module imports from here, never from another test module."""

import os
import re
from importlib.metadata import distributions
from pathlib import Path

REPO = Path(__file__).parents[1]


def shared_data() -> Path | None:
    """The folder of real text for slow tests, where there is one."""
    folder = Path(os.environ.get("EDGEWISE_SHARED", REPO.parent / "shared")) / "data"
    return folder if folder.is_dir() else None


def has_cuda() -> bool:
    """Tells whether JAX's CUDA plugin is installed, which brings cuDNN, whether or not there is a GPU."""
    return any(package.name.startswith("jax-cuda") for package in distributions())


def colors_without_a_value(page: str) -> set[str]:
    """The CSS variables that a page uses and nobody gives a value: what is drawn in them can't be seen."""
    return set(re.findall(r"var\((--[\w-]+)\)", page)) - set(re.findall(r"(--[\w-]+)\s*:", page))
