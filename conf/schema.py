"""Defines the type of every config key. YAML holds the values; these dataclasses say what a value may be.

`Config` is the whole config of one cell. OmegaConf merges the YAML files into it, so that a mistyped key or a
value of the wrong type fails when the config is composed, with the key's name.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional

from omegaconf import MISSING

from conf.errors import EdgewiseError
from conf.names import check_cell_names, checked_name, checked_seed
from conf.text import IN_CONFIG_LIST, checked_text, checked_texts, optional_text

if TYPE_CHECKING:
    Text = str
    Seed = int
else:  # what OmegaConf is not to convert: it would make "False" of no, "1.5" of 1.50 and 10 of the text "010"
    Text = Any
    Seed = Any

TASKS = ("classification", "span_qa", "translation")
CONTEXTS = ("gold", "self")
AUTO = "auto"
SCORES = ("margin", "committee_margin", "entropy", "committee_entropy", "churn", "committee_churn")


def _one_of(key: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise EdgewiseError(f"{key}={value}: expected one of {', '.join(allowed)}")


def _at_least(key: str, value: float, least: float) -> None:
    if value < least:
        raise EdgewiseError(f"{key}={value}: expected {least} or more")


def _checked_price(price: Any) -> dict[str, float] | None:
    """Returns `metrics.price` with its numbers as floats; raises EdgewiseError for anything but prices of sizes."""
    if price is None:
        return None
    expected = (
        "expected a mapping of each size to a number of 0 or more, such as 'metrics.price={small: 0.2, large: 3}'"
    )
    if not isinstance(price, dict) or not price:
        raise EdgewiseError(f"metrics.price={price}: {expected}")
    numbers: dict[str, float] = {}
    for size, given in price.items():
        try:
            number = -1.0 if isinstance(given, bool) else float(given)
        except (TypeError, ValueError):
            number = -1.0
        if not 0 <= number < float("inf"):
            raise EdgewiseError(f"metrics.price={price}: {expected}; {given!r} is none")
        numbers[str(size)] = number
    return numbers


def _checked_costs(costs: Any) -> dict[str, dict[str, float]] | None:
    """Returns `metrics.costs` with floats for numbers; raises EdgewiseError for anything but costs by two classes."""
    if costs is None:
        return None
    expected = (
        "expected a mapping of each class to what it costs to predict each other class for it, such as "
        "'metrics.costs={spam: {ham: 1}, ham: {spam: 10}}'"
    )
    if not isinstance(costs, dict) or not costs or not all(isinstance(row, dict) for row in costs.values()):
        raise EdgewiseError(f"metrics.costs={costs}: {expected}")
    checked: dict[str, dict[str, float]] = {}
    for true, row in costs.items():
        for predicted, given in row.items():
            try:
                cost = math.nan if isinstance(given, bool) else float(given)
            except (TypeError, ValueError):
                cost = math.nan
            if not math.isfinite(cost):
                raise EdgewiseError(f"metrics.costs={costs}: {expected}; {given!r} is no number")
            checked.setdefault(str(true), {})[str(predicted)] = cost
    return checked


def _checked_list(key: str, value: Any, example: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise EdgewiseError(f"{key}={value}: expected a list such as {example}")
    return value


def _checked_switch(key: str, value: Any) -> bool | str:
    """Returns true, false or `auto`; raises EdgewiseError for anything else."""
    if value != AUTO and not isinstance(value, bool):
        raise EdgewiseError(f"{key}={value}: expected true, false or {AUTO}")
    return bool(value) if isinstance(value, bool) else AUTO


@dataclass
class Recipe:
    """Holds the training values that go with a dataset: the defaults of `train.*` and `optimizer.*`."""

    steps: int = 1000
    batch_size: int = 128
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup_steps: int = 0


def _checked_columns(columns: Any, join_column: str | None) -> dict[str, str] | list[str] | None:
    """Returns `dataset.columns` with all names as text; EdgewiseError for what is neither a mapping nor a list."""
    if columns is None:
        return None
    if isinstance(columns, dict):
        return checked_texts("dataset.columns", columns)
    if not isinstance(columns, list) or len(columns) < 2:
        raise EdgewiseError(
            f"dataset.columns={columns}: expected a mapping, the file's names first: 'dataset.columns={{review: text}}'"
            ", or, of a file without a header row, the list of all its columns: 'dataset.columns=[text, label]'"
        )
    names = [checked_text("dataset.columns", name, IN_CONFIG_LIST) for name in columns]
    if len(set(names)) < len(names):
        raise EdgewiseError(f"dataset.columns={names}: expected each name once; name the others, such as unused_1")
    if join_column is not None:
        raise EdgewiseError(
            f"dataset.columns={names} dataset.join_column={join_column}: expected files with header rows to join; "
            "give them header rows, or dataset.join_column=null"
        )
    return names


def _checked_separator(separator: str) -> str:
    """Returns the one character that `dataset.separator` means; EdgewiseError where it means none."""
    character = "\t" if separator in ("tab", "\\t") else separator
    if len(character) != 1 or character.isalnum() or character in '"\r\n ':
        raise EdgewiseError(
            f"dataset.separator={separator!r}: expected one character such as 'dataset.separator=\";\"', or tab"
        )
    return character


@dataclass
class Dataset:
    """Describes a labelled text dataset.

    `classes` maps each label, as it is written in the data, to the target string that the model learns to say;
    its order is the order of `class_log_likelihoods`. `template` is filled with the row's columns.

    Without `path`, the rows come from the Hub's `hub_id` at `hub_revision` (a branch, a tag or a commit): as `datasets`
    reads the repository, or from the files that `hub_files` names (train, validation, test, or all in one; a file or a
    glob). `columns` maps names that a column may have in the source to the name it has here; a list of names, in the
    file's order, is of CSV or TSV files without a header row. `separator` is what separates the values of a CSV file
    (`tab` for a tab), where its header row doesn't show it. A column `join_column` joins a split's file with
    SPLIT_labels beside it. Rows labelled as in `drop_labels` are left out and counted. `splits` names the source's
    split for each of ours, where they differ. `expected_rows` is what the paper counts in each split.

    One file of all rows is split by `test_share` and `split_seed`. With `split_by: text` rows of one text are on one
    side, and rows that are added move none; with `row`, each row is drawn by itself, for a share that is met exactly.

    `cluster` names the column of what rows share that are not independent, such as the user who wrote them. Scores
    carry it. `auto` is SQuAD's article, the column `title` of span QA, where the rows have one.

    The other tasks have no classes: the target is the text of `label_column`. A column that is a field of an object has
    a dotted name in `columns`, such as `translation.de`. In `span_qa` a row may have several gold answers, the first of
    which is the target.
    """

    name: Text = MISSING
    task: str = "classification"
    path: Optional[Text] = None
    file_prefix: Text = ""  # train.csv may also be called PREFIXtrain.csv
    hub_id: Optional[Text] = None
    hub_config: Optional[Text] = None
    hub_revision: Text = "main"
    hub_files: Any = None
    columns: Any = None  # a mapping, or a list
    separator: Optional[Text] = None
    join_column: Optional[Text] = None
    drop_labels: Any = None
    splits: Any = None
    test_share: Optional[float] = None
    split_seed: Seed = 0
    split_by: str = "text"
    expected_rows: Any = None
    label_column: Text = "label"
    cluster: Optional[Text] = AUTO
    classes: Any = None  # a mapping; Any, so that one given on the command line replaces `???` whole
    template: Text = "{text}"
    max_input_length: int = 512
    max_target_length: int = 512  # of the other tasks: targets are cut there, and decoding ends there
    beams: int = 1  # of decoding; 1 is greedy
    recipe: Recipe = field(default_factory=Recipe)
    # of the built-in generator alone
    generator_seed: Seed = 0
    train_examples: int = 0
    test_examples: int = 0

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        for key in ("name", "file_prefix", "hub_revision", "label_column", "template"):
            setattr(self, key, checked_text(f"dataset.{key}", getattr(self, key)))
        for key in ("path", "hub_id", "hub_config", "join_column", "cluster"):
            setattr(self, key, optional_text(f"dataset.{key}", getattr(self, key)))
        self.name = checked_name("dataset.name", self.name)
        self.split_seed = checked_seed("dataset.split_seed", self.split_seed)
        self.generator_seed = checked_seed("dataset.generator_seed", self.generator_seed)
        _one_of("dataset.task", self.task, TASKS)
        if self.task == "classification":
            if not isinstance(self.classes, dict):
                raise EdgewiseError(
                    f"dataset.classes={self.classes}: expected a mapping of label to target string, such as "
                    "'dataset.classes={0: negative, 1: positive}'"
                )
            self.classes = checked_texts("dataset.classes", self.classes)
        _at_least("dataset.max_input_length", self.max_input_length, 2)
        _at_least("dataset.max_target_length", self.max_target_length, 2)
        _at_least("dataset.beams", self.beams, 1)
        _one_of("dataset.split_by", self.split_by, ("text", "row"))
        for key in ("hub_files", "expected_rows", "splits"):
            if not isinstance(getattr(self, key), (dict, type(None))):
                raise EdgewiseError(f"dataset.{key}={getattr(self, key)}: expected a mapping, or null")
        if not isinstance(self.drop_labels, (list, type(None))):
            raise EdgewiseError(f"dataset.drop_labels={self.drop_labels}: expected a list such as [-1], or null")
        self.columns = _checked_columns(self.columns, self.join_column)
        if self.separator is not None:
            self.separator = _checked_separator(checked_text("dataset.separator", self.separator))
        if self.drop_labels is not None:
            self.drop_labels = [
                checked_text("dataset.drop_labels", label, IN_CONFIG_LIST) for label in self.drop_labels
            ]
        if self.test_share is not None and not 0 < self.test_share < 1:
            raise EdgewiseError(f"dataset.test_share={self.test_share}: expected a share between 0 and 1")


@dataclass(unsafe_hash=True)  # not frozen: OmegaConf fills it in. Compiled functions are kept by it
class Size:
    """Holds a T5 architecture.

    `layers` counts the encoder's layers, and the decoder's too where `decoder_layers` is null. `tied_head` says whether
    the head's weights are the token embedding's, `scaled_head` whether the head's input is scaled by d_model^-½ (null:
    where the head is tied, as in T5 1.0). `vocabulary_size: null` takes the tokenizer's. `d_model: 0` (size=auto) takes
    the whole architecture from the checkpoint that the cell starts from.
    """

    name: Text = MISSING
    d_model: int = MISSING
    d_kv: int = MISSING
    d_ff: int = MISSING
    layers: int = MISSING
    heads: int = MISSING
    vocabulary_size: Optional[int] = 32128
    relative_buckets: int = 32
    relative_max_distance: int = 128
    dropout: float = 0.1
    activation: str = "relu"
    tied_head: bool = True
    layer_norm_epsilon: float = 1e-6
    pretrained: Optional[str] = None
    decoder_layers: Optional[int] = None
    scaled_head: Optional[bool] = None

    def __post_init__(self) -> None:
        """Replaces what says the same as null by null, so that an architecture has one form."""
        if self.d_model != 0 and self.decoder_layers == self.layers:
            self.decoder_layers = None
        if self.d_model != 0 and self.scaled_head == self.tied_head:
            self.scaled_head = None

    @property
    def decoder_depth(self) -> int:
        """Returns how many layers the decoder has."""
        return self.layers if self.decoder_layers is None else self.decoder_layers

    @property
    def scales_head(self) -> bool:
        """Tells whether the head's input is scaled by d_model^-½."""
        return self.tied_head if self.scaled_head is None else self.scaled_head

    def recorded(self) -> dict[str, Any]:
        """Returns the fields as a cell's identity records them.

        `decoder_layers` and `scaled_head` are left out where they are null: cells from before they existed keep their
        identity.
        """
        younger = ("decoder_layers", "scaled_head")
        return {key: value for key, value in vars(self).items() if key not in younger or value is not None}

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        self.name = checked_name("size.name", checked_text("size.name", self.name))
        _one_of("size.activation", self.activation, ("relu", "gated_gelu"))
        for key in ("d_model", "d_kv", "d_ff", "layers", "heads", "relative_buckets"):
            _at_least(f"size.{key}", getattr(self, key), 0 if self.d_model == 0 else 1)
        if self.decoder_layers is not None:
            _at_least("size.decoder_layers", self.decoder_layers, 1)
        if not 0 <= self.dropout < 1:
            raise EdgewiseError(f"size.dropout={self.dropout}: expected a number in [0, 1)")


@dataclass(unsafe_hash=True)  # as Size
class Tokenizer:
    """Names a SentencePiece vocabulary: the file at `path`, or the one of the checkpoint that the cell starts from.

    Without either, one is trained on the training split's text.
    """

    source: str = "trained"
    path: Optional[str] = None
    vocabulary_size: int = 512

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        _one_of("tokenizer.source", self.source, ("trained", "file"))


@dataclass(unsafe_hash=True)  # as Size
class Optimizer:
    """Sets Adafactor as T5X does, or AdamW. `start_step` is where Adafactor's β₂ schedule starts."""

    name: str = "adafactor"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup_steps: int = 0
    # Adafactor
    start_step: int = 0
    decay_rate: float = 0.8
    clipping_threshold: float = 1.0
    min_dim_size_to_factor: int = 128
    multiply_by_parameter_scale: bool = True
    # AdamW
    b1: float = 0.9
    b2: float = 0.999
    weight_decay: float = 0.0

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        _one_of("optimizer.name", self.name, ("adafactor", "adamw"))
        _one_of("optimizer.schedule", self.schedule, ("constant", "linear", "rsqrt", "cosine"))


@dataclass
class Mesh:
    """Sets how many devices each mesh axis has; -1 takes what is left.

    `seed` trains or scores so many seeds in one process: `seed`, `seed` + 1, … The devices are cut into as many equal
    groups, one a seed, and the other axes are those of a group.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    seed: int = 1

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        _at_least("mesh.seed", self.seed, 1)


@dataclass
class Hosts:
    """Joins several processes that train or score one cell together, each started with the same command.

    `auto`: as Slurm, a TPU pod, Kubernetes or Open MPI says. Or by hand: `coordinator`, HOST:PORT of the first process,
    how many `processes` there are, and which `process` this is, from 0. They wait for each other `timeout` seconds.
    """

    auto: bool = False
    coordinator: Optional[str] = None
    processes: Optional[int] = None
    process: Optional[int] = None
    timeout: int = 300

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        given = [self.coordinator, self.processes, self.process]
        if any(value is not None for value in given) and (self.auto or None in given):
            raise EdgewiseError(
                f"hosts.auto={self.auto} hosts.coordinator={self.coordinator} hosts.processes={self.processes} "
                f"hosts.process={self.process}: expected all of the last three, or hosts.auto=true alone"
            )
        if self.process is not None and self.processes is not None and not 0 <= self.process < self.processes:
            raise EdgewiseError(f"hosts.process={self.process}: expected a number below hosts.processes, from 0")
        _at_least("hosts.timeout", self.timeout, 1)


@dataclass
class Tracking:
    """Says where runs and artifacts are kept: in the store at `root`, and with `backend: wandb` at W&B too.

    Where `entity`, `project` or `base_url` is null, W&B's own environment says it (WANDB_ENTITY, WANDB_PROJECT,
    WANDB_BASE_URL), else the API key's entity, the project edgewise and W&B's own server.
    """

    backend: str = "local"
    root: str = "runs"
    entity: Optional[str] = None
    project: Optional[str] = None
    base_url: Optional[str] = None
    group: Optional[str] = None

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        _one_of("tracking.backend", self.backend, ("local", "wandb"))


@dataclass
class Train:
    """Sets the training loop. `loss_normalizer`: `none` (the sum over target tokens), `tokens`, or a number.

    `remat` says what the backward pass computes again instead of keeping it: `none`, `dots` (all but the products with
    weights), or `full` (whole layers). It costs time, saves memory and changes no number beyond rounding.

    Every `eval_every` steps, and after the last, `eval_examples` rows of the validation split are evaluated; 0: never.
    `keep` says which step's parameters become the model: the `last`, or the `best` by these evaluations. `patience`
    ends the training after so many evaluations without a better one; 0: at `steps`.
    """

    steps: int = 1000
    batch_size: int = 128
    init: str = "scratch"
    z_loss: float = 1e-4
    loss_normalizer: str = "none"
    dtype: str = "auto"
    remat: str = "none"
    checkpoint_every: int = 5000
    keep_checkpoints: int = 1
    log_every: int = 50
    eval_every: int = 0
    eval_examples: int = 256
    keep: str = "last"
    patience: int = 0

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        _at_least("train.steps", self.steps, 1)
        _at_least("train.batch_size", self.batch_size, 1)
        _at_least("train.checkpoint_every", self.checkpoint_every, 1)
        _at_least("train.keep_checkpoints", self.keep_checkpoints, 1)
        _at_least("train.log_every", self.log_every, 1)
        _at_least("train.eval_every", self.eval_every, 0)
        _at_least("train.eval_examples", self.eval_examples, 1)
        _one_of("train.keep", self.keep, ("last", "best"))
        _at_least("train.patience", self.patience, 0)
        if self.eval_every == 0 and (self.keep == "best" or self.patience > 0):
            given = f"train.keep={self.keep}" if self.keep == "best" else f"train.patience={self.patience}"
            raise EdgewiseError(
                f"{given} train.eval_every=0: expected evaluations to choose by; give train.eval_every=N, the steps "
                "between two of them"
            )
        _one_of("train.dtype", self.dtype, ("auto", "float32", "bfloat16"))
        _one_of("train.remat", self.remat, ("none", "dots", "full"))
        if self.loss_normalizer not in ("none", "tokens"):
            try:
                ok = float(self.loss_normalizer) > 0
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
            _at_least("infer.batch_tokens", self.batch_tokens, 1)
        self.keep_text = _checked_switch("infer.keep_text", self.keep_text)
        _at_least("infer.length_buckets", self.length_buckets, 1)
        _at_least("infer.beams", self.beams, 1)
        _at_least("infer.length_penalty", self.length_penalty, 0)
        _one_of("infer.bleu_tokenizer", self.bleu_tokenizer, ("intl", "13a", "char", "none"))
        if not 0 <= self.max_padding < 1:
            raise EdgewiseError(f"infer.max_padding={self.max_padding}: expected a share in [0, 1)")


@dataclass
class Metrics:
    """Sets how scores become tables. `scores` is a glob of Parquet files; without it, the dataset's scores artifacts.

    `context` of span QA and translation: `gold` scores the tokens of the gold answer (as the paper does; it reads the
    label, so it can't be deployed), `self` those of the model's own output. `churn_normalization` of span QA says
    whether two answers that SQuAD's normalisation makes equal are one prediction. `beyond` adds the tables past the
    paper's; among them, a certified threshold loses at most `epsilon` of accuracy (a fraction) against the larger
    model, with probability 1 - `delta`. `cluster` names the column (`cluster`, or a slice's) whose values are drawn
    together by every interval, as examples that share one are not independent; `auto` takes `cluster` where the scores
    have it, `none` draws each example by itself. `committee_size` says of how many runs churn and committee scores are,
    so that grids of different numbers of seeds compare; all of a size's by default.
    `price` is what one pass of each size over one example costs, in `price_unit` (money, milliseconds): costs are then
    given in it too. `costs` maps each class to what it costs to predict each class for it, true -> predicted -> cost;
    what is right costs nothing unless it says so.
    """

    out: Optional[str] = None
    scores: Optional[str] = None
    split: Text = "test"
    resamples: int = 1000
    confidence: float = 0.95
    seed: Seed = 0
    length_normalized: bool = False
    committee: str = "mean_score"
    committee_churn_includes_self: bool = True
    context: str = "gold"
    churn_normalization: str = "normalized"
    beyond: bool = True
    epsilon: float = 0.01
    delta: float = 0.1
    price: Any = None  # a mapping; Any, so that one given on the command line has any size's name
    price_unit: Text = "units"
    costs: Any = None
    cluster: Text = "auto"
    committee_size: Optional[int] = None

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        self.price = _checked_price(self.price)
        self.costs = _checked_costs(self.costs)
        self.price_unit = checked_text("metrics.price_unit", self.price_unit)
        self.split = checked_name("metrics.split", checked_text("metrics.split", self.split))
        self.seed = checked_seed("metrics.seed", self.seed)
        self.cluster = checked_text("metrics.cluster", self.cluster)
        _at_least("metrics.resamples", self.resamples, 0)
        _one_of("metrics.context", self.context, CONTEXTS)
        _one_of("metrics.churn_normalization", self.churn_normalization, ("normalized", "raw"))
        _one_of("metrics.committee", self.committee, ("mean_score", "mean_probability"))
        if self.committee_size is not None:
            _at_least("metrics.committee_size", self.committee_size, 2)
        if not 0 < self.confidence < 1:
            raise EdgewiseError(f"metrics.confidence={self.confidence}: expected a number between 0 and 1")
        if not 0 <= self.epsilon < 1:
            raise EdgewiseError(f"metrics.epsilon={self.epsilon}: expected a fraction in [0, 1), such as 0.01")
        if not 0 < self.delta < 1:
            raise EdgewiseError(f"metrics.delta={self.delta}: expected a probability between 0 and 1")


GOALS = ("budget", "cost", "match", "certified", "best")
DEPLOYABLE_SCORES = ("margin", "entropy")  # of one run alone; the others need every run of the size


@dataclass
class Switcher:
    """Sets how a switcher is chosen from a dataset's scores (`goal` and below), or names one (`ref`).

    Goals: `budget` defers at most the share `budget` of the examples, with probability 1 - `delta`; `cost` costs about
    the share `cost` of the largest model's FLOPs, or of its milliseconds as the evaluation `measured` has them; `match`
    is the cheapest that reaches the largest model; `certified` is the cheapest that loses at most `epsilon` of its
    accuracy (a fraction), with probability 1 - `delta`; `best` has the best quality. `sizes` and `seeds` are the
    candidates' (null: all that have scores); the largest size is the one to defer to. A chain has at most `longest`
    sizes. `parts` are the shares of the scored examples that select, certify and evaluate, drawn by `seed`. `out`:
    where the artifact's files are written too.
    """

    goal: Optional[str] = None
    budget: Optional[float] = None
    cost: Optional[float] = None
    epsilon: float = 0.01
    delta: float = 0.1
    scores: Any = field(default_factory=lambda: list(DEPLOYABLE_SCORES))
    context: str = "self"
    sizes: Any = None
    seeds: Any = None
    longest: int = 4
    split: Text = "test"
    parts: Any = field(default_factory=lambda: [0.3, 0.4, 0.3])
    confidence: float = 0.95
    seed: Seed = 0
    measured: Optional[Text] = None
    out: Optional[Text] = None
    ref: Optional[Text] = None

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        if self.goal is not None:
            _one_of("switcher.goal", self.goal, GOALS)
        for key in ("budget", "cost"):
            value = getattr(self, key)
            if self.goal == key and value is None:
                raise EdgewiseError(f"switcher.goal={key} needs switcher.{key}=SHARE, a share such as 0.2")
            if value is not None and not 0 < value <= 1:
                raise EdgewiseError(f"switcher.{key}={value}: expected a share above 0 and at most 1, such as 0.2")
        if not 0 <= self.epsilon < 1:
            raise EdgewiseError(f"switcher.epsilon={self.epsilon}: expected a fraction in [0, 1), such as 0.01")
        for key in ("delta", "confidence"):
            if not 0 < getattr(self, key) < 1:
                raise EdgewiseError(f"switcher.{key}={getattr(self, key)}: expected a probability between 0 and 1")
        _one_of("switcher.context", self.context, CONTEXTS)
        self.scores = _checked_list("switcher.scores", self.scores, "[margin, entropy]")
        for score in self.scores:
            _one_of("switcher.scores", score, SCORES)
        if self.sizes is not None:
            self.sizes = [
                checked_name("switcher.sizes", checked_text("switcher.sizes", size, IN_CONFIG_LIST))
                for size in _checked_list("switcher.sizes", self.sizes, "[small, base]")
            ]
        if self.seeds is not None:
            seeds = _checked_list("switcher.seeds", self.seeds, "[0, 1]")
            self.seeds = [checked_seed("switcher.seeds", seed) for seed in seeds]
        if not 2 <= self.longest <= 4:
            raise EdgewiseError(f"switcher.longest={self.longest}: expected 2 (pairs alone), 3 or 4 sizes in a chain")
        self.split = checked_name("switcher.split", checked_text("switcher.split", self.split))
        self.parts = _checked_list("switcher.parts", self.parts, "[0.3, 0.4, 0.3]")
        numbers = [part for part in self.parts if isinstance(part, (int, float)) and not isinstance(part, bool)]
        if len(numbers) != 3 or len(self.parts) != 3 or min(numbers) <= 0 or abs(sum(numbers) - 1) > 1e-6:
            raise EdgewiseError(
                f"switcher.parts={self.parts}: expected three shares above 0 that add up to 1 (to select, to certify, "
                "to evaluate), such as [0.3, 0.4, 0.3]"
            )
        self.seed = checked_seed("switcher.seed", self.seed)
        for key in ("measured", "out", "ref"):
            setattr(self, key, optional_text(f"switcher.{key}", getattr(self, key)))


@dataclass
class Apply:
    """Sets how a switcher answers the rows of a file: `python -m infer.apply switcher.ref=REF`.

    `input` and `output` end in .csv, .tsv, .jsonl or .parquet, both in the same. `columns` maps names that the file has
    to those of the dataset's template. A row that can't be answered stops the command (`bad_rows: stop`), or is kept
    without an answer (`keep`). So many rows are answered and kept at a time: `chunk_rows`.
    """

    input: Optional[Text] = None
    output: Optional[Text] = None
    columns: Any = None
    bad_rows: str = "stop"
    chunk_rows: int = 8192

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        for key in ("input", "output"):
            setattr(self, key, optional_text(f"apply.{key}", getattr(self, key)))
        if not isinstance(self.columns, (dict, type(None))):
            raise EdgewiseError(f"apply.columns={self.columns}: expected a mapping such as {{review: text}}, or null")
        if self.columns is not None:
            self.columns = checked_texts("apply.columns", self.columns)
        _one_of("apply.bad_rows", self.bad_rows, ("stop", "keep"))
        _at_least("apply.chunk_rows", self.chunk_rows, 1)


@dataclass
class Evaluate:
    """Sets how a switcher is measured on a labelled split: `python -m infer.evaluate switcher.ref=REF dataset=D`.

    The split is `infer.split` of the data set; at most `examples` of it are used, drawn by `seed` (null: all). The
    switcher and each of its models alone take turns, `rounds` times. `out`: where the artifact's files are written too.
    """

    examples: Optional[int] = 10_000
    rounds: int = 3
    seed: Seed = 0
    out: Optional[Text] = None

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        _at_least("evaluate.examples", 1 if self.examples is None else self.examples, 1)
        _at_least("evaluate.rounds", self.rounds, 1)
        self.seed = checked_seed("evaluate.seed", self.seed)
        self.out = optional_text("evaluate.out", self.out)


@dataclass
class Report:
    """Sets what the report shows.

    `text` says whether it holds what examples say, where the scores do: `auto` shows it unless `tracking.backend=wandb`
    would send the page away. Without it, answers that are text are left out too.
    """

    text: Any = AUTO

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        self.text = _checked_switch("report.text", self.text)


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
        _at_least("sweeps.seeds_per_job", self.seeds_per_job, 1)


@dataclass
class Compile:
    """Gives `python -m train.compile` the shapes that the data would give.

    `rows` of a packed batch: by default one for each example, the most there can be. `label_length` is that of the
    longest label string with its EOS: by default what the tokenizer says, where `tokenizer.path` is given, else 8.
    `target_length` is by default one label string's, or `dataset.max_target_length` where there are no labels. `step`
    compiles one of the steps alone. `json` prints JSON.
    """

    rows: Optional[int] = None
    target_length: Optional[int] = None
    label_length: Optional[int] = None
    step: str = "all"
    json: bool = False

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        for key in ("rows", "target_length", "label_length"):
            _at_least(f"compile.{key}", 1 if getattr(self, key) is None else getattr(self, key), 1)
        _one_of("compile.step", self.step, ("all", "train", "score"))


@dataclass
class Config:
    """Holds the whole config of one cell: a (dataset, size, seed), and how it is trained, scored and kept."""

    dataset: Dataset = field(default_factory=Dataset)
    size: Size = field(default_factory=Size)
    tokenizer: Tokenizer = field(default_factory=Tokenizer)
    optimizer: Optimizer = field(default_factory=Optimizer)
    mesh: Mesh = field(default_factory=Mesh)
    hosts: Hosts = field(default_factory=Hosts)
    tracking: Tracking = field(default_factory=Tracking)
    train: Train = field(default_factory=Train)
    infer: Infer = field(default_factory=Infer)
    metrics: Metrics = field(default_factory=Metrics)
    report: Report = field(default_factory=Report)
    sweeps: Sweeps = field(default_factory=Sweeps)
    compile: Compile = field(default_factory=Compile)
    switcher: Switcher = field(default_factory=Switcher)
    apply: Apply = field(default_factory=Apply)
    evaluate: Evaluate = field(default_factory=Evaluate)
    topology: Optional[str] = None  # of `python -m train.compile`: a TPU slice by its compiler's name, such as v5e:4x4
    seed: Seed = 0
    force: bool = False

    @property
    def keeps_text(self) -> bool:
        """Tells whether scores are to hold texts: as `infer.keep_text` says, with `auto` not where W&B gets them."""
        return self.tracking.backend != "wandb" if self.infer.keep_text == AUTO else bool(self.infer.keep_text)

    @property
    def shows_text(self) -> bool:
        """Tells whether the report may show the texts: as `report.text` says, with `auto` not where W&B gets it."""
        return self.tracking.backend != "wandb" if self.report.text == AUTO else bool(self.report.text)

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        self.seed = checked_seed("seed", self.seed)
        for part in vars(self).values():
            if isinstance(part, Sweeps):
                part.check_values()
            elif hasattr(part, "check"):
                part.check()
        checked_seed("seed + mesh.seed - 1", self.seed + self.mesh.seed - 1)
        check_cell_names(self.dataset.name, self.size.name, self.infer.split)
        from_checkpoint = self.train.init != "scratch" or self.infer.checkpoint is not None
        if self.tokenizer.source == "file" and self.tokenizer.path is None and not from_checkpoint:
            raise EdgewiseError("tokenizer.path is not set: give tokenizer.path=FILE, a SentencePiece model")
