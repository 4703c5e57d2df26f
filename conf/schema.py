"""Defines the type of every config key. YAML holds the values; these dataclasses say what a value may be.

`Config` is the whole config of one cell. OmegaConf merges the YAML files into it, so that a mistyped key or a
value of the wrong type fails when the config is composed, with the key's name.
"""

from dataclasses import dataclass, field
from typing import Optional

from conf.errors import EdgewiseError
from conf.names import check_cell_names, checked_seed, joined_name
from conf.sections.data import BPE, PLAIN_TEXT, TASKS, WORD, Dataset, Recipe, Tokenizer
from conf.sections.machine import Compile, Hosts, Mesh, Tracking
from conf.sections.model import Optimizer, Size
from conf.sections.results import CONTEXTS, SCORES, Metrics, Report
from conf.sections.serve import Serve
from conf.sections.switcher import DEPLOYABLE_SCORES, GOALS, Apply, Evaluate, Switcher
from conf.sections.values import AUTO, Seed
from conf.sections.work import LABELS, SPAN_CORRUPTION, VOCABULARY, Infer, Sweeps, Train

__all__ = [
    "AUTO",
    "Apply",
    "BPE",
    "CONTEXTS",
    "Compile",
    "Config",
    "DEPLOYABLE_SCORES",
    "Dataset",
    "Evaluate",
    "GOALS",
    "Hosts",
    "Infer",
    "LABELS",
    "Mesh",
    "Metrics",
    "Optimizer",
    "PLAIN_TEXT",
    "Recipe",
    "Report",
    "SCORES",
    "Serve",
    "SPAN_CORRUPTION",
    "Size",
    "Sweeps",
    "Switcher",
    "TASKS",
    "Tokenizer",
    "Tracking",
    "Train",
    "VOCABULARY",
    "WORD",
]


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
    serve: Serve = field(default_factory=Serve)
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
        self._check_objective()
        self.train.init = self._initial_checkpoint()
        self._check_vocabulary()
        self._check_classification()

    def _check_objective(self) -> None:
        """Raises EdgewiseError unless spans are corrupted in plain text, and in nothing else."""
        corrupts, is_plain = self.train.objective == SPAN_CORRUPTION, self.dataset.task == PLAIN_TEXT
        if corrupts and not is_plain:
            raise EdgewiseError(
                f"train.objective={SPAN_CORRUPTION} dataset={self.dataset.name}: expected plain text, not a dataset of "
                f"the task {self.dataset.task}. Give dataset=text dataset.name=NAME dataset.path=DIR"
            )
        if is_plain and not corrupts:
            raise EdgewiseError(
                f"dataset={self.dataset.name} train.objective={self.train.objective}: it is plain text, without labels "
                f"to learn; expected train.objective={SPAN_CORRUPTION}"
            )

    def _check_vocabulary(self) -> None:
        """Raises EdgewiseError for a vocabulary that is missing."""
        from_checkpoint = self.train.init != "scratch" or self.infer.checkpoint is not None
        if self.tokenizer.source == "file" and self.tokenizer.path is None and not from_checkpoint:
            raise EdgewiseError("tokenizer.path is not set: give tokenizer.path=FILE, a SentencePiece model")

    def _check_classification(self) -> None:
        """Raises EdgewiseError for what is there for classifications alone."""
        for key, value, only, why in (
            ("train.softmax", self.train.softmax, LABELS, "it has no labels"),
            ("tokenizer.whole_labels", self.tokenizer.whole_labels, True, "it has no labels"),
            ("tokenizer.model_type", self.tokenizer.model_type, WORD, "text of whole words can't be spelt as it was"),
        ):
            if value == only and self.dataset.task != "classification":
                raise EdgewiseError(
                    f"{key}={value} dataset={self.dataset.name}: expected a classification, not a dataset of the task "
                    f"{self.dataset.task}: {why}; leave the key away"
                )

    def _initial_checkpoint(self) -> str:
        """Returns `train.init` with the size's name in place of `{size}`: in an artifact's name as it is written there.

        So one command line fine-tunes a whole family of sizes, each from its own pre-training.
        """
        init = self.train.init
        return init.replace("{size}", self.size.name if "/" in init else joined_name(self.size.name))
