import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from conf.errors import SwitchyardError
from conf.schema import Size
from train import pretrained, t5

TINY = {"name": "tiny", "d_model": 8, "d_kv": 4, "d_ff": 12, "layers": 2, "heads": 3, "vocabulary_size": 24}


@pytest.fixture(params=["1.0", "1.1"])
def saved(request, tmp_path):
    version = {} if request.param == "1.0" else {"activation": "gated_gelu", "tied_head": False}
    size = Size(**TINY, **version)
    params = t5.init_params(size, jax.random.key(0))
    pretrained.save(tmp_path, size, params)
    return tmp_path, size, params


def load(folder):
    return pretrained.load(folder / "model.safetensors", folder / "config.json", "tiny")


def test_a_round_trip_is_exact(saved):
    folder, size, params = saved
    got_size, got = load(folder)
    assert got_size == size
    jax.tree.map(np.testing.assert_array_equal, got, params)


def test_the_same_parameters_give_the_same_bytes(saved, tmp_path_factory):
    folder, size, params = saved
    other = tmp_path_factory.mktemp("other")
    for name in ("model.safetensors", "config.json"):
        pretrained.save(other, size, params)
        assert (folder / name).read_bytes() == (other / name).read_bytes()


def test_tensors_have_hugging_face_s_names_and_orientation(saved):
    folder, size, params = saved
    tensors = load_file(folder / "model.safetensors")
    query = tensors["decoder.block.1.layer.1.EncDecAttention.q.weight"]
    ours = params["decoder"]["layers"]["encoder_decoder_attention"]["query"]["kernel"][1]
    np.testing.assert_array_equal(query, ours.T)
    assert tensors["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"].shape == (32, 3)
    assert ("lm_head.weight" in tensors) == (not size.tied_head)
    feed_forward = {n for n in tensors if n.startswith("encoder.block.0.layer.1.DenseReluDense")}
    assert len(feed_forward) == (2 if size.activation == "relu" else 3)
    assert sum(t.size for t in tensors.values()) == t5.count_parameters(size)


def test_every_tensor_at_fault_is_named(saved):
    folder, size, _ = saved
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.final_layer_norm.weight"]
    tensors["shared.weight"] = tensors["shared.weight"][:-1].copy()
    tensors["encoder.block.7.layer.0.layer_norm.weight"] = np.ones(8, np.float32)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(SwitchyardError) as error:
        load(folder)
    message = str(error.value)
    assert "encoder.final_layer_norm.weight is missing" in message
    assert "shared.weight has shape [23, 8], expected [24, 8]" in message
    assert "encoder.block.7.layer.0.layer_norm.weight is not part" in message


def test_a_file_cut_short_is_refused(saved):
    folder, *_ = saved
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(SwitchyardError, match="damaged"):
        load(folder)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model_type": "bert"}, "model_type='bert'"),
        ({"feed_forward_proj": "silu"}, "silu"),
        ({"num_decoder_layers": 5}, "5"),
    ],
)
def test_another_model_s_config_is_refused(saved, change, message):
    folder, *_ = saved
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(SwitchyardError, match=message):
        load(folder)
