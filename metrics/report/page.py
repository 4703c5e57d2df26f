"""Lays the report out: one HTML file, with its style, its scripts, its figures and its data inside.

The page asks for nothing over the network: a content security policy forbids that, and any script but the page's own.
Only the curves, the example browser and the sorting of tables need scripts; everything else is shown without them.
"""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from conf.schema import Metrics
from metrics.analysis.dataset import Analysis
from metrics.analysis.prices import prices_of
from metrics.figures import TITLES
from metrics.page_colors import PAGE_COLORS
from metrics.report.curve_chart import curve_blocks, curve_section
from metrics.report.examples import example_section
from metrics.report.figures import figure
from metrics.report.overview import overview
from metrics.report.provenance import provenance
from metrics.report.results import result_tables, slice_tables
from metrics.scores import ScoresMetadata
from metrics.tables.paper import Rows
from metrics.tables.table import Table

_FOLDER = Path(__file__).parent
_SCRIPTS = ("data", "sorting", "tables", "chart", "curves", "filter", "detail", "browser", "start")  # in this order

Section = tuple[str, str, str]  # id, title, HTML


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """Holds everything that the page shows: results, tables, figures, and where they come from."""

    analyses: Sequence[Analysis]  # one a dataset
    rows: Rows  # of Tables 1-3, as `table_rows` makes them
    figures: Mapping[str, str]  # name -> SVG
    notes: Sequence[str]
    inputs: Sequence[Mapping[str, Any]]  # each run's entry in summary.json, in the order of `metadata`
    metadata: Sequence[ScoresMetadata]
    config: Metrics
    signature: str  # which choices the tables and figures rest on
    examples: Sequence[str]  # the blocks of the example browser, as `example_blocks` makes them
    further: Sequence[Table] = ()  # tables past the paper's
    with_text: bool = True  # whether the page may show what examples say


def write_report(path: Path, content: ReportContent) -> None:
    """Writes the page to `path`, whose folder must not exist yet."""
    analyses, confidence = content.analyses, content.config.confidence
    prices = [prices_of(content.config, analysis.grid) for analysis in analyses]
    data = [*curve_blocks(analyses, confidence, prices), *content.examples]
    path.parent.mkdir(parents=True)
    path.write_text(_page(analyses, _sections(content), data, confidence), encoding="utf-8")


def _sections(content: ReportContent) -> list[Section]:
    """Returns the page's sections in order, without those that have nothing to show."""
    analyses, confidence = content.analyses, content.config.confidence
    prices = [prices_of(content.config, analysis.grid) for analysis in analyses]
    figures = "".join(figure(name, content.figures[name], analyses, confidence) for name in TITLES)
    notes = "".join(f"<li>{escape(note)}</li>" for note in content.notes)
    several_sizes = any(analysis.pairs for analysis in analyses)
    sections = [
        ("overview", "Overview", overview(analyses, confidence, prices, models_stored=content.config.scores is None)),
        ("curves", "Curves", curve_section() if several_sizes else ""),
        ("examples", "Examples", example_section(content.with_text)),
        ("figures", "Figures", f'<div class="figures">{figures}</div>'),
        ("tables", "Tables", result_tables(analyses, content.rows, content.further, confidence)),
        ("slices", "Slices", slice_tables(analyses, confidence)),
        ("notes", "Notes", f"<ul>{notes}</ul>" if notes else ""),
        (
            "provenance",
            "Provenance",
            provenance(analyses, content.inputs, content.metadata, content.config, content.signature),
        ),
    ]
    return [section for section in sections if section[2]]


def _page(analyses: Sequence[Analysis], sections: Sequence[Section], data: Sequence[str], confidence: float) -> str:
    """Returns the whole HTML file: the sections, and `data`, the JSON blocks that the script reads."""
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
        f"<style>{PAGE_COLORS}{(_FOLDER / 'style.css').read_text(encoding='utf-8')}</style>"
        f"<script>{theme}</script></head><body>"
        '<a class="skip" href="#overview">Skip to the overview</a>'
        f'<nav aria-label="Sections"><div class="links">{links}</div>'
        '<button type="button" id="theme" hidden></button></nav>'
        "<main><header><h1>On which examples does the larger model do better?</h1>"
        f'<p class="soft">{escape(names)}: {examples:,} examples, {runs} runs. {brackets}</p></header>\n{body}</main>\n'
        f"<script>{script}</script>\n{''.join(data)}</body></html>\n"
    )


def _script(*names: str) -> str:
    """Returns the named parts of the script, in one scope of their own."""
    parts = "".join((_FOLDER / "script" / f"{name}.js").read_text(encoding="utf-8") for name in names)
    return f"(() => {{\n'use strict';\n{parts}}})();\n"


def _digest(script: str) -> str:
    """Returns the digest by which a content security policy names an inline script: SHA-256 in base64."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
