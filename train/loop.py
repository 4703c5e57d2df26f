"""Trains one cell, from its last checkpoint or from the start, and logs the model."""

import shutil
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import jax
import numpy as np

from conf.errors import EdgewiseError
from conf.schema import PLAIN_TEXT, Config, Size
from tracking.interface import Artifact, ArtifactDraft, Run, Tracker
from train import hosts, t5
from train.cell_data import CellData, cell_size, load_cell_data, log_data
from train.checkpoint import Checkpoints
from train.data.batches import plan_batches
from train.data.packing import Batch
from train.data.prefetch import ahead
from train.data.remember import remember_dataset
from train.data.source import source_of
from train.device_errors import OF_TRAINING, device_errors
from train.identity import cell_name, identity_hash, settings, train_run_id, training_identity
from train.labels import hits_and_loss, scoring_budget
from train.model_artifact import model_artifact
from train.model_selection import ModelSelection
from train.pretrained.find import SCRATCH, Checkpoint, find
from train.pretrained.load import check_vocabulary, load
from train.progress import Meter, progress
from train.rare_tokens import reads_as_unknown
from train.running_model import RunningModel
from train.sharding import BATCH, make_mesh, platform_of, whole_rows
from train.step import Compiled, StepConfig, TrainState, compile_train_step, dtype_of
from train.stepper import Stepper
from train.stopping import Stop, Stopped, stop_signals
from train.text_data import TextData, load_text_data
from train.validation import check_validation, chooses, warn_of_no_validation
from train.window import Window


def train(
    config: Config, tracker: Tracker, devices: Sequence[jax.Device] | None = None, stop: Stop | None = None
) -> Artifact:
    """Trains one cell from its last checkpoint, or from `train.init`, and logs the model.

    `config` is as `train.pretrained.find.resolved` returns it. The mesh lies over `devices`, or over all. A caller that
    handles signals itself hands in the `stop` in which it notes them.

    Raises EdgewiseError for data, vocabulary or checkpoints that can't be used and for a loss that is not finite,
    and Stopped when SIGTERM or SIGINT arrives, after a checkpoint.
    """
    checkpoint = None
    if config.train.init != SCRATCH:
        checkpoint = find(config.train.init, "train.init", config.tracking)
    data = load_data(config)
    size = cell_size(config, data.vocabulary, data.ids)
    if checkpoint is not None:
        check_vocabulary(checkpoint, data.vocabulary)
    check_validation(config.train, config.dataset.name, source_of(config.dataset).names)
    if config.train.eval_every and hosts.first():
        warn_of_no_validation(config.dataset.name, data.eval_split)
    if stop is not None:
        stop.check()
    identity, run_id = training_identity(config), train_run_id(config)
    directory = Path(config.tracking.root) / "checkpoints" / run_id
    with tracker.start_run(
        run_id,
        job_type="train",
        name=f"train {cell_name(config)}",
        group=config.tracking.group,
        tags=[config.dataset.name, config.size.name],
        config={**identity, "identity": identity_hash(identity), "settings": settings(config)},
        restart=config.force,
    ) as run:
        if config.force and hosts.first():  # now that no other process has the run
            forget_checkpoints(directory)
        hosts.together("the checkpoints' folder")
        run.use_artifact(log_data(data.record, tracker, config.tracking.group))
        if hosts.first():
            remember_dataset(config.dataset, Path(config.tracking.root))
        if checkpoint is not None and checkpoint.artifact is not None:
            run.use_artifact(checkpoint.artifact)
        run.set_summary({"parameters": t5.count_parameters(size), **data.summary()})
        with stop_signals() if stop is None else nullcontext(stop) as stop:
            training = Training(config, data, size, make_mesh(config.mesh, devices))
            with device_errors(OF_TRAINING):
                params = hosts.whole(training.fit(checkpoint, directory, run, stop))
            draft = ArtifactDraft(f"model-{cell_name(config)}", "model")
            with tracker.temporary_directory() as folder:
                if hosts.first():
                    draft = model_artifact(folder, cell_name(config), size, params, data.vocabulary, identity)
                model = run.log_artifact(draft)
            stop.received = hosts.agreed(stop.received)
        if stop.received:  # too late to stop anything here, but whoever sent it wants nothing more to start
            run.finish()
            raise Stopped(stop.received)
        return model


def load_data(config: Config) -> CellData | TextData:
    """Returns what a cell learns from and is evaluated on: labelled rows, or plain text to pre-train on.

    Raises EdgewiseError as `load_cell_data` and `load_text_data` do.
    """
    cache = Path(config.tracking.root)
    return load_text_data(config, cache) if config.dataset.task == PLAIN_TEXT else load_cell_data(config, cache)


@dataclass(frozen=True)
class Training:
    """Holds what every step of a cell's training reads: its config, data, architecture, mesh and compiled functions."""

    config: Config
    data: CellData | TextData
    size: Size
    mesh: jax.sharding.Mesh

    @property
    def compiled(self) -> Compiled:
        """Returns the compiled functions, which the process keeps."""
        return compile_train_step(self.step_config, self.mesh)

    @property
    def step_config(self) -> StepConfig:
        """Returns what the step depends on, for the mesh's devices."""
        return StepConfig.from_config(self.config, self.size, platform_of(self.mesh), self.outputs)

    @property
    def outputs(self) -> tuple[int, ...]:
        """Returns the token ids that the softmax is over, as `train.softmax` says; none: the whole vocabulary."""
        return self.data.labels.outputs if self.data.labels is not None else ()

    def fit(self, checkpoint: Checkpoint | None, directory: Path, run: Run, stop: Stop) -> t5.Params:
        """Runs the steps that are left, logs to `run` and saves to `directory` on the way; returns the parameters.

        They are those of the last step or, with `train.keep=best`, of the best evaluation. Raises Stopped, after a
        checkpoint, when `stop` says that a signal has come.
        """
        train, compiled = self.config.train, self.compiled
        seed_key = jax.random.key(self.config.seed)
        checkpoints = Checkpoints(directory, train.keep_checkpoints)
        try:
            selection = ModelSelection(train, self.mesh)
            state = self.start_state(checkpoints, checkpoint, selection, seed_key)
            start, steps = int(state.step), train.steps
            window = Window(train.batch_size, run)
            has_evaluated = False
            with (
                progress(cell_name(self.config), steps, "steps", start, hosts.first()) as meter,
                closing(ahead(self.batch_maker(), range(start, steps))) as batches,
            ):
                take_step = Stepper(compiled.step, seed_key, batches, window, meter)
                layers = "written out" if self.step_config.execution.unroll else "in a loop"
                run.set_summary({"layers": layers})
                for step in range(start + 1, steps + 1):
                    if selection.is_exhausted:
                        break
                    state = take_step(state, step)
                    if step == start + 1:
                        self.say_attention(run, meter, take_step.lengths)
                    save = due(step, train.checkpoint_every, steps)
                    evaluate = due(step, train.eval_every, steps)
                    log = due(step, train.log_every, steps)
                    # Looked at once: a signal from here on is the next step's. It may come to one process of several
                    # alone, which agree on it where the steps are waited for in any case.
                    signalled = hosts.agreed(stop.received) if save or log or hosts.alone() else 0
                    if save or evaluate or log or signalled:
                        window.check()
                        meter.advance(0)
                        evaluation = self.evaluate(state) if evaluate else {}
                        window.log(evaluation)
                        meter.advance(0, counted=has_evaluated or not evaluate)  # the first one is compiled
                        has_evaluated |= evaluate
                    if evaluate:
                        is_best = selection.consider(evaluation, step, state.params)
                        meter.print_line(evaluation_line(step, steps, window.loss, evaluation, is_best))
                    if save or signalled or selection.is_exhausted:
                        # after window.check: it has looked at every loss up to here
                        checkpoints.save(selection.to_save(state), step)
                    if signalled:
                        stop.received = signalled
                        checkpoints.close()
                        end_stopped(run, signalled, step, steps, self.config.force)
                run.set_summary({"compile_seconds": round(take_step.compile_seconds, 3)})
                if chooses(train):
                    run.set_summary({"last_step": int(state.step), "kept_step": selection.kept_step(state)})
                    meter.print_line(selection_line(selection, state, steps))
            return self.finished(selection.kept_params(state))
        finally:
            checkpoints.close()

    def finished(self, params: t5.Params) -> t5.Params:
        """Returns the parameters as a model has them that is evaluated or kept: it reads rare tokens as UNK."""
        return params if self.data.rare is None else reads_as_unknown(params, self.data.rare)

    def say_attention(self, run: Run, meter: Meter, lengths: Collection[int]) -> None:
        """Logs which ways of attention the first step took, and prints them where a CPU's own choice is not meant.

        `lengths` are those of its inputs and targets: other cells of the process may have compiled the same step for
        other lengths before.
        """
        taken = str(self.compiled.attention.with_keys(lengths))
        run.set_summary({"attention": taken})
        if self.config.train.attention != "auto" or self.mesh.devices.flat[0].platform != "cpu":
            meter.print_line(f"attention: {taken}")

    def start_state(
        self,
        checkpoints: Checkpoints,
        checkpoint: Checkpoint | None,
        selection: ModelSelection,
        seed_key: jax.Array,
    ) -> TrainState:
        """Returns the state to go on from: the last one saved, else `checkpoint`'s parameters, else random ones.

        With a saved state, `selection` knows what had been found until then.
        """
        if checkpoints.latest is not None:
            return selection.restored(checkpoints.restore(selection.abstract(self.compiled.abstract)))
        if checkpoint is not None:
            return self.compiled.fresh(load(checkpoint, self.size, self.mesh))
        return self.compiled.init(seed_key)

    def batch_maker(self) -> Callable[[int], tuple[dict[str, jax.Array], float]]:
        """Returns the function of a step, from 0, to its batch on the devices and the batch's share of padding."""
        data, mesh = self.data, self.mesh
        batches = data.train_batches(
            self.config.train.batch_size, self.config.seed, row_cost(self.size, len(self.outputs)), whole_rows(mesh, 1)
        )

        def make(step: int) -> tuple[dict[str, jax.Array], float]:
            batch = batches(step)
            return put(batch, mesh), batch.padding

        return make

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Returns the values of the evaluation examples, by name.

        They are the loss (nats a target token) and the accuracy by label likelihood or, where there are no labels, of
        tokens.
        """
        config, data, mesh, params = self.config, self.data, self.mesh, self.finished(state.params)
        if data.labels is None or data.eval_truth is None:
            batches = data.eval_batches(
                config.train.batch_size, row_cost(self.size, len(self.outputs)), whole_rows(mesh, 1)
            )
            sums = jax.device_get([self.compiled.eval_sums(params, put(make(), mesh)) for make in batches])
            nll, hits, tokens = (float(sum(some[key] for some in sums)) for key in ("nll", "hits", "tokens"))
            return {f"{data.eval_split}_loss": nll / tokens, f"{data.eval_split}_token_accuracy": hits / tokens}
        budget = scoring_budget(config.infer, data.labels, mesh)
        plan = plan_batches(config.infer, data.eval_inputs.lengths, budget)
        model = RunningModel(params, self.size, dtype_of(config), mesh, config.train.attention)
        hits, loss = hits_and_loss(model, data.eval_inputs, data.eval_truth, data.labels, plan)
        tokens = int(data.eval_targets.lengths.sum())
        return {f"{data.eval_split}_loss": loss / tokens, f"{data.eval_split}_accuracy": hits / len(data.eval_truth)}


def due(step: int, every: int, last: int) -> bool:
    """Tells whether what happens every `every` steps happens after the `step`-th of `last` steps, counted from 1.

    It happens after the last step too; where `every` is 0 it never happens.
    """
    return every > 0 and (step % every == 0 or step == last)


def evaluation_line(step: int, steps: int, loss: float, evaluation: Mapping[str, float], is_best: bool) -> str:
    """Returns what is printed of an evaluation; `loss` is the training's since the last log."""
    values = [f"step {step:,} of {steps:,}: loss {loss:.4f}"]
    for key, value in evaluation.items():
        name = key.replace("_", " ")
        values.append(f"{name} {100 * value:.1f} %" if key.endswith("accuracy") else f"{name} {value:.4f}")
    return ", ".join(values) + (" (best so far)" if is_best else "")


def selection_line(selection: ModelSelection, state: TrainState, steps: int) -> str:
    """Returns what is printed at the end where evaluations decide: where it ended, and which step is kept."""
    last, kept = int(state.step), selection.kept_step(state)
    line = f"keeps step {kept:,}" + (", the best" if kept == selection.step else ", the last")
    if last < steps:
        line = (
            f"ended at step {last:,} of {steps:,}, {selection.evaluations_since} evaluations after the best "
            f"(step {selection.step:,}); {line}"
        )
    return line


def forget_checkpoints(directory: Path) -> None:
    """Deletes a run's checkpoints. Raises EdgewiseError where they can't be: training would go on from them."""
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise EdgewiseError(
            f"force=true: the checkpoints in {directory} can't be deleted ({error.strerror}), and training would go on "
            "from them; delete the folder yourself, or give another tracking.root"
        ) from error


def end_stopped(run: Run, signal_number: int, step: int, steps: int, forced: bool) -> NoReturn:
    """Marks the run as stopped, says so on stderr, and raises Stopped.

    `forced` says that the command forgets what it finds, and so what is saved here.
    """
    message = f"stopped by signal {signal_number} after step {step} of {steps}, which is saved"
    run.finish("stopped", message)
    if hosts.first():
        command = "the same command without force=true" if forced else "the same command"
        print(f"{message}: {command} goes on from there", file=sys.stderr)
    raise Stopped(signal_number)


def put(batch: Batch, mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
    """Puts a packed batch on the devices, its rows shared among them, by the names that `train.step` takes."""
    arrays: dict[str, jax.Array] = hosts.on_devices(vars(batch), jax.sharding.NamedSharding(mesh, BATCH))
    return arrays


def row_cost(size: Size, outputs: int = 0) -> Callable[[int, int], float]:
    """Returns the function of a packed row's input and target positions to its floating-point operations.

    A small model's logits outweigh all its layers, and long rows cost more attention. The softmax is over so many
    `outputs`; 0: over the whole vocabulary.
    """
    return lambda input_length, target_length: float(
        t5.forward_flops(size, np.array(input_length), np.array(target_length), outputs)
    )
