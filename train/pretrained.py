"""Model weights in the Hugging Face layout: `model.safetensors` and `config.json`, which other T5 code reads too.

The names are Hugging Face's T5's; its linear weights are [out, in], ours [in, out], and our layers are stacked.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from conf.errors import SwitchyardError
from conf.schema import Size
from train import t5

_ATTENTION = {"query": "q", "key": "k", "value": "v", "out": "o"}
_SUBLAYERS = {
    "encoder": [
        ("pre_attention_layer_norm", "attention", "SelfAttention"),
        ("pre_mlp_layer_norm", "mlp", "DenseReluDense"),
    ],
    "decoder": [
        ("pre_self_attention_layer_norm", "self_attention", "SelfAttention"),
        ("pre_cross_attention_layer_norm", "encoder_decoder_attention", "EncDecAttention"),
        ("pre_mlp_layer_norm", "mlp", "DenseReluDense"),
    ],
}


def tensor_names(size: Size) -> Iterator[tuple[str, tuple[str, ...], int | None, bool]]:
    """(Hugging Face name, our path, layer or None, transposed) for every tensor of an architecture."""
    yield "shared.weight", ("embedding",), None, False
    if not size.tied_head:
        yield "lm_head.weight", ("decoder", "logits_dense", "kernel"), None, True
    mlp = ("wi_0", "wi_1", "wo") if size.activation == "gated_gelu" else ("wi", "wo")
    for stack, sublayers in _SUBLAYERS.items():
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        yield bias, (stack, "relpos_bias", "rel_embedding"), None, False
        yield f"{stack}.final_layer_norm.weight", (stack, f"{stack}_norm", "scale"), None, False
        for i in range(size.layers):
            for j, (norm, ours, theirs) in enumerate(sublayers):
                prefix = f"{stack}.block.{i}.layer.{j}"
                yield f"{prefix}.layer_norm.weight", (stack, "layers", norm, "scale"), i, False
                for name in mlp if ours == "mlp" else _ATTENTION:
                    path = (stack, "layers", ours, name, "kernel")
                    yield f"{prefix}.{theirs}.{_ATTENTION.get(name, name)}.weight", path, i, True


def _leaf(params: t5.Params, path: tuple[str, ...]) -> Any:
    for name in path:
        params = params[name]
    return params


def hf_config(size: Size) -> dict[str, Any]:
    """The architecture as Hugging Face's T5 `config.json` says it."""
    gated = size.activation == "gated_gelu"
    return {
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
        "num_decoder_layers": size.layers,
        "num_heads": size.heads,
        "num_layers": size.layers,
        "pad_token_id": 0,
        "relative_attention_max_distance": size.relative_max_distance,
        "relative_attention_num_buckets": size.relative_buckets,
        "tie_word_embeddings": size.tied_head,
        "vocab_size": size.vocabulary_size,
    }


def size_from_hf(config: dict[str, Any], name: str) -> Size:
    """The size that a `config.json` describes; SwitchyardError when it is not a T5 that this project runs."""
    if config.get("model_type") != "t5":
        raise SwitchyardError(f"config.json says model_type={config.get('model_type')!r}: expected 't5'")
    forward = config.get("feed_forward_proj", "relu")
    if forward not in ("relu", "gated-gelu") or config.get("num_decoder_layers") not in (None, config["num_layers"]):
        raise SwitchyardError(
            f"config.json says feed_forward_proj={forward!r}, {config['num_layers']} encoder and "
            f"{config.get('num_decoder_layers')} decoder layers: expected relu or gated-gelu, and as many of both"
        )
    return Size(
        name=name,
        d_model=config["d_model"],
        d_kv=config["d_kv"],
        d_ff=config["d_ff"],
        layers=config["num_layers"],
        heads=config["num_heads"],
        vocabulary_size=config["vocab_size"],
        relative_buckets=config.get("relative_attention_num_buckets", 32),
        relative_max_distance=config.get("relative_attention_max_distance", 128),
        dropout=config.get("dropout_rate", 0.1),
        activation="gated_gelu" if forward == "gated-gelu" else "relu",
        tied_head=config.get("tie_word_embeddings", True),
        layer_norm_epsilon=config.get("layer_norm_epsilon", 1e-6),
    )


def save(directory: Path, size: Size, params: t5.Params) -> list[Path]:
    """Writes `model.safetensors` (float32) and `config.json`; the same parameters give the same bytes."""
    stacked: dict[tuple[str, ...], np.ndarray] = {}
    tensors = {}
    for name, path, layer, transposed in tensor_names(size):
        if path not in stacked:
            stacked[path] = np.asarray(_leaf(params, path), np.float32)
        tensor = stacked[path] if layer is None else stacked[path][layer]
        tensors[name] = np.ascontiguousarray(tensor.T if transposed else tensor)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps(hf_config(size), indent=2, sort_keys=True) + "\n")
    return [directory / "model.safetensors", directory / "config.json"]


def load(weights: Path, config: Path, name: str) -> tuple[Size, t5.Params]:
    """A checkpoint's size and parameters (numpy, float32, stacked); SwitchyardError names every tensor at fault."""
    try:
        described = json.loads(config.read_text())
    except (OSError, ValueError) as error:
        raise SwitchyardError(f"{config} can't be read as JSON ({error}): expected a T5 config.json") from None
    size = size_from_hf(described, name)
    expected = list(tensor_names(size))
    shapes = t5.abstract_params(size)
    try:
        with safe_open(weights, framework="numpy") as file:
            aliases = {re.sub(r"^(encoder|decoder)\.embed_tokens", "shared", key): key for key in sorted(file.keys())}
            wrong = _faults(
                expected, shapes, {ours: file.get_slice(key).get_shape() for ours, key in aliases.items()}, size
            )
            if wrong:
                raise SwitchyardError(f"{weights} is not the model that {config} describes: {'; '.join(wrong)}")
            params: t5.Params = {}
            for hf_name, path, layer, transposed in expected:
                tensor = np.asarray(file.get_tensor(aliases[hf_name]), np.float32)
                _put(params, path, layer, tensor.T if transposed else tensor, _leaf(shapes, path).shape)
    except (SafetensorError, OSError) as error:
        raise SwitchyardError(
            f"{weights} is damaged or is no safetensors file ({error}): download or train it again"
        ) from None
    return size, params


def _faults(expected: list, shapes: t5.Params, found: dict[str, list[int]], size: Size) -> list[str]:
    ignored = {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"}
    if size.tied_head:
        ignored.add("lm_head.weight")
    faults = []
    for name, path, layer, transposed in expected:
        shape = _leaf(shapes, path).shape[0 if layer is None else 1 :]
        shape = list(shape[::-1] if transposed else shape)
        if name not in found:
            faults.append(f"{name} is missing")
        elif list(found[name]) != shape:
            faults.append(f"{name} has shape {list(found[name])}, expected {shape}")
    names = {name for name, *_ in expected}
    return faults + [f"{name} is not part of the model" for name in found if name not in names | ignored]


def _put(
    params: t5.Params, path: tuple[str, ...], layer: int | None, tensor: np.ndarray, shape: tuple[int, ...]
) -> None:
    for name in path[:-1]:
        params = params.setdefault(name, {})
    if layer is None:
        params[path[-1]] = np.array(tensor)
    else:
        params.setdefault(path[-1], np.empty(shape, np.float32))[layer] = tensor
