"""Answers as text: what is written, how it is scored by token, and what a scores file then says."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sacrebleu

from infer.identity import find_model, finished_scores, quality, scoring_identity
from metrics.scores import read_scores
from metrics.statistics.text import corpus_bleu, exact_match, f1
from tests import reference_decode
from tests.toy_answers import TOY_CELL, questions, translations
from tests.training import train_here
from tracking.store import Store
from train.data.splits import load_split
from train.model_artifact import load_model


@pytest.fixture(scope="module", params=["translation", "span_qa"])
def scored(request, tmp_path_factory):
    """The task, a cell's config, its store, and its scores."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    from conf.app import CONF, to_config
    from infer.scoring import score

    folder = tmp_path_factory.mktemp(request.param)
    make = translations if request.param == "translation" else questions
    for split, n, seed in (("train", 60, 0), ("test", 21, 1)):
        rows = make(n, seed)
        if request.param == "translation" and split == "test":  # some sentences have a second reference
            rows = [{**row, "target": [row["target"], "rot rot"]} if i % 3 else row for i, row in enumerate(rows)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = [
        f"dataset={request.param}",
        "dataset.name=toy",
        f"dataset.path={folder}",
        f"tracking.root={folder / 'runs'}",
    ]
    with initialize_config_dir(CONF, version_base="1.3"):
        config = to_config(hydra_compose("config", [*given, *TOY_CELL]))
    train_here(config)
    store = Store(folder / "runs")
    artifact = score(config, store, find_model(config, store))
    return request.param, config, store, artifact


def test_the_columns_are_the_task_s(scored) -> None:
    task, config, _, artifact = scored
    scores, split = read_scores(artifact.file("scores.parquet")), load_split(config.dataset, "test")
    assert (scores.metadata.task, scores.metadata.classes, len(scores.example_id)) == (task, [], 21)
    assert scores.example_id.tolist() == split.example_id and scores.target.tolist() == split.targets
    assert scores.class_log_likelihoods is None
    assert scores.metadata.data == split.fingerprint and scores.metadata.flops_per_example > 0
    assert "decoding:greedy" in scores.metadata.signature and "context:gold+self" in scores.metadata.signature
    if task == "translation":
        assert scores.correct is None
        second = [texts[1] if len(texts) > 1 else None for texts in split.golds]
        references = [split.targets, second]
        reference = sacrebleu.corpus_bleu(scores.prediction.tolist(), references, tokenize="intl").score
        assert "nrefs:var" in scores.metadata.signature
        assert float(corpus_bleu(scores.bleu_stats.sum(axis=0))) == pytest.approx(reference, abs=1e-9)
        assert artifact.metadata["bleu"] == pytest.approx(reference, abs=1e-9)
        assert quality(artifact.metadata) == f"BLEU {reference:.2f}"
        assert "tok:intl" in scores.metadata.signature
    else:
        pairs = list(zip(scores.prediction, split.golds, strict=True))
        assert scores.correct.tolist() == [exact_match(own, golds) for own, golds in pairs]
        assert artifact.metadata["accuracy"] == scores.correct.mean()
        assert artifact.metadata["f1"] == pytest.approx(np.mean([f1(own, golds) for own, golds in pairs]))
        assert any(len(golds) == 2 for golds in split.golds)


def test_token_scores_are_those_of_the_definition(scored) -> None:
    """Each text by itself: its logits, softmax over the whole vocabulary in float64, and what follows from that."""
    task, config, store, artifact = scored
    scores, split = read_scores(artifact.file("scores.parquet")), load_split(config.dataset, "test")
    model = load_model(store.artifact("model-toy-nano-s0"), None)
    params = jax.tree.map(jnp.asarray, model.params)
    outputs = []
    for i in range(5):
        ids = model.vocabulary.encode([split.inputs[i]], config.dataset.max_input_length)[0]
        padded = np.pad(ids, (0, config.dataset.max_input_length - len(ids)))
        log_probs = reference_decode.next_log_probs(params, model.size, padded, 8, 1)
        written = np.array(reference_decode.greedy(log_probs, 8)[0])  # without a cache
        outputs.append(written)
        gold = model.vocabulary.encode([split.targets[i]], 8)[0]
        for targets, of in ((gold, scores.gold_tokens), (written, scores.self_tokens)):
            p = np.exp([log_probs([targets[:t]])[0] for t in range(len(targets))])
            ranked = np.sort(p, axis=-1)
            own = slice(of.offsets[i], of.offsets[i + 1])
            chosen = p[np.arange(len(targets)), targets]
            # float32 logits of the two ways differ in their last digits
            np.testing.assert_allclose(of.log_probs[own], np.log(chosen), atol=2e-4)
            np.testing.assert_allclose(of.margins[own], ranked[:, -1] - ranked[:, -2], atol=2e-5)
            np.testing.assert_allclose(of.entropies[own], -(p * np.log(p)).sum(-1), atol=2e-4)
        assert scores.prediction[i] == model.vocabulary.decode(written)
    assert len(set(map(tuple, outputs))) > 1, "the model says the same to everything, which tests little"


def test_the_way_of_decoding_is_part_of_what_scores_are(scored) -> None:
    from infer.scoring import score

    task, config, store, greedy = scored
    source = find_model(config, store)
    assert finished_scores(config, store, source.digest).digest == greedy.digest
    beams = dataclasses.replace(config, infer=dataclasses.replace(config.infer, beams=3))
    assert scoring_identity(beams, "d") != scoring_identity(config, "d")
    assert finished_scores(beams, store, source.digest) is None
    scores = read_scores(score(beams, store, source).file("scores.parquet"))
    assert "decoding:beam3,alpha0.6" in scores.metadata.signature
    other = dataclasses.replace(config, infer=dataclasses.replace(config.infer, bleu_tokenizer="13a"))
    differs = scoring_identity(other, "d") != scoring_identity(config, "d")
    assert differs == (task == "translation")  # BLEU's tokenizer says nothing about answers


def test_training_says_how_it_does_on_held_out_text(scored) -> None:
    task, config, store, _ = scored
    other = dataclasses.replace(config, seed=1, train=dataclasses.replace(config.train, steps=4, eval_every=2))
    train_here(other)
    history = store.history(next(run.id for run in store.runs(job_type="train") if "-s1-" in run.id))
    assert [point["step"] for point in history if "test_loss" in point] == [2, 4]
    assert all(point["test_loss"] > 0 and 0 <= point["test_token_accuracy"] <= 1 for point in history)


def test_metrics_are_made_of_it(scored, tmp_path) -> None:
    from infer.scoring import score
    from metrics.stage import compute_metrics

    task, config, store, _ = scored
    other = dataclasses.replace(config, seed=2)
    train_here(other)
    score(other, store, find_model(other, store))
    few = dataclasses.replace(config.metrics, out=str(tmp_path / "out"), resamples=10)
    out = compute_metrics(dataclasses.replace(config, metrics=few), store, lambda text: None)
    assert (out / "tables" / "table2.csv").is_file() and (out / "report" / "index.html").is_file()
