"""A real headless Chromium for the report's tests, its picture and its timings; it never reaches the network."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def installed() -> str | None:
    """The path of the first of BROWSERS that is there."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@contextmanager
def launched() -> Iterator[Any]:
    """A Playwright browser; its contexts should be `offline=True`, so that a request shows as a failed one."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed(), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def url(page: Path) -> str:
    return page.resolve().as_uri()
