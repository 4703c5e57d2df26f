"""The page of a sweep's training: what it reads from the store, and what it shows of it."""

import math
import re

import pytest

from sweeps import status
from sweeps.runs import Cell
from sweeps.states import CellState
from sweeps.training.chart import loss_scale, share_scale
from sweeps.training.curves import ALL_POINTS, CellTraining, Curve, cell_trainings, has_diverged, thinned, training_of
from sweeps.training.page import training_page, write_training_page
from tests.support import colors_without_a_value


def points(count, every=1, **more):
    return [
        {"step": i * every, "loss": 1 + 2 / i, "examples_per_second": 100.0, "token_accuracy": 0.5, "z_loss": 0.1}
        | more
        for i in range(1, count + 1)
    ]


def log_training(tracker, cell, history, state="finished", error=None, summary=None):
    """Keeps a training run of a cell in the store, as a training does."""
    config = {
        "identity": "x",
        "dataset": {"name": cell.dataset},
        "size": {"name": cell.size},
        "seed": cell.seed,
        "train": {"steps": 40},
    }
    run_id = f"train-{cell.dataset}-{cell.size}-s{cell.seed}-x"
    run = tracker.start_run(run_id, job_type="train", name=run_id, config=config)
    for point in history:
        run.log({key: value for key, value in point.items() if key != "step"}, point["step"])
    run.set_summary(summary or {})
    run.finish(state, error)


@pytest.fixture
def swept(tracker):
    """A store with a trained cell, one that failed, and one that never ran; and these cells."""
    cells = [Cell("mine", "nano", seed) for seed in range(3)]
    history = points(40)
    for point in history[9::10]:
        point |= {"validation_loss": point["loss"] + 0.5, "validation_accuracy": point["step"] / 100}
    log_training(tracker, cells[0], history, summary={"kept_step": 30})
    log_training(tracker, cells[1], points(5), "failed", "Traceback\nEdgewiseError: step 6: loss is nan <b>")
    return tracker, cells


def test_the_store_says_how_each_cell_was_trained(swept):
    tracker, cells = swept
    done, failed, missing = cell_trainings(tracker, cells)
    assert done.loss.steps == list(range(1, 41)) and done.loss.last == 1.05
    assert (done.evaluation_loss.name, done.evaluation_loss.steps) == ("validation_loss", [10, 20, 30, 40])
    assert (done.accuracy.name, done.accuracy.last) == ("validation_accuracy", 0.4)
    assert (done.steps, done.last_step, done.kept_step, done.examples_per_second) == (40, 40, 30, 100.0)
    assert done.seconds >= 0 and not done.stands_out
    assert (
        failed.stands_out and failed.last_step == 5 and failed.state.error == "EdgewiseError: step 6: loss is nan <b>"
    )
    assert missing == CellTraining(CellState(cells[2], "missing"))


def test_a_task_without_labels_shows_its_token_accuracy(tracker):
    cell = Cell("mine", "nano", 0)
    log_training(tracker, cell, points(2, test_loss=0.25, test_token_accuracy=0.75))
    [training] = cell_trainings(tracker, [cell])
    assert (training.evaluation_loss.name, training.accuracy.name) == ("test_loss", "test_token_accuracy")


def test_a_thinned_curve_keeps_its_spikes_and_its_end():
    values = [1.0] * 10_000
    values[777], values[5_000], values[-1] = 9.0, 0.1, 2.0
    curve = thinned(Curve("loss", range(10_000), values), 50)
    assert len(curve.steps) <= 50 and list(curve.steps) == sorted(set(curve.steps))
    assert {777: 9.0, 5_000: 0.1, 9_999: 2.0}.items() <= dict(zip(curve.steps, curve.values)).items()
    short = Curve("loss", [1, 2], [3.0, 4.0])
    assert thinned(short, 50) is short


@pytest.mark.parametrize(
    ("losses", "diverged"),
    [
        ([3.0 / i + 0.1 for i in range(1, 100)], False),
        ([3.0 / i + 0.1 for i in range(1, 70)] + [0.1 + i / 5 for i in range(30)], True),
        ([0.01, 0.002, 0.03, 0.04], False),  # twice as much, but of nothing
        ([1.0] * 50 + [30.0] + [1.0] * 50, False),  # a spike that it came back from
        ([2.0], False),
        ([], False),
    ],
)
def test_a_loss_that_ends_far_above_its_lowest_has_diverged(losses, diverged):
    assert has_diverged(losses) == diverged


def test_scales_hold_the_values_and_have_round_ticks():
    assert loss_scale([0.02, 3.0]).ticks() == pytest.approx([0.03, 0.1, 0.3, 1, 3])
    assert loss_scale([0.5]).high == 1.0 and loss_scale([]).ticks()
    assert share_scale([0.5, 0.9]).ticks() == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9])
    assert share_scale([1.0]).high == 1.0 and share_scale([0.0]).low == 0.0
    scale = loss_scale([0.1, 10.0])
    assert [scale.place(x) for x in (0.01, 0.1, 1, 10, 99)] == pytest.approx([0, 0, 0.5, 1, 1])
    assert all(math.isfinite(scale.place(x)) for x in (0.0, 1e9))


def test_the_page_is_whole_by_itself_and_says_what_stands_out(swept, tmp_path):
    tracker, cells = swept
    path = write_training_page(tracker, cells, tmp_path / "out" / "mine", "my <sweep>")
    assert path == tmp_path / "out" / "mine" / "training.html"
    page = path.read_text()
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert not re.search(r"<script|https?://|@import|url\(", page)
    assert "var(--c0)" in page and not colors_without_a_value(page)
    assert "my &lt;sweep&gt;" in page and "<b>\n" not in page and "loss is nan &lt;b&gt;" in page
    assert "3 cells (2 missing, 1 failed)" in page  # the first is trained and not scored
    assert "<li><b>mine nano seed 1</b>: failed: EdgewiseError: step 6: loss is nan" in page
    assert page.count('class="bad"') == 1 and "3 seeds, 1 failed<" in page
    assert "<h4>validation accuracy</h4>" in page and "40.0 %" in page and "5 of 40" in page
    assert list(path.parent.iterdir()) == [path]


def test_240_cells_take_less_than_2_megabytes():
    trainings = []
    for i in range(240):
        cell = Cell(f"d{i // 40}", f"s{i // 10 % 4}", i % 10)
        evaluated = {"validation_loss": 0.5, "validation_accuracy": 0.5}
        run = type("Record", (), {"config": {"train": {"steps": 100_000}}, "summary": {}, "started": 0.0, "ended": 9.0})
        history = points(2_000, every=50, **evaluated)
        trainings.append(training_of(CellState(cell, "done"), run, history, ALL_POINTS // 240))
    page = training_page(trainings, "all")
    assert page.count("<figure>") == 24 and len(page) < 2_000_000


def test_a_cell_without_a_step_has_a_page_all_the_same():
    page = training_page([CellTraining(CellState(Cell("mine", "nano", 0), "missing"))], "one")
    assert "No step has been logged." in page and "missing" in page


def test_status_writes_the_page_of_a_store(swept, tmp_path, capsys):
    tracker, _ = swept
    assert status.main(["--root", str(tracker.root), "--training", str(tmp_path / "page")]) == 0
    written = tmp_path / "page" / "training.html"
    assert str(written) in capsys.readouterr().out and "mine nano seed 1" in written.read_text()
    (tmp_path / "file").write_text("")
    assert status.main(["--root", str(tracker.root), "--training", str(tmp_path / "file")]) == 1
    assert "training.html can't be written" in capsys.readouterr().err
