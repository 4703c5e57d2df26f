"""The command line: what it prints, what it exits with, what it must not load."""

import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tracking.__main__ import main
from tracking.interface import ArtifactDraft
from tracking.store import Store

REPOSITORY = Path(__file__).resolve().parent.parent
LONG = "scores-a-dataset-with-a-very-long-name-indeed-so-that-no-table-of-eighty-columns-holds-it-s0-test"


@pytest.fixture
def root(tmp_path):
    store = Store(tmp_path / "runs")
    (tmp_path / "a").write_text("first")
    (tmp_path / "b").write_text("[red]second[/red]")
    with store.start_run("train-1", job_type="train", config={"x": math.nan}, name="[bold]cell :smile:") as run:
        run.log({"loss": math.nan}, 1)
        files = {"a": tmp_path / "a", "deep/b": tmp_path / "b"}
        run.log_artifact(ArtifactDraft("model-x", "model", {"loss": math.inf, "n": [1, math.nan]}, files), ["best"])
    with store.start_run("infer-1", job_type="infer", config={}) as run:
        run.use_artifact("model-x")
        run.log_artifact(ArtifactDraft(LONG, "scores", {}, {"scores.parquet": tmp_path / "b"}))
    store.close()
    return tmp_path / "runs"


@pytest.fixture
def call(root, capsys):
    def call(*arguments) -> tuple[int, str, str]:
        status = main([*map(str, arguments)])
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def answer(call):
    def answer(*arguments):
        status, output, _ = call(*arguments, "--json")
        assert status == 0
        return json.loads(output, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    return answer


def blob(root, name: str, file: str) -> Path:
    store = Store(root)
    artifact = store.artifact(name)
    store.close()
    return artifact.blobs.path(artifact.files[file].md5)


def test_ls(root, call, answer):
    status, output, _ = call("--root", root, "ls")
    assert status == 0 and LONG in output and "model-x" in output and "latest, best" in output and "22 B" in output
    (model,) = answer("ls", "model-*", "--root", root)
    assert {key: model[key] for key in ("name", "version", "aliases", "type", "size")} == {
        "name": "model-x",
        "version": "v0",
        "aliases": ["latest", "best"],
        "type": "model",
        "size": 22,
    }
    assert model["digest"][:12] in output and 0 <= time.time() - model["created"] < 60
    assert answer("ls", "nothing", "--root", root) == []
    assert call("ls", "nothing", "--root", root) == (0, f"no artifacts named nothing in {root}\n", "")


def test_ls_runs(root, call, answer):
    status, output, _ = call("ls", "--runs", "--root", root)
    assert status == 0 and "[bold]cell :smile:" in output and "finished" in output
    runs = answer("ls", "--runs", "--root", root)
    assert [run["id"] for run in runs] == ["train-1", "infer-1"]
    assert runs[0]["config"] == {"x": "NaN"} and runs[0]["summary"] == {"loss": "NaN"} and runs[0]["alive"] is False
    assert [run["id"] for run in answer("ls", "--runs", "infer*", "--root", root)] == ["infer-1"]


def test_ls_runs_tells_a_run_whose_process_is_gone(root, call, answer):
    script = "import os, sys; from tracking.store import Store\n"
    script += "Store(sys.argv[1]).start_run('dead', job_type='t', config={}); os.kill(os.getpid(), 9)"
    child = subprocess.run([sys.executable, "-c", script, root], cwd=REPOSITORY, check=False)
    assert child.returncode == -signal.SIGKILL
    assert "running, but its process is gone" in call("ls", "--runs", "--root", root)[1]
    (dead,) = answer("ls", "--runs", "dead", "--root", root)
    assert (dead["state"], dead["alive"]) == ("running", False)


def test_show(root, call, answer):
    shown = answer("show", "model-x:best", "--root", root)
    assert list(shown) == ["name", "type", "version", "digest", "aliases", "metadata", "files"]
    assert shown["version"] == "v0" and shown["metadata"] == {"loss": "Infinity", "n": [1, "NaN"]}
    assert shown["files"]["a"] == {
        "size": 5,
        "md5": "iwTV43ddKY54RV78XKQE1Q==",
    }  # printf first | openssl md5 -binary | base64
    assert answer("show", shown["digest"][:7], "--root", root) == shown
    _, output, _ = call("show", "model-x", "--root", root)
    for text in ("model-x:v0", shown["digest"], "train-1", "infer-1", "deep/b", "17 B", "Infinity"):
        assert text in output


def test_get(root, call, answer, tmp_path):
    out = tmp_path / "out"
    assert call("get", "model-x", out, "--root", root) == (0, f"model-x:v0 → {out}: 2 files, 22 B\n", "")
    assert (out / "deep/b").read_text() == "[red]second[/red]"
    assert answer("get", "model-x:v0", out, "--root", root)["files"] == ["a", "deep/b"]


def test_lineage(root, call, answer):
    assert answer("lineage", LONG, "--root", root)["upstream"] == ["model-x:v0"]
    status, output, _ = call("lineage", "model-x", "--root", root)
    assert status == 0 and f"logged {LONG}:v0" in output and "logged by run train-1" in output


def test_verify_and_gc(root, call, answer):
    assert answer("verify", "--root", root) == {"artifacts": 2, "files": 3, "bytes": 22, "problems": []}
    assert "all is as it was logged" in call("verify", "--root", root)[1]
    (root / "tmp/stray").write_text("12345")
    assert answer("gc", "--root", root) == {"temporary": 1, "blobs": 0, "bytes": 5}
    path = blob(root, "model-x", "deep/b")
    path.chmod(0o644)
    path.write_text("altered")
    status, output, error = call("verify", "--root", root)
    assert status == 1 and error == "" and "2 problems" in output
    assert "model-x:v0: deep/b: altered" in output and f"{LONG}:v0: scores.parquet: altered" in output
    status, output, _ = call("verify", "--json", "--root", root)
    assert status == 1
    assert [problem["file"] for problem in json.loads(output)["problems"]] == ["deep/b", "scores.parquet"]
    path.unlink()
    assert call("gc", "--grace", "0", "--root", root)[0] == 0
    status, output, _ = call("verify", "--root", root)
    assert status == 1 and "missing" in output


def test_root_and_json_before_or_after_the_command(root, call):
    expected = call("ls", "--root", root, "--json")
    assert expected[0] == 0
    assert call("--root", root, "--json", "ls") == call("--json", "ls", "--root", root) == expected
    assert call("--root", root / "not", "ls", "--root", root, "--json") == expected


def test_the_default_root_is_runs(root, call, monkeypatch):
    monkeypatch.chdir(root.parent)
    assert call("ls", "--json")[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "model-x:v7"],
        ["show", "nothing"],
        ["get", "nothing", "out"],
        ["lineage", "nothing"],
        ["history", "nothing"],
        ["rm", "nothing"],
        ["rm", "model-x"],
        ["alias", "nothing", "best"],
        ["alias", "model-x", "v1"],
        ["query", "steps"],
        ["query", "--uses", "nothing"],
        ["push", "nothing"],
        ["get", "model-x", "/dev/null/x"],
    ],
)
def test_errors_are_one_line_on_stderr(root, call, arguments):
    status, output, error = call(*arguments, "--root", root)
    assert status == 1 and output == "" and error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        ["ls"],
        ["ls", "--json"],
        ["verify"],
        ["gc"],
        ["gc", "--older-than", "1d"],
        ["show", "m"],
        ["history", "r"],
        ["lineage", "m"],
        ["rm", "m"],
        ["alias", "m", "best"],
    ],
)
def test_looking_where_there_is_no_store_makes_none(call, tmp_path, command):
    status, _, error = call("--root", tmp_path / "none", *command)
    assert status == 1 and error.startswith(f"error: no store at {tmp_path / 'none'}: ")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "arguments",
    [[], ["querry"], ["query", "--seed", "x"], ["ls", "--typo"], ["gc", "--grace", "-1"], ["gc", "--grace", "x"]],
)
def test_bad_flags_are_refused_with_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2 and "usage: python -m tracking" in capsys.readouterr().err


def test_piped_output_is_whole_and_quick_and_loads_nothing_heavy(root):
    environment = {**os.environ, "COLUMNS": "40", "PYTHONIOENCODING": "utf-8"}
    for arguments in (
        ["ls"],
        ["ls", "--runs"],
        ["show", LONG],
        ["show", "train-1"],
        ["history", "train-1", "--csv"],
        ["lineage", "model-x"],
        ["verify"],
        ["gc", "--older-than", "1d", "--dry-run"],
    ):
        script = (
            "import sys, runpy, atexit\n"
            "heavy = ('jax', 'hydra', 'datasets', 'wandb', 'numpy', 'pyarrow', 'omegaconf', 'flax')\n"
            "atexit.register(lambda: print('loaded', [n for n in heavy if n in sys.modules], file=sys.stderr))\n"
            "sys.argv[0] = 'tracking'\n"
            "runpy.run_module('tracking', run_name='__main__', alter_sys=True)\n"
        )
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-c", script, "--root", str(root), *arguments]
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "loaded []\n")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Processor time, which other work on the machine does not stretch; measured: 0.1 s to 0.25 s.
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
        assert "…" not in done.stdout
        if arguments in (["ls"], ["show", LONG], ["lineage", "model-x"]):
            assert LONG in done.stdout


def test_a_reader_that_stops_early_is_no_error(root):
    command = f"{sys.executable} -m tracking --root {root} ls --runs --json | head -c 1"
    done = subprocess.run(["bash", "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[", "")
