"""The demo in full: what its data promises is what its tables show."""

import json
import subprocess
import sys

import numpy as np
import pytest

from infer.switcher.policy import read_policy
from metrics.scores import read_scores
from metrics.statistics.policies.scores import likelihood_score
from tests.support import REPO
from tracking.store import Store


@pytest.mark.slow
def test_the_demo_shows_what_its_data_promises(tmp_path):
    given = [f"tracking.root={tmp_path / 'runs'}", f"metrics.out={tmp_path / 'out'}"]
    subprocess.run([sys.executable, "-m", "sweeps", "sweep=demo", *given], cwd=REPO, check=True)
    result = json.loads((tmp_path / "out/summary.json").read_text())["datasets"]["demo"]
    [pair] = result["pairs"]
    assert pair["gap"]["value"] > 0.03  # several points
    assert pair["gap"]["ci_low"] > 0
    assert pair["scores"]["margin"]["area"]["ci_low"] > 0  # the most uncertain examples beat random ones
    kinds = {row["value"]: row for row in result["slices"] if row["column"] == "slice_kind"}
    accuracy = {kind: {size: value["value"] for size, value in row["accuracy"].items()} for kind, row in kinds.items()}
    assert accuracy["composition"]["nano"] < 0.7
    assert accuracy["composition"]["micro"] > accuracy["composition"]["nano"] + 0.15
    assert min(accuracy["easy"].values()) > 0.95
    assert max(accuracy["noise"].values()) < 0.2  # nobody can know a flipped label
    assert (kinds["composition"]["gains"][0]["ci_low"]) > 0


@pytest.mark.slow
def test_a_switcher_of_the_demo_answers_as_its_scores_say(tmp_path):
    """Chosen on the test split, applied to its texts and evaluated on the validation split, by the commands."""
    root = f"tracking.root={tmp_path / 'runs'}"

    def run(*arguments):
        command = [sys.executable, "-m", *arguments, root]
        result = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout

    run("sweeps", "-m", "dataset=demo", "size=nano,micro", "seed=0", "sweeps.metrics=false")
    assert "logged switcher-demo-nano-micro:v0" in run("infer.switcher", "dataset=demo", "switcher.goal=match")
    store = Store(tmp_path / "runs")
    artifact = store.artifact("switcher-demo-nano-micro")
    policy = read_policy(artifact.file("policy.json").read_text(), "policy")
    assert policy.self_check is not None and len(policy.self_check) == 2
    scores = [
        read_scores(store.artifact(f"scores-demo-{size}-s0-test").file("scores.parquet")) for size in ("nano", "micro")
    ]
    given, answered = tmp_path / "given.jsonl", tmp_path / "answered.jsonl"
    given.write_text("".join(json.dumps({"text": text}) + "\n" for text in scores[0].text))
    reference = "switcher.ref=switcher-demo-nano-micro:latest"
    run("infer.apply", reference, f"apply.input={given}", f"apply.output={answered}")
    rows = [json.loads(line) for line in answered.read_text().splitlines()]
    log_scores = likelihood_score("margin", scores[0].class_log_likelihoods)
    threshold = policy.stages[0].threshold
    clear = np.abs(log_scores - threshold) > 1e-4
    deferred = log_scores >= threshold
    assert clear.mean() > 0.99 and 0.05 < deferred.mean() < 0.9
    assert (np.array([row["deferred"] for row in rows]) == deferred)[clear].all()
    expected = np.where(deferred, scores[1].prediction, scores[0].prediction)
    assert all(row["prediction"] == one for row, one, sure in zip(rows, expected, clear) if sure)
    said = run("infer.evaluate", reference, "dataset=demo", "infer.split=validation", "evaluate.rounds=1")
    assert "times as fast as micro-s0 alone" in said and "promised at most" in said
    evaluation = store.artifact("evaluation-demo-nano-micro")
    assert {one.type for one in store.inputs(store.logged_by(evaluation)[0].id)} == {"switcher", "model"}
