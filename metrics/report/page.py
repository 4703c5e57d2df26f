"""Lays the report out: one HTML file, with its style, its scripts, its figures and its data inside.

It asks for nothing over the network: a content security policy forbids that, and any script but the page's own. What
needs no script, which is all but the curves, the example browser and sorting, is there without.
"""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis
from metrics.figures import TITLES
from metrics.report.curve_chart import curve_blocks, curve_section
from metrics.report.examples import example_blocks, example_section
from metrics.report.figures import figure
from metrics.report.overview import overview
from metrics.report.provenance import provenance
from metrics.report.results import result_tables, slice_tables
from metrics.scores import ScoresMetadata
from metrics.tables.paper import Rows
from metrics.tables.table import Table

_FOLDER = Path(__file__).parent
_SCRIPTS = ("data", "sorting", "chart", "curves", "filter", "browser", "start")  # in this order


def write_report(
    path: Path,
    analyses: Sequence[Analysis],
    rows: Rows,
    drawn: Mapping[str, str],
    notes: Sequence[str],
    inputs: Sequence[Mapping[str, Any]],
    metadata: Sequence[ScoresMetadata],
    config: Metrics,
    signature: str,
    further: Sequence[Table] = (),
) -> None:
    """Writes the page.

    Args:
        rows: Tables 1-3, as `table_rows` makes them.
        drawn: each figure's SVG.
        inputs: `summary.json`'s, in the order of `metadata`.
        signature: which choices the tables and figures rest on.
        further: tables past the paper's.

    """
    confidence = config.confidence
    sections = [("overview", "Overview", overview(analyses, confidence))]
    if any(analysis.pairs for analysis in analyses):
        sections.append(("curves", "Curves", curve_section()))
    sections.append(("examples", "Examples", example_section()))
    figures = "".join(figure(name, drawn[name], analyses, confidence) for name in TITLES)
    sections.append(("figures", "Figures", f'<div class="figures">{figures}</div>'))
    sections.append(("tables", "Tables", result_tables(analyses, rows, further, confidence)))
    slices = slice_tables(analyses, confidence)
    if slices:
        sections.append(("slices", "Slices", slices))
    if notes:
        sections.append(("notes", "Notes", "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>"))
    sections.append(("provenance", "Provenance", provenance(analyses, inputs, metadata, config, signature)))
    data = curve_blocks(analyses, confidence) + example_blocks(analyses, inputs)
    path.parent.mkdir(parents=True)
    path.write_text(_page(analyses, sections, data, confidence), encoding="utf-8")


def _page(
    analyses: Sequence[Analysis], sections: Sequence[tuple[str, str, str]], data: Sequence[str], confidence: float
) -> str:
    names = ", ".join(analysis.grid.dataset for analysis in analyses)
    runs = sum(len(size.seeds) for analysis in analyses for size in analysis.grid.sizes)
    examples = sum(analysis.grid.examples for analysis in analyses)
    brackets = ""
    if any(not math.isnan(estimate.low) for analysis in analyses for estimate in analysis.quality.values()):
        brackets = f"In brackets: {100 * confidence:g} % intervals over seeds and examples."
    theme, script = _script("theme"), _script(*_SCRIPTS)
    sources = " ".join(f"'sha256-{_digest(text)}'" for text in (theme, script))
    policy = f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data:"
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title, _ in sections)
    body = "".join(
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{title}</h2>{text}</section>\n'
        for key, title, text in sections
    )
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<link rel="icon" href="data:,">'
        f"<title>Edgewise: {escape(names)}</title>"
        f"<style>{(_FOLDER / 'style.css').read_text(encoding='utf-8')}</style><script>{theme}</script></head><body>"
        '<a class="skip" href="#overview">Skip to the overview</a>'
        f'<nav aria-label="Sections">{links}'
        '<button type="button" id="theme" hidden></button></nav>'
        "<main><header><h1>On which examples does the larger model do better?</h1>"
        f'<p class="soft">{escape(names)}: {examples:,} examples, {runs} runs. {brackets}</p></header>\n{body}</main>\n'
        f"<script>{script}</script>\n{''.join(data)}</body></html>\n"
    )


def _script(*names: str) -> str:
    """Parts of the script in one scope of their own."""
    parts = "".join((_FOLDER / "script" / f"{name}.js").read_text(encoding="utf-8") for name in names)
    return f"(() => {{\n'use strict';\n{parts}}})();\n"


def _digest(script: str) -> str:
    """As a content security policy names an inline script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
