"""Which way attention is computed: by platform, shapes, dtype, JAX's version and what was asked for."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from conf.errors import EdgewiseError
from conf.schema import Mesh
from tests.support import has_cuda
from train.attention import Taken, asking, attention, recording
from train.attention.choice import (
    AS_MATRIX,
    BY_DISTANCE,
    CUDNN,
    KERNEL,
    NO_BIAS,
    PLAIN,
    ROW_BY_ROW,
    Call,
    Choice,
    choose,
)
from train.identity import identity_hash, settings, training_identity
from train.sharding import make_mesh, on_mesh

CALL = Call("cpu", 1, 1, 1, 16, 512, 512, 12, 64, "bfloat16", BY_DISTANCE)
TESTED = (0, 10, 2)


def call(**changes):
    return dataclasses.replace(CALL, **changes)


@pytest.mark.parametrize("kind", ["TPU v4", "TPU v5 lite", "TPU v5", "TPU v6 lite"])
def test_a_tpu_takes_the_kernel(kind):
    assert choose("auto", call(device_kind=kind, devices=16, row_parts=16), TESTED) == Choice(KERNEL)


def test_what_the_kernel_was_not_tested_with_it_is_not_taken_with():
    for changes, version in (
        ({"device_kind": "TPU v9"}, TESTED),
        ({}, (0, 99, 0)),
        ({"queries": 64, "keys": 64}, TESTED),
        ({"bias": AS_MATRIX}, TESTED),
        ({"rows": 17, "row_parts": 16}, TESTED),
        ({"queries": 1024, "keys": 1024}, TESTED),
    ):
        choice = choose("auto", call(**({"device_kind": "TPU v5 lite", "devices": 16} | changes)), version)
        assert choice.way == PLAIN and choice.reason, changes


def test_by_hand_the_kernel_is_taken_wherever_it_runs():
    assert choose("kernel", call(device_kind="TPU v9", queries=8, keys=8), (0, 99, 0)) == Choice(KERNEL)
    assert choose("kernel", call(), TESTED) == Choice(KERNEL)  # interpreted
    assert choose("kernel", call(bias=AS_MATRIX, queries=8, keys=8), TESTED).way == PLAIN


@pytest.mark.parametrize("kind", ["NVIDIA H200", "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"])
def test_a_gpu_takes_the_kernel_by_hand_alone(kind, monkeypatch):
    from train.attention import cudnn

    monkeypatch.setattr(cudnn, "library_obstacle", lambda *shapes: "" if shapes[-1] == jnp.bfloat16 else "cuDNN: no")
    for bias in (BY_DISTANCE, NO_BIAS):
        gpu = call(device_kind=kind, devices=4, row_parts=2, head_parts=2, bias=bias)
        assert choose("kernel", gpu, TESTED) == Choice(KERNEL)
        assert choose("auto", gpu, TESTED) == Choice(CUDNN)


def test_where_the_kernel_for_gpus_cannot_be_cudnn_is_or_else_plain(monkeypatch):
    from train.attention import cudnn

    monkeypatch.setattr(cudnn, "library_obstacle", lambda *shapes: "" if shapes[-1] == jnp.bfloat16 else "cuDNN: no")
    for changes, version, way, reason in (
        ({}, (0, 12, 0), CUDNN, "JAX 0.12"),
        ({"device_kind": "NVIDIA L4"}, TESTED, CUDNN, "NVIDIA L4"),
        ({"width": 48}, TESTED, CUDNN, "48"),
        ({"bias": AS_MATRIX}, TESTED, CUDNN, "distance"),
        ({"rows": 2**14}, TESTED, CUDNN, "2³¹"),
        ({"rows": 2**16, "queries": 128, "keys": 128, "heads": 1}, TESTED, CUDNN, "65,536 rows"),
        ({"queries": 100}, TESTED, CUDNN, "128"),
        ({"queries": 8, "keys": 8}, TESTED, PLAIN, "128"),
        ({"queries": 8, "keys": 8, "bias": AS_MATRIX}, TESTED, PLAIN, "128"),  # as the network asks, told to make one
        ({"dtype": "float32"}, TESTED, PLAIN, "float32"),
        ({"rows": 17, "row_parts": 2}, TESTED, PLAIN, "17"),
    ):
        choice = choose("kernel", call(**({"device_kind": "NVIDIA H200", "devices": 4} | changes)), version)
        assert choice.way == way and reason in choice.reason, (changes, choice)


def test_a_gpu_takes_cudnn_where_jax_does(monkeypatch):
    from train.attention import cudnn

    asked = []

    def library_obstacle(*shapes):
        asked.append(shapes)
        return "" if shapes[-1] == jnp.bfloat16 else "cuDNN: Q must be fp16"

    monkeypatch.setattr(cudnn, "library_obstacle", library_obstacle)
    gpu = {"device_kind": "NVIDIA H200", "devices": 4, "row_parts": 2, "head_parts": 2}
    assert choose("auto", call(**gpu)) == Choice(CUDNN)
    assert asked == [(8, 512, 512, 6, 64, jnp.bfloat16)]  # of one device
    assert choose("auto", call(**gpu, dtype="float32")) == Choice(PLAIN, "cuDNN: Q must be fp16")
    assert choose("auto", call(**gpu | {"queries": 8})).reason == "fewer than 64 queries or keys"
    assert choose("cudnn", call(**gpu | {"queries": 8})) == Choice(CUDNN)


def test_where_cudnn_is_not_it_is_said():
    assert choose("cudnn", call()) == Choice(ROW_BY_ROW, "cuDNN needs an NVIDIA GPU")
    if not has_cuda():
        assert choose("auto", call(device_kind="NVIDIA H200")).reason.startswith("cuDNN: ")


def test_a_cpus_ways_are_what_they_were():
    assert choose("auto", call()) == Choice(ROW_BY_ROW)
    assert choose("auto", call(queries=16, keys=16)) == Choice(PLAIN)
    assert choose("auto", call(devices=4)) == Choice(PLAIN)
    assert choose("plain", call()) == Choice(PLAIN)


def test_what_was_taken_is_said_with_its_shapes():
    q, k = jnp.zeros((1, 4, 2, 8)), jnp.zeros((1, 6, 2, 8))
    mesh = make_mesh(Mesh(), jax.devices()[:1])
    inner, outer = Taken(), Taken()

    def attend_twice(q, k):
        return attention(q, q, q), attention(q, k, k)

    with recording(outer):
        jax.jit(on_mesh(asking(attend_twice, "cudnn", inner), mesh))(q, k)
    assert str(inner) == str(outer) == "plain for 4 × 4, 4 × 6 (cuDNN needs an NVIDIA GPU)"
    attention(q, q, q)
    assert len(inner.by_shape) == len(outer.by_shape) == 2 and str(Taken()) == ""
    assert str(inner.with_keys({6, 9})) == "plain for 4 × 6 (cuDNN needs an NVIDIA GPU)"


def test_the_cells_identity_does_not_depend_on_it(compose):
    auto, plain = (compose(f"train.attention={way}") for way in ("auto", "plain"))
    assert identity_hash(training_identity(auto)) == identity_hash(training_identity(plain))
    assert settings(plain)["train"]["attention"] == "plain"
    with pytest.raises(EdgewiseError, match="train.attention=flash"):
        compose("train.attention=flash")
