"""Makes the programs to compile, the train step and the scoring step, from the config alone: it needs no data."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from conf.errors import EdgewiseError
from conf.schema import LABELS, PLAIN_TEXT, Config, Size
from train import label_tree, t5
from train.data.span_corruption import fullest_row
from train.data.tokens import SENTINELS, Vocabulary
from train.labels import as_labels, compile_label_scoring, max_call_positions, scoring_budget
from train.sharding import BATCH, platform_of, whole_rows
from train.step import Compiled, StepConfig, compile_train_step

LABEL_LENGTH = 8  # tokens, where no tokenizer says


@dataclass(frozen=True)
class Program:
    """Holds one step that is to be compiled.

    `shapes` are those of the whole batch's arrays, by name; `model_flops` the floating-point operations of the model on
    one device; `lower` traces the step for the devices.
    """

    step: str
    shapes: dict[str, list[int]]
    model_flops: float
    lower: Callable[[], jax.stages.Lowered]


def programs(config: Config, mesh: jax.sharding.Mesh) -> list[Program]:
    """Returns the programs that `compile.step` names: the train step, and how examples of this task are scored.

    Of plain text, that is how what is held out is evaluated. Raises EdgewiseError for size=auto, and as `fullest_row`
    does.
    """
    if config.train.dtype == "auto":  # what JAX's default backend would say is the CPU's
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, dtype="bfloat16"))
    maker = ProgramMaker(config, full_size(config), label_strings(config), mesh)
    made = []
    if config.compile.step in ("all", "train"):
        made.append(maker.train_step())
    if config.compile.step in ("all", "score"):
        made.append(maker.label_scoring() if maker.labels is not None else maker.teacher_forcing())
    return made


@dataclass(frozen=True)
class ProgramMaker:
    """Makes programs for one config: its architecture, its label strings (None in a task without labels), its mesh."""

    config: Config
    size: Size
    labels: label_tree.Labels | None
    mesh: jax.sharding.Mesh

    def train_step(self) -> Program:
        """Returns the train step of a packed batch."""
        compiled = self._compiled_step()
        shapes, batch = self._packed_batch()
        key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype, sharding=self._replicated)
        flops = 3 * self._forward_flops(*shapes["targets"])  # the backward pass counts twice the forward one
        return Program("train", shapes, flops, lambda: compiled.step.lower(compiled.abstract, batch, key))

    def teacher_forcing(self) -> Program:
        """Returns the step that scores a packed batch's own targets."""
        compiled = self._compiled_step()
        shapes, batch = self._packed_batch()
        flops = self._forward_flops(*shapes["targets"])
        return Program(
            "teacher forcing", shapes, flops, lambda: compiled.eval_sums.lower(compiled.abstract.params, batch)
        )

    def label_scoring(self) -> Program:
        """Returns the step that scores every label string of each input."""
        assert self.labels is not None
        length = self.config.dataset.max_input_length
        rows = scoring_budget(self.config.infer, self.labels, self.mesh).rows(length)
        tree = self.labels.tree(max_call_positions(self.size, rows, length))
        shapes = {
            "inputs": [rows, length],
            "labels": list(self.labels.padded.shape),
            "positions": list(tree.tokens.shape),
        }
        params = self._compiled_step().abstract.params
        abstract_tree = jax.tree.map(self._as_abstract, tree)
        train = self.config.train
        compiled = compile_label_scoring(self.size, train.dtype, self.mesh, train.attention)
        scoring = cast(jax.stages.Wrapped, compiled)
        return Program(
            "score",
            shapes,
            self._forward_flops(rows, tree.tokens.size),
            lambda: scoring.lower(params, self._ids(rows, length), abstract_tree),
        )

    def _compiled_step(self) -> Compiled:
        """Returns the train step's functions for the mesh's devices."""
        platform = platform_of(self.mesh)
        return compile_train_step(StepConfig.from_config(self.config, self.size, platform, self._outputs), self.mesh)

    def _packed_batch(self) -> tuple[dict[str, list[int]], dict[str, jax.ShapeDtypeStruct]]:
        """Returns a packed batch's shapes and its abstract arrays, by name."""
        assumed, dataset, train = self.config.compile, self.config.dataset, self.config.train
        rows = whole_rows(self.mesh, assumed.rows or train.batch_size)
        input_length = dataset.max_input_length
        if dataset.task == PLAIN_TEXT:
            row = fullest_row(input_length, train.noise_density, train.mean_noise_span_length)
            input_length, target_length = row.input_length, row.target_length
        elif self.labels is None:
            target_length = dataset.max_target_length
        else:
            target_length = self.labels.padded.shape[1]
        shapes = {"inputs": [rows, input_length], "targets": [rows, assumed.target_length or target_length]}
        batch = {name: self._ids(*shape) for name, shape in shapes.items()}
        return shapes, batch | {"input_segments": batch["inputs"], "target_segments": batch["targets"]}

    def _ids(self, rows: int, length: int) -> jax.ShapeDtypeStruct:
        """Returns abstract token ids [rows, length] int32, their rows shared among the devices."""
        return jax.ShapeDtypeStruct((rows, length), jnp.int32, sharding=NamedSharding(self.mesh, BATCH))

    def _as_abstract(self, array: Any) -> jax.ShapeDtypeStruct:
        """Returns the abstract form of an array that every device holds whole."""
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=self._replicated)

    @property
    def _outputs(self) -> tuple[int, ...]:
        """Returns the token ids that the softmax is over; none: the whole vocabulary."""
        return self.labels.outputs if self.labels is not None else ()

    @property
    def _replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    def _forward_flops(self, rows: int, targets: int) -> float:
        """Returns one device's part of the operations of a forward pass over `rows` inputs with `targets` positions."""
        inputs = np.array(self.config.dataset.max_input_length)
        flops = t5.forward_flops(self.size, inputs, np.array(targets), len(self._outputs))
        return float(flops) * rows / self.mesh.size


def full_size(config: Config) -> Size:
    """Returns the architecture with a vocabulary: the tokenizer's wanted size where the config leaves it open.

    Of plain text, the sentinels have ids beside the tokenizer's pieces. Raises EdgewiseError for size=auto, which has
    no shapes.
    """
    if config.size.d_model == 0:
        raise EdgewiseError("size=auto takes its shapes from a checkpoint: give size=base or another")
    sentinels = SENTINELS if config.dataset.task == PLAIN_TEXT else 0
    return t5.with_vocabulary(config.size, config.tokenizer.vocabulary_size + sentinels)


def label_strings(config: Config) -> label_tree.Labels | None:
    """Returns the task's label strings as the tokenizer of `tokenizer.path` encodes them; None where it has none.

    Where no tokenizer says, they are made up, without a common beginning: as many, and as long as
    `compile.label_length` or LABEL_LENGTH says.
    """
    if config.dataset.task != "classification":
        return None
    classes, alone = list(config.dataset.classes.values()), config.train.softmax == LABELS
    if config.compile.label_length is None and config.tokenizer.path is not None:
        return as_labels(Vocabulary.from_file(config.tokenizer.path).encode(classes, max_length=1 << 20), alone)
    first_ids = np.arange(2, 2 + len(classes), dtype=np.int32)[:, None]
    return label_tree.Labels(np.repeat(first_ids, config.compile.label_length or LABEL_LENGTH, axis=1), alone)


def label_length_is_assumed(config: Config) -> bool:
    """Tells whether the label strings are made up and of LABEL_LENGTH tokens."""
    unknown = config.compile.label_length is None and config.tokenizer.path is None
    return config.dataset.task == "classification" and unknown
