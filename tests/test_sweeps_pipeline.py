"""The main job in small, by its commands, as a user runs it: a sweep becomes tables."""

import csv
import json
import signal
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from conf.errors import EdgewiseError
from metrics.scores import read_scores
from sweeps.grid import AroundSweep
from sweeps.runs import known_cells
from sweeps.states import cell_states
from tests.support import REPO
from tests.training import SMALL, SMALL_GRID, wait_for_checkpoint
from tracking.store import Store


def sweep(folder, *overrides):
    arguments = [
        sys.executable,
        "-m",
        "sweeps",
        *SMALL_GRID,
        f"tracking.root={folder / 'runs'}",
        f"metrics.out={folder / 'out'}",
    ]
    arguments += ["metrics.resamples=50", *overrides]
    return subprocess.run(arguments, cwd=REPO, capture_output=True, text=True)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept")
    result = sweep(folder)
    assert result.returncode == 0, result.stderr + result.stdout
    return folder, result


def test_a_sweep_trains_scores_and_tabulates(swept):
    folder, result = swept
    store = Store(folder / "runs")
    names = {artifact.name for artifact in store.artifacts()}
    cells = [f"demo-{size}-s{seed}" for size in ("nano", "micro") for seed in (0, 1)]
    assert names == {"data-demo", "metrics-demo"} | {f"model-{c}" for c in cells} | {f"scores-{c}-test" for c in cells}
    assert str(folder / "out") in result.stdout
    for path in ("tables/table1.csv", "tables/table2.csv", "tables/table3.csv", "curves/switcher.parquet"):
        assert (folder / "out" / path).stat().st_size > 0
    for path in (
        "training.html",
        "summary.json",
        "report/index.html",
        "figures/fig1.png",
        "figures/fig6.svg",
        "tables/table1.tex",
    ):
        assert (folder / "out" / path).stat().st_size > 0
    with open(folder / "out" / "tables" / "table3.csv") as file:
        rows = list(csv.DictReader(file))
    assert {(row["small"], row["large"], row["pairs"]) for row in rows} == {("nano", "micro", "4")}


def test_a_sweep_of_one_cell_says_what_it_can_and_has_not_failed(tmp_path):
    result = sweep(tmp_path, "size=nano", "seed=0")
    assert result.returncode == 0, result.stderr
    assert "demo: nano " in result.stdout and "one run only, so there are no tables" in result.stdout
    assert "not done" not in result.stderr and "error" not in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["training.html"]


def test_lineage_reaches_from_the_table_to_the_data(swept):
    folder, _ = swept
    command = [sys.executable, "-m", "tracking", "--root", str(folder / "runs"), "lineage", "metrics-demo", "--json"]
    shown = json.loads(subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True).stdout)
    text = json.dumps(shown)
    for name in ("data-demo", "model-demo-nano-s0", "scores-demo-micro-s1-test", "metrics-demo"):
        assert name in text


def test_a_second_sweep_does_nothing_and_says_so(swept):
    folder, _ = swept
    before = {a.ref: a.digest for a in Store(folder / "runs").artifacts()}
    again = sweep(folder)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("was done already") == 4
    assert {a.ref: a.digest for a in Store(folder / "runs").artifacts()} == before


def test_status_shows_the_grid(swept):
    folder, _ = swept
    command = [sys.executable, "-m", "sweeps.status", "--root", str(folder / "runs")]
    shown = json.loads(
        subprocess.run([*command, "--json"], cwd=REPO, capture_output=True, text=True, check=True).stdout
    )
    assert shown["counts"] == {"done": 4, "running": 0, "failed": 0, "missing": 0}
    plain = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True).stdout
    assert "demo" in plain and "micro" in plain


def test_the_same_tables_come_from_plain_files(swept, tmp_path):
    folder, _ = swept
    store = Store(folder / "runs")
    for artifact in store.artifacts("scores-*"):
        artifact.download(tmp_path / "scores" / artifact.name)
    command = [sys.executable, "-m", "metrics", f"metrics.scores={tmp_path}/scores/*/*.parquet"]
    command += [f"metrics.out={tmp_path / 'out'}", "metrics.resamples=50", f"tracking.root={tmp_path / 'runs'}"]
    subprocess.run(command, cwd=REPO, check=True, capture_output=True)
    for table in ("table1.csv", "table2.csv", "table3.csv"):
        assert (tmp_path / "out/tables" / table).read_text() == (folder / "out/tables" / table).read_text()
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow  # of one cell: test_train_loop
def test_a_signal_ends_the_sweep_and_the_same_command_goes_on(tmp_path):
    root = tmp_path / "runs"
    overrides = ["train.steps=200", "train.checkpoint_every=10", "size=nano", "sweeps.metrics=false"]
    arguments = [sys.executable, "-m", "sweeps", *SMALL_GRID, f"tracking.root={root}", *overrides]
    process = subprocess.Popen(arguments, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_checkpoint(root, process, at_least=10)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, stderr
    assert "Traceback" not in stderr
    store = Store(root)
    assert store.runs(job_type="sweep")[0].state == "stopped"
    shown = cell_states(store, known_cells(store))
    assert [state.state for state in shown] in (["missing", "missing"], ["done", "missing"])
    again = subprocess.run(arguments, cwd=REPO, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert [state.state for state in cell_states(store, known_cells(store))] == ["done", "done"]


@pytest.mark.slow  # the commands are run one by one in test_train_loop and test_metrics_output_directory too
def test_train_then_infer_then_metrics_by_their_own_commands(tmp_path):
    common = [*SMALL, f"tracking.root={tmp_path / 'runs'}", f"metrics.out={tmp_path / 'out'}", "metrics.resamples=20"]
    for name, *more in (
        ("train", "seed=0"),
        ("train", "seed=1"),
        ("infer", "seed=0"),
        ("infer", "seed=1"),
        ("metrics",),
    ):
        command = [sys.executable, "-m", name, *common, *more]
        result = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "out/summary.json").exists()  # one size alone: Table 2 can be made, the rest is said
    store = Store(tmp_path / "runs")
    scores = read_scores(store.artifact("scores-demo-nano-s1-test").file("scores.parquet"))
    assert scores.metadata.seed == 1


def test_a_failed_cell_leaves_its_traceback_and_the_others_go_on(tmp_path):
    # two seeds of nano work; the third value of the sweep is a size whose vocabulary does not fit
    bad = REPO / "conf/size/nano.yaml"
    search = tmp_path / "conf" / "size"
    search.mkdir(parents=True)
    text = bad.read_text().replace("name: nano", "name: broken").replace("vocabulary_size: null", "vocabulary_size: 7")
    (search / "broken.yaml").write_text(text)
    result = sweep(
        tmp_path, f"hydra.searchpath=[file://{tmp_path / 'conf'}]", "size=broken,nano", "seed=range(2)", "train.steps=2"
    )
    assert result.returncode == 1
    assert "2 of 4 cells are not done" in result.stderr
    store = Store(tmp_path / "runs")
    failed = store.runs(state="failed", job_type="train")
    assert {run.id.split("-s")[1][0] for run in failed} == {"0", "1"}
    assert all("Traceback" in run.error and "size.vocabulary_size=7" in run.error for run in failed)
    assert {a.name for a in store.artifacts(type="scores")} == {"scores-demo-nano-s0-test", "scores-demo-nano-s1-test"}
    status = [sys.executable, "-m", "sweeps.status", "--root", str(tmp_path / "runs"), "--json"]
    shown = json.loads(subprocess.run(status, cwd=REPO, capture_output=True, text=True, check=True).stdout)
    assert shown["counts"] == {"done": 2, "running": 0, "failed": 2, "missing": 0}
    assert any("size.vocabulary_size=7" in (cell["error"] or "") for cell in shown["cells"])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["size=nano,huge"], "size/huge"),
        (["dataset=demo,nope"], "dataset/nope"),
        (["seed=a,b"], "seed"),
        (["train.steps=1,2"], "more than once"),
        (["tracking.root=/dev/null/runs"], "/dev/null/runs"),
    ],
)
def test_a_grid_that_can_t_be_run_is_refused_before_its_first_cell(tmp_path, overrides, said):
    result = sweep(tmp_path, *overrides)
    assert result.returncode == 1
    assert said in result.stderr and "Traceback" not in result.stderr
    assert "done in" not in result.stdout


def test_a_file_where_a_folder_is_needed_stops_the_sweep_with_its_path(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/baselines").touch()
    result = sweep(tmp_path)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path}/runs/baselines") and "no cell was started" in line
    assert "done in" not in result.stdout


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(13, "Permission denied", "/a/b"), "error: /a/b: Permission denied; no cell was started"),
        (OSError("of no place"), "error: of no place; no cell was started"),
        (ValueError("odd\nmore"), "error: ValueError before the first cell: odd. No cell was started"),
        (EdgewiseError("as it is"), "error: as it is"),
    ],
)
def test_whatever_goes_wrong_before_the_first_cell_ends_the_command(error, said, monkeypatch, capsys):
    def fail(config):
        raise error

    monkeypatch.setattr("sweeps.grid.compose_grid", fail)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit) as ended:
        AroundSweep().on_multirun_start(OmegaConf.create({"hydra": {"launcher": {}}}))
    assert ended.value.code == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(said)
