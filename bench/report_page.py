"""Measures the report of 100,000 examples: its size, and how soon Chromium shows it and answers a reader.

`python -m bench.report_page [--examples N]` measures it alone; `just bench` includes it.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from conf.schema import Metrics
from metrics.output.directory import Input, write_metrics
from tests.chromium import installed, launched, url
from tests.synthetic_scores import synthetic_grid

SIZES = {"small": (60_000_000, 1.5), "base": (220_000_000, 1.9), "large": (770_000_000, 2.2), "xl": (3 * 10**9, 2.5)}

# What a reader does, and the script that does it; each is timed until the browser has painted the result.
ACTIONS = (
    ("filter: only the larger right", "set('#example-controls', 'who', 'large')"),
    ("another score", "set('#example-controls', 'score', 'churn')"),
    ("no filter, sort by gain", "set('#example-controls', 'who', ''); set('#example-controls', 'sort', 'gain:down')"),
    ("first search", "set('#example-controls', 'search', 'test-99')"),
    ("second search", "set('#example-controls', 'search', 'class 3')"),
    ("search for two words", "set('#example-controls', 'search', 'a b')"),
    ("scroll to the middle", "list().scrollTop = list().scrollHeight / 2"),
    ("open an example", "list().querySelector('tr[data-place]').click()"),
    ("every pair of runs' curve", "set('#curve-controls', 'runs', 'every')"),
)
SCRIPT = """async () => {
  const list = () => document.querySelector('#example-list');
  const set = (form, name, value) => {
    const control = document.querySelector(form).elements[name];
    control.value = value;
    control.dispatchEvent(new Event('change', { bubbles: true }));
  };
  const start = performance.now();
  %s;
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - start;
}"""


def report_rows(folder: Path, examples: int = 100_000) -> list[tuple[str, str, str]]:
    """Returns rows of what was measured, the measurement and its limit; the size alone without a Chromium."""
    grid = synthetic_grid(SIZES, seeds=10, examples=examples, classes=10)
    text = review_like_texts(examples)
    grid = [replace(one, text=text) for one in grid]
    inputs = [Input(f"scores-{k}", "digest") for k in range(len(grid))]
    write_metrics(grid, inputs, Metrics(resamples=0, beyond=False), folder / "report")
    page = folder / "report" / "report" / "index.html"
    what = f"report of 4 sizes × 10 seeds × {examples:,} examples"
    rows = [(what, f"{page.stat().st_size / 1e6:.1f} MB", "15 MB")]
    if installed() is None:
        return [*rows, ("its first paint", "no Chromium", "2 s")]
    with launched() as browser:
        tab = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True).new_page()
        tab.goto(url(page))
        paint = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        rows.append(("its first paint", f"{paint / 1000:.2f} s", "2 s"))
        tab.locator("#curves").scroll_into_view_if_needed()
        tab.locator("#curve-readout tbody tr").first.wait_for(state="attached")
        tab.locator("#examples").scroll_into_view_if_needed()
        tab.locator("#example-list tbody tr[data-place]").first.wait_for()
        for name, script in ACTIONS:
            took = tab.evaluate(SCRIPT % script)
            rows.append((f"  {name}", f"{took:.0f} ms", "200 ms"))
    return rows


def review_like_texts(count: int) -> np.ndarray:
    """Returns texts of about 60 words, as reviews are, each word as frequent as Zipf's law has it: [count] object."""
    rng = np.random.default_rng(0)
    letters = rng.integers(97, 123, (20_000, 12), dtype=np.uint8)
    words = np.array([bytes(row[: 2 + k % 9]).decode() for k, row in enumerate(letters)], dtype=object)
    frequency = 1 / np.arange(1, len(words) + 1)
    lengths = np.maximum(5, rng.gamma(2.0, 30.0, count)).astype(int)
    drawn = words[rng.choice(len(words), lengths.sum(), p=frequency / frequency.sum())]
    return np.array([" ".join(part) for part in np.split(drawn, np.cumsum(lengths)[:-1])], dtype=object)


def main() -> None:
    """Prints each measurement on a line."""
    parser = argparse.ArgumentParser(prog="python -m bench.report_page", description=__doc__)
    parser.add_argument("--examples", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for what, measured, limit in report_rows(Path(folder), options.examples):
            print(f"{what:62} {measured:>12}  must stay under {limit}")


if __name__ == "__main__":
    main()
