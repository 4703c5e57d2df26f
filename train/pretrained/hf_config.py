"""Reads and writes the architecture in Hugging Face's `config.json`.

What a config says is used, or refused by its key: nothing that changes a model's numbers is passed over. Starts without
JAX.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conf.errors import EdgewiseError
from conf.schema import Size
from train.pretrained.tensors import read_json

MODEL_TYPES = ("t5", "mt5")  # one network: mT5 is T5 1.1 with another vocabulary
REFUSED_TYPES = {
    "umt5": "every layer of UMT5 has a table of relative position biases of its own, where T5 has one a stack",
    "longt5": "LongT5's encoder attends to a window and to summaries of blocks, where T5 attends to the whole input",
    "switch_transformers": "Switch Transformers spread their feed-forward layers over experts",
}
FEED_FORWARDS = {  # feed_forward_proj -> size.activation, and the dense_act_fn that say the same
    "relu": ("relu", ("relu",)),
    "gated-gelu": ("gated_gelu", ("gelu_new", "gelu_pytorch_tanh")),
}
BUCKETS, MAX_DISTANCE, FEWEST_BUCKETS = 32, 128, 4  # of relative positions: T5's own, and the least that work
MOST_LAYERS = 9_999  # of a stack: a config that says millions must not be believed before the weights are looked at
FIXED = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}  # what the network and its data take


def hf_config(size: Size) -> dict[str, Any]:
    """Returns the architecture as Hugging Face's T5 `config.json` says it."""
    gated = size.activation == "gated_gelu"
    config = {
        "architectures": ["T5ForConditionalGeneration"],
        "d_ff": size.d_ff,
        "d_kv": size.d_kv,
        "d_model": size.d_model,
        "decoder_start_token_id": 0,
        "dropout_rate": size.dropout,
        "eos_token_id": 1,
        "feed_forward_proj": "gated-gelu" if gated else "relu",
        "is_encoder_decoder": True,
        "layer_norm_epsilon": size.layer_norm_epsilon,
        "model_type": "t5",
        "num_decoder_layers": size.decoder_depth,
        "num_heads": size.heads,
        "num_layers": size.layers,
        "pad_token_id": 0,
        "relative_attention_max_distance": size.relative_max_distance,
        "relative_attention_num_buckets": size.relative_buckets,
        "tie_word_embeddings": size.tied_head,
        "vocab_size": size.vocabulary_size,
    }
    if size.scales_head != size.tied_head:  # transformers before 5 has one setting for both
        config["scale_decoder_outputs"] = size.scales_head
    return config


def read_size(file: Path, name: str, has_own_head: Callable[[], bool]) -> Size:
    """Returns the size that a `config.json` describes.

    `has_own_head` tells whether the weights hold an `lm_head.weight`. It is asked where the config leaves open whether
    the head is tied: transformers 5 writes `tie_word_embeddings: true` with an unscaled head whether or not the head
    has weights of its own.

    Raises EdgewiseError, which names the key, for whatever is not a T5 that this project runs.
    """
    config = read_json(file, "a T5 config.json")
    _check_type(config, file)
    _check_numbers(config, file)
    _check_distances(config, file)
    _check_fixed(config, file)
    tied, scaled = _flag(config, "tie_word_embeddings", True, file), _flag(config, "scale_decoder_outputs", None, file)
    if tied and scaled is False and has_own_head():
        tied = False
    return Size(
        name=name,
        d_model=config["d_model"],
        d_kv=config["d_kv"],
        d_ff=config["d_ff"],
        layers=config["num_layers"],
        heads=config["num_heads"],
        vocabulary_size=config["vocab_size"],
        relative_buckets=_said(config, "relative_attention_num_buckets", BUCKETS),
        relative_max_distance=_said(config, "relative_attention_max_distance", MAX_DISTANCE),
        dropout=_said(config, "dropout_rate", 0.1),
        activation=_activation(config, file),
        tied_head=bool(tied),
        layer_norm_epsilon=config.get("layer_norm_epsilon", 1e-6),
        decoder_layers=config.get("num_decoder_layers"),
        scaled_head=scaled,
    )


def reads_bytes(file: Path) -> bool:
    """Tells whether a `config.json` is that of a ByT5, whose tokens are bytes and not pieces of a vocabulary."""
    return read_json(file, "a T5 config.json").get("tokenizer_class") == "ByT5Tokenizer"


def _check_type(config: dict[str, Any], file: Path) -> None:
    """Raises EdgewiseError for another network than T5's, with the difference where it is one of T5's kin."""
    kind = config.get("model_type")
    if kind not in MODEL_TYPES:
        why = f" ({REFUSED_TYPES[kind]})" if isinstance(kind, str) and kind in REFUSED_TYPES else ""
        raise EdgewiseError(f"{file} says model_type={kind!r}: expected 't5' or 'mt5', the network that runs here{why}")


def _check_numbers(config: dict[str, Any], file: Path) -> None:
    """Raises EdgewiseError for sizes that are no numbers above 0."""
    needed = ("d_model", "d_kv", "d_ff", "num_layers", "num_heads", "vocab_size")
    optional = ("num_decoder_layers", "relative_attention_num_buckets", "relative_attention_max_distance")
    counts = [*needed, *(key for key in optional if config.get(key) is not None)]
    wrong = [key for key in counts if not _is_number(config.get(key))]
    if not _is_number(config.get("layer_norm_epsilon", 1e-6), fraction=True):
        wrong.append("layer_norm_epsilon")
    if wrong:
        said = ", ".join(f"{key}={config.get(key)!r}" for key in wrong)
        raise EdgewiseError(f"{file} says {said}: expected finite numbers above 0")
    for key in ("num_layers", "num_decoder_layers"):
        if (layers := _said(config, key, 1)) > MOST_LAYERS:
            raise EdgewiseError(f"{file} says {key}={layers}: expected at most {MOST_LAYERS:,}")
    dropout = _said(config, "dropout_rate", 0.1)
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise EdgewiseError(f"{file} says dropout_rate={dropout!r}: expected a share from 0 to below 1")


def _check_distances(config: dict[str, Any], file: Path) -> None:
    """Raises EdgewiseError for position buckets that have no room for distances, as `size.check` does for a size."""
    buckets = _said(config, "relative_attention_num_buckets", BUCKETS)
    longest = _said(config, "relative_attention_max_distance", MAX_DISTANCE)
    if buckets < FEWEST_BUCKETS or longest <= buckets // 2:
        raise EdgewiseError(
            f"{file} says relative_attention_num_buckets={buckets} and relative_attention_max_distance={longest}: "
            f"expected at least {FEWEST_BUCKETS} buckets, and a distance above half as many (T5 has {BUCKETS} and "
            f"{MAX_DISTANCE})"
        )


def _said(config: dict[str, Any], key: str, default: Any) -> Any:
    """Returns what a config says of a key; the default where it says nothing or null."""
    value = config.get(key)
    return default if value is None else value


def _is_number(value: object, *, fraction: bool = False) -> bool:
    """Tells whether a value is an integer above 0, or a `fraction` above 0 that a float can hold."""
    if isinstance(value, bool):
        return False
    if fraction and isinstance(value, (int, float)):
        return 0 < value <= sys.float_info.max
    return isinstance(value, int) and value > 0


def check_generation(file: Path) -> None:
    """Checks a `generation_config.json`, into which transformers 5 moves token ids, as `read_size` checks them."""
    _check_fixed(read_json(file, "generation settings"), file)


def _check_fixed(config: dict[str, Any], file: Path) -> None:
    """Raises EdgewiseError for token ids other than T5's: decoding starts, ends and is padded with those here."""
    for key, expected in FIXED.items():
        if config.get(key, expected) not in (expected, [expected], None):
            raise EdgewiseError(f"{file} says {key}={config[key]!r}: expected {expected}, T5's own, which is used here")


def _activation(config: dict[str, Any], file: Path) -> str:
    """Returns the feed-forward's `size.activation`; `dense_act_fn` and `is_gated_act` must say what it says."""
    forward = config.get("feed_forward_proj", "relu")
    if not isinstance(forward, str) or forward not in FEED_FORWARDS:
        raise EdgewiseError(
            f"{file} says feed_forward_proj={forward!r}: expected one of {', '.join(FEED_FORWARDS)}, which run here"
        )
    activation, functions = FEED_FORWARDS[forward]
    said, gated = config.get("dense_act_fn", functions[0]), config.get("is_gated_act", activation == "gated_gelu")
    if said not in functions or gated != (activation == "gated_gelu"):
        raise EdgewiseError(
            f"{file} says feed_forward_proj={forward!r} with dense_act_fn={said!r} and is_gated_act={gated!r}, which "
            f"is another network: expected dense_act_fn={functions[0]!r} and is_gated_act={activation == 'gated_gelu'}"
        )
    return activation


def _flag(config: dict[str, Any], key: str, default: bool | None, file: Path) -> bool | None:
    """Returns a setting that is true or false."""
    value = config.get(key, default)
    if value is not None and not isinstance(value, bool):
        raise EdgewiseError(f"{file} says {key}={value!r}: expected true or false")
    return default if value is None else value
