"""Takes a picture of an HTML file by a headless Chromium: `python -m bench.screenshot PAGE PNG`."""

import argparse
import sys
from pathlib import Path

from tests.chromium import BROWSERS, installed, launched, url


def take_screenshot(
    page: Path, picture: Path, width: int, height: int, dark: bool = False, at: str = "", full: bool = False
) -> None:
    """Writes a PNG of the page's top `height` pixels, of what is at the element `at`, or of the whole page (`full`)."""
    if installed() is None:
        sys.exit(f"error: none of {', '.join(BROWSERS)} is installed and starts; install Chromium to take the picture")
    if not page.is_file():
        sys.exit(f"error: {page} is not there; run `just demo` first")
    with launched() as browser:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", offline=True
        )
        tab = context.new_page()
        tab.goto(url(page))
        if at:
            tab.locator(at).first.scroll_into_view_if_needed()
            tab.evaluate("at => document.querySelector(at).scrollIntoView()", at)
        tab.wait_for_timeout(500)
        tab.screenshot(path=picture, full_page=full)


def main() -> None:
    """Takes the picture that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=1300)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--at", default="", help="a CSS selector, such as #examples, to scroll to")
    parser.add_argument("--full", action="store_true", help="the whole page, however long")
    options = parser.parse_args()
    take_screenshot(
        options.page, options.picture, options.width, options.height, options.dark, options.at, options.full
    )


if __name__ == "__main__":
    main()
