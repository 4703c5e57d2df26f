import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conf.errors import EdgewiseError
from conf.schema import Size
from infer.identity import column_note, find_model, finished_scores, infer_run_id
from metrics.scores import read_scores
from metrics.text_baseline import TextBaseline
from tests.training import SMALL, config_in, train_here
from tracking.store import Store
from train import t5
from train.data.batches import padding_share, plan_batches, scoring_batches
from train.data.splits import load_split
from train.data.tokens import Encoded
from train.label_tree import Labels
from train.labels import label_budget, label_log_likelihoods, score_examples
from train.running_model import RunningModel
from train.sharding import BATCH_TOKENS, make_mesh, scoring_tokens
from train.stopping import Stop, Stopped

TINY = Size(name="tiny", d_model=16, d_kv=8, d_ff=24, layers=2, heads=2, vocabulary_size=40)
LABELS = Labels(np.array([[5, 1, 0, 0], [6, 7, 1, 0], [6, 7, 8, 1], [9, 1, 0, 0], [6, 1, 0, 0]]))  # shared prefixes


@pytest.fixture(scope="module")
def params():
    return t5.init_params(TINY, jax.random.key(0))


def encoded(lengths, seed=0):
    rng = np.random.default_rng(seed)
    ids = [np.append(rng.integers(2, 40, n - 1), 1).astype(np.int32) for n in lengths]
    return Encoded(np.concatenate(ids), np.concatenate([[0], np.cumsum(lengths)]), 0)


def one_by_one(params, inputs, label):
    """log p(label | input) by a decoder call for this label alone, as a definition would have it."""
    model = t5.model(TINY, params)
    segments, positions = t5.plain_rows(inputs)
    memory = model.encode(inputs, segments, positions)
    targets = jnp.broadcast_to(label[label != 0], (len(inputs), (label != 0).sum()))
    target_segments, target_positions = t5.plain_rows(targets)
    logits = model.decode(t5.shift_right(targets), target_segments, target_positions, memory, segments)
    log_p = jax.nn.log_softmax(logits)
    return jnp.take_along_axis(log_p, targets[..., None], -1)[..., 0].sum(-1)


@pytest.mark.parametrize(("room", "calls"), [(1, 5), (4, 3), (100, 1)])
def test_labels_scored_together_equal_labels_scored_alone(params, room, calls):
    inputs = jnp.asarray(encoded([7, 5, 3]).padded(np.arange(3), 9))
    tree = LABELS.tree(room)
    assert len(tree.tokens) == calls
    got = jax.jit(lambda p: label_log_likelihoods(p, inputs, tree, TINY, "float32"))(params)
    assert got.shape == (3, 5)
    want = np.stack([one_by_one(params, inputs, label) for label in LABELS.padded], axis=1)
    np.testing.assert_allclose(got, want, atol=2e-5)  # float32 sums in another order


def test_a_cpu_scores_smaller_batches_unless_the_config_says_otherwise(compose):
    infer, mesh = compose().infer, make_mesh(compose().mesh)
    assert scoring_tokens(infer, mesh) == 4096
    assert scoring_tokens(dataclasses.replace(infer, batch_tokens=50_000), mesh) == 50_000


def test_scores_don_t_depend_on_batching(params, compose):
    lengths = np.random.default_rng(1).integers(2, 30, 37)
    inputs, mesh = encoded(lengths), make_mesh(compose().mesh)

    def scores(tokens, buckets):
        out = np.zeros((37, len(LABELS)), np.float32)
        batches = scoring_batches(inputs.lengths, label_budget(tokens, LABELS), buckets)
        for rows, values in score_examples(RunningModel(params, TINY, "float32", mesh), inputs, LABELS, batches):
            out[rows] = values
        return out, len(batches)

    reference, count = scores(BATCH_TOKENS, 1)
    assert count == 1
    for tokens, buckets, expected in ((1, 1, 37), (100, 3, 12), (1000, 2, 2)):
        found, count = scores(tokens, buckets)
        assert count >= expected
        np.testing.assert_allclose(found, reference, atol=1e-5)  # float32 sums in another order


def test_two_batches_in_flight_and_parameters_cast_once_give_the_same_bits(params, compose, monkeypatch):
    """As an accelerator scores: in bfloat16."""
    from train import labels as module

    inputs, mesh = encoded([5, 9, 4, 7, 3]), make_mesh(compose().mesh)
    batches = scoring_batches(inputs.lengths, label_budget(40, LABELS), 2)
    compiled = module.compile_label_scoring(TINY, "bfloat16", mesh)
    tree = LABELS.tree(10_000)
    want = [compiled(params, jnp.asarray(inputs.padded(*batch)), tree)[: len(batch.rows)] for batch in batches]
    monkeypatch.setattr(module, "batches_in_flight", lambda _: 2)
    found = list(score_examples(RunningModel(params, TINY, "bfloat16", mesh), inputs, LABELS, batches))
    assert [list(rows) for rows, _ in found] == [list(batch.rows) for batch in batches]
    for (_, values), expected in zip(found, want, strict=True):
        np.testing.assert_array_equal(values, expected)


def test_a_thousand_labels_are_scored_in_groups_within_the_memory_bound(params, compose, monkeypatch):
    from train import labels as module

    monkeypatch.setattr(module, "LOGITS_BYTES", 4 * 2 * 3 * 40 * 100)  # room for 100 of them at a time
    many = Labels(np.array([[2 + i % 38, 2 + i // 38, 1] for i in range(1000)], np.int32))
    inputs, mesh = encoded([5, 4]), make_mesh(compose().mesh)
    [batch] = scoring_batches(inputs.lengths, label_budget(1000, many), 1)
    [(rows, got)] = score_examples(RunningModel(params, TINY, "float32", mesh), inputs, many, [batch])
    want = label_log_likelihoods(params, jnp.asarray(inputs.padded(rows, 5)), many.tree(10_000), TINY, "float32")
    np.testing.assert_allclose(got, want, atol=2e-5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained cell: its config and store."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    from conf.app import CONF, to_config

    root = tmp_path_factory.mktemp("trained") / "runs"
    with initialize_config_dir(CONF, version_base="1.3"):
        config = to_config(hydra_compose("config", [*SMALL, f"tracking.root={root}"]))
    train_here(config)
    return config, Store(root)


def test_the_scores_artifact_holds_all_its_metadata(trained):
    from infer.scoring import score

    config, store = trained
    source = find_model(config, store)
    assert finished_scores(config, store, source.digest) is None
    artifact = score(config, store, source)
    assert artifact.name == "scores-demo-nano-s0-test" and set(artifact.files) == {"scores.parquet", "self_check.json"}
    assert finished_scores(config, store, source.digest).digest == artifact.digest
    scores = read_scores(artifact.file("scores.parquet"))
    meta = scores.metadata
    assert (meta.dataset, meta.size, meta.seed, meta.split, meta.task) == ("demo", "nano", 0, "test", "classification")
    assert meta.classes == ["negative", "positive"] and meta.schema_version == 1
    assert meta.model == store.artifact("model-demo-nano-s0").digest
    assert meta.parameters == store.artifact("model-demo-nano-s0").metadata["parameters"]
    assert TextBaseline.from_metadata(artifact.metadata["baseline"]).examples == 60
    assert meta.flops_per_example > 2 * 60 and len(meta.data) == 64 and meta.signature
    assert len(scores.example_id) == 60 and set(scores.slices) == {"slice_kind"}
    np.testing.assert_array_equal(scores.correct, scores.prediction == scores.target)
    best = np.array(meta.classes, dtype=object)[scores.class_log_likelihoods.argmax(1)]
    np.testing.assert_array_equal(scores.prediction, best)
    assert (scores.class_log_likelihoods < 0).all()
    [run] = store.logged_by(artifact)
    assert {a.name for a in store.inputs(run.id)} == {"model-demo-nano-s0", "data-demo"}
    assert run.summary["accuracy"] == pytest.approx(scores.correct.mean())
    assert str(store.root) not in json.dumps(meta.config)  # where things lie is not part of a result


def test_scoring_again_gives_the_same_digest_whatever_the_batching(trained, compose):
    from infer.scoring import score

    config, store = trained
    first = score(config, store, find_model(config, store))
    other = dataclasses.replace(config, force=True)
    assert score(other, store, find_model(other, store)).digest == first.digest


def test_text_is_kept_where_the_config_says_so_and_changes_no_number(trained, compose):
    from infer.scoring import score

    config, store = trained
    source = find_model(config, store)
    with_text = score(dataclasses.replace(config, force=True), store, source)
    scores = read_scores(with_text.file("scores.parquet"))
    assert scores.text.tolist() == load_split(config.dataset, "test").texts() and scores.cluster is None
    assert with_text.metadata["optional_columns"] == ["text"]
    without = config_in(compose, config.tracking.root, "infer.keep_text=false", "force=true")
    assert infer_run_id(without, source.digest) == infer_run_id(config, source.digest)
    note = column_note(without, with_text)
    assert "holds text (infer.keep_text=false)" in note and "force=true" in note
    logged = score(without, store, source)
    read = read_scores(logged.file("scores.parquet"))
    assert read.text is None
    np.testing.assert_array_equal(read.class_log_likelihoods, scores.class_log_likelihoods)
    assert column_note(without, logged) is None
    assert "holds no text (infer.keep_text=auto)" in column_note(config, logged)


def test_w_and_b_gets_no_text_unless_told(compose, tmp_path):
    local = config_in(compose, tmp_path / "runs")
    remote = config_in(compose, tmp_path / "runs", "tracking=wandb")
    told = config_in(compose, tmp_path / "runs", "tracking=wandb", "infer.keep_text=true")
    assert [config.keeps_text for config in (local, remote, told)] == [True, False, True]


def test_a_stop_ends_the_scoring_between_two_batches_and_the_next_time_it_goes_through(trained):
    from infer.scoring import score

    class AfterTheFirstBatch(Stop):
        looks = 0

        def check(self):
            self.looks += 1
            if self.looks > 2:  # before the run, and before each batch
                self.received = 15
            super().check()

    config, store = trained
    again = dataclasses.replace(config, force=True, infer=dataclasses.replace(config.infer, batch_tokens=256))
    source = find_model(again, store)
    first = score(again, store, source)
    stop = AfterTheFirstBatch()
    with pytest.raises(Stopped):
        score(again, store, source, stop=stop)
    run = store.run(infer_run_id(again, source.digest))
    assert stop.looks == 3 and run.state == "stopped" and "signal 15" in run.error
    assert finished_scores(config, store, source.digest) is None
    assert score(dataclasses.replace(again, force=False), store, source).digest == first.digest


def test_infer_takes_the_cell_s_latest_model_where_its_settings_differ(trained, compose):
    config, store = trained
    other = config_in(compose, config.tracking.root, "train.steps=999")
    source = find_model(other, store)
    assert source.artifact.ref == "model-demo-nano-s0:v0" and "other settings" in source.note


def test_a_missing_model_says_what_to_run(compose, tmp_path):
    config = config_in(compose, tmp_path / "runs", "seed=3")
    with pytest.raises(EdgewiseError, match=r"python -m train dataset=demo size=nano seed=3"):
        find_model(config, Store(tmp_path / "runs"))


def test_a_checkpoint_from_outside_scores_like_the_artifact_it_was_copied_from(trained, tmp_path):
    from infer.scoring import score

    config, store = trained
    own = score(config, store, find_model(config, store))
    folder = store.artifact("model-demo-nano-s0").download(tmp_path / "model")
    outside = dataclasses.replace(config, infer=dataclasses.replace(config.infer, checkpoint=str(folder)))
    scores = score(outside, store, find_model(outside, store))
    a, b = (read_scores(x.file("scores.parquet")) for x in (own, scores))
    np.testing.assert_array_equal(a.class_log_likelihoods, b.class_log_likelihoods)


@pytest.mark.parametrize(
    ("given", "message"), [("/nowhere", "neither a folder nor an artifact"), ("model-x:v3", "neither")]
)
def test_a_checkpoint_that_is_not_there_is_named(trained, given, message):
    config, store = trained
    with pytest.raises(EdgewiseError, match=message):
        find_model(dataclasses.replace(config, infer=dataclasses.replace(config.infer, checkpoint=given)), store)


def test_an_altered_model_is_noticed(trained, tmp_path):
    from infer.scoring import score

    config, _ = trained
    other = config_in_copy(config, tmp_path)
    store = Store(other.tracking.root)
    source = find_model(other, store)
    path = source.artifact.file("model.safetensors")
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(EdgewiseError, match="model-demo-nano-s0:v0"):
        score(other, store, source)
    assert store.artifacts("scores-*") == []


def config_in_copy(config, folder):
    """The same config over a fresh store with the same model in it."""
    other = dataclasses.replace(config, tracking=dataclasses.replace(config.tracking, root=str(folder / "copy")))
    train_here(other)
    return other


def test_padding_stays_under_15_percent_on_the_demo(compose, tmp_path):
    from train.data.tokens import get_vocabulary

    config = compose()
    vocabulary = get_vocabulary(config.tokenizer, load_split(config.dataset, "train"), tmp_path)
    lengths = vocabulary.encode(load_split(config.dataset, "test").inputs, config.dataset.max_input_length).lengths
    batches = plan_batches(config.infer, lengths, label_budget(BATCH_TOKENS, Labels(np.array([[2, 3, 1], [4, 5, 1]]))))
    assert padding_share(lengths, batches) < 0.15
