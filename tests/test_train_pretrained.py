import json

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from conf.errors import EdgewiseError
from conf.schema import Size, Tracking
from train import t5
from train.pretrained import find, hf, load

TINY = {"name": "tiny", "d_model": 8, "d_kv": 4, "d_ff": 12, "layers": 2, "heads": 3, "vocabulary_size": 24}


@pytest.fixture(params=["1.0", "1.1"])
def saved(request, tmp_path):
    version = {} if request.param == "1.0" else {"activation": "gated_gelu", "tied_head": False}
    size = Size(**TINY, **version)
    params = t5.init_params(size, jax.random.key(0))
    folder = tmp_path / "tiny"
    folder.mkdir()
    hf.save(folder, size, params)
    return folder, size, params


def found(folder):
    return find.find(str(folder), "train.init", Tracking(root=str(folder.parent / "runs")))


def load_folder(folder):
    checkpoint = found(folder)
    return checkpoint.size, load.load(checkpoint, checkpoint.size, None)


def test_a_round_trip_is_exact(saved):
    folder, size, params = saved
    got_size, got = load_folder(folder)
    assert got_size == size
    jax.tree.map(np.testing.assert_array_equal, got, params)


def test_the_same_parameters_give_the_same_bytes(saved, tmp_path_factory):
    folder, size, params = saved
    other = tmp_path_factory.mktemp("other")
    hf.save(other, size, params)
    for name in ("model.safetensors", "config.json"):
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


def shard(folder, files=3):
    """Splits a folder's weights over files with an index, as Hugging Face's large models come."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"model-{i % files + 1:05}-of-{files:05}.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(places.values()):
        save_file({name: tensors[name] for name in tensors if places[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return places


def test_shards_hold_the_same_model(saved):
    folder, size, params = saved
    whole = found(folder).content
    shard(folder)
    assert found(folder).content != whole
    jax.tree.map(np.testing.assert_array_equal, load_folder(folder)[1], params)


def test_a_shard_that_is_not_there_is_named(saved):
    folder, *_ = saved
    shard(folder)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(EdgewiseError, match=r"index.json names model-00002-of-00003.safetensors, which is not there"):
        load_folder(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "model-00002-of-00003.safetensors"])
@pytest.mark.parametrize("kept", [0.98, 0.5, 0.01, 0])
def test_a_file_cut_short_is_refused(saved, name, kept):
    folder, *_ = saved
    if name != "model.safetensors":
        shard(folder)
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(EdgewiseError, match=f"{name} is damaged"):
        load_folder(folder)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_widened(saved, dtype):
    folder, size, params = saved
    tensors = {name: tensor.astype(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors")
    _, got = load_folder(folder)
    want = jax.tree.map(lambda x: np.asarray(x).astype(dtype).astype(np.float32), params)
    jax.tree.map(np.testing.assert_array_equal, got, want)
    assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {np.dtype(np.float32)}


def test_integers_are_refused(saved):
    folder, *_ = saved
    tensors = load_file(folder / "model.safetensors")
    tensors["shared.weight"] = tensors["shared.weight"].astype(np.int32)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(EdgewiseError, match="shared.weight has the dtype I32"):
        load_folder(folder)


@pytest.mark.parametrize("alias", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"])
def test_the_embedding_may_have_another_name(saved, alias):
    folder, size, params = saved
    tensors = load_file(folder / "model.safetensors")
    if alias in tensors:
        return  # an untied head is no embedding
    tensors[alias] = tensors.pop("shared.weight")
    tensors["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = np.ones((32, 3), np.float32)
    save_file(tensors, folder / "model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, load_folder(folder)[1], params)


def test_every_tensor_at_fault_is_named(saved):
    folder, size, _ = saved
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.final_layer_norm.weight"]
    tensors["shared.weight"] = tensors["shared.weight"][:-1].copy()
    tensors["encoder.block.7.layer.0.layer_norm.weight"] = np.ones(8, np.float32)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(EdgewiseError) as error:
        load_folder(folder)
    message = str(error.value)
    assert "encoder.final_layer_norm.weight is missing" in message
    assert "shared.weight has shape [23, 8], expected [24, 8]" in message
    assert "encoder.block.7.layer.0.layer_norm.weight is not part" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert"}, "model_type='bert'"),
        ({"feed_forward_proj": "silu"}, "silu"),
        ({"num_decoder_layers": 5}, "5"),
        ({"d_model": "wide"}, "d_model='wide'"),
        ({"vocab_size": None}, "vocab_size=None"),
    ],
)
def test_another_model_s_config_is_refused(saved, change, message):
    folder, *_ = saved
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(EdgewiseError, match=message):
        load_folder(folder)


def test_torch_pickles_are_refused_by_name(saved):
    folder, *_ = saved
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(EdgewiseError, match=r"only as torch pickles \(pytorch_model.bin\).*never read"):
        load_folder(folder)


def test_a_folder_without_a_checkpoint_says_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(EdgewiseError, match="it holds notes.txt; expected config.json"):
        found(tmp_path)


# --- size=auto, identity ---------------------------------------------------------------------------------------------


def test_the_content_counts_and_not_the_path(saved, tmp_path):
    folder, size, params = saved
    first = found(folder).content
    moved = folder.rename(tmp_path / "elsewhere")
    assert found(moved).content == first and found(moved).size.name == "elsewhere"
    with (moved / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        last = stream.read(1)
        stream.seek(-1, 2)
        stream.write(bytes([last[0] ^ 1]))
    assert found(moved).content != first


def test_a_large_file_is_hashed_once_and_again_when_it_changes(saved, monkeypatch):
    folder, *_ = saved
    monkeypatch.setattr(find, "REMEMBERED", 1000)
    first = found(folder).content
    hashed = []
    monkeypatch.setattr(find, "hash_file", lambda file, real=find.hash_file: hashed.append(file.name) or real(file))
    assert found(folder).content == first and "model.safetensors" not in hashed
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    assert found(folder).content != first and "model.safetensors" in hashed
    for kept in (folder.parent / "runs" / "digests").iterdir():
        kept.write_text("{")
    assert found(folder).content != first  # a damaged note is no note


def test_size_auto_is_the_checkpoint_s(saved, compose):
    folder, size, _ = saved
    config = compose("size=auto", "size.dropout=0.2", f"train.init={folder}", "tokenizer.path=x")
    got = find.resolved(config)
    assert got.size == Size(**{**vars(size), "dropout": 0.2})
    assert find.resolved(got) == got


def test_a_named_size_that_contradicts_shows_both(saved, compose):
    folder, *_ = saved
    with pytest.raises(EdgewiseError) as error:
        find.resolved(compose("size=small", f"train.init={folder}", "tokenizer.path=x"))
    message = str(error.value)
    assert "size=small has d_model=512" in message and f"train.init={folder} has d_model=8" in message
    with pytest.raises(EdgewiseError, match="layers=3, but .* has layers=2"):
        find.resolved(compose("size=auto", "size.layers=3", f"train.init={folder}", "tokenizer.path=x"))


def test_size_auto_needs_a_checkpoint(compose):
    with pytest.raises(EdgewiseError, match="size=auto takes the architecture from a checkpoint: give train.init"):
        find.resolved(compose("size=auto"))


def test_a_checkpoint_without_a_vocabulary_asks_for_one(saved, compose):
    folder, *_ = saved
    with pytest.raises(EdgewiseError, match="has no spiece.model: .*tokenizer.path=FILE"):
        find.resolved(compose("size=auto", f"train.init={folder}", "tokenizer=t5"))


def test_what_is_nowhere_is_named(compose, tmp_path):
    config = compose("size=auto", "train.init=model-demo-nano-s7:latest", f"tracking.root={tmp_path}")
    with pytest.raises(EdgewiseError, match="train.init=model-demo-nano-s7:latest is neither a folder nor an artif"):
        find.resolved(config)
