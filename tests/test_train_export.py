import errno
import json
import re
import resource
import shutil

import jax
import ml_dtypes
import msgpack
import numpy as np
import pytest
import tensorstore
from flax import serialization
from safetensors.numpy import load_file

from conf.errors import EdgewiseError, no_room
from conf.schema import Size, Tracking
from tests.support import REPO
from tracking.interface import ArtifactDraft
from tracking.store import Store
from train import export, t5
from train.data.tokens import Vocabulary
from train.model_artifact import load_model, model_artifact
from train.pretrained import find, hf, t5x
from train.pretrained.load import load

TINY = {"d_model": 8, "d_kv": 4, "d_ff": 12, "layers": 2, "heads": 3, "vocabulary_size": 64}
TEXT = ["good and bad films", "a fine film", "an awful film"]
VERSIONS = {
    "1.0": {},
    "1.1": {"activation": "gated_gelu", "tied_head": False},
    "another depth": {"decoder_layers": 3},
}


@pytest.fixture(params=VERSIONS)
def model(request, tmp_path):
    """A model artifact in a store: its reference, size, parameters and store."""
    size = Size(name="tiny", **TINY, **VERSIONS[request.param])
    params = t5.init_params(size, jax.random.key(1))
    store = Store(tmp_path / "runs")
    (tmp_path / "files").mkdir()
    vocabulary = Vocabulary.train(TEXT, 40)
    draft = model_artifact(tmp_path / "files", "demo-tiny-s0", size, params, vocabulary, {"size": vars(size)})
    with store.start_run("train-x", job_type="train", name="x", config={}) as run:
        artifact = run.log_artifact(draft)
    return artifact, size, params, store


def command(*arguments, root):
    return export.main([str(a) for a in arguments] + ["--root", str(root)])


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_hf_and_back_is_exact(model, tmp_path):
    artifact, size, params, store = model
    assert command(artifact.ref, tmp_path / "out" / "tiny", root=store.root) == 0
    out = tmp_path / "out" / "tiny"
    assert (out / "model.safetensors").read_bytes() == artifact.file("model.safetensors").read_bytes()
    assert (out / "spiece.model").read_bytes() == artifact.file("spiece.model").read_bytes()
    assert json.loads((out / "tokenizer_config.json").read_text())["extra_ids"] <= 64 - 20
    checkpoint = find.find(str(out), "train.init", Tracking(root=str(store.root)))
    assert checkpoint.size == size
    equal(load(checkpoint, size, None), params)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["tiny"]  # nothing half-written is left


def test_a_vocabulary_of_words_goes_without_what_transformers_would_misread(tmp_path, capsys):
    store, size = Store(tmp_path / "runs"), Size(name="tiny", **TINY)
    (tmp_path / "files").mkdir()
    vocabulary = Vocabulary.train(TEXT, 40, model_type="word")
    params = t5.init_params(size, jax.random.key(1))
    draft = model_artifact(tmp_path / "files", "demo-tiny-s0", size, params, vocabulary, {"size": vars(size)})
    with store.start_run("train-x", job_type="train", name="x", config={}) as run:
        ref = run.log_artifact(draft).ref
    assert command(ref, tmp_path / "out", root=store.root) == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"config.json", "model.safetensors", "spiece.model"}
    assert "spiece.model is of whole words, which transformers' tokenizers read otherwise" in capsys.readouterr().err


def test_t5x_and_back_is_exact(model, tmp_path):
    artifact, size, params, store = model
    out = tmp_path / "tiny" / "checkpoint_1000"
    assert command(artifact.ref, out, "format=t5x", root=store.root) == 0
    checkpoint = find.find(str(out), "train.init", Tracking(root=str(store.root)))
    assert checkpoint.size == size and checkpoint.vocabulary == out / "spiece.model"
    equal(load(checkpoint, size, None), params)
    # and by way of T5X to Hugging Face: the very bytes
    assert command(out, tmp_path / "again", root=store.root) == 0
    assert (tmp_path / "again/model.safetensors").read_bytes() == artifact.file("model.safetensors").read_bytes()


def test_flax_and_tensorstore_read_what_is_written(model, tmp_path):
    """An independent reader: T5X itself restores the file by flax.serialization and opens the specs."""
    artifact, size, params, store = model
    out = tmp_path / "checkpoint_1000"
    command(artifact.ref, out, "format=t5x", root=store.root)
    content = serialization.msgpack_restore((out / "checkpoint").read_bytes())
    assert content["version"] == 3 and int(content["optimizer"]["state"]["step"]) == 0
    target = content["optimizer"]["target"]
    spec = target["decoder"]["layers_1"]["self_attention"]["out"]["kernel"]
    assert spec["kvstore"]["path"] == "target.decoder.layers_1.self_attention.out.kernel"
    spec = {**spec, "kvstore": {"driver": "file", "path": f"{out}/{spec['kvstore']['path']}/"}}
    kernel = tensorstore.open(spec).result().read().result()
    np.testing.assert_array_equal(kernel, params["decoder"]["layers"]["self_attention"]["out"]["kernel"][1])
    np.testing.assert_array_equal(
        target["encoder"]["encoder_norm"]["scale"], params["encoder"]["encoder_norm"]["scale"]
    )
    bias = target["encoder"]["relpos_bias"]["rel_embedding"]
    assert tuple(bias["metadata"]["shape"]) == (size.heads, 32)


def write_whole(folder, size, params, dtype=np.float32, **content):
    """The other form: every leaf in the msgpack file, as flax writes it."""
    target: dict = {}
    for tensor in t5x.layout(size):
        leaf = np.asarray(hf.leaf_of(params, tensor.path))
        leaf = leaf if tensor.layer is None else leaf[tensor.layer]
        t5x.put_leaf(target, tuple(tensor.name.split("/")), (leaf.T if tensor.transposed else leaf).astype(dtype))
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"version": 3, "optimizer": {"target": target, "state": {"step": np.int32(7), "param_states": {}}}}
    (folder / "checkpoint").write_bytes(serialization.msgpack_serialize({**whole, **content}))
    return target


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_a_checkpoint_all_in_its_msgpack_file_is_read(model, tmp_path, dtype):
    _, size, params, store = model
    write_whole(tmp_path / "t5_tiny/checkpoint_5", size, params, dtype)
    checkpoint = find.find(str(tmp_path / "t5_tiny/checkpoint_5"), "train.init", Tracking(root=str(store.root)))
    assert checkpoint.size.name == "t5_tiny"
    equal(load(checkpoint, size, None), jax.tree.map(lambda x: np.asarray(x).astype(dtype).astype(np.float32), params))


def test_arrays_that_flax_cut_into_chunks_are_put_together(model, tmp_path, monkeypatch):
    _, size, params, store = model
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 256)
    write_whole(tmp_path / "t5", size, params)
    assert b"__msgpack_chunked_array__" in (tmp_path / "t5" / "checkpoint").read_bytes()
    equal(load(find.find(str(tmp_path / "t5"), "k", Tracking(root=str(store.root))), size, None), params)


def faults(folder, size):
    with pytest.raises(EdgewiseError) as error:
        load(find.find(str(folder), "train.init", Tracking(root=str(folder.parent / "runs"))), size, None)
    return str(error.value)


def test_a_missing_t5x_leaf_is_named(model, tmp_path):
    artifact, size, params, store = model
    out = tmp_path / "checkpoint_1000"
    command(artifact.ref, out, "format=t5x", root=store.root)
    chunk = out / "target.encoder.layers_1.mlp.wo.kernel" / "0.0"
    data = chunk.read_bytes()
    chunk.unlink()  # tensorstore alone would read zeros
    assert "encoder/layers_1/mlp/wo/kernel can't be read" in faults(out, size)
    chunk.write_bytes(data[: len(data) // 2])
    assert "encoder/layers_1/mlp/wo/kernel can't be read" in faults(out, size)
    shutil.rmtree(out / "target.encoder.layers_1.mlp.wo.kernel")
    shutil.rmtree(out / "target.decoder.layers_0.encoder_decoder_attention.key.kernel")
    message = faults(out, size)
    assert "encoder/layers_1/mlp/wo/kernel can't be read from target.encoder" in message
    assert "decoder/layers_0/encoder_decoder_attention/key/kernel can't be read" in message


def test_t5x_leaves_at_fault_are_all_named(model, tmp_path):
    _, size, params, _ = model
    folder = tmp_path / "t5"
    target = write_whole(folder, size, params)
    del target["decoder"]["decoder_norm"]
    target["encoder"]["layers_1"]["mlp"]["wo"]["kernel"] = np.zeros((3, 8), np.float32)
    target["encoder"]["layers_1"]["adapter"] = np.zeros(4, np.float32)
    content = {"version": 3, "optimizer": {"target": target, "state": {}}}
    (folder / "checkpoint").write_bytes(serialization.msgpack_serialize(content))
    message = faults(folder, size)
    assert "decoder/decoder_norm/scale is missing" in message
    assert "encoder/layers_1/mlp/wo/kernel has shape [3, 8], expected [12, 8]" in message
    assert "encoder/layers_1/adapter is not part of the model" in message


def test_other_versions_and_other_files_are_refused(model, tmp_path):
    _, size, params, _ = model
    write_whole(tmp_path / "t5", size, params, version=2)
    assert "T5X checkpoint of version 2: expected version 3" in faults(tmp_path / "t5", size)
    write_whole(tmp_path / "t5", size, params, optimizer={"state": {}})
    assert "holds no optimizer/target" in faults(tmp_path / "t5", size)
    content = msgpack.packb({"version": 3, "optimizer": {"target": {"mlp": {"kernel": 1.0}}}})
    (tmp_path / "t5" / "checkpoint").write_bytes(content)
    assert "is not a T5 that this project runs: token_embedder/embedding" in faults(tmp_path / "t5", size)
    (tmp_path / "t5" / "checkpoint").write_bytes(b"\x93no")
    assert "is damaged or is no msgpack file" in faults(tmp_path / "t5", size)


def test_export_says_what_is_wrong(model, tmp_path, capsys):
    artifact, _, _, store = model
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("")
    assert command(artifact.ref, tmp_path / "full", root=store.root) == 1
    assert "is there already" in capsys.readouterr().err and [p.name for p in (tmp_path / "full").iterdir()] == [
        "mine.txt"
    ]
    assert command(artifact.ref, tmp_path / "new", "format=gguf", root=store.root) == 1
    assert "expected format=hf or format=t5x" in capsys.readouterr().err
    assert command("model-none:v0", tmp_path / "new", root=store.root) == 1
    assert "REF=model-none:v0 is neither" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_failed_export_leaves_nothing(model, tmp_path, monkeypatch, capsys):
    artifact, *_, store = model

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, "write_tokenizer_config", fail)
    assert command(artifact.ref, tmp_path / "out" / "tiny", root=store.root) == 1
    assert "error: No space left on device; make room there" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("save", [hf.save, t5x.save])
def test_a_full_disk_is_an_error_of_the_system_whichever_library_writes(model, tmp_path, save):
    _, size, params, _ = model
    (tmp_path / "full").mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            save(tmp_path / "full", size, params)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(no_room(raised.value)).startswith(str(tmp_path / "full"))


def test_what_is_written_may_be_read_by_whoever_may_read_other_files(model, tmp_path):
    artifact, *_, store = model
    assert command(artifact.ref, tmp_path / "out", root=store.root) == 0
    assert len({file.stat().st_mode for file in (tmp_path / "out").iterdir()}) == 1


def test_a_folder_that_can_t_be_made_is_said_in_a_line(model, tmp_path, monkeypatch, capsys):
    artifact, *_, store = model
    (tmp_path / "file").write_text("")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for directory, why in (
        (".", r"\. is the folder that the command runs in: expected the name of another one, such as model"),
        (tmp_path / "file" / "x", r"x can't be made \(.*Not a directory"),
        (tmp_path / ("n" * 300), r"n can't be made \(.*File name too long"),
    ):
        assert command(artifact.ref, directory, root=store.root) == 1
        assert re.search(why, capsys.readouterr().err)
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed(model, tmp_path, there):
    artifact, *_, store = model
    if there:
        (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    assert command(artifact.ref, tmp_path / "link", root=store.root) == 0
    assert (tmp_path / "link").is_symlink() and (tmp_path / "disk" / "model.safetensors").is_file()


def test_a_model_artifact_reads_back(model):
    artifact, size, params, _ = model
    got = load_model(artifact, None)
    assert got.size == size and got.vocabulary.size <= 64
    equal(got.params, params)
    checkpoint = find.from_artifact(artifact)
    assert checkpoint.content == artifact.digest and checkpoint.size.name == "tiny"


def test_an_artifact_that_is_no_model_is_refused(tmp_path):
    store = Store(tmp_path / "runs")
    with store.start_run("x", job_type="data", name="x", config={}) as run:
        run.log_artifact(ArtifactDraft("data-x", "data", files={"a": REPO / "pyproject.toml"}))
    with pytest.raises(EdgewiseError, match="data-x:v0 holds no model.safetensors, config.json"):
        find.find("data-x:v0", "train.init", Tracking(root=str(store.root)))


def test_safetensors_of_an_export_are_float32(model, tmp_path):
    artifact, *_, store = model
    command(artifact.ref, tmp_path / "tiny", root=store.root)
    assert {t.dtype for t in load_file(tmp_path / "tiny/model.safetensors").values()} == {np.dtype(np.float32)}


def test_a_head_that_t5x_can_t_describe_is_refused_and_hugging_face_s_layout_keeps_it(tmp_path):
    for flags in ({"scaled_head": False}, {"tied_head": False, "scaled_head": True}):
        size = Size(name="tiny", **TINY, **flags)
        params = t5.init_params(size, jax.random.key(1))
        folder = tmp_path / f"hf-{len(flags)}"
        folder.mkdir()
        hf.save(folder, size, params)
        assert find.find(str(folder), "train.init", Tracking(root=str(tmp_path))).size.scales_head == size.scales_head
        assert command(folder, tmp_path / "t5x", "format=t5x", root=tmp_path / "runs") == 1
        assert not (tmp_path / "t5x").exists()


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"version": 3, "optimizer": [1]}, "holds no optimizer/target"),
        ({"version": 3, "optimizer": {"target": {"a": {"driver": "zarr", "kvstore": 3}}}}, "is damaged"),
        ({"version": 3, "optimizer": {"target": {"a": {"driver": "zarr", "kvstore": {"path": "../b"}}}}}, "'../b'"),
        ({"version": 3, "optimizer": {"target": {"a": {"__msgpack_chunked_array__": 1}}}}, "is damaged"),
        (
            {"version": 3, "optimizer": {"target": {"a": {"driver": "z", "kvstore": {"path": "b"}, "metadata": 1}}}},
            "is da",
        ),
        ([], "version None"),
    ],
)
def test_a_malformed_t5x_tree_is_an_error_and_no_traceback(tmp_path, tree, said):
    (tmp_path / "checkpoint").write_bytes(msgpack.packb(tree))
    with pytest.raises(EdgewiseError, match=said):
        find.find(str(tmp_path), "train.init", Tracking(root=str(tmp_path / "runs")))


def test_t5x_leaves_that_are_not_finite_are_named(model, tmp_path):
    artifact, size, params, store = model
    params = jax.tree.map(np.array, params)
    params["decoder"]["layers"]["mlp"]["wo"]["kernel"][1, 2, 3] = np.inf
    params["encoder"]["encoder_norm"]["scale"][0] = np.nan
    for folder, said in (
        (tmp_path / "infinite", r"decoder.layers_1.mlp.wo.kernel: in decoder/layers_1/mlp/wo/kernel, 1 of 96 numbers"),
        (tmp_path / "nan", r"nan/checkpoint: in encoder/encoder_norm/scale, 1 of 8 numbers"),
    ):
        folder.mkdir()
        t5x.save(folder, size, params)
        with pytest.raises(EdgewiseError, match=said):
            load(find.find(str(folder), "train.init", Tracking(root=str(store.root))), size, None)
        params["decoder"]["layers"]["mlp"]["wo"]["kernel"][1, 2, 3] = 0


@pytest.mark.slow
def test_a_t5x_file_with_a_flipped_bit_is_read_or_refused_and_never_a_traceback(tmp_path):
    """1,000 flips of one bit where the tree is described: numbers themselves have no checksum in this format."""
    size = Size(name="tiny", **TINY)
    t5x.save(tmp_path, size, t5.init_params(size, jax.random.key(1)))
    file = tmp_path / "checkpoint"
    data = file.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.choice(8 * len(data), 1000, replace=False):
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        file.write_bytes(damaged)
        try:
            load(find.find(str(tmp_path), "train.init", Tracking(root=str(tmp_path / "runs"))), size, None)
        except EdgewiseError:
            refused += 1
    assert refused > 300
