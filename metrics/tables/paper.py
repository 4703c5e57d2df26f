"""Makes Tables 1-3 of the paper, laid out as they are there: datasets and sizes down, scores or buckets across.

Span QA and translation have a fourth, which puts the two contexts of the uncertainty side by side.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from conf.schema import SCORES, Metrics
from metrics.analysis.dataset import Analysis
from metrics.analysis.size import CONTEXT_SCORES
from metrics.bootstrap.resampling import Estimate
from metrics.statistics.chance import Chance
from metrics.statistics.churn import BUCKETS
from metrics.tables.cells import ON_PAGE, Cell, number_cell
from metrics.tables.files import write_csv, write_sheet
from metrics.tables.signature import signature
from metrics.tables.table import Head, Row, Sheet

CHANCE = "mean / 95 % quantile of the same cell with the score's values dealt out at random"
_T_INTERVALS = (
    "Intervals: Student's t from variance components of runs and examples; of BLEU, percentiles of resamples."
)

Rows = dict[str, list[Row]]  # by table name

SCORE_TITLES = {
    "margin": "Margin",
    "committee_margin": "Cmt. Margin",
    "entropy": "Entropy",
    "committee_entropy": "Cmt. Entropy",
    "churn": "Churn",
    "committee_churn": "Cmt. Churn",
}


@dataclass(frozen=True)
class Key:
    """Names a CSV column of text that heads each line, as it is called in files and on the page."""

    column: str
    in_files: str
    on_page: str
    words: Mapping[str, str] = field(default_factory=dict)  # a value -> what the page says instead


@dataclass(frozen=True)
class PaperTable:
    """Defines one of the paper's tables: its rows, and how they are laid out to be read."""

    name: str  # of its files
    title: str
    caption: str
    hint: str  # what to look for; on the page it follows the caption
    columns: tuple[str, ...]  # of the CSV
    keys: tuple[Key, ...]
    across: str  # score | bucket: the CSV column whose values stand side by side
    number: str  # the CSV column that the cells show, beside its `se`, `ci_low` and `ci_high`
    rows: Callable[[Analysis], Iterator[Row]]
    intervals: str = ""  # how its intervals are made, a sentence or more
    has_random_floor: bool = False  # whether a last column says what a random score would reach

    @property
    def cells_end(self) -> str:
        """Returns what stands last in each cell, for the foot."""
        return f", chance {CHANCE}" if self.has_random_floor else ""

    def _committees(self, analyses: Sequence[Analysis]) -> str:
        """Returns of how many runs the churn and committee scores are, a sentence; "" where there are none."""
        if self.across != "score":
            return ""
        sizes = {(a.grid.dataset, pair.small): pair.committee for a in analyses for pair in a.pairs if pair.committee}
        if not sizes:
            return ""
        numbers = sorted(set(sizes.values()))
        if len(numbers) == 1:
            runs = f"{numbers[0]} runs"
        else:
            whole = len({dataset for dataset, _ in sizes}) > 1
            of_sizes = (f"{n} runs of {f'{dataset} {size}' if whole else size}" for (dataset, size), n in sizes.items())
            runs = ", ".join(of_sizes)
        return (
            f"Churn and committee scores compare {runs}, and tell more the more they are: metrics.committee_size=N "
            "makes grids of different numbers of seeds comparable."
        )

    def _chance(self, analyses: Sequence[Analysis]) -> dict[tuple[str, ...], str]:
        """Returns what chance would show in each cell, by the values of the keys and the score; {} but of Table 1."""
        if not self.has_random_floor:
            return {}
        return {
            (analysis.grid.dataset, pair.small, pair.large, score): _chance_text(chance)
            for analysis in analyses
            for pair in analysis.pairs
            for score, chance in pair.chance.items()
        }

    def sheet_for_files(
        self, rows: Sequence[Row], analyses: Sequence[Analysis], config: Metrics, notes: Sequence[str]
    ) -> Sheet:
        """Returns the table laid out for Markdown and LaTeX."""
        heads = [Head(key.in_files, text=True) for key in self.keys]
        if self.across == "bucket":
            heads += [Head(f"{bucket} {100 * low:g}-{100 * high:g} %") for bucket, low, high in BUCKETS]
        else:
            heads += [Head(SCORE_TITLES[score]) for score in self._side_by_side(rows)]
        lines = self._lines(rows, ".2f", self._chance(analyses))
        if self.has_random_floor:
            heads.append(Head("Random floor"))
            lines = _with_random_floor(lines, analyses, ".2f")
        return Sheet(
            self.name,
            self.title,
            heads,
            [[*map(Cell, key), *cells] for key, cells in lines.items()],
            foot=f"Cells: mean (published standard error) [{100 * config.confidence:g} % interval]"
            f"{self.cells_end}. {self.intervals} {self._committees(analyses)}".rstrip(),
            caption=self.caption,
            signature=signature(config, {analysis.grid.task for analysis in analyses}),
            scores_signatures=sorted({text for analysis in analyses for text in analysis.grid.signatures}),
            notes=notes,
        )

    def sheet_for_page(
        self, rows: Sequence[Row], analyses: Sequence[Analysis], confidence: float, remark: str = ""
    ) -> Sheet:
        """Returns the table laid out for the report; `remark` is a sentence on the datasets for its foot."""
        heads = [Head(key.on_page, text=True) for key in self.keys]
        if self.across == "bucket":
            heads += [Head(bucket, f"{100 * low:g}–{100 * high:g} %") for bucket, low, high in BUCKETS]
        else:
            heads += [Head(SCORE_TITLES[score].replace("Cmt.", "Committee")) for score in self._side_by_side(rows)]
        lines = self._lines(rows, ON_PAGE, self._chance(analyses))
        if self.has_random_floor:
            heads.append(Head("Random floor"))
            lines = _with_random_floor(lines, analyses, ON_PAGE)
        if any(key.column == "context" for key in self.keys):
            lines = _contexts_together(lines)
        first_sentence, _, rest = self.caption.partition(". ")
        foot = (
            rest,
            self.hint,
            remark,
            f"Cells: mean (standard error as published), [{100 * confidence:g} % interval]{self.cells_end}.",
            self.intervals,
            self._committees(analyses),
            f"File: tables/{self.name}.csv.",
        )
        words = [key.words for key in self.keys]
        return Sheet(
            self.name,
            f"{self.title}. {first_sentence.removesuffix('.')}",
            heads,
            [[*(Cell(said.get(text, text)) for text, said in zip(key, words)), *cells] for key, cells in lines.items()],
            foot=" ".join(filter(None, foot)),
        )

    def _side_by_side(self, rows: Sequence[Row]) -> list[str]:
        """Returns what stands side by side: all buckets, or the scores that there are rows of."""
        if self.across == "bucket":
            return [bucket for bucket, _, _ in BUCKETS]
        return [score for score in SCORES if any(row["score"] == score for row in rows)]

    def _lines(
        self, rows: Sequence[Row], form: str, chance: Mapping[tuple[str, ...], str]
    ) -> dict[tuple[str, ...], list[Cell]]:
        """Returns the cells of each line, by the values of its keys, in the rows' order."""
        across = self._side_by_side(rows)
        lines: dict[tuple[str, ...], list[Cell]] = {}
        for row in rows:
            key = tuple(str(row[key.column]) for key in self.keys)
            cells = lines.setdefault(key, [number_cell(math.nan)] * len(across))
            cell = number_cell(row[self.number], form, (row["ci_low"], row["ci_high"]), row["se"])
            cells[across.index(row[self.across])] = replace(cell, reference=chance.get((*key, row[self.across]), ""))
        return lines


def _chance_text(chance: Chance) -> str:
    return f"chance {100 * chance.mean:z.2f} / {100 * chance.high:z.2f}"


def _with_random_floor(
    lines: Mapping[tuple[str, ...], list[Cell]], analyses: Sequence[Analysis], form: str
) -> dict[tuple[str, ...], list[Cell]]:
    """Adds to each pair of sizes what the peak of a random score would reach, in points."""
    floors = [100 * float(pair.bounds.random_hump.mean()) for analysis in analyses for pair in analysis.pairs]
    return {key: [*cells, number_cell(floor, form)] for (key, cells), floor in zip(lines.items(), floors, strict=True)}


def _contexts_together(lines: Mapping[tuple[str, ...], list[Cell]]) -> dict[tuple[str, ...], list[Cell]]:
    """Puts the contexts of one pair of sizes one below the other; the keys end in context and deployable."""
    first_place: dict[tuple[str, ...], int] = {}
    for place, key in enumerate(lines):
        first_place.setdefault(key[:-2], place)
    return {key: lines[key] for key in sorted(lines, key=lambda key: first_place[key[:-2]])}


def _peak_gains(analysis: Analysis) -> Iterator[Row]:
    """Yields Table 1's rows of a dataset."""
    for pair in analysis.pairs:
        for score, statistics in pair.scores.items():
            names = (analysis.grid.dataset, pair.small, pair.large, score)
            yield _gain(names, pair.peak_gain[score], statistics.peak_gain, statistics.relative_peak_gain)


def _areas(analysis: Analysis) -> Iterator[Row]:
    """Yields Table 3's rows of a dataset."""
    for pair in analysis.pairs:
        for score, statistics in pair.scores.items():
            names = (analysis.grid.dataset, pair.small, pair.large, score)
            yield _gain(names, pair.area[score], statistics.area, statistics.relative_area)


def _gain(names: tuple[str, ...], estimate: Estimate, gains: np.ndarray, relative_gains: np.ndarray) -> Row:
    """Returns a row of Table 1 or 3 in points; gains are fractions, [R_small, R_large]."""
    # as published: pairs are taken for independent, which they are not
    se = float(gains.std(ddof=1)) / gains.size**0.5 if gains.size > 1 else math.nan
    numbers = (100 * number for number in (estimate.value, se, estimate.low, estimate.high))
    values = (*names, *numbers, gains.size, 100 * float(relative_gains.mean()))
    return dict(zip(_GAIN_COLUMNS, values, strict=True))


def _churn(analysis: Analysis) -> Iterator[Row]:
    """Yields Table 2's rows of a dataset; `lower` and `upper` are fractions of rank, 0-1."""
    for uncertainty_size, size, point, (low, high) in analysis.churn:
        for k, (bucket, lower, upper) in enumerate(BUCKETS):
            yield {
                "dataset": analysis.grid.dataset,
                "uncertainty_size": uncertainty_size,
                "size": size,
                "bucket": bucket,
                "lower": lower,
                "upper": upper,
                "churn": 100 * float(point.churn[k]),
                "se": 100 * float(point.se[k]),
                "ci_low": 100 * float(low[k]),
                "ci_high": 100 * float(high[k]),
                "examples": float(point.examples[k]),
                "pairs": point.pairs,
            }


def _in_both_contexts(analysis: Analysis) -> Iterator[Row]:
    """Yields Tables 1 and 3 of a dataset in both contexts, by the scores that depend on the context."""
    if analysis.other_context is None:
        return
    by_context = sorted((analysis, analysis.other_context), key=lambda one: one.context or "")
    for table in (TABLE1, TABLE3):
        for one in by_context:
            for row in table.rows(one):
                if row["score"] in CONTEXT_SCORES:
                    deployable = "yes" if one.context == "self" else "no"
                    yield {**row, "table": int(table.name[-1]), "context": one.context, "deployable": deployable}


_GAIN_COLUMNS = (
    "dataset",
    "small",
    "large",
    "score",
    "mean",
    "se",
    "ci_low",
    "ci_high",
    "pairs",
    "mean_relative",
)
_PAIR_KEYS = (
    Key("dataset", "Dataset", "Dataset"),
    Key("small", "Small model", "Smaller"),
    Key("large", "Larger model", "Larger"),
)

TABLE1 = PaperTable(
    name="table1",
    title="Table 1",
    caption=(
        "Gain in accuracy (translation: in corpus BLEU) at the peak of the switcher curve over the better of the "
        "smaller and the larger model, in points. Signed; the peak is sought at deferral fractions 0.01 to 0.99. The "
        "last column is what a random score would reach if both models were equally good. The peak of a noisy curve is "
        "biased upward: compare each cell with its own chance."
    ),
    hint="Above 0, interval included, and above chance: the mix beats both models.",
    intervals="Intervals: the resamples' quantiles reflected in the mean, to take out the peak's bias.",
    columns=_GAIN_COLUMNS,
    keys=_PAIR_KEYS,
    across="score",
    number="mean",
    rows=_peak_gains,
    has_random_floor=True,
)

TABLE2 = PaperTable(
    name="table2",
    title="Table 2",
    caption=(
        "Chance that two runs of a size predict differently, in percent, by how uncertain a run of the uncertainty "
        "size is of the example. Buckets by rank of the margin, most certain first: Q1 0-50 %, Q2 50-75 %, "
        "Q3 75-90 %, Q4 90-99 %, Q5 99-100 %. Answers of span QA are compared after SQuAD's normalisation unless "
        "metrics.churn_normalization=raw, translations as they are."
    ),
    intervals=_T_INTERVALS.replace("of BLEU", "of translations"),
    hint="Churn in Q1 is disagreement where the model says it is sure: retraining alone changes these answers.",
    columns=(
        "dataset",
        "uncertainty_size",
        "size",
        "bucket",
        "lower",
        "upper",
        "churn",
        "se",
        "ci_low",
        "ci_high",
        "examples",
        "pairs",
    ),
    keys=(
        Key("dataset", "Dataset", "Dataset"),
        Key("uncertainty_size", "Uncertainty model", "Ranked by"),
        Key("size", "Model", "Churn of"),
    ),
    across="bucket",
    number="churn",
    rows=_churn,
)

TABLE3 = PaperTable(
    name="table3",
    title="Table 3",
    caption=(
        "Gain in accuracy (translation: in corpus BLEU) of deferring the most uncertain examples over deferring as "
        "many at random, averaged over all deferral fractions, in points. At random means the straight line between "
        "both models."
    ),
    hint="Above 0, interval included: the score knows where the larger model helps.",
    intervals=_T_INTERVALS,
    columns=_GAIN_COLUMNS,
    keys=_PAIR_KEYS,
    across="score",
    number="mean",
    rows=_areas,
)

CONTEXTS = PaperTable(
    name="contexts",
    title="Contexts",
    caption=(
        "Tables 1 and 3 of span QA and translation by the uncertainty of the gold answer's tokens, as in the paper, "
        "and of the tokens of the model's own output. The first reads the label: it says how well uncertainty can tell "
        "where a larger model helps, but only the second can be deployed."
    ),
    hint="Where two rows of a pair differ, the paper's kind of number promises more, or less, than can be had.",
    columns=("dataset", "small", "large", "table", "context", "deployable", *_GAIN_COLUMNS[3:]),
    keys=(
        *_PAIR_KEYS,
        Key("table", "Table", "Table"),
        Key("context", "Context", "Uncertainty of", {"gold": "the gold answer", "self": "its own output"}),
        Key("deployable", "Deployable", "Deployable"),
    ),
    across="score",
    number="mean",
    rows=_in_both_contexts,
)

PAPER_TABLES = (TABLE1, TABLE2, TABLE3, CONTEXTS)  # in the order to show them in


def table_rows(analyses: Sequence[Analysis]) -> Rows:
    """Returns the rows of every CSV, in points of accuracy or BLEU.

    `contexts` is there only if a dataset has contexts.
    """
    rows = {table.name: [row for analysis in analyses for row in table.rows(analysis)] for table in PAPER_TABLES}
    if all(analysis.other_context is None for analysis in analyses):
        del rows[CONTEXTS.name]
    return rows


def write_paper_tables(
    analyses: Sequence[Analysis], rows: Rows, config: Metrics, directory: Path, notes: Sequence[str]
) -> None:
    """Writes the tables that `rows` holds as .csv, .md and .tex into `directory`, which must not exist yet."""
    directory.mkdir(parents=True)
    for table in PAPER_TABLES:
        if table.name in rows:
            write_csv(directory / f"{table.name}.csv", table.columns, rows[table.name])
            write_sheet(table.sheet_for_files(rows[table.name], analyses, config, notes), directory)
