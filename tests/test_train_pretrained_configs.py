"""Which published T5s run here: their `config.json`, shortened to what says something, beside docs/checkpoints.md."""

import json

import jax
import numpy as np
import pytest

from conf.errors import EdgewiseError
from conf.schema import Size, Tracking
from tests.support import REPO
from train import t5
from train.pretrained import find, hf, load

COMMON = {
    "model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"],
    "d_kv": 64,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-06,
    "pad_token_id": 0,
    "relative_attention_num_buckets": 32,
    "vocab_size": 32128,
}
V1_1 = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "d_model": 512, "d_ff": 1024, "num_heads": 6}
CONFIGS = {
    "t5-small": {"d_model": 512, "d_ff": 2048, "num_layers": 6, "num_heads": 8, "n_positions": 512},
    "t5-v1_1-small": {**V1_1, "num_layers": 8, "num_decoder_layers": 8},
    "flan-t5-small": {
        **V1_1,
        **{"num_layers": 8, "num_decoder_layers": 8, "dense_act_fn": "gelu_new", "is_gated_act": True},
    },
    "t5-efficient-small-dl2": {"d_model": 512, "d_ff": 2048, "num_layers": 6, "num_decoder_layers": 2, "num_heads": 8},
    "mt5-small": {**V1_1, "model_type": "mt5", "num_layers": 8, "num_decoder_layers": 8, "vocab_size": 250112},
    "byt5-small": {
        **V1_1,
        **{"d_model": 1472, "d_ff": 3584, "num_layers": 12, "num_decoder_layers": 4, "vocab_size": 384},
        "tokenizer_class": "ByT5Tokenizer",
    },
    "umt5-small": {**V1_1, "model_type": "umt5", "num_layers": 8, "num_decoder_layers": 8, "vocab_size": 256384},
    "long-t5-local-base": {**V1_1, "model_type": "longt5", "num_layers": 12, "num_decoder_layers": 12},
}
PARAMETERS = {  # as published
    "t5-small": 60_506_624,
    "t5-v1_1-small": 76_961_152,
    "flan-t5-small": 76_961_152,
    "mt5-small": 300_176_768,
    "byt5-small": 299_637_760,
}


def described(folder, name, **changes):
    (folder / "config.json").write_text(json.dumps({**COMMON, **CONFIGS[name], **changes}))
    (folder / "model.safetensors").touch()
    return find.find(str(folder), "train.init", Tracking(root=str(folder / "runs")))


@pytest.mark.parametrize("name", CONFIGS)
def test_published_configs_are_read_or_refused_with_the_reason(tmp_path, name):
    if name in ("umt5-small", "long-t5-local-base"):
        why = {
            "umt5-small": "table of relative position biases of its own",
            "long-t5-local-base": "summaries of blocks",
        }
        with pytest.raises(EdgewiseError, match=f"model_type='{CONFIGS[name]['model_type']}'.*{why[name]}"):
            described(tmp_path, name)
        return
    size = described(tmp_path, name).size
    assert (size.layers, size.decoder_depth) == (
        CONFIGS[name]["num_layers"],
        CONFIGS[name].get("num_decoder_layers", CONFIGS[name]["num_layers"]),
    )
    if name in PARAMETERS:
        assert t5.count_parameters(size) == PARAMETERS[name]


def test_a_byt5_is_refused_where_texts_are_to_be_read(tmp_path, compose):
    described(tmp_path, "byt5-small")
    with pytest.raises(EdgewiseError, match=f"train.init={tmp_path} is a ByT5, whose tokens are bytes"):
        find.resolved(compose("size=auto", f"train.init={tmp_path}", "tokenizer.path=x"))


def test_the_documented_table_names_them_all():
    table = (REPO / "docs/checkpoints.md").read_text().partition("## Which models")[2].partition("\n## ")[0]
    for name in ("T5 1.0", "T5 1.1", "Flan-T5", "T5-efficient", "mT5", "ByT5", "UMT5", "LongT5"):
        [row] = [line for line in table.splitlines() if line.startswith(f"| {name}")]
        assert ("refused" in row) == (name in ("ByT5", "UMT5", "LongT5"))


@pytest.mark.parametrize("kind", ["t5", "mt5"])
def test_an_mt5_is_the_same_network(tmp_path, kind):
    size = Size(
        "x", d_model=8, d_kv=4, d_ff=12, layers=1, heads=2, vocabulary_size=24, activation="gated_gelu", tied_head=False
    )
    params = t5.init_params(size, jax.random.key(0))
    hf.save(tmp_path, size, params)
    config = json.loads((tmp_path / "config.json").read_text()) | {"model_type": kind}
    (tmp_path / "config.json").write_text(json.dumps(config))
    checkpoint = find.find(str(tmp_path), "train.init", Tracking(root=str(tmp_path / "runs")))
    jax.tree.map(np.testing.assert_array_equal, load.load(checkpoint, checkpoint.size, None), params)
