"""Types the config of training, of scoring and of a sweep of both."""

import math
from dataclasses import dataclass
from typing import Any, Optional

from conf.errors import EdgewiseError
from conf.names import checked_name
from conf.sections.values import AUTO, Text, at_least, checked_switch, one_of
from conf.text import checked_text

OBJECTIVES = ("supervised", "span_corruption")
SPAN_CORRUPTION = OBJECTIVES[1]
MOST_ROWS = 1 << 20  # of a batch: more are a slip, and would fill any memory before a word is said
SOFTMAXES = VOCABULARY, LABELS = ("vocabulary", "labels")


@dataclass
class Train:
    """Sets the training loop. `loss_normalizer`: `none` (the sum over target tokens), `tokens`, or a number.

    `remat` says what the backward pass computes again instead of keeping it: `none`, `dots` (all but the products with
    weights), or `full` (whole layers). It costs time, saves memory and changes no number beyond rounding.

    `attention` says how attention is computed: `plain` (all weights are written to memory), `cudnn` (NVIDIA's fused
    attention), `kernel` (the project's own), or `auto`, which takes the kernel on TPUs and cuDNN on GPUs where it can,
    and else plain. What can't be is plain, and where the kernel can't be on a GPU, cuDNN if possible; the run says what
    it took and why. It changes no number beyond rounding.

    `unroll` says whether the layers are written out one after the other in the compiled step (true) or run by a loop
    (false). Written out, a GPU's step needs less time and memory, and longer to compile. `auto` writes them out on a
    GPU, up to 64 layers of both stacks together. It changes no number beyond rounding.

    Every `eval_every` steps, and after the last, `eval_examples` rows of the validation split are evaluated; 0: never.
    `keep` says which step's parameters become the model: the `last`, or the `best` by these evaluations. `patience`
    ends the training after so many evaluations without a better one; 0: at `steps`.

    `init` is where training starts: `scratch`, or a checkpoint; `{size}` in it stands for the size's name. `objective`
    says what is learnt: `supervised`, the target of each row, or `span_corruption`, T5's pre-training on plain text. It
    takes out the share `noise_density` of the tokens, in spans of `mean_noise_span_length` on average.

    `token_dropout` is the share of an input's tokens that training replaces by <unk>, others at each step: where texts
    are few, it keeps a model from learning them by heart. Scoring replaces none.

    `min_token_count` is how often the training inputs must have a token for the model to read it; rarer ones are <unk>
    to it, in training and wherever the model is used. Targets' tokens are never rare; 1: no token is.

    `softmax` says over which tokens the model's softmax is, in training and in scoring: the whole `vocabulary`, or the
    tokens of the `labels` alone. From scratch on few texts a model spends much on telling labels from the thousands of
    tokens that no target has.
    """

    steps: int = 1000
    batch_size: int = 128
    init: str = "scratch"
    z_loss: float = 1e-4
    loss_normalizer: str = "none"
    dtype: str = "auto"
    remat: str = "none"
    attention: str = "auto"
    unroll: Any = AUTO
    checkpoint_every: int = 5000
    keep_checkpoints: int = 1
    log_every: int = 50
    eval_every: int = 0
    eval_examples: int = 256
    keep: str = "last"
    patience: int = 0
    objective: str = OBJECTIVES[0]
    noise_density: float = 0.15
    mean_noise_span_length: float = 3.0
    token_dropout: float = 0.0
    min_token_count: int = 1
    softmax: str = VOCABULARY

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        at_least("train.steps", self.steps, 1)
        at_least("train.batch_size", self.batch_size, 1)
        if self.batch_size > MOST_ROWS:
            raise EdgewiseError(f"train.batch_size={self.batch_size}: expected at most {MOST_ROWS:,} rows")
        at_least("train.checkpoint_every", self.checkpoint_every, 1)
        at_least("train.keep_checkpoints", self.keep_checkpoints, 1)
        at_least("train.log_every", self.log_every, 1)
        at_least("train.eval_every", self.eval_every, 0)
        at_least("train.eval_examples", self.eval_examples, 1)
        one_of("train.objective", self.objective, OBJECTIVES)
        if not 0 < self.noise_density < 1:
            raise EdgewiseError(f"train.noise_density={self.noise_density}: expected a share between 0 and 1")
        at_least("train.mean_noise_span_length", self.mean_noise_span_length, 1)
        if not 0 <= self.token_dropout < 1:
            raise EdgewiseError(f"train.token_dropout={self.token_dropout}: expected a share in [0, 1)")
        if self.token_dropout > 0 and self.objective == SPAN_CORRUPTION:
            raise EdgewiseError(
                f"train.token_dropout={self.token_dropout} train.objective={SPAN_CORRUPTION}: expected 0, as the "
                "objective itself takes tokens out; leave train.token_dropout away"
            )
        at_least("train.min_token_count", self.min_token_count, 1)
        if self.min_token_count > 1 and self.objective == SPAN_CORRUPTION:
            raise EdgewiseError(
                f"train.min_token_count={self.min_token_count} train.objective={SPAN_CORRUPTION}: expected 1, as "
                "pre-training is to learn the rare tokens too; leave train.min_token_count away"
            )
        at_least("train.z_loss", self.z_loss, 0)
        one_of("train.softmax", self.softmax, SOFTMAXES)
        one_of("train.keep", self.keep, ("last", "best"))
        at_least("train.patience", self.patience, 0)
        if self.eval_every == 0 and (self.keep == "best" or self.patience > 0):
            given = f"train.keep={self.keep}" if self.keep == "best" else f"train.patience={self.patience}"
            raise EdgewiseError(
                f"{given} train.eval_every=0: expected evaluations to choose by; give train.eval_every=N, the steps "
                "between two of them"
            )
        one_of("train.dtype", self.dtype, ("auto", "float32", "bfloat16"))
        one_of("train.remat", self.remat, ("none", "dots", "full"))
        one_of("train.attention", self.attention, ("auto", "plain", "cudnn", "kernel"))
        self.unroll = checked_switch("train.unroll", self.unroll)
        if self.loss_normalizer not in ("none", "tokens"):
            try:
                ok = 0 < float(self.loss_normalizer) < math.inf
            except ValueError:
                ok = False
            if not ok:
                raise EdgewiseError(
                    f"train.loss_normalizer={self.loss_normalizer}: expected none, tokens or a number above 0"
                )


@dataclass
class Infer:
    """Sets how one split is scored. `checkpoint` scores a checkpoint from outside instead of the cell's model artifact.

    Where a model writes its answer (span QA, translation), it is decoded greedily, or by a beam search with
    `length_penalty` (T5X's alpha); BLEU splits words as sacreBLEU's `bleu_tokenizer`.

    A batch holds at most `batch_tokens` positions, those of its padded inputs and of its outputs together: many short
    texts or few long ones, and one at least. By default they are 32,768, what 64 inputs of 512 tokens have, and 4,096
    where a CPU scores, whose caches hold no more. Texts are padded to as few lengths as keep the share of padding under
    `max_padding`, at most `length_buckets`.

    `keep_text` says whether scores hold the inputs as they were given: `auto` keeps them in the local store, and keeps
    none with `tracking.backend=wandb`. It changes no number.
    """

    split: Text = "test"
    checkpoint: Optional[str] = None
    batch_tokens: Optional[int] = None
    max_padding: float = 0.1
    length_buckets: int = 8
    beams: int = 1
    length_penalty: float = 0.6
    bleu_tokenizer: str = "intl"
    keep_text: Any = AUTO

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        self.split = checked_name("infer.split", checked_text("infer.split", self.split))
        if self.batch_tokens is not None:
            at_least("infer.batch_tokens", self.batch_tokens, 1)
        self.keep_text = checked_switch("infer.keep_text", self.keep_text)
        at_least("infer.length_buckets", self.length_buckets, 1)
        at_least("infer.beams", self.beams, 1)
        at_least("infer.length_penalty", self.length_penalty, 0)
        one_of("infer.bleu_tokenizer", self.bleu_tokenizer, ("intl", "13a", "char", "none"))
        if not 0 <= self.max_padding < 1:
            raise EdgewiseError(f"infer.max_padding={self.max_padding}: expected a share in [0, 1)")


@dataclass
class Sweeps:
    """Sets the grid of a sweep. `list` prints the cells and runs nothing; `metrics` makes the tables at the end.

    Before the first cell the data of the cells to do is checked, and said in a few lines. `check: true` says more, with
    the time that the grid will take, and stops; `check: false` leaves the check out.

    `seeds_per_job`: up to so many consecutive seeds of a cell are one job, each on its own devices (`mesh.seed`).
    """

    name: Optional[str] = None
    list: bool = False
    check: Optional[bool] = None
    metrics: bool = True
    seeds_per_job: int = 1

    def check_values(self) -> None:  # `check` is a key
        """Raises EdgewiseError for the first value outside its range, with its key."""
        at_least("sweeps.seeds_per_job", self.seeds_per_job, 1)
