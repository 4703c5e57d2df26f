"""Lays the page of a sweep's training out: `training.html`, one file with its style and its charts inside.

It asks for nothing over the network and runs no script: a content security policy forbids both.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path

import metrics.report
from conf.errors import EdgewiseError
from metrics.output.replace import TRAINING_PAGE
from metrics.page_colors import PAGE_COLORS
from sweeps.runs import Cell
from sweeps.training.chart import COLOURS, Line, loss_scale, panel, share_scale
from sweeps.training.curves import CellTraining, Curve, cell_trainings
from tracking.files import written_whole
from tracking.interface import Tracker
from tracking.printing import in_hours

_STYLES = (Path(metrics.report.__file__).with_name("style.css"), Path(__file__).with_name("style.css"))

Key = tuple[str, ...]


def write_training_page(tracker: Tracker, cells: Sequence[Cell], folder: Path, name: str) -> Path:
    """Writes the page of the cells of a sweep called `name` into `folder`, and returns its path.

    Raises EdgewiseError where it can't be written.
    """
    path = folder / TRAINING_PAGE
    text = training_page(cell_trainings(tracker, cells), name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EdgewiseError(f"{path} can't be written: {error.strerror or error}; give another folder") from error
    return path


def training_page(trainings: Sequence[CellTraining], name: str) -> str:
    """Returns the whole HTML file of some cells' training; of a dataset, the sizes come by their parameters."""
    places = {dataset: i for i, dataset in enumerate(dict.fromkeys(one.cell.dataset for one in trainings))}
    unknown = sum(one.parameters or 0 for one in trainings) + 1  # after all others
    trainings = sorted(trainings, key=lambda one: (places[one.cell.dataset], one.parameters or unknown))
    datasets = _grouped(trainings, lambda one: (one.cell.dataset,))
    sections = [("outstanding", "Cells that stand out", _outstanding(trainings))]
    sections += [(f"d{i}", escape(key[0]), _panels(group)) for i, (key, group) in enumerate(datasets.items())]
    sections.append(("values", "Final values", _values(trainings)))
    sections = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title, _ in sections)
    body = "".join(
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{title}</h2>{text}</section>\n'
        for key, title, text in sections
    )
    counts = Counter(one.state.state for one in trainings)
    states = ", ".join(f"{count:,} {state}" for state, count in counts.items())
    made = time.strftime("%Y-%m-%d %H:%M")
    styles = PAGE_COLORS + "".join(path.read_text(encoding="utf-8") for path in _STYLES)
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>Edgewise: training of {escape(name)}</title><style>{styles}</style></head><body>"
        f'<nav aria-label="Sections">{links}</nav><main><header><h1>How the training went</h1>'
        f'<p class="soft">{escape(name)}: {len(trainings):,} cells ({states}), {made}.</p>'
        f'<p class="soft">{_LEGEND}</p></header>\n{body}</main></body></html>\n'
    )


_LEGEND = (
    "A panel a size, a line a seed, the same axes for all sizes of a dataset. Solid: the training loss, nats a target "
    "token; dashed: the loss of the evaluations. A ring marks the step that was kept. Thick lines that end in a cross "
    "are cells that failed or whose loss diverged: it ends at twice its lowest value and half a nat more. Long curves "
    "are thinned, their highest and lowest points kept. Rest the pointer on a line to see whose it is."
)


def _grouped(trainings: Iterable[CellTraining], key: Callable[[CellTraining], Key]) -> dict[Key, list[CellTraining]]:
    """Returns the trainings by a key, in the order in which the keys come."""
    groups: dict[Key, list[CellTraining]] = {}
    for one in trainings:
        groups.setdefault(key(one), []).append(one)
    return groups


def _outstanding(trainings: Sequence[CellTraining]) -> str:
    """Returns a list of the cells that failed or diverged, and why; "" where there are none."""
    items = []
    for one in trainings:
        if one.stands_out:
            why = "; ".join(filter(None, ["its loss diverged" if one.has_diverged else "", _why(one)]))
            items.append(f"<li><b>{escape(_name(one))}</b>: {escape(why)}</li>")
    return f"<ul>{''.join(items)}</ul>" if items else ""


def _why(one: CellTraining) -> str:
    """Returns the state of a cell that is not done, and why; "" of one that is."""
    return "" if one.state.state == "done" else f"{one.state.state}{f': {one.state.error}' if one.state.error else ''}"


def _panels(group: Sequence[CellTraining]) -> str:
    """Returns the charts of a dataset, a panel a size, with the same axes in all."""
    losses = [value for one in group for curve in (one.loss, one.evaluation_loss) for value in curve.values]
    if not losses:
        return '<p class="soft">No step has been logged.</p>'
    shares = [value for one in group for value in one.accuracy.values]
    steps = max(max(one.steps or 0, one.last_step or 0) for one in group)
    loss_axis, share_axis = loss_scale(losses), share_scale(shares)
    figures = []
    for (size,), members in _grouped(group, lambda one: (one.cell.size,)).items():
        lines, share_lines = [], []
        for i, one in enumerate(members):
            colour = COLOURS[i % len(COLOURS)]
            for curve, is_dashed in ((one.loss, False), (one.evaluation_loss, True)):
                lines.append(_line(one, curve, colour, is_dashed))
            share_lines.append(_line(one, one.accuracy, colour, False))
        label = f"{members[0].cell.dataset} {size}"
        charts = f"<h4>loss</h4>{panel(lines, steps, loss_axis, f'{label}: loss over steps')}"
        if shares:
            name = next(one.accuracy.name for one in group if one.accuracy.name).replace("_", " ")
            drawn = panel(share_lines, steps, share_axis, f"{label}: {name} over steps", is_share=True)
            charts += f"<h4>{escape(name)}</h4>{drawn}"
        diverged = sum(one.has_diverged for one in members)
        failed = sum(one.stands_out for one in members) - diverged
        count = f"{len(members)} seed{'s' * (len(members) != 1)}"
        count += (f", {failed} failed" if failed else "") + (f", {diverged} diverged" if diverged else "")
        figures.append(f"<figure><figcaption><b>{escape(size)}</b> {count}</figcaption>{charts}</figure>")
    return f'<div class="panels">{"".join(figures)}</div>'


def _line(one: CellTraining, curve: Curve, colour: str, is_dashed: bool) -> Line:
    """Returns how a curve of a cell is drawn."""
    last = "" if curve.last is None else f" {curve.last:.4g} at step {curve.steps[-1]:,}"
    title = f"{_name(one)}: {curve.name.replace('_', ' ')}{last}" + (f" ({_why(one)})" if _why(one) else "")
    return Line(curve, title, colour, is_dashed, one.stands_out, one.kept_step if curve.name != "loss" else None)


def _values(trainings: Sequence[CellTraining]) -> str:
    """Returns the table of every cell's final values, time and speed."""
    columns: dict[str, list[str]] = {
        "steps": [_steps(one) for one in trainings],
        "kept": ["" if one.kept_step is None else f"{one.kept_step:,}" for one in trainings],
        "loss": [_number(one.loss.last) for one in trainings],
        "eval. loss": [_number(one.evaluation_loss.last) for one in trainings],
        "eval. accuracy": [
            "" if one.accuracy.last is None else f"{100 * one.accuracy.last:.1f} %" for one in trainings
        ],
        "examples/s": [
            "" if one.examples_per_second is None else f"{one.examples_per_second:,.0f}" for one in trainings
        ],
        "time": ["" if one.seconds is None else in_hours(one.seconds) for one in trainings],
    }
    columns = {head: texts for head, texts in columns.items() if any(texts)}
    head = "<th>dataset</th><th>size</th><th class=n>seed</th><th>state</th>" + "".join(
        f"<th class=n>{text}</th>" for text in columns
    )
    rows = []
    for i, one in enumerate(trainings):
        state = "diverged" if one.has_diverged and one.state.state == "done" else one.state.state
        numbers = "".join(f"<td class=n>{texts[i]}</td>" for texts in columns.values())
        rows.append(
            f"<tr{' class=bad' if one.stands_out else ''}><th>{escape(one.cell.dataset)}</th>"
            f"<td>{escape(one.cell.size)}</td><td class=n>{one.cell.seed}</td><td>{state}</td>{numbers}</tr>"
        )
    return (
        f'<div class="table"><div class="wide tall" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        '<p class="reading">Loss and evaluations: the last ones, whichever step was kept. Time: from the start of the '
        "training run to its end. Examples/s: the median of what was logged, so that compiling does not count.</p>"
        "</div>"
    )


def _name(one: CellTraining) -> str:
    return f"{one.cell.dataset} {one.cell.size} seed {one.cell.seed}"


def _steps(one: CellTraining) -> str:
    """Returns how many steps a cell has taken and, where they are fewer, of how many."""
    if one.last_step is None:
        return ""
    return f"{one.last_step:,}" + ("" if one.steps in (None, one.last_step) else f" of {one.steps:,}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
