"""`train.softmax=labels`: a model whose softmax, in training and in scoring, is over the labels' tokens alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conf.errors import EdgewiseError
from conf.schema import Mesh, Size
from infer.model_check import check_values
from infer.self_check import record
from metrics.scores import read_scores
from tests.texts import encoded, random_texts
from tests.training import config_in, score_here, train_here
from train import export, t5
from train import labels as module
from train.data.batches import scoring_batches
from train.identity import training_identity
from train.label_tree import Labels
from train.labels import label_budget, score_examples
from train.model_artifact import load_model
from train.running_model import RunningModel
from train.sharding import make_mesh
from train.step import StepConfig, loss_fn

TIED = Size(name="tied", d_model=16, d_kv=8, d_ff=24, layers=1, heads=2, vocabulary_size=40)
OWN = dataclasses.replace(TIED, name="own", tied_head=False)
LABELS = np.array([[5, 1, 0, 0], [6, 7, 1, 0], [6, 7, 8, 1], [9, 1, 0, 0], [6, 1, 0, 0]])
OUTPUTS = [1, 5, 6, 7, 8, 9]
SOFTMAX = "train.softmax=labels"


@functools.cache
def params_of(size):
    return t5.init_params(size, jax.random.key(0))


def all_logits(size, inputs, targets):
    """The whole vocabulary's logits of targets [B, T], their softmax's targets as columns of OUTPUTS' alone."""
    model = t5.model(size, params_of(size))
    segments, positions = t5.plain_rows(inputs)
    target_segments, target_positions = t5.plain_rows(targets)
    memory = model.encode(inputs, segments, positions)
    return model.decode(t5.shift_right(targets), target_segments, target_positions, memory, segments)


@pytest.mark.parametrize("size", [TIED, OWN], ids=["tied", "own"])
@pytest.mark.parametrize("slices", [1, 3])
def test_labels_are_scored_by_a_softmax_over_their_own_tokens(size, slices, monkeypatch) -> None:
    module.compile_label_scoring.cache_clear()  # the limit is compiled in
    labels, inputs = Labels(LABELS, alone=True), encoded(random_texts(3, 9, 0))
    assert labels.outputs == tuple(OUTPUTS)
    if slices > 1:
        monkeypatch.setattr(module, "LOGITS_BYTES", 4 * 3 * len(OUTPUTS) * 2)  # two positions of three rows
    batches = scoring_batches(inputs.lengths, label_budget(10_000, labels), 1)
    model = RunningModel(params_of(size), size, "float32", make_mesh(Mesh()))
    [(rows, got)] = score_examples(model, inputs, labels, batches)
    module.compile_label_scoring.cache_clear()
    texts = jnp.array(inputs.padded(rows, inputs.lengths.max()))
    for k, label in enumerate(LABELS):
        label = label[label != 0]
        log_p = jax.nn.log_softmax(all_logits(size, texts, np.tile(label, (len(rows), 1)))[..., OUTPUTS])
        want = sum(log_p[:, t, OUTPUTS.index(token)] for t, token in enumerate(label))
        np.testing.assert_allclose(got[:, k], want, rtol=1e-5, atol=1e-6)


def test_without_it_the_softmax_is_the_vocabulary_s() -> None:
    assert Labels(LABELS).outputs == () and len(Labels(LABELS).tree(9).outputs) == 0
    alone, among_all = Labels(LABELS, alone=True).tree(9), Labels(LABELS).tree(9)
    assert sorted(np.array(OUTPUTS)[alone.following[0, 0]]) == sorted(among_all.following[0, 0])


@pytest.mark.parametrize("own", [False, True])
def test_the_loss_is_over_the_labels_tokens_and_moves_no_other_row_of_the_head(compose, own) -> None:
    overrides = ("size.d_model=16", "size.d_kv=8", "size.d_ff=24", "size.heads=2", "size.vocabulary_size=40")
    config = compose(*overrides, f"size.tied_head={not own}", "train.z_loss=0")
    c = StepConfig.from_config(config, config.size, outputs=tuple(OUTPUTS))
    size = OWN if own else TIED
    rng = np.random.default_rng(0)
    batch = {"inputs": rng.integers(10, 40, (4, 6)).astype(np.int32), "targets": LABELS[:4, :3].astype(np.int32)}
    (loss, sums), gradient = jax.value_and_grad(loss_fn, has_aux=True)(params_of(size), batch, None, c)
    log_p = jax.nn.log_softmax(all_logits(size, batch["inputs"], batch["targets"])[..., OUTPUTS])
    there = batch["targets"] != 0
    places = np.searchsorted(OUTPUTS, batch["targets"])
    want = -(np.take_along_axis(np.asarray(log_p), places[..., None], -1)[..., 0] * there).sum()
    assert float(loss) == pytest.approx(want, rel=1e-5)
    assert float(sums["tokens"]) == there.sum() and 0 <= float(sums["hits"]) <= there.sum()
    if own:
        head = np.asarray(gradient["decoder"]["logits_dense"]["kernel"])
        others = np.delete(head, OUTPUTS, axis=1)
        assert not others.any() and head[:, OUTPUTS].any(axis=0).all()


def test_a_cell_learns_scores_and_is_exported_by_it(compose, tmp_path, capsys) -> None:
    one = config_in(compose, tmp_path / "runs", SOFTMAX)
    artifact = train_here(one)
    model = load_model(artifact, None)
    assert model.labels_alone and model.labels(["negative", "positive"]).outputs
    scores = score_here(one)
    table = read_scores(scores.file("scores.parquet"))
    assert "|softmax:labels|" in table.metadata.signature
    label_tokens = sum(table.metadata.config["label_tokens"])
    assert table.metadata.flops_per_example < float(t5.forward_flops(model.size, 8, label_tokens))
    assert (np.exp(table.class_log_likelihoods).sum(axis=1) < 1 + 1e-5).all()
    check = record(0, model.vocabulary.size, 8, np.zeros((4, 0)))
    running = RunningModel(model.params, model.size, "float32", make_mesh(Mesh()))
    values = check_values(running, check, model.labels(["negative", "positive"]))
    assert export.main([artifact.ref, str(tmp_path / "out"), "--root", str(tmp_path / "runs")]) == 0
    assert "its softmax is over the tokens of its labels alone" in capsys.readouterr().err
    other = dataclasses.replace(model, cell={})
    assert not other.labels_alone
    assert (values > check_values(running, check, other.labels(["negative", "positive"]))).all()


def test_only_cells_that_have_it_are_others(compose) -> None:
    plain, same, alone = (training_identity(compose(*more)) for more in ((), ("train.softmax=vocabulary",), (SOFTMAX,)))
    assert plain == same and alone["train"].pop("softmax") == "labels" and alone == plain


def test_it_is_refused_where_there_are_no_labels(compose) -> None:
    for given in (SOFTMAX, "tokenizer.model_type=word", "tokenizer.whole_labels=true"):
        with pytest.raises(EdgewiseError, match=f"(?i){given} dataset=mine: expected a classification"):
            compose("dataset=translation", "dataset.name=mine", "dataset.path=/nowhere", given)
    with pytest.raises(EdgewiseError, match="train.softmax=label: expected"):
        compose("train.softmax=label")


def test_the_head_counts_as_many_outputs_as_there_are() -> None:
    all_of_it, some = t5.forward_flops(OWN, 8, 3), t5.forward_flops(OWN, 8, 3, 6)
    assert all_of_it - some == 2 * 3 * 16 * (40 - 6)
