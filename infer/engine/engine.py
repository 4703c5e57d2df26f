"""Runs inputs through the stages of a switcher: each stage answers what it is certain of and passes on the rest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from conf.errors import EdgewiseError
from conf.schema import Infer
from infer.decode import as_encoded, decode_examples
from infer.engine.batches import SERVED_ROW_STEPS, batches_of, ladder, row_counts
from infer.generation import decoding_budget
from infer.model_check import check_values
from infer.self_check import differs
from infer.sequences import SequenceBatch, score_sequences
from infer.switcher.policy import Policy
from metrics.scores import TokenScores
from metrics.statistics.policies.routing import passes_on
from metrics.statistics.policies.scores import likelihood_score, token_score
from train.data.batches import ScoringBatch
from train.data.prefetch import in_flight
from train.data.template import fill_template, template_fields
from train.data.tokens import EOS, Encoded
from train.labels import scoring_budget, start_scoring
from train.model_artifact import Model
from train.running_model import RunningModel
from train.sharding import batches_in_flight, whole_rows

Advance = Callable[[int], None]  # called with how many inputs a batch held, of any stage
Finish = Callable[[], tuple[np.ndarray, np.ndarray]]  # waits for a batch's answers [b] object (str), log scores [b]


def _ignore(_: int) -> None:
    """Ignores how far it is."""


@dataclass(frozen=True)
class Answers:
    """Holds the answers to n inputs.

    `log_score` is that of the last stage which could have passed the input on, the natural logarithm of its
    uncertainty: of an input that went to the last stage, the one before it. `first` has the first stage's, None where
    it is the same because the chain has two stages.
    """

    prediction: np.ndarray  # [n] object (str)
    stage: np.ndarray  # [n] int8, which stage answered
    log_score: np.ndarray  # [n] float64
    first: np.ndarray | None = None  # [n] float64

    @property
    def deferred(self) -> np.ndarray:
        """Tells which inputs the first stage passed on: [n] bool."""
        passed: np.ndarray = self.stage > 0
        return passed

    @property
    def first_log_score(self) -> np.ndarray:
        """Returns the first stage's log scores, which decided what it passed on: [n] float64."""
        return self.log_score if self.first is None else self.first

    @property
    def score(self) -> np.ndarray:
        """Returns the uncertainty in its own unit: [n] float64, margin as 1 - (p₁ - p₂), entropy in nats."""
        natural: np.ndarray = np.exp(self.log_score)
        return natural


class Engine:
    """Answers inputs by a policy whose models lie on the devices; one thread at a time may ask.

    Attributes:
        policy: what it answers by.
        fields: the columns of its template, which every input has.

    """

    def __init__(
        self, policy: Policy, models: Sequence[Model], mesh: jax.sharding.Mesh, infer: Infer, attention: str = "auto"
    ):
        """Takes one model a stage, their parameters laid over `mesh`.

        `infer.batch_tokens` bounds a batch; `attention` is the way that is asked for, as in `train.attention`.
        """
        self.policy, self.fields = policy, template_fields(policy.template)
        self._mesh, self._infer = mesh, infer
        # Cast once, not at every batch. Where answers are written, logits are float32, and so is the head.
        head = policy.task == "classification"
        self._models = [
            RunningModel(model.params, model.size, policy.dtype, mesh, attention).cast(head) for model in models
        ]
        self._vocabularies = [model.vocabulary for model in models]
        self._classes = np.array(policy.classes, dtype=object)
        self._beams = int(policy.decoding.get("beams", 1))
        self._labels = [model.labels(policy.classes) for model in models if policy.labels]
        if policy.task == "classification":
            self._budgets = [scoring_budget(infer, labels, mesh) for labels in self._labels]
        else:
            assert policy.max_target_length is not None
            limits = Infer(batch_tokens=infer.batch_tokens, beams=self._beams)
            self._budgets = [decoding_budget(limits, policy.max_target_length, whole_rows(mesh, 1))] * len(models)

    @property
    def on_gpu(self) -> bool:
        """Tells whether the models lie on a GPU."""
        return bool(self._mesh.devices.flat[0].platform == "gpu")

    @property
    def device(self) -> str:
        """Names the devices, such as `1 × cpu`."""
        first = self._mesh.devices.flat[0]
        return f"{self._mesh.devices.size} × {first.device_kind}"

    def answer(self, columns: Mapping[str, Sequence[str]], advance: Advance = _ignore) -> Answers:
        """Answers n inputs, given as the columns `fields` of n texts each."""
        texts = fill_template(self.policy.template, columns, len(columns[self.fields[0]]))
        return self.answer_texts(texts, advance)

    def answer_texts(self, texts: list[str], advance: Advance = _ignore) -> Answers:
        """Answers n inputs, given as the template filled in; `advance` is told of every batch, of any stage."""
        n = len(texts)
        prediction = np.empty(n, dtype=object)
        stage, log_score = np.zeros(n, np.int8), np.full(n, -np.inf)
        rows, first = np.arange(n), None
        for k, described in enumerate(self.policy.stages):
            answers, scores = self.run_stage(k, [texts[row] for row in rows.tolist()], advance)
            prediction[rows], stage[rows] = answers, k
            if described.threshold is None:
                break
            log_score[rows] = scores
            if not k and len(self.policy.stages) > 2:
                first = log_score.copy()
            rows = rows[passes_on(scores, described.threshold)]
            if not len(rows):
                break
        return Answers(prediction, stage, log_score, first)

    def run_stage(self, k: int, texts: Sequence[str], advance: Advance = _ignore) -> tuple[np.ndarray, np.ndarray]:
        """Returns what stage k's model answers to n filled templates, [n] object (str), and its log scores [n].

        The last stage has no score: NaN.
        """
        answers, scores = np.empty(len(texts), dtype=object), np.full(len(texts), np.nan)
        if not texts:
            return answers, scores
        inputs = self.encode(k, texts)
        batches = batches_of(inputs.lengths, self.policy.max_input_length, self._budgets[k])
        started = ((batch.rows, self._start_batch(k, inputs, batch)) for batch in batches)
        for rows, finish in in_flight(started, batches_in_flight(self._mesh)):
            answers[rows], scores[rows] = finish()
            advance(len(rows))
        return answers, scores

    def encode(self, k: int, texts: Sequence[str]) -> Encoded:
        """Returns n filled templates as stage k's model reads them, cut to the policy's longest input."""
        return self._vocabularies[k].encode(texts, self.policy.max_input_length)

    def vocabulary(self, k: int) -> str:
        """Returns the digest of stage k's vocabulary: stages that share one read the same token ids."""
        return self._vocabularies[k].digest

    @property
    def lengths(self) -> list[int]:
        """Returns the lengths that inputs are padded to, in tokens, ascending."""
        return ladder(self.policy.max_input_length)

    def row_counts(self, k: int, length: int) -> list[int]:
        """Returns the numbers of rows that a batch of stage k padded to `length` may have, descending.

        Those that `answer` uses are among them.
        """
        return row_counts(self._budgets[k], length, SERVED_ROW_STEPS)

    def run_batch(self, k: int, inputs: Encoded, batch: ScoringBatch) -> tuple[np.ndarray, np.ndarray]:
        """Returns what stage k's model answers to the inputs `batch.rows` [b], [b] object (str), and log scores [b].

        Shapes made of `lengths` and `row_counts` are those that `compile_shapes` compiles.
        """
        return self._start_batch(k, inputs, batch)()

    def _start_batch(self, k: int, inputs: Encoded, batch: ScoringBatch) -> Finish:
        """Lets stage k's model begin to answer a batch; what it returns waits for the answers and log scores.

        Written answers are begun when they are waited for: their decoding goes on step by step.
        """
        if self.policy.task == "classification":
            return self._start_classification(k, inputs, batch)
        return lambda: self._write(k, inputs, batch)

    def compile_shapes(self, advance: Advance = _ignore) -> None:
        """Runs one input in every shape that a batch may have, so that none compiles later.

        `advance` is told of every shape.
        """
        for k, described in enumerate(self.policy.stages):
            vocabulary = self._vocabularies[k]
            inputs = vocabulary.encode([""], self.policy.max_input_length)
            for length in self.lengths:
                for count in self.row_counts(k, length):
                    self.run_batch(k, inputs, ScoringBatch(np.zeros(1, np.int64), length, count))
                    if self.policy.max_target_length is not None and described.score is not None:
                        for longest in ladder(self.policy.max_target_length):
                            written = [np.full(min(longest, 2), EOS, np.int32)]
                            self._token_scores(
                                k, described.score, inputs, length, count, np.zeros(1, int), written, longest
                            )
                    advance(1)

    def problems(self) -> list[str]:
        """Runs the self-check of every stage, where the policy has one; returns a sentence for each that differs."""
        found = []
        for k, check in enumerate(self.policy.self_check or ()):
            values = check_values(self._models[k], check, self._labels[k] if self._labels else None)
            if (difference := differs(check, values, self.policy.dtype)) is not None:
                found.append(f"{self.policy.stages[k].name} ({self.policy.stages[k].model}): {difference}")
        return found

    def check(self) -> None:
        """Raises EdgewiseError where a model doesn't compute what it did when its scores were made."""
        if found := self.problems():
            raise EdgewiseError(
                f"this machine doesn't compute what the one did that made the scores: {'; '.join(found)}. Score and "
                "choose the switcher again here, or run it where its scores were made"
            )

    def _start_classification(self, k: int, inputs: Encoded, batch: ScoringBatch) -> Finish:
        """Begins to score the classes; what it returns waits for each input's likeliest one and log score."""
        policy = self.policy
        started = start_scoring(self._models[k], inputs, self._labels[k], batch)

        def finish() -> tuple[np.ndarray, np.ndarray]:
            log_likelihoods = np.asarray(started)[: len(batch.rows)]
            answers, score = self._classes[log_likelihoods.argmax(axis=1)], policy.stages[k].score
            if score is None:
                return answers, np.full(len(batch.rows), np.nan)
            return answers, likelihood_score(score, log_likelihoods)

        return finish

    def _write(self, k: int, inputs: Encoded, batch: ScoringBatch) -> tuple[np.ndarray, np.ndarray]:
        """Returns each input's written answer and the log score of its tokens."""
        policy = self.policy
        assert policy.max_target_length is not None
        [(rows, outputs)] = decode_examples(
            self._models[k],
            inputs,
            [batch],
            max_length=policy.max_target_length,
            beams=self._beams,
            alpha=float(policy.decoding.get("length_penalty", self._infer.length_penalty)),
        )
        answers = np.empty(len(rows), dtype=object)
        answers[:] = [self._vocabularies[k].decode(ids) for ids in outputs]
        score = policy.stages[k].score
        if score is None:
            return answers, np.full(len(rows), np.nan)
        steps = np.array(ladder(policy.max_target_length))
        longest = int(steps[np.searchsorted(steps, max(len(ids) for ids in outputs))])
        return answers, self._token_scores(k, score, inputs, batch.length, batch.row_count, rows, outputs, longest)

    def _token_scores(
        self,
        k: int,
        score: str,
        inputs: Encoded,
        length: int,
        row_count: int,
        rows: np.ndarray,
        outputs: Sequence[np.ndarray],
        longest: int,
    ) -> np.ndarray:
        """Returns the log scores [b] of what the model wrote for the inputs `rows` [b], in its own context.

        The inputs are padded to `length` and what was written to `longest` tokens.
        """
        own = Encoded(
            np.concatenate([inputs[row] for row in rows]),
            np.concatenate([[0], np.cumsum(inputs.lengths[rows])]),
            0,
        )
        shape = SequenceBatch(np.arange(len(rows)), length, longest, row_count)
        written = as_encoded(outputs)
        [(_, [scored])] = score_sequences(self._models[k], own, [written], [shape])
        columns = [np.concatenate([np.asarray(values[i]) for values in scored]) for i in range(3)]
        return token_score(score, TokenScores(columns[0], columns[1], columns[2], written.offsets))
