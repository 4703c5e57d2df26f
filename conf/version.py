"""Reads the product's version."""

import functools
import tomllib
from pathlib import Path

PRODUCT = "edgewise"


@functools.cache
def product_version() -> str:
    """Returns the version that pyproject.toml gives, such as `0.2.0`."""
    text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    return str(tomllib.loads(text)["project"]["version"])


def version_line() -> str:
    """Returns what `--version` prints: the product's name and its version."""
    return f"{PRODUCT} {product_version()}"
