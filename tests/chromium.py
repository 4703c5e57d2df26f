"""Starts a headless Chromium for the report's tests, its picture and its timings; it never reaches the network."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@cache
def installed() -> str | None:
    """Returns the path of the first of BROWSERS that starts; Ubuntu's may be a stub that asks for a snap."""
    for path in filter(None, map(shutil.which, BROWSERS)):
        if subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    return None


@contextmanager
def launched() -> Iterator[Any]:
    """Yields a Playwright browser; its contexts should be `offline=True`, so that a request shows as a failed one."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed(), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def url(page: Path) -> str:
    """Returns the address of a page on this machine."""
    return page.resolve().as_uri()
