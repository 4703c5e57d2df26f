"""Where parameters lie after loading, and what it takes to get them there; each in a process of its own."""

import json
import math
import os
import struct
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from conf.schema import Size
from tests.support import REPO
from train import t5
from train.pretrained import hf, t5x
from train.pretrained.hf_config import hf_config
from train.pretrained.tensors import leaf_shape

MEMORY = """
import re, sys, jax
from conf.schema import Mesh, Tracking
from train.pretrained import load
from train.pretrained.find import find
from train.sharding import make_mesh

checkpoint = find(sys.argv[1], "train.init", Tracking(root=sys.argv[1] + "/runs"))
mesh = make_mesh(Mesh())
jax.block_until_ready(jax.numpy.ones(3) + 1)
def memory(key):  # not ru_maxrss: a process inherits its parent's
    return 1024 * int(re.search(key + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1])

before = memory("VmRSS")
params = load.load(checkpoint, checkpoint.size, mesh)
print(memory("VmHWM") - before, sum(leaf.nbytes for leaf in jax.tree.leaves(params)))
"""

SHARDED = """
import sys, jax, numpy as np
from conf.schema import Mesh, Tracking
from train.pretrained import load
from train.pretrained.find import find
from train.sharding import make_mesh, state_shardings

assert jax.device_count() == 8
mesh = make_mesh(Mesh(data=2, fsdp=2, tensor=2))
for folder in sys.argv[1:]:
    checkpoint = find(folder, "train.init", Tracking(root=folder + "/runs"))
    weights, size = checkpoint.open(), checkpoint.size
    read, most = weights.read, {}

    def watched(size, path, layer, index):
        part = read(size, path, layer, index)
        most[path] = max(most.get(path, 0), part.size)
        return part

    weights.read = watched
    params = load.place(weights, size, mesh)
    parts = dict(most)
    whole = load.load(checkpoint, size, None)
    shardings = state_shardings(mesh, whole)
    jax.tree.map(np.testing.assert_array_equal, params, whole)
    assert jax.tree.all(jax.tree.map(lambda leaf, sharding: leaf.sharding == sharding, params, shardings))
    query = params["encoder"]["layers"]["attention"]["query"]["kernel"]
    assert query.addressable_shards[0].data.shape == (2, 4, 6), query.addressable_shards[0].data.shape
    assert parts["encoder", "layers", "attention", "query", "kernel"] == 4 * 6
    assert parts["embedding",] == 12 * 4
print("ok")
"""


def python(code, *arguments, **environment):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, cwd=REPO, env={**os.environ, **environment}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def sparse_checkpoint(folder, size, dtype="F32"):
    """A checkpoint of zeros that takes no room on disk."""
    width = {"F32": 4, "BF16": 2}[dtype]
    header, end = {}, 0
    for tensor in hf.layout(size):
        shape = leaf_shape(size, tensor.path)[:: -1 if tensor.transposed else 1]
        start, end = end, end + width * math.prod(shape)
        header[tensor.name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    data = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(data)) + data)
        stream.truncate(8 + len(data) + end)
    (folder / "config.json").write_text(json.dumps(hf_config(size)))


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_loading_takes_less_than_1_3_times_the_parameters(tmp_path, dtype):
    size = Size(name="small", d_model=512, d_kv=64, d_ff=2048, layers=6, heads=8)
    sparse_checkpoint(tmp_path, size, dtype)
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux's /proc")
    growth, parameters = map(int, python(MEMORY, tmp_path, XLA_FLAGS="").split())
    assert parameters == 4 * 60_506_624
    assert 0.9 < growth / parameters < 1.3


def test_every_device_gets_its_part_and_no_more_is_read(tmp_path):
    versions: list[dict] = [{}, {"activation": "gated_gelu", "tied_head": False, "decoder_layers": 4}]
    folders = []
    for i, version in enumerate(versions):
        size = Size(name="x", d_model=8, d_kv=4, d_ff=12, layers=2, heads=3, vocabulary_size=24, **version)
        params = t5.init_params(size, jax.random.key(0))
        for module in (hf, t5x):
            folders.append(tmp_path / f"{module.__name__}-{i}")
            folders[-1].mkdir()
            module.save(folders[-1], size, params)
    assert python(SHARDED, *folders, XLA_FLAGS="--xla_force_host_platform_device_count=8") == "ok\n"
