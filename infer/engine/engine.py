"""Runs inputs through the stages of a switcher: each stage answers what it is certain of and passes on the rest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from conf.errors import EdgewiseError
from conf.schema import Infer
from infer.decode import as_encoded, decode_examples
from infer.engine.batches import batches_of, ladder
from infer.generation import decoding_budget
from infer.model_check import check_values
from infer.self_check import differs
from infer.sequences import SequenceBatch, score_sequences
from infer.switcher.policy import Policy
from metrics.scores import TokenScores
from metrics.statistics.policies.scores import likelihood_score, token_score
from train.data.template import fill_template, template_fields
from train.data.tokens import Encoded
from train.labels import as_labels, score_examples, scoring_budget
from train.model_artifact import Model
from train.sharding import whole_rows

Advance = Callable[[int], None]  # called with how many inputs a batch held, of any stage


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

    def __init__(self, policy: Policy, models: Sequence[Model], mesh: jax.sharding.Mesh, infer: Infer):
        """Takes one model a stage, their parameters laid over `mesh`; `infer.batch_tokens` bounds a batch."""
        self.policy, self.fields = policy, template_fields(policy.template)
        self._models, self._mesh, self._infer = models, mesh, infer

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
            passed_on = (scores >= described.threshold) & (described.threshold < np.inf)
            rows = rows[passed_on]
            if not len(rows):
                break
        return Answers(prediction, stage, log_score, first)

    def run_stage(self, k: int, texts: Sequence[str], advance: Advance = _ignore) -> tuple[np.ndarray, np.ndarray]:
        """Returns what stage k's model answers to n filled templates, [n] object (str), and its log scores [n].

        The last stage has no score: NaN.
        """
        model = self._models[k]
        if not texts:
            return np.empty(0, dtype=object), np.empty(0)
        inputs = model.vocabulary.encode(texts, self.policy.max_input_length)
        run = self._classify if self.policy.task == "classification" else self._write
        return run(k, inputs, advance)

    def problems(self) -> list[str]:
        """Runs the self-check of every stage, where the policy has one; returns a sentence for each that differs."""
        found = []
        for k, check in enumerate(self.policy.self_check or ()):
            values = check_values(self._models[k], check, self.policy.classes, self.policy.dtype, self._mesh)
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

    def _classify(self, k: int, inputs: Encoded, advance: Advance) -> tuple[np.ndarray, np.ndarray]:
        """Returns each input's likeliest class and log score."""
        model, classes = self._models[k], self.policy.classes
        labels = as_labels(model.vocabulary.encode(classes, max_length=1 << 20))
        budget = scoring_budget(self._infer, labels, self._mesh)
        batches = list(batches_of(inputs.lengths, self.policy.max_input_length, budget))
        log_likelihoods = np.empty((len(inputs), len(classes)), np.float32)
        scored = score_examples(model.params, inputs, labels, model.size, self.policy.dtype, self._mesh, batches)
        for rows, values in scored:
            log_likelihoods[rows] = values
            advance(len(rows))
        answers = np.array(classes, dtype=object)[log_likelihoods.argmax(axis=1)]
        score = self.policy.stages[k].score
        return answers, np.full(len(inputs), np.nan) if score is None else likelihood_score(score, log_likelihoods)

    def _write(self, k: int, inputs: Encoded, advance: Advance) -> tuple[np.ndarray, np.ndarray]:
        """Returns each input's written answer and the log score of its tokens."""
        model, policy = self._models[k], self.policy
        assert policy.max_target_length is not None
        beams = int(policy.decoding.get("beams", 1))
        alpha = float(policy.decoding.get("length_penalty", self._infer.length_penalty))
        limits = Infer(batch_tokens=self._infer.batch_tokens, beams=beams)
        budget = decoding_budget(limits, policy.max_target_length, whole_rows(self._mesh, 1))
        steps = np.array(ladder(policy.max_target_length))
        answers, scores = np.empty(len(inputs), dtype=object), np.full(len(inputs), np.nan)
        score = policy.stages[k].score
        for batch in batches_of(inputs.lengths, policy.max_input_length, budget):
            decoded = decode_examples(
                model.params,
                inputs,
                model.size,
                policy.dtype,
                self._mesh,
                [batch],
                max_length=policy.max_target_length,
                beams=beams,
                alpha=alpha,
            )
            for rows, outputs in decoded:
                answers[rows] = [model.vocabulary.decode(ids) for ids in outputs]
                if score is not None:
                    longest = int(steps[np.searchsorted(steps, max(len(ids) for ids in outputs))])
                    scores[rows] = self._token_scores(k, score, inputs, batch.row_count, rows, outputs, longest)
                advance(len(rows))
        return answers, scores

    def _token_scores(
        self,
        k: int,
        score: str,
        inputs: Encoded,
        row_count: int,
        rows: np.ndarray,
        outputs: Sequence[np.ndarray],
        longest: int,
    ) -> np.ndarray:
        """Returns the log scores [b] of what the model wrote for the inputs `rows` [b], in its own context."""
        model = self._models[k]
        own = Encoded(
            np.concatenate([inputs[row] for row in rows]),
            np.concatenate([[0], np.cumsum(inputs.lengths[rows])]),
            0,
        )
        step = np.array(ladder(self.policy.max_input_length))
        length = int(step[np.searchsorted(step, own.lengths.max())])
        shape = SequenceBatch(np.arange(len(rows)), length, longest, row_count)
        written = as_encoded(outputs)
        arguments = (model.params, own, [written], model.size, self.policy.dtype, self._mesh, [shape])
        [(_, [scored])] = score_sequences(*arguments)
        columns = [np.concatenate([np.asarray(values[i]) for values in scored]) for i in range(3)]
        return token_score(score, TokenScores(columns[0], columns[1], columns[2], written.offsets))
