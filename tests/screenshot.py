"""`python -m tests.screenshot PAGE PNG`: a picture of an HTML file, by a headless Chromium."""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def take(page: Path, picture: Path, width: int, height: int) -> None:
    """Writes a PNG of the page's top `height` pixels."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"error: none of {', '.join(BROWSERS)} is installed; install Chromium to take the picture")
    if not page.is_file():
        sys.exit(f"error: {page} is not there; run `just demo` first")
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking"]
        target = [f"--window-size={width},{height}", f"--user-data-dir={profile}", f"--screenshot={picture}"]
        subprocess.run([browser, *flags, *target, page.resolve().as_uri()], check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1000)
    parser.add_argument("--height", type=int, default=1250)
    options = parser.parse_args()
    take(options.page, options.picture, options.width, options.height)


if __name__ == "__main__":
    main()
