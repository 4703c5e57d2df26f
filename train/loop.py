"""The training of one cell, from its last checkpoint or from the start, to a logged model artifact."""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from pathlib import Path

import jax
import numpy as np

from conf.errors import EdgewiseError
from conf.schema import Config, Size
from tracking.interface import Artifact, ArtifactDraft, Run, Tracker
from train import hosts, t5
from train.cell_data import CellData, cell_size, load_cell_data, log_data
from train.checkpoint import Checkpoints
from train.data.batches import TrainBatches, plan_batches
from train.data.packing import Batch, Packer
from train.data.prefetch import ahead
from train.identity import cell_name, identity_hash, settings, train_run_id, training_identity
from train.labels import accuracy, scoring_budget
from train.model_artifact import model_artifact
from train.pretrained.find import SCRATCH, Checkpoint, find
from train.pretrained.load import check_vocabulary, load
from train.progress import progress
from train.sharding import BATCH, make_mesh, whole_rows
from train.step import Compiled, StepConfig, TrainState, compile_train_step, dtype_of
from train.stopping import Stop, Stopped, stop_signals


def train(
    config: Config, tracker: Tracker, devices: Sequence[jax.Device] | None = None, stop: Stop | None = None
) -> Artifact:
    """Fine-tunes one cell from its last checkpoint, or from `train.init`, and logs the model.

    `config` is as `train.pretrained.find.resolved` returns it. The mesh lies over `devices`, or over all. Who takes the
    signals itself hands in the `stop` where it notes them.

    Raises EdgewiseError for data, vocabulary or checkpoints that can't be used and for a loss that is not finite,
    and Stopped when SIGTERM or SIGINT arrives, after a checkpoint.
    """
    checkpoint = None
    if config.train.init != SCRATCH:
        checkpoint = find(config.train.init, "train.init", config.tracking)
    data = load_cell_data(config, Path(config.tracking.root))
    size = cell_size(config, data.vocabulary)
    if checkpoint is not None:
        check_vocabulary(checkpoint, data.vocabulary)
    if stop is not None:
        stop.check()
    identity, run_id = training_identity(config), train_run_id(config)
    directory = Path(config.tracking.root) / "checkpoints" / run_id
    if config.force and hosts.first():
        shutil.rmtree(directory, ignore_errors=True)
    hosts.together("the checkpoints' folder")
    with tracker.start_run(
        run_id,
        job_type="train",
        name=f"train {cell_name(config)}",
        group=config.tracking.group,
        tags=[config.dataset.name, config.size.name],
        config={**identity, "identity": identity_hash(identity), "settings": settings(config)},
        restart=config.force,
    ) as run:
        run.use_artifact(log_data(data.record, tracker, config.tracking.group))
        if checkpoint is not None and checkpoint.artifact is not None:
            run.use_artifact(checkpoint.artifact)
        cut = {"truncated_train_inputs": data.inputs.truncated, "truncated_train_targets": data.targets.truncated}
        run.set_summary({"parameters": t5.count_parameters(size), **cut})
        with stop_signals() if stop is None else nullcontext(stop) as stop:
            mesh = make_mesh(config.mesh, devices)
            state = fit(config, data, size, checkpoint, mesh, directory, run, stop)
            params = hosts.whole(state.params)
            draft = ArtifactDraft(f"model-{cell_name(config)}", "model")
            with tempfile.TemporaryDirectory() as folder:
                if hosts.first():
                    draft = model_artifact(Path(folder), cell_name(config), size, params, data.vocabulary, identity)
                model = run.log_artifact(draft)
            stop.received = hosts.agreed(stop.received)
        if stop.received:  # too late to stop anything here, but whoever sent it wants nothing more to start
            run.finish()
            raise Stopped(stop.received)
        return model


def fit(
    config: Config,
    data: CellData,
    size: Size,
    checkpoint: Checkpoint | None,
    mesh: jax.sharding.Mesh,
    directory: Path,
    run: Run,
    stop: Stop,
) -> TrainState:
    """Runs the steps that are left, logging and saving as it goes, and returns the final state.

    Raises Stopped, after a checkpoint, when `stop` says that a signal has come.
    """
    compiled = compile_train_step(StepConfig.of(config, size), mesh)
    checkpoints = Checkpoints(directory, config.train.keep_checkpoints)
    seed_key = jax.random.key(config.seed)
    try:
        if checkpoints.latest is not None:
            state = checkpoints.restore(compiled.abstract)
        elif checkpoint is not None:
            state = compiled.fresh(load(checkpoint, size, mesh))
        else:
            state = compiled.init(seed_key)
        start, steps = int(state.step), config.train.steps
        batches = TrainBatches(
            data.inputs, data.targets, config.train.batch_size, config.seed, row_cost(size), whole_rows(mesh, 1)
        )
        window = Window(config.train.batch_size, run)

        def make(step: int) -> tuple[dict[str, jax.Array], float]:
            batch = batches(step)
            return put(batch, mesh), batch.padding

        with (
            progress(cell_name(config), steps, "steps", start, hosts.first()) as meter,
            closing(ahead(make, range(start, steps))) as made,
        ):
            for step in range(start, steps):
                begun = time.monotonic()
                arrays, padding = next(made)
                window.add_input(padding, time.monotonic() - begun)
                state, metrics = compiled.step(state, arrays, seed_key)
                window.add(metrics, step + 1)
                due = (step + 1) % config.train.checkpoint_every == 0 or step + 1 == steps
                seen = due or (step + 1) % config.train.log_every == 0  # the steps are waited for in any case
                # Looked at once: a signal from here on is the next step's. It may come to one process of several alone.
                signalled = hosts.agreed(stop.received) if seen or hosts.alone() else 0
                due = due or bool(signalled)
                every = config.train.eval_every
                look = every and ((step + 1) % every == 0 or step + 1 == steps)
                if due or look or (step + 1) % config.train.log_every == 0:
                    window.check()
                    window.log(evaluate(config, data, size, state, compiled, mesh) if look else {})
                if due:
                    checkpoints.save(state, step + 1)  # after window.check: it has looked at every loss up to here
                meter.advance(note=f"loss {window.loss:.4f}" if np.isfinite(window.loss) else None)
                if signalled:
                    stop.received = signalled
                    checkpoints.close()
                    message = f"stopped by signal {signalled} after step {step + 1} of {steps}, which is saved"
                    run.finish("stopped", message)
                    if hosts.first():
                        print(f"{message}: the same command goes on from there", file=sys.stderr)
                    raise Stopped(signalled)
        return state
    finally:
        checkpoints.close()


def put(batch: Batch, mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
    """A packed batch on the devices, its rows shared among them, by the names that `train.step` takes."""
    return hosts.laid(vars(batch), jax.sharding.NamedSharding(mesh, BATCH))


def row_cost(size: Size) -> Callable[[int, int], float]:
    """What a packed row costs: a small model's logits outweigh all its layers, and long rows cost more attention."""
    return lambda input_length, target_length: float(
        t5.forward_flops(size, np.array(input_length), np.array(target_length))
    )


def evaluate(
    config: Config, data: CellData, size: Size, state: TrainState, compiled: Compiled, mesh: jax.sharding.Mesh
) -> dict[str, float]:
    """On the evaluation examples: accuracy by label likelihood; where there are no labels, loss and token accuracy."""
    if data.labels is None or data.eval_truth is None:
        n = len(data.eval_inputs)
        batch_size = min(config.train.batch_size, n)
        packer = Packer(data.eval_inputs, data.eval_targets, batch_size, row_cost(size), whole_rows(mesh, 1))
        batches = [packer(np.arange(start, min(start + batch_size, n))) for start in range(0, n, batch_size)]
        sums = jax.device_get([compiled.eval_sums(state.params, put(batch, mesh)) for batch in batches])
        nll, hits, tokens = (float(sum(some[key] for some in sums)) for key in ("nll", "hits", "tokens"))
        return {f"{data.eval_split}_loss": nll / tokens, f"{data.eval_split}_token_accuracy": hits / tokens}
    budget = scoring_budget(config.infer, data.labels, mesh)
    plan = plan_batches(config.infer, data.eval_inputs.lengths, budget)
    inputs, truth, dtype = data.eval_inputs, data.eval_truth, dtype_of(config)
    value = accuracy(state.params, inputs, truth, data.labels, size, dtype, mesh, plan)
    return {f"{data.eval_split}_accuracy": value}


class Window:
    """The steps since the last log. Values stay on the device until then, so that logging doesn't hold up the steps."""

    def __init__(self, batch_size: int, run: Run):
        self._batch_size, self._run = batch_size, run
        self._metrics: list[dict[str, jax.Array]] = []
        self._values: list[dict[str, np.ndarray]] = []
        self._padding: list[float] = []
        self._input_seconds = 0.0
        self._last, self._since, self._seconds = 0, time.monotonic(), 0.0
        self.loss = float("nan")

    def add(self, metrics: dict[str, jax.Array], step: int) -> None:
        """`metrics` of the `step`-th step, counted from 1."""
        self._metrics.append(metrics)
        self._last = step

    def add_input(self, padding: float, seconds: float) -> None:
        """A batch's share of padding, and how long the loop has waited for it: the devices no longer than that."""
        self._padding.append(padding)
        self._input_seconds += seconds

    def check(self) -> None:
        """Waits for the steps; EdgewiseError names the first whose loss or gradient is not finite."""
        self._values = jax.device_get(self._metrics)
        self._seconds = time.monotonic() - self._since
        for step, values in enumerate(self._values, self._last - len(self._values) + 1):
            if not np.isfinite(values["loss"]) or not np.isfinite(values["gradient_norm"]):
                raise EdgewiseError(
                    f"step {step}: loss is {values['loss']}, gradient norm {values['gradient_norm']}: expected finite "
                    "numbers. Lower optimizer.learning_rate, add optimizer.warmup_steps, or check the inputs"
                )

    def log(self, evaluation: dict[str, float]) -> None:
        """Logs the checked steps' means and rates, and the evaluation beside them, and starts a new window."""
        values = self._values
        means = ("loss", "z_loss", "token_accuracy", "gradient_norm")
        point = {key: float(np.mean([v[key] for v in values])) for key in means} | {
            "learning_rate": float(values[-1]["learning_rate"]),
            "examples_per_second": self._batch_size * len(values) / self._seconds,
            "target_tokens_per_second": float(sum(v["target_tokens"] for v in values)) / self._seconds,
            "encoder_padding": float(np.mean(self._padding)),
            "input_seconds_share": self._input_seconds / self._seconds,
        }
        self._run.log(point | evaluation, self._last)
        self.loss = point["loss"]
        self._metrics, self._padding, self._input_seconds = [], [], 0.0
        self._since = time.monotonic()
