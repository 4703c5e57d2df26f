"""Lays the report out: one HTML file, style and figures inside, readable offline, in the dark and on a phone."""

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from metrics.analysis import Analysis, Estimate
from metrics.figures import TITLES
from metrics.report.words import passages, percent, points, slice_name
from metrics.tables import CAPTIONS, KEYS, Rows, layout
from metrics.tables import TITLES as TABLE_TITLES

_STYLE = Path(__file__).with_name("style.css")
# what each figure's reader should know beyond its axes
_FIGURE_NOTES = {
    "fig1": "First seed of the smallest and of the largest size. Bars: Wilson intervals over examples.",
    "fig2": "Pooled over all pairs of runs of the smallest and the largest size; bands from 200 resamples.",
    "fig3": "Mean over runs; the smallest model's own accuracy is of the run that ranks. Ties are split evenly.",
    "fig4": "Mean over all pairs of runs, ranked by margin. Dashed: deferring as many at random.",
    "fig5": "Smallest to largest size, ranked by margin; a colour for how much better the larger run is.",
    "fig6": "Ranked by margin. Only pairs of runs whose accuracies differ by 0.5 to 1 point, where there are any.",
}


def write_report(
    path: Path,
    analyses: Sequence[Analysis],
    rows: Rows,
    drawn: Mapping[str, str],
    notes: Sequence[str],
    inputs: Sequence[Mapping[str, Any]],
    signature: str,
    confidence: float,
) -> None:
    """Writes the page. `drawn` holds each figure's SVG; `inputs` are `summary.json`'s."""
    names = ", ".join(analysis.grid.dataset for analysis in analyses)
    runs = sum(len(size.seeds) for analysis in analyses for size in analysis.grid.sizes)
    sections = [("overview", "Overview", _overview(analyses, confidence))]
    sections.append(("figures", "Figures", "".join(_figure(name, drawn[name], confidence) for name in TITLES)))
    sections.append(("tables", "Tables", "".join(_paper_table(name, analyses, rows, confidence) for name in rows)))
    slices = "".join(_slices(analysis, confidence) for analysis in analyses)
    if slices:
        sections.append(("slices", "Slices", slices))
    if notes:
        sections.append(("notes", "Notes", "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>"))
    sections.append(("provenance", "Provenance", _provenance(analyses, inputs, signature)))
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title, _ in sections)
    body = "".join(f'<section id="{key}"><h2>{title}</h2>{text}</section>' for key, title, text in sections)
    path.parent.mkdir(parents=True)
    path.write_text(
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Switchyard: {escape(names)}</title>"
        f"<style>{_STYLE.read_text(encoding='utf-8')}</style></head><body>"
        f"<h1>On which examples does the larger model do better?</h1>"
        f'<p class="soft">{escape(names)}: {runs} runs</p><nav>{links}</nav>{body}</body></html>\n',
        encoding="utf-8",
    )


def _overview(analyses: Sequence[Analysis], confidence: float) -> str:
    parts = []
    for analysis in analyses:
        grid = analysis.grid
        if len(analyses) > 1 or analysis.widest is None:
            parts.append(f"<h3>{escape(grid.dataset)}</h3>")
        pair = analysis.widest
        if pair is not None:
            area, matching = pair.area["margin"], pair.matching["margin"]
            reached = f"{percent(matching.value, 0)} of examples" if matching.value < 0.995 else "all examples"
            if not pair.gap.above_zero:
                reached = "n/a"
            parts.append(
                '<div class="tiles">'
                + _tile(f"{points(pair.gap.value, sign=True)} points", f"{pair.large} over {pair.small}", pair.gap)
                + _tile(f"{points(area.value, sign=True)} points", "deferral by margin over random", area)
                + _tile(reached, f"deferred by margin match {pair.large}", matching if reached != "n/a" else None)
                + _tile(percent(pair.disagreement.value), "of predictions differ between them", pair.disagreement)
                + "</div>"
            )
        for heading, sentences in passages(analysis, confidence):
            parts.append(f"<h3>{escape(heading)}</h3>")
            parts += [f"<p>{escape(sentence)}</p>" for sentence in sentences]
        parts.append(_accuracies(analysis, confidence))
    return "".join(parts)


def _tile(number: str, meaning: str, estimate: Estimate | None) -> str:
    limits = (
        "" if estimate is None or math.isnan(estimate.low) else f"{points(estimate.low)} to {points(estimate.high)}"
    )
    return f'<div class="tile"><b>{escape(number)}</b><span>{escape(meaning)}</span><span>{limits}</span></div>'


def _accuracies(analysis: Analysis, confidence: float) -> str:
    header = [
        "Size",
        "Parameters",
        "FLOPs per example",
        "Seeds",
        "BLEU" if analysis.grid.measure == "bleu" else "Accuracy, %",
        "lowest to highest run",
    ]
    body = [
        [
            size.name,
            f"{size.parameters:,}",
            f"{size.flops_per_example:.3g}",
            str(len(size.seeds)),
            f"{points(estimate.value)}{_brackets(estimate)}",
            f"{points(size.quality.min())} to {points(size.quality.max())}",
        ]
        for size, estimate in ((size, analysis.quality[size.name]) for size in analysis.grid.sizes)
    ]
    caption = f"Sizes of {analysis.grid.dataset}, with {100 * confidence:g} % intervals."
    return _table(header, body, caption, text_columns=1)


def _paper_table(name: str, analyses: Sequence[Analysis], rows: Rows, confidence: float) -> str:
    header, body = layout(name, analyses, rows[name])
    cells = f"Cells: mean (published standard error) [{100 * confidence:g} % interval]."
    caption = f"{TABLE_TITLES[name]}. {CAPTIONS[name]} {cells}"
    if not body:
        return f"<p class='soft'>{escape(caption)}</p><p>Nothing to show: see the notes.</p>"
    return _table(header, body, caption, text_columns=KEYS[name])


def _slices(analysis: Analysis, confidence: float) -> str:
    parts = []
    names = [size.name for size in analysis.grid.sizes]
    ends = (names[0], names[-1]) if len(names) > 1 else None
    for column in sorted({row.column for row in analysis.slices}):
        rows = [row for row in analysis.slices if row.column == column]
        header = [
            slice_name(column),
            "n",
            *(f"{name}, {'BLEU' if analysis.grid.measure == 'bleu' else '%'}" for name in names),
        ]
        if ends:
            header += [f"{ends[1]} - {ends[0]}, points", "", "verdict"]
        gains = [row.gains[ends] for row in rows] if ends else []
        reach = max((abs(v) for g in gains for v in (g.value, g.low, g.high) if not math.isnan(v)), default=1.0) or 1.0
        lines = []
        for k, row in enumerate(rows):
            cells = [escape(row.value), f"{row.examples:,}"]
            cells += [f"{points(row.quality[name].value)}{_small(row.quality[name])}" for name in names]
            if ends:
                cells += [f"{points(gains[k].value, sign=True)}{_small(gains[k])}", _whisker(gains[k], reach)]
                cells.append(_verdict(gains[k], ends[1]))
            lines.append(
                "".join(f"<td{'' if c in (0, len(cells) - 1) else ' class=n'}>{x}</td>" for c, x in enumerate(cells))
            )
        head = "".join(
            f"<th{'' if c == 0 or title == 'verdict' else ' class=n'}>{escape(title)}</th>"
            for c, title in enumerate(header)
        )
        caption = (
            f"{analysis.grid.dataset} by {slice_name(column)}: means over seeds, with {100 * confidence:g} % intervals "
            "over seeds and examples, each by itself."
        )
        parts.append(
            f'<p class="soft">{escape(caption)}</p><div class="wide"><table><thead><tr>{head}</tr></thead><tbody>'
            + "".join(f"<tr>{line}</tr>" for line in lines)
            + "</tbody></table></div>"
        )
    return "".join(parts)


def _verdict(gain: Estimate, large: str) -> str:
    if gain.above_zero:
        return f"{escape(large)} gains"
    if gain.below_zero:
        return f"{escape(large)} loses"
    return "no interval" if math.isnan(gain.low) else "can't be told apart"


def _whisker(gain: Estimate, reach: float) -> str:
    """A dot and its interval around 0, on one scale for the whole table."""

    def x(value: float) -> float:
        return round(80 + 74 * value / reach, 1)

    line = ""
    if not math.isnan(gain.low):
        line = f'<line x1="{x(gain.low)}" x2="{x(gain.high)}" y1="8" y2="8" stroke="currentColor" stroke-width="1.5"/>'
    return (
        '<svg width="160" height="16" role="img" aria-hidden="true">'
        '<line x1="80" x2="80" y1="0" y2="16" stroke="currentColor" stroke-opacity=".35"/>'
        f'{line}<circle cx="{x(gain.value)}" cy="8" r="4" fill="#0072B2"/></svg>'
    )


def _figure(name: str, svg: str, confidence: float) -> str:
    caption = f"Figure {name[-1]}. {TITLES[name]}. {_FIGURE_NOTES[name]}"
    if name not in ("fig1", "fig6"):  # the one says what its bars are, the other is of single pairs
        caption += f" Bands: {100 * confidence:g} % intervals over seeds and examples."
    return (
        f'<figure id="{name}"><div class="wide">{_inline(svg, TITLES[name])}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _inline(svg: str, title: str) -> str:
    """An SVG file as part of a page: ink and paper become the page's, and ids that nothing refers to go."""
    from metrics.figures.style import INK, PAPER

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    referred = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda match: match[0] if match[1] in referred else "", svg)
    svg = svg.replace(INK, "currentColor").replace(PAPER, "none")
    svg = re.sub(r"\n\s*", "\n", svg)
    # Sized by its panels: one fits a phone, three scroll there and fill a desk's screen.
    width = float(re.search(r'width="([\d.]+)pt"', svg)[1])  # type: ignore[index]
    size = f"min-width:{0.95 * width:.0f}px;max-width:{2 * width:.0f}px"
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}" style="{size}"', 1)


def _provenance(analyses: Sequence[Analysis], inputs: Sequence[Mapping[str, Any]], signature: str) -> str:
    scores = sorted({text for analysis in analyses for text in analysis.grid.signatures})
    header = ["Scores", "Digest", "Dataset", "Size", "Seed", "Split", "Examples", "Model"]
    body = [
        [
            str(one[key]) if key != "examples" else f"{one[key]:,}"
            for key in ("name", "digest", "dataset", "size", "seed", "split", "examples", "model")
        ]
        for one in inputs
    ]
    return (
        f"<p>Tables and figures: <code>{escape(signature)}</code></p>"
        + "".join(f"<p>Scores: <code>{escape(text)}</code></p>" for text in scores)
        + _table(header, body, "Every scores file these numbers come from.", text_columns=len(header))
    )


def _table(header: Sequence[str], body: Sequence[Sequence[str]], caption: str, text_columns: int) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{'' if k < text_columns else ' class=n'}>{_broken(cell)}</{tag}>" for k, cell in enumerate(cells)
        )

    return (
        f'<p class="soft">{escape(caption)}</p>'
        f'<div class="wide"><table><thead><tr>{row(header, "th")}</tr></thead><tbody>'
        + "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in body)
        + "</tbody></table></div>"
    )


def _broken(cell: str) -> str:
    """`mean (se) [low, high]` on two lines."""
    head, bracket, tail = escape(cell).partition(" [")
    return f"{head}<small>[{tail}</small>" if bracket else head


def _brackets(estimate: Estimate) -> str:
    return "" if math.isnan(estimate.low) else f" [{points(estimate.low)}, {points(estimate.high)}]"


def _small(estimate: Estimate) -> str:
    return "" if math.isnan(estimate.low) else f"<small>{points(estimate.low)} to {points(estimate.high)}</small>"
