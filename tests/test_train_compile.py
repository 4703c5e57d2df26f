import importlib.util
import json
import subprocess
import sys

import jax
import pytest

from conf.errors import EdgewiseError
from tests.support import REPO
from train.compile import __main__ as ahead
from train.compile.collectives import Collective
from train.compile.programs import full_size, label_strings, programs
from train.compile.report import Compiled, StepReport, report_lines, step_as_json
from train.compile.topology import INSTALL
from train.sharding import make_mesh

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason=f"libtpu is not installed: {INSTALL}"
)


def run(*overrides):
    command = [sys.executable, "-m", "train.compile", *overrides]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True)


def report(**changes):
    compiled = {
        "arguments": 2 * 2**30,
        "outputs": 2 * 2**30 + 1024,
        "aliased": 2 * 2**30,
        "temporaries": 5 * 2**30,
        "code": 2**30,
        "flops": 4e12,
        "accessed": 3 * 2**30,
        "collectives": [Collective("all-gather", count=1200, bytes=2**30, sent=3 * 2**28)],
        "open_loops": 0,
        "launches": 1234,
    }
    return StepReport("train", {"inputs": [128, 512]}, 16 * 2**30, 3e12, 61.0, "plain", Compiled(**compiled | changes))


def test_without_a_topology_the_command_says_what_to_give():
    result = run("size=nano")
    assert result.returncode == 1
    assert "topology=v5e:4x4" in result.stderr and "Traceback" not in result.stderr


def test_without_the_compiler_it_says_how_to_get_it(compose, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EdgewiseError, match="uv pip install .*--extra tpu"):
        ahead.main(compose("topology=v5e:4x4"))


def test_a_gpu_has_a_compiler_of_its_own(compose, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EdgewiseError, match=r"topology=h200, is not installed.*jax\[cuda12\]"):
        ahead.main(compose("topology=h200"))


def test_the_extra_that_it_names_is_there():
    import tomllib

    extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any(requirement.startswith("libtpu") for requirement in extras["tpu"])


def test_a_pre_training_is_compiled_with_its_own_rows(compose):
    given = ("dataset=text", "dataset.name=wiki", "dataset.path=y", "size=nano", "train.batch_size=6")
    config = compose(*given, "tokenizer.vocabulary_size=8000", "dataset.max_input_length=128")
    assert full_size(config).vocabulary_size == 8192  # 8,100 ids, the sentinels' among them
    assert label_strings(config) is None
    [train, evaluation] = programs(config, make_mesh(config.mesh, jax.devices()[:1]))
    assert (train.step, evaluation.step) == ("train", "teacher forcing")
    assert train.shapes == evaluation.shapes == {"inputs": [6, 128], "targets": [6, 30]}


def test_memory_is_what_all_parts_take():
    made = report()
    assert made.compiled.memory == 8 * 2**30 + 1024 and made.fits
    lines = report_lines(made)
    assert lines["memory"] == "8.00 GiB (50%)"
    assert lines["kernels, calls and copies"] == "1,234"
    assert lines["those of the model"] == "3.000 T (75%)"
    assert lines["all-gather"] == "1,200 of 1.00 GiB, 768.00 MiB sent"
    assert not report(temporaries=14 * 2**30).fits


def test_a_step_that_does_not_compile_does_not_fit():
    made = StepReport("train", {"inputs": [1, 2]}, 2**30, 1e9, 4.0, error="Ran out of memory")
    assert not made.fits and made.compiled is None
    assert report_lines(made)["memory"] == "more"


def test_the_json_of_a_step_has_the_same_keys_whether_it_compiles_or_not():
    fits = step_as_json(report())
    fails = step_as_json(StepReport("train", {"inputs": [1, 2]}, 2**30, 1e9, 4.0, error="Ran out of memory"))
    assert list(fits) == list(fails)
    assert (fits["memory"], fits["error"], fits["fits"]) == (8 * 2**30 + 1024, None, True)
    assert fits["collectives"] == [{"kind": "all-gather", "count": 1200, "bytes": 2**30, "sent": 3 * 2**28}]
    assert (fails["memory"], fails["flops"], fails["error"]) == (None, None, "Ran out of memory")


def test_label_shapes_are_counted_or_said(compose, tmp_path):
    from train.data.tokens import Vocabulary

    assert label_strings(compose("dataset=yahoo_answers")).padded.shape == (10, 8)
    assert label_strings(compose("dataset=imdb", "compile.label_length=3")).padded.shape == (2, 3)
    assert label_strings(compose("dataset=squad")) is None
    vocabulary = Vocabulary.train(["negative and positive things"] * 20, 30)
    (tmp_path / "spiece.model").write_bytes(vocabulary.model)
    longest = max(len(ids) for ids in (vocabulary.encode(["negative", "positive"], max_length=99)[i] for i in (0, 1)))
    assert label_strings(compose("dataset=imdb", f"tokenizer.path={tmp_path}/spiece.model")).padded.shape == (
        2,
        longest,
    )


def test_a_size_without_shapes_is_refused(compose):
    with pytest.raises(EdgewiseError, match="size=auto"):
        full_size(compose("size=auto"))


@needs_libtpu
def test_a_small_model_is_compiled_for_a_tpu():
    result = run("topology=v5e:2x2", "size=micro", "mesh=fsdp", "compile.json=true")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["devices"], found["device"], found["mesh"]["fsdp"]) == (4, "TPU v5 lite", 4)
    train, score = found["steps"]
    assert train["step"] == "train" and score["step"] == "score"
    for step in (train, score):
        assert step["fits"] and 0 < step["memory"] < step["hbm"] and step["open_loops"] == 0
        assert step["flops"] > 0 and step["collectives"]
    assert 15 * 2**30 < train["hbm"] < 16 * 2**30


@needs_libtpu
def test_what_does_not_fit_ends_with_status_1():
    result = run("topology=v5e:2x2", "size=3b", "dataset=yahoo_answers", "compile.step=train")
    assert result.returncode == 1
    assert "does not fit" in result.stdout and "exceeds available HBM" in result.stdout


@needs_libtpu
def test_an_unknown_slice_is_refused():
    result = run("topology=v99:4x4")
    assert result.returncode == 1
    assert "topology=v99:4x4" in result.stderr and "Traceback" not in result.stderr


@needs_libtpu
@pytest.mark.slow
def test_3b_fits_on_sixteen_chips():
    given = ("topology=v5e:4x4", "size=3b", "dataset=yahoo_answers", "mesh=fsdp", "train.remat=full")
    result = run(*given, "compile.json=true")
    assert result.returncode == 0, result.stderr
    train, score = json.loads(result.stdout)["steps"]
    parameters = 2_851_598_336 * 4
    assert train["arguments"] == pytest.approx(parameters / 16, rel=0.05)  # Adafactor adds little
    assert train["memory"] < 0.5 * train["hbm"] and score["memory"] < 0.25 * score["hbm"]
    # what a device computes is its share of the model's work and of the forward pass again; nothing is done twice
    assert train["model_flops"] < train["flops"] < 4 / 3 * train["model_flops"]
    moved = sum(collective["sent"] for collective in train["collectives"])
    assert moved < 4 * 2_851_598_336 * 2  # a few times the parameters in bfloat16: no activations
