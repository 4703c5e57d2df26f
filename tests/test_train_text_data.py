import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from conf.errors import EdgewiseError
from infer.identity import find_model
from tests.support import REPO
from tests.training import SMALL, train_here, wait_for_checkpoint
from tracking.store import Store
from train.data.tokens import EOS, Vocabulary
from train.identity import train_run_id, training_identity
from train.stopping import Stop, Stopped
from train.text_data import load_text_data

SUBJECTS = ["the film", "a scene", "the plot", "an actor", "the music", "a story"]
VERBS = ["is", "was", "seems", "feels"]
ENDS = ["good", "bad", "long", "dull", "a joy", "never boring"]
TINY = (
    "dataset=text",
    "dataset.name=wiki",
    "dataset.max_input_length=32",
    "dataset.validation_share=0.1",
    "tokenizer.vocabulary_size=120",
    "size.d_model=8",
    "size.d_kv=4",
    "size.d_ff=8",
    "train.batch_size=8",
    "train.steps=20",
    "train.log_every=5",
    "train.eval_every=10",
    "optimizer.warmup_steps=5",
    "optimizer.learning_rate=0.05",
)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A folder with 600 documents of a few sentences each."""
    folder = tmp_path_factory.mktemp("text")
    rng = np.random.default_rng(0)

    def sentence():
        return " ".join(rng.choice(words) for words in (SUBJECTS, VERBS, ENDS))

    lines = [". ".join(sentence() for _ in range(rng.integers(1, 6))) for _ in range(600)]
    (folder / "train.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def config_of(compose, texts, tmp_path):
    """A function: overrides -> the config of a tiny pre-training that keeps its runs in the test's folder."""
    return lambda *overrides: compose(*TINY, f"dataset.path={texts}", f"tracking.root={tmp_path / 'runs'}", *overrides)


def arrays(batch):
    return np.concatenate([array.ravel() for array in vars(batch).values()])


def batches_of(data, seed=0, row_multiple=1):
    return data.train_batches(8, seed, lambda inputs, targets: 1.0, row_multiple)


def test_an_epoch_has_each_row_once_and_spans_of_its_own(config_of, tmp_path):
    data = load_text_data(config_of(), tmp_path / "cache")
    make = batches_of(data)
    first = make(0)
    assert first.inputs.shape == (8, data.counts.input_length) == (8, 32)
    assert first.targets.shape == (8, data.counts.target_length)
    assert first.padding == 0 and (first.target_segments == 1).all()
    np.testing.assert_array_equal(arrays(batches_of(data)(5)), arrays(make(5)))  # without those before it
    assert not np.array_equal(arrays(batches_of(data, seed=1)(0)), arrays(first))
    rows = data.text.train.rows(data.counts.tokens)
    begun = [tuple(row) for step in range(-(-2 * rows // 8)) for row in make(step).targets[:, :3].tolist()]
    assert len(set(begun[:rows])) < len(set(begun[: 2 * rows]))  # another epoch takes out other spans


def test_batches_are_filled_up_for_the_devices(config_of, tmp_path):
    data = load_text_data(config_of(), tmp_path / "cache")
    whole, padded = batches_of(data)(0), batches_of(data, row_multiple=3)(0)
    assert padded.inputs.shape[0] == padded.target_segments.shape[0] == 9
    np.testing.assert_array_equal(padded.inputs[:8], whole.inputs)
    assert not padded.inputs[8].any() and not padded.target_segments[8].any()


def test_what_is_held_out_is_corrupted_alike_for_every_cell(config_of, tmp_path):
    def held_out(*overrides):
        data = load_text_data(config_of(*overrides), tmp_path / "cache")
        made = [make() for make in data.eval_batches(4, lambda inputs, targets: 1.0, 1)]
        return data, np.concatenate([batch.inputs for batch in made])

    data, inputs = held_out()
    assert len(inputs) == min(256, data.text.validation.rows(data.counts.tokens)) > 8
    np.testing.assert_array_equal(held_out("seed=1", "size.d_model=16")[1], inputs)
    assert len(held_out("train.eval_examples=5")[1]) == 5
    assert (inputs[:, -1] == EOS).all()


def test_too_little_text_is_refused(compose, tmp_path):
    (tmp_path / "train.txt").write_text("the film is good\n" * 3)
    config = compose(*TINY, f"dataset.path={tmp_path}", f"tracking.root={tmp_path / 'runs'}")
    with pytest.raises(EdgewiseError, match="fill no row of"):
        load_text_data(config, tmp_path / "cache")


def test_the_objective_and_the_data_go_together(config_of, compose):
    with pytest.raises(EdgewiseError, match="train.objective=span_corruption dataset=demo: expected plain text"):
        compose("dataset=demo", "train.objective=span_corruption")
    with pytest.raises(EdgewiseError, match="without labels to learn; expected train.objective=span_corruption"):
        config_of("train.objective=supervised")
    with pytest.raises(EdgewiseError, match="train.noise_density=1.5"):
        config_of("train.noise_density=1.5")
    assert config_of().train.objective == "span_corruption"


def test_identity_has_the_objective_of_a_pre_training_alone(config_of, compose):
    base = training_identity(config_of())
    assert base["train"]["noise_density"] == 0.15 and base["train"]["objective"] == "span_corruption"
    run = train_run_id(config_of())
    assert train_run_id(config_of("train.mean_noise_span_length=4")) != run
    assert train_run_id(config_of("dataset.validation_share=0.2")) != run
    supervised = compose("dataset=demo")
    assert not {"objective", "noise_density", "mean_noise_span_length"} & set(training_identity(supervised)["train"])
    assert train_run_id(compose("dataset=demo", "train.noise_density=0.3")) == train_run_id(supervised)


def test_size_in_an_initial_checkpoint_is_the_sizes_name(compose):
    def init(*overrides):
        return compose("dataset=demo", *overrides).train.init

    given = 'train.init="model-wiki-{size}-s0:latest"'
    assert init("size=micro", given) == "model-wiki-micro-s0:latest"
    assert init("size=nano", "size.name=my-size", given) == "model-wiki-my--size-s0:latest"
    assert init("size.name=my-size", 'train.init="models/{size}"') == "models/my-size"


def test_plain_text_is_not_scored(config_of, tracker):
    with pytest.raises(EdgewiseError, match="plain text, without labels: models are pre-trained on it"):
        find_model(config_of(), tracker)


def test_a_pre_trained_model_is_where_a_fine_tuning_starts(config_of, compose, tmp_path):
    model = train_here(config_of())
    store = Store(tmp_path / "runs")
    [run] = store.runs(job_type="train")
    history = store.history(run.id)
    losses = [point["validation_loss"] for point in history if "validation_loss" in point]
    assert len(losses) == 2 and losses[1] < losses[0]
    assert run.summary["train_rows"] > run.summary["validation_rows"] > 0
    [data] = store.inputs(run.id)
    assert data.name == "data-wiki" and data.metadata["task"] == "text"
    assert set(data.metadata["splits"]) == {"train", "validation"}
    vocabulary = Vocabulary.from_file(model.file("spiece.model"))
    assert json.loads(model.file("config.json").read_text())["vocab_size"] >= vocabulary.size + 100

    small = [given for given in SMALL if not given.startswith(("tokenizer", "train.steps"))] + ["train.steps=3"]
    tuned = train_here(
        compose(*small, f"tracking.root={tmp_path / 'runs'}", 'train.init="model-wiki-{size}-s0:latest"')
    )
    assert tuned.name == "model-demo-nano-s0"
    [tuning] = [run for run in store.runs(job_type="train") if "demo" in run.tags]
    assert {artifact.digest for artifact in store.inputs(tuning.id)} >= {model.digest}
    assert Vocabulary.from_file(tuned.file("spiece.model")).digest == vocabulary.digest


class StopAt(Stop):
    """Receives a signal when it has been asked so many times."""

    def __init__(self, asked):
        self._left = asked

    @property
    def received(self):
        self._left -= 1
        return signal.SIGTERM if self._left <= 0 else 0

    @received.setter
    def received(self, value):
        pass


def test_a_stopped_pre_training_goes_on_and_ends_the_same(config_of, tmp_path):
    from train.loop import train
    from train.pretrained.find import resolved

    config = resolved(config_of())
    with pytest.raises(Stopped):
        train(config, Store(config.tracking.root), stop=StopAt(12))
    stopped = Store(config.tracking.root)
    [run] = stopped.runs(job_type="train")
    assert run.state == "stopped" and stopped.artifacts(type="model") == []
    resumed = train_here(config)
    other = config_of(f"tracking.root={tmp_path / 'other'}")
    assert train_here(other).digest == resumed.digest


def pre_train(texts, root):
    arguments = [
        *TINY,
        f"dataset.path={texts}",
        f"tracking.root={root}",
        "train.steps=200",
        "train.checkpoint_every=20",
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "train", *arguments],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_killed_pre_training_goes_on_and_ends_the_same(texts, tmp_path):
    digests = []
    for name, is_killed in (("killed", True), ("whole", False)):
        process = pre_train(texts, tmp_path / name)
        if is_killed:
            wait_for_checkpoint(tmp_path / name, process)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert Store(tmp_path / name).artifacts(type="model") == []
            process = pre_train(texts, tmp_path / name)
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        [model] = Store(tmp_path / name).artifacts(type="model")
        digests.append(model.digest)
    assert digests[0] == digests[1]
