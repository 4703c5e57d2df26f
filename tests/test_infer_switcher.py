"""The artifact: what is logged and with which edges, what is refused and why, policy.json and back, bundles."""

import dataclasses
import json
import math
import subprocess
import sys

import numpy as np
import pytest

from conf.errors import EdgewiseError
from infer.switcher import bundle as bundling
from infer.switcher.bundle import bundle
from infer.switcher.card import natural, promise_line
from infer.switcher.find import find_switcher
from infer.switcher.policy import policy_json, read_policy
from infer.switcher.stage import make_switcher
from metrics.scores import read_scores
from metrics.statistics.policies.scores import likelihood_score, token_score
from tests.support import REPO
from tests.switchers import log_runs, made_switcher
from tracking.interface import ArtifactDraft
from tracking.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    store = Store(folder / "runs")
    log_runs(store, folder, ("small", "base", "large"), seeds=2, examples=1500)
    return store


@pytest.fixture
def settings(store, compose):
    """A function: overrides -> the config of a switcher of the store's data set."""

    def make(*overrides, dataset="synthetic"):
        return compose(
            "dataset=text_classification",
            f"dataset.name={dataset}",
            "dataset.path=nowhere",
            "dataset.classes={0: a, 1: b}",
            f"tracking.root={store.root}",
            *overrides,
        )

    return make


BUDGET = ("switcher.goal=budget", "switcher.budget=0.3")


def test_a_switcher_is_logged_with_edges_to_all_that_it_used(store, settings):
    artifact, policy, notes = make_switcher(settings(*BUDGET), store)
    sizes = [stage.size for stage in policy.stages]
    assert artifact.name == policy.name == "-".join(["switcher", "synthetic", *sizes]) and artifact.type == "switcher"
    assert set(artifact.files) == {"policy.json", "card.md", "curve.png", "curve.svg"}
    (run,) = store.logged_by(artifact)
    used = {one.name for one in store.inputs(run.id)}
    assert {name for name in used if name.startswith("scores-")} == set(policy.inputs) and len(policy.inputs) == 6
    assert {one.digest for one in store.inputs(run.id) if one.type == "model"} == {s.model for s in policy.stages}
    assert policy.stages[-1].size == "large" and policy.stages[-1].threshold is None
    assert policy.template == "say: {text}" and policy.dtype == "float32"
    assert policy.certificate["deferred"]["at_most"] == 0.3
    assert policy.parts == {"select": 450, "certify": 600, "evaluate": 450, "split": "test", "seed": 0}
    assert policy.calibration[0] == sorted(policy.calibration[0]) and len(policy.calibration[0]) == 600
    assert policy.self_check is None and any("self-check" in note for note in notes)
    # again: nothing is chosen anew; with force, the same content is the same version
    assert make_switcher(settings(*BUDGET), store)[0].ref == artifact.ref
    assert make_switcher(settings(*BUDGET, "force=true"), store)[0].digest == artifact.digest


def test_the_thresholds_are_log_scores_and_expectations_are_counted(store, settings):
    """From the scores files alone: the share of the evaluate part at or above the threshold is what is expected."""
    from metrics.statistics.policies.candidates import cut_in_parts

    _, policy = made_switcher(store, settings(*BUDGET, "switcher.longest=2"))
    first, last = policy.stages
    scores = {}
    for stage in policy.stages:
        artifact = store.artifact(f"scores-synthetic-{stage.size}-s{stage.seed}-test")
        scores[stage.name] = read_scores(artifact.file("scores.parquet"))
    parts = cut_in_parts(1500, [0.3, 0.4, 0.3], 0)
    own = likelihood_score(first.score, scores[first.name].class_log_likelihoods)[parts.evaluate]
    deferred = own >= first.threshold
    assert policy.expected["deferred"]["value"] == pytest.approx(deferred.mean())
    right = [scores[stage.name].correct[parts.evaluate] for stage in (first, last)]
    mixture = (deferred & right[1]) | (~deferred & right[0])
    assert policy.expected["quality"]["value"] == pytest.approx(mixture.mean())
    assert policy.expected["cost_share"]["value"] == pytest.approx(
        (first.flops_per_example + deferred.mean() * last.flops_per_example) / last.flops_per_example
    )
    answers = [np.array(scores[stage.name].prediction)[parts.evaluate] for stage in (first, last)]
    disagreement = policy.expected["disagreement"]
    assert disagreement["examples"] == (~deferred).sum()
    assert disagreement["differing"] == (~deferred & (answers[0] != answers[1])).sum() > 0
    assert likelihood_score("entropy", scores[first.name].class_log_likelihoods).shape == (1500,)
    with pytest.raises(ValueError, match="churn"):
        likelihood_score("churn", scores[first.name].class_log_likelihoods)
    with pytest.raises(ValueError, match="churn"):
        token_score("churn", None)


def test_costs_may_be_measured_milliseconds(store, settings, tmp_path):
    file = tmp_path / "evaluation.json"
    file.write_text("{}")
    metadata = {"ms_per_example": {"small": 2.0, "large": 4.0}}
    with store.start_run("evaluate", job_type="evaluate", config={}, restart=True) as run:
        measured = run.log_artifact(ArtifactDraft("evaluation-x", "evaluation", metadata, {file.name: file}))
    cost = ("switcher.goal=cost", "switcher.cost=0.8", f"switcher.measured='{measured.ref}'")
    artifact, policy = made_switcher(store, settings(*cost, "switcher.sizes=[small, large]"))
    assert policy.goal["unit"] == "ms" and policy.stages[0].flops_per_example == 1e6
    deferred = policy.expected["deferred"]["value"]  # half a larger pass is spent before any is deferred
    assert policy.expected["cost_share"]["value"] == pytest.approx(0.5 + deferred) and 0.15 < deferred < 0.4
    assert measured.ref in [one.ref for one in store.inputs(store.logged_by(artifact)[0].id)]
    with pytest.raises(EdgewiseError, match="no milliseconds of base, it has those of small, large"):
        make_switcher(settings(*cost), store)
    with pytest.raises(EdgewiseError, match="is a scores artifact, expected an evaluation's"):
        make_switcher(settings(*BUDGET, "switcher.measured=scores-synthetic-small-s0-test"), store)


def test_sizes_and_seeds_limit_the_candidates(store, settings):
    _, policy = made_switcher(store, settings(*BUDGET, "switcher.sizes=[small, base]", "switcher.seeds=[1]"))
    assert [(stage.size, stage.seed) for stage in policy.stages] == [("small", 1), ("base", 1)]
    assert set(policy.inputs) == {"scores-synthetic-small-s1-test", "scores-synthetic-base-s1-test"}
    assert policy.goal["candidates"] == 1  # of two classes margin and entropy are one score
    limits = ("switcher.sizes=[small, base]", "switcher.seeds=[1]")
    other, _ = made_switcher(store, settings("switcher.goal=cost", "switcher.cost=0.6", *limits))
    assert store.artifact("switcher-synthetic-small-base").digest == other.digest
    again, _ = made_switcher(store, settings(*BUDGET, *limits))  # the last that was asked for is the latest
    assert again.digest != other.digest and store.artifact(again.name).digest == again.digest


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((), r"switcher\.goal is not set"),
        (("switcher.goal=cost", "switcher.cost=0.01"), r"cost=0\.01: small alone costs .* of what large alone does"),
        (("switcher.goal=certified", "switcher.epsilon=0.0001"), r"epsilon=0\.0001 can't be certified.*The least"),
        ((*BUDGET, "switcher.scores=[churn]"), r"churn of an example needs a pass of every run.* 2 passes, 12\.5 %"),
        ((*BUDGET, "switcher.sizes=[tiny, base]"), r"no scores of size tiny on test; it has base, large, small"),
        ((*BUDGET, "switcher.seeds=[7]"), "no scores of seed 7"),
        ((*BUDGET, "switcher.sizes=[small]"), "scores of small alone: a switcher needs two sizes"),
        ((*BUDGET, "switcher.split=validation"), "no scores artifact of dataset synthetic and split validation"),
        ((*BUDGET, "switcher.parts=[0.005, 0.495, 0.5]"), "select has 8 of 1500 examples"),
    ],
)
def test_what_is_refused_says_why(store, settings, overrides, message):
    with pytest.raises(EdgewiseError, match=message):
        make_switcher(settings(*overrides), store)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("switcher.goal=cheap", "budget, cost, match, certified, best"),
        ("switcher.goal=budget", "needs switcher.budget=SHARE"),
        ("switcher.budget=20", r"switcher\.budget=20.0: expected a share"),
        ("switcher.delta=1", r"switcher\.delta=1"),
        ("switcher.scores=[doubt]", "margin, committee_margin"),
        ("switcher.scores=margin", r"expected a list such as \[margin, entropy\]"),
        ("switcher.parts=[0.5, 0.5]", "three shares above 0"),
        ("switcher.parts=[0.5, 0.4, 0.3]", "add up to 1"),
        ("switcher.longest=5", "expected 2"),
        ("switcher.seeds=[x]", "switcher.seeds='x': expected a whole number"),
        ("apply.bad_rows=skip", "stop, keep"),
        ("apply.columns=[text]", "expected a mapping"),
        ("apply.chunk_rows=0", "expected 1 or more"),
        ("apply.false_alarms=1", r"apply\.false_alarms=1.0: expected a probability"),
    ],
)
def test_values_out_of_range_are_named(override, message, compose):
    with pytest.raises(EdgewiseError, match=message):
        compose(override)


def test_scores_whose_model_is_gone_are_left_out(tmp_path, settings):
    store = Store(tmp_path / "runs")
    log_runs(store, tmp_path, examples=400, seeds=1)
    config = settings(*BUDGET, f"tracking.root={store.root}")
    make_switcher(config, store)
    other = Store(tmp_path / "other")
    for artifact in store.artifacts("scores-*"):
        with other.start_run(artifact.name, job_type="infer", config={}) as run:
            files = {name: artifact.file(name) for name in artifact.files}
            run.log_artifact(ArtifactDraft(artifact.name, "scores", artifact.metadata, files))
    with pytest.raises(EdgewiseError, match="none of the models that made .* is in the store"):
        make_switcher(settings(*BUDGET, f"tracking.root={other.root}"), other)


@pytest.mark.parametrize("task", ["span_qa", "translation"])
def test_sequences_use_the_model_s_own_context(task, tmp_path, compose):
    store = Store(tmp_path / "runs")
    log_runs(store, tmp_path, task=task, examples=400, seeds=1)
    common = (f"dataset={task}", "dataset.name=synthetic", "dataset.path=x", f"tracking.root={store.root}")
    _, policy = made_switcher(store, compose(*common, "switcher.goal=budget", "switcher.budget=0.5"))
    assert policy.labels == [] and policy.max_target_length == 16 and policy.decoding == {"beams": 1}
    with pytest.raises(EdgewiseError, match="read the label"):
        make_switcher(compose(*common, *BUDGET, "switcher.context=gold"), store)
    if task == "translation":
        assert policy.certificate["loss"]["at_most"] is None and "no accuracy" in promise_line(policy)
        with pytest.raises(EdgewiseError, match="no accuracy to certify"):
            make_switcher(compose(*common, "switcher.goal=certified"), store)
    else:
        assert policy.certificate["loss"]["at_most"] > 0


def test_a_policy_reads_back_as_it_was_written(store, settings):
    _, policy = made_switcher(store, settings(*BUDGET))
    text = policy_json(policy)
    assert read_policy(text, "here") == policy and policy_json(read_policy(text, "here")) == text
    sent_on = dataclasses.replace(policy.stages[0], threshold=-math.inf)
    always = dataclasses.replace(policy, stages=[sent_on, *policy.stages[1:]])
    assert json.loads(policy_json(always))["stages"][0]["threshold"] == "-Infinity"
    assert read_policy(policy_json(always), "here") == always
    assert (natural(-math.inf), natural(math.inf), natural(None), natural(0.0)) == ("all", "none", "–", "1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(schema_version=2), "another schema version than 1"),
        (lambda v: v.pop("schema_version"), "no schema_version"),
        (lambda v: v.pop("stages"), "lacks stages"),
        (lambda v: v.update(task="regression"), "task 'regression'"),
        (lambda v: v["stages"].pop(), "1 stages|has a threshold"),
        (lambda v: v["stages"][0].update(threshold="x"), "not a policy"),
        (lambda v: v["stages"][0].update(threshold=math.nan), "not a policy"),
        (lambda v: v["stages"][0].update(score="churn"), "score churn"),
        (lambda v: v["stages"][0].update(more=1), "not a policy"),
        (lambda v: v.update(dtype="float8"), "dtype 'float8'"),
        (lambda v: v.update(labels=[]), "0 labels"),
        (lambda v: v.update(calibration=3), "not a policy"),
        (lambda v: v.update(expected={}), "not a policy.*deferred"),
        (lambda v: v["expected"].pop("examples"), "not a policy.*examples"),
        (lambda v: v["expected"].update(examples=0), "expected.examples 0"),
        (lambda v: v["expected"]["deferred"].update(value=1.5), "expected.deferred.value 1.5"),
        (lambda v: v["expected"]["disagreement"].update(differing=-1), "expected.disagreement.differing -1"),
        (lambda v: v["expected"]["disagreement"]["certify"].pop("differing"), "not a policy.*differing"),
    ],
)
def test_a_policy_that_is_none_is_refused(store, settings, change, message):
    _, policy = made_switcher(store, settings(*BUDGET, "switcher.longest=2"))
    values = json.loads(policy_json(policy))
    change(values)
    with pytest.raises(EdgewiseError, match=f"^here: .*({message})"):
        read_policy(json.dumps(values), "here")
    for text in ("", "[1]", "{" * 100_000):
        with pytest.raises(EdgewiseError, match="^here: not"):
            read_policy(text, "here")


def test_a_bundle_runs_without_a_store_and_notices_changes(store, settings, tmp_path):
    artifact, policy = made_switcher(store, settings(*BUDGET, "switcher.longest=2"))
    tracking = settings().tracking
    folder = bundle(artifact.ref, tmp_path / "bundle", tracking)
    found = find_switcher(str(folder), dataclasses.replace(tracking, root=str(tmp_path / "none")))
    assert found.policy == policy and found.digest == artifact.digest and found.artifact is None
    assert [model.digest for model in found.models] == [stage.model for stage in policy.stages]
    assert not (tmp_path / "none").exists()
    assert found.models[0].file("model.safetensors").read_bytes() == f"synthetic-{policy.stages[0].name}".encode()
    with pytest.raises(EdgewiseError, match="is there already"):
        bundle(artifact.ref, folder, tracking)
    with pytest.raises(EdgewiseError, match="is a bundle already"):
        bundle(str(folder), tmp_path / "again", tracking)
    (folder / "models" / policy.stages[0].name / "model.safetensors").write_bytes(b"other")
    with pytest.raises(EdgewiseError, match="its files aren't the model"):
        find_switcher(str(folder), tracking)
    assert bundling.main([artifact.ref, str(folder), "--root", str(store.root)]) == 1


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        (None, "switcher.ref is not set"),
        ("model-synthetic-small-s0:v0", "expected a switcher"),
        ("nothing:v0", "nothing"),
    ],
)
def test_a_reference_to_something_else_is_refused(store, settings, ref, message):
    with pytest.raises(EdgewiseError, match=message):
        find_switcher(ref, settings().tracking)


def test_the_command_says_what_to_expect_and_starts_without_jax(store, tmp_path):
    """One process: it makes the switcher, and at its end JAX isn't there."""
    code = (
        "import sys; from infer.switcher.__main__ import command, main; "
        "command(main)(); print([m for m in ('jax', 'flax') if m in sys.modules])"
    )
    arguments = [
        "dataset=text_classification",
        "dataset.name=synthetic",
        "dataset.path=nowhere",
        "dataset.classes={0: a, 1: b}",
        f"tracking.root={store.root}",
        "switcher.goal=match",
        f"switcher.out={tmp_path / 'out'}",
    ]
    result = subprocess.run([sys.executable, "-c", code, *arguments], cwd=REPO, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for said in ("logged switcher-synthetic-", "deferred, accuracy", "with probability 90 %", "python -m infer.apply"):
        assert said in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"policy.json", "card.md", "curve.png", "curve.svg"}
    card = (tmp_path / "out" / "card.md").read_text()
    assert card.startswith("# switcher-synthetic-") and "## What to expect" in card and "curve.svg" in card
