"""Types the config of a model's size and of the optimizer that trains it."""

from dataclasses import dataclass
from typing import Any, Optional

from omegaconf import MISSING

from conf.errors import EdgewiseError
from conf.names import checked_name
from conf.sections.values import Text, above, at_least, one_of, share_below_1
from conf.text import checked_text


@dataclass(unsafe_hash=True)  # not frozen: OmegaConf fills it in. Compiled functions are kept by it
class Size:
    """Holds a T5 architecture.

    `layers` counts the encoder's layers, and the decoder's too where `decoder_layers` is null. `tied_head` says whether
    the head's weights are the token embedding's, `scaled_head` whether the head's input is scaled by d_model^-½ (null:
    where the head is tied, as in T5 1.0). `vocabulary_size: null` takes the tokenizer's. `d_model: 0` (size=auto) takes
    the whole architecture from the checkpoint that the cell starts from.

    `embedding_stddev` is the standard deviation of the random token embeddings that training from scratch starts with;
    null is T5's, 1. Where a word is in few texts, little is learnt of it, and what it started with stays: 0.03 keeps
    that from being read as if it meant something.

    `neighbour_heads` is how many of the encoder's heads training from scratch starts with looking at one neighbour of
    each token alone: the one before it, the one after it, the second before it, … So the first layers read groups of
    words, as a convolution does; null is T5's start, where the heads look everywhere.
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
    embedding_stddev: Optional[float] = None
    neighbour_heads: Optional[int] = None

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

        `decoder_layers`, `scaled_head`, `embedding_stddev` and `neighbour_heads` are left out where they are null:
        cells from before they existed keep their identity.
        """
        younger = ("decoder_layers", "scaled_head", "embedding_stddev", "neighbour_heads")
        return {key: value for key, value in vars(self).items() if key not in younger or value is not None}

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        self.name = checked_name("size.name", checked_text("size.name", self.name))
        one_of("size.activation", self.activation, ("relu", "gated_gelu"))
        for key in ("d_model", "d_kv", "d_ff", "layers", "heads", "relative_buckets"):
            at_least(f"size.{key}", getattr(self, key), 0 if self.d_model == 0 else 1)
        if self.decoder_layers is not None:
            at_least("size.decoder_layers", self.decoder_layers, 1)
        if self.d_model != 0:
            at_least("size.relative_buckets", self.relative_buckets, 4)  # two distances on either side
            # half of the decoder's buckets hold one distance each, and the others the longer ones, up to this
            above("size.relative_max_distance", self.relative_max_distance, self.relative_buckets // 2)
        share_below_1("size.dropout", self.dropout)
        at_least("size.layer_norm_epsilon", self.layer_norm_epsilon, 0)
        if self.embedding_stddev is not None:
            above("size.embedding_stddev", self.embedding_stddev, 0)
        # half of a side's buckets hold one distance each, the first of them 0
        most = max(0, min(self.heads, 2 * (self.relative_buckets // 4 - 1)))
        if self.neighbour_heads is not None and not 1 <= self.neighbour_heads <= most:
            raise EdgewiseError(
                f"size.neighbour_heads={self.neighbour_heads}: expected a number from 1 to {most} "
                f"(size.heads={self.heads}, size.relative_buckets={self.relative_buckets}), or null"
            )


OF_ADAFACTOR = (
    "start_step",
    "decay_rate",
    "clipping_threshold",
    "min_dim_size_to_factor",
    "multiply_by_parameter_scale",
)
OF_ADAMW = ("b1", "b2", "weight_decay")


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

    @property
    def of_others(self) -> tuple[str, ...]:
        """Returns the keys that the named optimizer doesn't read."""
        return OF_ADAMW if self.name == "adafactor" else OF_ADAFACTOR

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        one_of("optimizer.name", self.name, ("adafactor", "adamw"))
        one_of("optimizer.schedule", self.schedule, ("constant", "linear", "rsqrt", "cosine"))
        for key in ("learning_rate", "warmup_steps", "start_step", "weight_decay"):
            at_least(f"optimizer.{key}", getattr(self, key), 0)
        at_least("optimizer.min_dim_size_to_factor", self.min_dim_size_to_factor, 1)
        for key in ("decay_rate", "clipping_threshold"):
            above(f"optimizer.{key}", getattr(self, key), 0)
        for key in ("b1", "b2"):
            share_below_1(f"optimizer.{key}", getattr(self, key))
