import json
import math
import struct

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


VERSIONS = {
    "1.0": {},
    "1.1": {"activation": "gated_gelu", "tied_head": False},
    "another depth": {"decoder_layers": 1},
    "tied and unscaled": {"activation": "gated_gelu", "scaled_head": False},
    "its own and scaled": {"tied_head": False, "scaled_head": True},
}


@pytest.fixture(params=VERSIONS)
def saved(request, tmp_path):
    size = Size(**TINY, **VERSIONS[request.param])
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
    query = tensors["decoder.block.0.layer.1.EncDecAttention.q.weight"]
    ours = params["decoder"]["layers"]["encoder_decoder_attention"]["query"]["kernel"][0]
    assert f"decoder.block.{size.decoder_depth - 1}.layer.2.layer_norm.weight" in tensors
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
        ({"feed_forward_proj": "gated-silu"}, "feed_forward_proj='gated-silu': expected one of relu, gated-gelu"),
        ({"num_decoder_layers": 5}, "decoder.block.4.*is missing"),
        ({"num_decoder_layers": 0}, "num_decoder_layers=0: expected finite numbers above 0"),
        ({"num_decoder_layers": 2.5}, "num_decoder_layers=2.5"),
        ({"layer_norm_epsilon": "small"}, "layer_norm_epsilon='small'"),
        ({"relative_attention_num_buckets": True}, "relative_attention_num_buckets=True"),
        ({"dense_act_fn": "silu"}, "dense_act_fn='silu'"),
        ({"dense_act_fn": "gelu"}, "dense_act_fn='gelu'"),
        ({"is_gated_act": "maybe"}, "is_gated_act='maybe'"),
        ({"decoder_start_token_id": 7}, "decoder_start_token_id=7: expected 0"),
        ({"pad_token_id": 3}, "pad_token_id=3: expected 0"),
        ({"eos_token_id": 2}, "eos_token_id=2: expected 1"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings='no': expected true or false"),
        ({"scale_decoder_outputs": 1}, "scale_decoder_outputs=1: expected true or false"),
        ({"model_type": "umt5"}, "every layer of UMT5 has a table of relative position biases"),
        ({"d_model": "wide"}, "d_model='wide'"),
        ({"vocab_size": None}, "vocab_size=None"),
        ({"model_type": ["t5"]}, r"model_type=\['t5'\]: expected 't5' or 'mt5'"),
        ({"feed_forward_proj": {}}, r"feed_forward_proj=\{\}: expected one of relu, gated-gelu"),
        ({"num_layers": 3_000_000}, "num_layers=3000000: expected at most 9,999"),
        ({"num_decoder_layers": 1 << 70}, "num_decoder_layers=1180591620717411303424: expected at most 9,999"),
        ({"layer_norm_epsilon": math.inf}, "layer_norm_epsilon=inf: expected finite numbers"),
        ({"layer_norm_epsilon": 10**400}, "layer_norm_epsilon=10{400}: expected finite numbers"),
        ({"relative_attention_num_buckets": 3}, "num_buckets=3 .*expected at least 4 buckets"),
        ({"relative_attention_max_distance": 16}, "max_distance=16: expected .*a distance above half as many"),
        ({"dropout_rate": "some"}, "dropout_rate='some': expected a share"),
        ({"dropout_rate": 1}, "dropout_rate=1: expected a share from 0 to below 1"),
    ],
)
def test_another_model_s_config_is_refused(saved, change, message):
    folder, *_ = saved
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(EdgewiseError, match=message):
        load_folder(folder)


def test_token_ids_that_transformers_5_keeps_apart_are_checked_too(saved):
    folder, _, params = saved
    (folder / "generation_config.json").write_text(json.dumps({"decoder_start_token_id": 0, "eos_token_id": [1]}))
    jax.tree.map(np.testing.assert_array_equal, load_folder(folder)[1], params)
    (folder / "generation_config.json").write_text(json.dumps({"decoder_start_token_id": 5}))
    with pytest.raises(EdgewiseError, match="generation_config.json says decoder_start_token_id=5: expected 0"):
        load_folder(folder)


def rewrite(folder, **tensors):
    """Adds tensors to a folder's weights."""
    save_file({**load_file(folder / "model.safetensors"), **tensors}, folder / "model.safetensors")


def test_a_head_that_is_not_the_tied_embedding_is_refused_by_name(saved):
    folder, size, params = saved
    if not size.scales_head or not size.tied_head:
        return
    embedding = np.array(params["embedding"])
    rewrite(folder, **{"lm_head.weight": embedding})
    jax.tree.map(np.testing.assert_array_equal, load_folder(folder)[1], params)
    embedding[5, 3] += 1e-3
    rewrite(folder, **{"lm_head.weight": embedding})
    with pytest.raises(
        EdgewiseError, match="lm_head.weight holds other numbers than shared.weight.*tie_word_embeddings"
    ):
        load_folder(folder)
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    _, got = load_folder(folder)
    np.testing.assert_array_equal(got["decoder"]["logits_dense"]["kernel"], embedding.T)


def test_what_a_config_says_null_of_is_t5_s_own(saved):
    folder, size, _ = saved
    silent = dict.fromkeys(("relative_attention_num_buckets", "relative_attention_max_distance", "dropout_rate"))
    config = json.loads((folder / "config.json").read_text()) | silent
    (folder / "config.json").write_text(json.dumps(config))
    got = load_folder(folder)[0]
    assert (got.relative_buckets, got.relative_max_distance, got.dropout) == (32, 128, 0.1)


@pytest.mark.parametrize("reference", ["~nobody-of-this-name/t5", "n" * 300, "/" + "n" * 300])
def test_a_name_that_no_folder_can_have_is_no_checkpoint(reference, tmp_path):
    with pytest.raises(EdgewiseError, match=f"train.init={reference} is neither a folder nor an artifact here"):
        find.find(reference, "train.init", Tracking(root=str(tmp_path / "runs")))


def test_an_embedding_that_is_one_number_is_misshaped(saved):
    folder, *_ = saved
    one = np.zeros((), np.float32)
    rewrite(folder, **{"shared.weight": one, "encoder.embed_tokens.weight": one})
    with pytest.raises(EdgewiseError, match=r"shared.weight has shape \[\], expected \[24, 8\]"):
        load_folder(folder)


@pytest.mark.parametrize("name", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"])
def test_an_embedding_of_one_stack_is_refused_by_name(saved, name):
    folder, _, params = saved
    rewrite(folder, **{name: np.array(params["embedding"])})
    jax.tree.map(np.testing.assert_array_equal, load_folder(folder)[1], params)
    rewrite(folder, **{name: np.array(params["embedding"]) + 1})
    with pytest.raises(EdgewiseError, match=f"{name} holds other numbers than shared.weight"):
        load_folder(folder)


@pytest.mark.parametrize("own_head", [False, True])
def test_what_transformers_5_writes_of_an_unscaled_head_is_tied_where_it_has_no_weights(saved, own_head):
    folder, size, params = saved
    if not size.tied_head or size.decoder_layers:
        return
    config = json.loads((folder / "config.json").read_text()) | {"scale_decoder_outputs": False}
    (folder / "config.json").write_text(json.dumps(config))
    head = np.random.default_rng(0).normal(size=(24, 8)).astype(np.float32)
    if own_head:
        rewrite(folder, **{"lm_head.weight": head})
    got_size, got = load_folder(folder)
    assert (got_size.tied_head, got_size.scales_head) == (not own_head, False)
    if own_head:
        np.testing.assert_array_equal(got["decoder"].pop("logits_dense")["kernel"], head.T)
    jax.tree.map(np.testing.assert_array_equal, got, params)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_weights_that_are_not_finite_are_named_with_their_file(saved, value, dtype):
    folder, *_ = saved
    places = shard(folder)
    name = "encoder.block.1.layer.0.SelfAttention.k.weight"
    tensors = load_file(folder / places[name])
    tensors[name] = tensors[name].astype(dtype)
    tensors[name][0, :2] = value
    save_file(tensors, folder / places[name])
    with pytest.raises(EdgewiseError, match=f"{places[name]}: in {name}, 2 of .* numbers read are NaN or infinite"):
        load_folder(folder)


def edit_header(file, edit):
    """Rewrites a file's header as `edit` changes it, the tensors after it unchanged."""
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    edit(header)
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def overlap(header):
    first, second, *_ = sorted((k for k in header if k != "__metadata__"), key=lambda k: header[k]["data_offsets"])
    start, stop = header[second]["data_offsets"]
    header[second]["data_offsets"] = [start - 4, stop - 4]


def swap_overlapping(header):
    """Two tensors of one shape both at the first one's place, as a file would that is read as it says."""
    a, b = "encoder.block.0.layer.0.SelfAttention.q.weight", "encoder.block.0.layer.0.SelfAttention.k.weight"
    header[b]["data_offsets"] = header[a]["data_offsets"]


def wrong_size(header):
    header["shared.weight"]["dtype"] = "BF16"


def wrong_shape(header):
    header["shared.weight"]["shape"] = [12, 8]


@pytest.mark.parametrize("edit", [overlap, swap_overlapping, wrong_size, wrong_shape])
def test_a_header_whose_offsets_do_not_fit_is_refused(saved, edit):
    folder, *_ = saved
    edit_header(folder / "model.safetensors", edit)
    with pytest.raises(EdgewiseError, match="model.safetensors is damaged"):
        load_folder(folder)


def test_a_tensor_in_two_shards_is_refused(saved):
    folder, *_ = saved
    places = shard(folder)
    files = sorted(set(places.values()))
    [name, *_] = load_file(folder / files[0])
    save_file({**load_file(folder / files[1]), name: load_file(folder / files[0])[name] + 1}, folder / files[1])
    with pytest.raises(EdgewiseError, match=f"{files[1]} holds {name}, which .*{files[0]} holds too"):
        load_folder(folder)


@pytest.mark.parametrize(
    "index",
    [{"weight_map": {}}, {"weight_map": {"a": 3}}, {"weight_map": {"a": "../b"}}, {"weight_map": {"a": "9" * 400}}, {}],
)
def test_an_index_that_names_no_files_is_refused(saved, index):
    folder, *_ = saved
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(EdgewiseError, match="index.json has no weight_map"):
        load_folder(folder)


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "config.json"])
def test_json_that_is_nested_deeply_is_refused(saved, name):
    folder, *_ = saved
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "part.safetensors"}}')
    (folder / name).write_text('{"weight_map": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(EdgewiseError, match=f"{name} can't be read as JSON"):
        load_folder(folder)


@pytest.mark.slow
def test_no_flipped_bit_of_a_header_gives_other_weights(tmp_path):
    """3,000 flips of one bit: each is refused, or leaves the model what it was."""
    size = Size(**TINY, activation="gated_gelu", tied_head=False)
    params = jax.tree.map(np.asarray, t5.init_params(size, jax.random.key(0)))
    hf.save(tmp_path, size, params)
    file = tmp_path / "model.safetensors"
    data = file.read_bytes()
    header = 8 + struct.unpack("<Q", data[:8])[0]
    checkpoint = found(tmp_path)
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.choice(8 * header, 3000, replace=8 * header < 3000):
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        file.write_bytes(damaged)
        try:
            got = load.load(checkpoint, size, None)
        except EdgewiseError:
            refused += 1
        else:
            jax.tree.map(np.testing.assert_array_equal, got, params)
    assert refused > 2900


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
