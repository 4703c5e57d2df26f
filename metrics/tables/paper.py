"""Tables 1-3 as CSV at full precision, and as Markdown and LaTeX laid out like the paper's.

Span QA and translation have a fourth, which puts the two contexts side by side.
"""

import csv
import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from conf.schema import SCORES, Metrics
from metrics.analysis.dataset import Analysis
from metrics.analysis.size import CONTEXT_SCORES
from metrics.statistics.churn import BUCKETS

Row = dict
Rows = dict[str, list[Row]]

GAIN_COLUMNS = ("dataset", "small", "large", "score", "mean", "se", "ci_low", "ci_high", "pairs", "mean_relative")
CHURN_COLUMNS = (
    *("dataset", "uncertainty_size", "size", "bucket", "lower", "upper"),
    *("churn", "se", "ci_low", "ci_high", "examples", "pairs"),
)
CONTEXT_COLUMNS = ("dataset", "small", "large", "table", "context", "deployable", *GAIN_COLUMNS[3:])
COLUMNS = {
    "table1": GAIN_COLUMNS,
    "table2": CHURN_COLUMNS,
    "table3": GAIN_COLUMNS,
    "contexts": CONTEXT_COLUMNS,
}
KEYS = {"table1": 3, "table2": 3, "table3": 3, "contexts": 6}  # columns of text, in the readable tables
TITLES = {"table1": "Table 1", "table2": "Table 2", "table3": "Table 3", "contexts": "Contexts"}

SCORE_TITLES = {
    "margin": "Margin",
    "committee_margin": "Cmt. Margin",
    "entropy": "Entropy",
    "committee_entropy": "Cmt. Entropy",
    "churn": "Churn",
    "committee_churn": "Cmt. Churn",
}
CAPTIONS = {
    "table1": (
        "Gain in accuracy (translation: in corpus BLEU) at the peak of the switcher curve over the better of the "
        "smaller and the larger model, in points. Signed; the peak is sought at deferral fractions 0.01 to 0.99. The "
        "last column is what a random score would reach if both models were equally good: the peak of a noisy curve is "
        "biased upward, and its interval does not take that out."
    ),
    "table2": (
        "Chance that two runs of a size predict differently, in percent, by how uncertain a run of the uncertainty "
        "size is of the example. Buckets by rank of the margin, most certain first: Q1 0-50 %, Q2 50-75 %, "
        "Q3 75-90 %, Q4 90-99 %, Q5 99-100 %. Answers of span QA are compared after SQuAD's normalisation unless "
        "metrics.churn_normalization=raw, translations as they are."
    ),
    "table3": (
        "Gain in accuracy (translation: in corpus BLEU) of deferring the most uncertain examples over deferring as "
        "many at random, averaged over all deferral fractions, in points. At random means the straight line between "
        "both models."
    ),
    "contexts": (
        "Tables 1 and 3 of span QA and translation by the uncertainty of the gold answer's tokens, as in the paper, "
        "and of the tokens of the model's own output. The first reads the label: it says how well uncertainty can tell "
        "where a larger model helps, but only the second can be deployed."
    ),
}


def table_rows(analyses: Sequence[Analysis]) -> Rows:
    """The CSV rows: points of accuracy or BLEU; `lower` and `upper` are fractions of rank, 0-1.

    `contexts` is there only if a dataset has contexts.
    """
    rows: Rows = {"table1": [], "table2": [], "table3": []}
    for analysis in analyses:
        dataset = analysis.grid.dataset
        for table in ("table1", "table3"):
            rows[table] += _gains(analysis, table)
        if analysis.other_context is not None:
            both = {one.context: one for one in (analysis, analysis.other_context)}
            rows.setdefault("contexts", []).extend(
                {**row, "table": int(table[-1]), "context": context, "deployable": "yes" if context == "self" else "no"}
                for table in ("table1", "table3")
                for context, one in sorted(both.items(), key=lambda item: item[0] or "")
                for row in _gains(one, table)
                if row["score"] in CONTEXT_SCORES
            )
        for uncertainty_size, size, point, (low, high) in analysis.churn:
            for i, (bucket, lower, upper) in enumerate(BUCKETS):
                numbers = (point.churn[i], point.se[i], low[i], high[i])
                rows["table2"].append(
                    dict(
                        zip(
                            CHURN_COLUMNS,
                            (
                                *(dataset, uncertainty_size, size, bucket, lower, upper),
                                *(100 * float(number) for number in numbers),
                                *(float(point.examples[i]), point.pairs),
                            ),
                            strict=True,
                        )
                    )
                )
    return rows


def _gains(analysis: Analysis, table: str) -> list[Row]:
    """Table 1 or 3 of a dataset."""
    rows = []
    for pair in analysis.pairs:
        for score, statistics in pair.scores.items():
            if table == "table1":
                values, relative, estimate = (
                    *(statistics.peak_gain, statistics.relative_peak_gain),
                    pair.peak_gain[score],
                )
            else:
                values, relative, estimate = statistics.area, statistics.relative_area, pair.area[score]
            # as published: pairs are taken for independent, which they are not
            se = float(values.std(ddof=1)) / values.size**0.5 if values.size > 1 else math.nan
            mean, se, low, high = (100 * number for number in (estimate.value, se, estimate.low, estimate.high))
            names = (analysis.grid.dataset, pair.small, pair.large, score)
            numbers = (mean, se, low, high, values.size, 100 * float(relative.mean()))
            rows.append(dict(zip(GAIN_COLUMNS, (*names, *numbers), strict=True)))
    return rows


def signature(config: Metrics, tasks: Collection[str] = ("classification",)) -> str:
    """Which readings of the paper and which intervals those tasks' numbers rest on, in the manner of sacreBLEU."""
    likelihood = "length-normalized" if config.length_normalized else "total"
    of_tasks = {
        "classification": [f"likelihood:{likelihood}"],
        "span_qa": [f"context:{config.context}", f"answers:{config.churn_normalization}"],
        "translation": [f"context:{config.context}", "bleu:corpus-smooth-exp-eff-no"],
    }
    itself = "in" if config.committee_churn_includes_self else "out"
    ci = (
        f"multibootstrap-percentile-{100 * config.confidence:g}%-{config.resamples}-seed{config.seed}"
        if config.resamples
        else "none"
    )
    return "|".join(
        (
            "edgewise:1",
            "ties:expected",
            *dict.fromkeys(part for task, parts in of_tasks.items() if task in tasks for part in parts),
            f"committee:{config.committee}",
            f"committee_churn:self-{itself}",
            "grid:0.01-0.99",
            "se:published",
            f"ci:{ci}",
        )
    )


def write_tables(analyses: Sequence[Analysis], rows: Rows, config: Metrics, directory: Path, notes: list[str]) -> None:
    """Writes the tables that `rows` holds as .csv, .md and .tex into `directory`."""
    directory.mkdir(parents=True)
    sign = signature(config, {analysis.grid.task for analysis in analyses})
    scored = sorted({text for analysis in analyses for text in analysis.grid.signatures})
    for name in rows:
        header, body = layout(name, analyses, rows[name])
        foot = f"Cells: mean (published standard error) [{100 * config.confidence:g} % interval]."
        write_csv(directory / f"{name}.csv", COLUMNS[name], rows[name])
        text = _markdown(TITLES[name], CAPTIONS[name], header, body, foot, sign, scored, notes)
        (directory / f"{name}.md").write_text(text, encoding="utf-8")
        text = _latex(name, CAPTIONS[name], header, body, foot, sign)
        (directory / f"{name}.tex").write_text(text, encoding="utf-8")


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Floats in the shortest form that reads back the same; NaN is an empty field."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            values = (row[column] for column in columns)
            writer.writerow(["" if isinstance(v, float) and math.isnan(v) else v for v in values])


def layout(name: str, analyses: Sequence[Analysis], rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of a table as the paper lays it out: datasets × larger models, or × uncertainty models."""
    if name == "table2":
        return _grid(
            ["Dataset", "Uncertainty model", "Model"],
            [f"{bucket} {100 * low:g}-{100 * high:g} %" for bucket, low, high in BUCKETS],
            rows,
            ("dataset", "uncertainty_size", "size"),
            lambda row: [b for b, _, _ in BUCKETS].index(row["bucket"]),
            lambda row: cell(row, "churn"),
        )
    used = [score for score in SCORES if any(row["score"] == score for row in rows)]
    if name == "contexts":
        return _grid(
            ["Dataset", "Small model", "Larger model", "Table", "Context", "Deployable"],
            [SCORE_TITLES[score] for score in used],
            rows,
            ("dataset", "small", "large", "table", "context", "deployable"),
            lambda row: used.index(row["score"]),
            lambda row: cell(row, "mean"),
        )
    header, body = _grid(
        ["Dataset", "Small model", "Larger model"],
        [SCORE_TITLES[score] for score in used],
        rows,
        ("dataset", "small", "large"),
        lambda row: used.index(row["score"]),
        lambda row: cell(row, "mean"),
    )
    if name == "table1":
        header.append("Random floor")
        floors = [pair.bounds.random_hump.mean() for analysis in analyses for pair in analysis.pairs]
        for line, floor in zip(body, floors, strict=True):
            line.append(number(100 * floor))
    return header, body


def cell(row: Row, column: str) -> str:
    """`mean (se) [low, high]`, two decimals; what isn't known is left out."""
    text = number(row[column])
    if not math.isnan(row["se"]):
        text += f" ({number(row['se'], 3)})"
    if not math.isnan(row["ci_low"]):
        text += f" [{number(row['ci_low'])}, {number(row['ci_high'])}]"
    return text


def number(value: float, digits: int = 2) -> str:
    """A number for reading; a negative one that rounds to 0 keeps its sign, as in the paper."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _grid(
    keys: list[str],
    columns: list[str],
    rows: Sequence[Row],
    by: tuple[str, ...],
    column: Callable[[Row], int],
    text: Callable[[Row], str],
) -> tuple[list[str], list[list[str]]]:
    lines: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        line = lines.setdefault(tuple(str(row[key]) for key in by), ["-"] * len(columns))
        line[column(row)] = text(row)
    return [*keys, *columns], [[*key, *line] for key, line in lines.items()]


def _markdown(
    title: str,
    caption: str,
    header: list[str],
    body: list[list[str]],
    foot: str,
    sign: str,
    scored: Sequence[str],
    notes: Sequence[str],
) -> str:
    def escape(line: list[str]) -> str:
        return "| " + " | ".join(text.replace("|", "\\|") for text in line) + " |"

    lines = [f"**{title}.** {caption}", ""]
    if body:
        lines += [escape(header), "|" + " --- |" * len(header), *(escape(line) for line in body)]
    else:
        lines.append("Nothing to show: see the notes.")
    lines += ["", foot, "", f"Signature: `{sign}`", *(f"Scores: `{text}`" for text in scored)]
    if notes:
        lines += ["", "Notes:", "", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _latex(name: str, caption: str, header: list[str], body: list[list[str]], foot: str, sign: str) -> str:
    keys = KEYS[name]
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table*}",
        "\\centering\\small",
        f"\\begin{{tabular}}{{{'l' * keys}{'r' * (len(header) - keys)}}}",
        "\\toprule",
        " & ".join(escape_latex(text) for text in header) + r" \\",
        "\\midrule",
        *(" & ".join(escape_latex(text) for text in line) + r" \\" for line in body),
        "\\bottomrule",
        "\\end{tabular}",
        f"\\caption{{{escape_latex(f'{caption} {foot}')} \\texttt{{{escape_latex(sign)}}}}}",
        f"\\label{{tab:edgewise-{name}}}",
        "\\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    """Text as LaTeX prints it."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"}
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)
