"""The engine against scoring as `infer` does it: the same decisions, whatever the batches; self-checks."""

import dataclasses

import jax
import numpy as np
import pytest

from conf.errors import EdgewiseError
from conf.schema import Infer, Mesh, Size
from infer.decode import as_encoded, decode_examples
from infer.engine.batches import SERVED_ROW_STEPS, batches_of, ladder, row_counts
from infer.engine.engine import Engine
from infer.model_check import check_values
from infer.self_check import LENGTH, differs, random_inputs, record
from infer.sequences import score_sequences, sequence_batches
from infer.switcher.policy import Policy, Stage
from metrics.scores import TokenScores
from metrics.statistics.policies.scores import likelihood_score, token_score
from train import t5
from train.data.batches import Budget, scoring_batches
from train.data.tokens import Vocabulary
from train.labels import as_labels, compile_label_scoring, label_budget, score_examples
from train.model_artifact import Model
from train.running_model import RunningModel
from train.sharding import make_mesh

WORDS = ["the", "film", "was", "good", "bad", "fine", "dull", "bright", "slow", "quick", "very", "never", "and", "but"]
CLASSES = ["good", "bad", "fine"]


def test_the_ladder_is_short_and_pads_little():
    assert ladder(64) == [16, 24, 32, 48, 64] and ladder(100)[-2:] == [96, 100] and ladder(10) == [10]
    for longest in (2, 16, 17, 500, 512, 2048):
        lengths = ladder(longest)
        assert lengths == sorted(set(lengths)) and lengths[-1] == longest and len(lengths) <= 16
        assert all(b <= 1.5 * a for a, b in zip(lengths, lengths[1:]))


@pytest.mark.parametrize("multiple", [1, 8])
def test_batches_hold_every_input_once_in_few_shapes(multiple):
    budget = Budget(4096, lambda length: 6, multiple)
    shapes = set()
    for n in (1, 3, 40, 700, 5000):
        lengths = np.random.default_rng(n).integers(1, 65, n)
        seen = []
        for rows, length, row_count in batches_of(lengths, 64, budget):
            assert len(rows) <= row_count and lengths[rows].max() <= length and row_count % multiple == 0
            assert row_count <= max(budget.rows(length), multiple)
            seen += rows.tolist()
            shapes.add((length, row_count))
        assert sorted(seen) == list(range(n))
    assert len(shapes) <= 2 * len(ladder(64))
    assert row_counts(budget, 64)[0] == budget.rows(64)
    served = row_counts(budget, 64, SERVED_ROW_STEPS)
    assert set(row_counts(budget, 64)) <= set(served) and served == sorted(set(served), reverse=True)
    assert len(served) <= len(SERVED_ROW_STEPS) and all(count % multiple == 0 for count in served)


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, rng.integers(8, 16))) for _ in range(90)]


@pytest.fixture(scope="module")
def models(texts):
    """Two models of random weights, whose answers differ from text to text."""
    vocabulary = Vocabulary.train(texts, 96, set(CLASSES))
    found = []
    for seed, width in ((0, 8), (1, 16)):
        size = Size(
            name=f"w{width}", d_model=width, d_kv=8, d_ff=16, layers=1, heads=1, vocabulary_size=vocabulary.size
        )
        params = jax.tree.map(lambda x: 3 * x, t5.init_params(size, jax.random.key(seed)))
        found.append(Model(size, params, vocabulary, {}))
    return found


def policy_of(task, threshold, self_check=None, score="margin"):
    """A policy of two stages; what was found when it was chosen is left empty."""
    common = {"model": "0" * 32, "parameters": 1, "flops_per_example": 1.0}
    return Policy(
        dataset="d",
        task=task,
        labels=[[str(i), target] for i, target in enumerate(CLASSES)] if task == "classification" else [],
        template="say: {text}",
        max_input_length=40,
        max_target_length=None if task == "classification" else 6,
        decoding={} if task == "classification" else {"beams": 1},
        dtype="float32",
        stages=[
            Stage(size="small", seed=0, score=score, threshold=threshold, **common),
            Stage(size="large", seed=0, score=None, threshold=None, **common),
        ],
        goal={},
        certificate={},
        expected={},
        over_seeds={},
        parts={},
        calibration=[],
        self_check=self_check,
        inputs={},
    )


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(Mesh())


def check_decisions(engine, texts, score, answers_of):
    """Compares the engine's answers with those of both models over all texts, but where a score is at the threshold."""
    threshold = engine.policy.stages[0].threshold
    seen = []
    found = engine.answer({"text": texts}, seen.append)
    np.testing.assert_allclose(found.log_score, score, atol=1e-4)  # float32 sums in another order
    clear = np.abs(score - threshold) > 1e-4
    deferred = score >= threshold
    assert clear.sum() > 0.9 * len(texts) and 10 < deferred.sum() < len(texts) - 10
    assert (found.deferred == deferred)[clear].all()
    expected = np.where(deferred, answers_of[1], answers_of[0])
    assert (found.prediction == expected)[clear].all()
    assert sum(seen) == len(texts) + found.deferred.sum()
    np.testing.assert_allclose(np.log(found.score), found.log_score)


def running(model, mesh):
    return RunningModel(model.params, model.size, "float32", mesh)


def test_attention_is_computed_as_is_asked_for(texts, models, mesh, monkeypatch):
    asked = []
    monkeypatch.setattr("train.labels.asking", lambda function, attention: asked.append(attention) or function)
    compile_label_scoring.cache_clear()
    Engine(policy_of("classification", 0.0), models, mesh, Infer(), "plain").answer({"text": texts[:2]})
    compile_label_scoring.cache_clear()
    assert set(asked) == {"plain"}


@pytest.mark.parametrize("score", ["margin", "entropy"])
def test_classes_are_decided_as_infer_s_scores_say(texts, models, mesh, score):
    likelihoods = []
    for model in models:
        inputs = model.vocabulary.encode([f"say: {text}" for text in texts], 40)
        labels = as_labels(model.vocabulary.encode(CLASSES, 100))
        batches = scoring_batches(inputs.lengths, label_budget(2000, labels), 2)
        values = np.zeros((len(texts), 3), np.float32)
        for rows, some in score_examples(running(model, mesh), inputs, labels, batches):
            values[rows] = some
        likelihoods.append(values)
    scores = likelihood_score(score, likelihoods[0])
    answers = [np.array(CLASSES, dtype=object)[values.argmax(axis=1)] for values in likelihoods]
    engine = Engine(policy_of("classification", float(np.median(scores)), score=score), models, mesh, Infer())
    check_decisions(engine, texts, scores, answers)
    for threshold, deferred in ((-np.inf, 5), (np.inf, 0)):
        engine = Engine(policy_of("classification", threshold), models, mesh, Infer())
        assert engine.answer({"text": texts[:5]}).deferred.sum() == deferred
    assert len(engine.run_stage(0, [])[0]) == 0


def test_of_a_longer_chain_the_first_stage_s_scores_are_kept_beside_the_last(texts, models, mesh):
    pair = policy_of("classification", -1.0)
    scores = Engine(pair, models, mesh, Infer()).answer({"text": texts}).log_score
    threshold = float(np.median(scores))
    first, last = pair.stages[0], pair.stages[1]
    first = dataclasses.replace(first, threshold=threshold)
    chain = dataclasses.replace(pair, stages=[first, dataclasses.replace(first, threshold=-np.inf), last])
    found = Engine(chain, [models[0], models[1], models[1]], mesh, Infer()).answer({"text": texts})
    np.testing.assert_allclose(found.first_log_score, scores, atol=1e-4)
    assert (found.stage[found.deferred] == 2).all() and not np.allclose(found.log_score, found.first_log_score)


def test_written_answers_are_decided_as_infer_s_scores_say(texts, models, mesh):
    texts = texts[:40]
    answers, scores = [], []
    for model in models:
        inputs = model.vocabulary.encode([f"say: {text}" for text in texts], 40)
        batches = scoring_batches(inputs.lengths, Budget(2000, lambda _: 6), 1)
        written = [None] * len(texts)
        for rows, outputs in decode_examples(running(model, mesh), inputs, batches, 6):
            for row, ids in zip(rows, outputs):
                written[row] = ids
        answers.append(np.array([model.vocabulary.decode(ids) for ids in written], dtype=object))
        own = as_encoded(written)
        plan = sequence_batches(batches, own.lengths, 2000)
        values = [None] * len(texts)
        for rows, [some] in score_sequences(running(model, mesh), inputs, [own], plan):
            for row, one in zip(rows, some):
                values[row] = one
        columns = [np.concatenate([one[i] for one in values]) for i in range(3)]
        scores.append(token_score("margin", TokenScores(*columns, own.offsets)))
    engine = Engine(policy_of("span_qa", float(np.median(scores[0]))), models, mesh, Infer())
    check_decisions(engine, texts, scores[0], answers)


@pytest.mark.parametrize("task", ["classification", "span_qa"])
def test_a_self_check_notices_other_weights(task, models, mesh):
    classes = CLASSES if task == "classification" else []
    checks = []
    for model in models:
        blank = record(0, model.vocabulary.size, LENGTH, np.zeros((4, 0)))
        labels = model.labels(classes) if classes else None
        checks.append(record(0, model.vocabulary.size, LENGTH, check_values(running(model, mesh), blank, labels)))
    Engine(policy_of(task, 0.0, checks), models, mesh, Infer()).check()
    Engine(policy_of(task, 0.0), models, mesh, Infer()).check()  # it has none
    changed = dataclasses.replace(models[1], params=jax.tree.map(lambda x: 1.1 * x, models[1].params))
    with pytest.raises(EdgewiseError, match="large-s0 .*log-likelihoods differ by up to"):
        Engine(policy_of(task, 0.0, checks), [models[0], changed], mesh, Infer()).check()


def test_random_inputs_are_the_same_for_the_same_seed():
    one = random_inputs(3, 4, 16, 96)
    assert (one.flat == random_inputs(3, 4, 16, 96).flat).all() and (one.flat != random_inputs(4, 4, 16, 96).flat).any()
    assert one.flat.min() >= 1 and one.flat.max() < 96 and (one.flat.reshape(4, 16)[:, -1] == 1).all()
    with pytest.raises(ValueError, match="length=1"):
        random_inputs(0, 4, 1, 96)
    assert "expected (4, 0)" in differs(record(0, 96, 16, np.zeros((4, 0))), np.zeros((4, 1)), "float32")
