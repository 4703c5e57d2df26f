"""Packed batches: exactly their examples, nothing twice, few shapes, little padding; the padded batch's gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.schema import Optimizer, Size
from train import t5
from train.data.lengths import covering
from train.data.packing import Packer, first_fit
from train.data.tokens import Encoded
from train.step import StepConfig, loss_fn


def texts(lengths: np.ndarray, seed: int = 0, vocabulary: int = 90) -> Encoded:
    """Random ids, each text ending in EOS (1)."""
    offsets = np.cumsum([0, *lengths])
    flat = np.random.default_rng(seed).integers(2, vocabulary, offsets[-1]).astype(np.int32)
    flat[offsets[1:] - 1] = 1
    return Encoded(flat, offsets, 0)


def unpacked(ids: np.ndarray, segments: np.ndarray) -> list[list[int]]:
    """The texts of a batch, row by row and segment by segment."""
    return [
        row[own == segment].tolist()
        for row, own in zip(ids, segments, strict=True)
        for segment in range(1, own.max(initial=0) + 1)
    ]


sizes = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 12)), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(1, 3))
def test_a_batch_is_exactly_its_examples(pairs: list[tuple[int, int]], multiple: int) -> None:
    inputs, targets = texts(np.array([s for s, _ in pairs])), texts(np.array([t for _, t in pairs]), seed=1)
    batch = Packer(inputs, targets, len(pairs), row_multiple=multiple)(np.arange(len(pairs)))
    assert batch.inputs.shape[0] % multiple == 0 and batch.inputs.shape[0] == batch.targets.shape[0]
    assert {a.dtype for a in vars(batch).values()} == {np.dtype(np.int32)}
    found = zip(
        unpacked(batch.inputs, batch.input_segments), unpacked(batch.targets, batch.target_segments), strict=True
    )
    expected = [(inputs[i].tolist(), targets[i].tolist()) for i in range(len(pairs))]
    assert sorted(found) == sorted(expected)  # an input and its target are the same segment of the same row
    for ids, segments in ((batch.inputs, batch.input_segments), (batch.targets, batch.target_segments)):
        assert ((ids == 0) == (segments == 0)).all()
        for row in segments:  # each segment in one piece: its relative positions are what they are alone
            changes = np.flatnonzero(np.diff(row)) + 1
            pieces = [piece[0] for piece in np.split(row, changes)]
            assert len(pieces) == len(set(pieces))


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(60, 100), st.integers(12, 30))
def test_rows_never_overflow(pairs: list[tuple[int, int]], inputs: int, targets: int) -> None:
    needed = np.array(pairs)
    places = first_fit(needed, inputs, targets)
    for row in range(places[:, 0].max() + 1):
        inside = places[:, 0] == row
        assert (needed[inside].sum(axis=0) <= [inputs, targets]).all() and inside.any()
        assert sorted(places[inside, 3]) == list(range(1, inside.sum() + 1))
    lower = -(-needed.sum(axis=0) // np.array([inputs, targets]))
    assert places[:, 0].max() + 1 >= lower.max()


def test_the_shapes_are_few_and_hold_little_padding() -> None:
    rng = np.random.default_rng(3)
    inputs = texts(np.clip(rng.lognormal(4.2, 0.9, 4000), 8, 512).astype(int))  # like comments on a talk page
    targets = texts(rng.integers(2, 4, 4000))
    packer = Packer(inputs, targets, 128)
    batches = [packer(rng.integers(0, 4000, 128)) for _ in range(60)]
    shapes = [batch.inputs.shape + batch.targets.shape for batch in batches]
    assert len(set(shapes)) <= 6 and packer.input_length == 512
    assert np.mean([batch.padding for batch in batches]) < 0.1


def test_rare_long_targets_don_t_widen_every_batch() -> None:
    rng = np.random.default_rng(3)
    lengths = rng.integers(2, 8, 20_000)
    lengths[:50] = 97
    packer = Packer(texts(rng.integers(100, 300, 20_000)), texts(lengths), 32)
    narrow, wide = packer.target_lengths
    assert narrow < 40 and wide >= 97
    assert packer(np.arange(100, 132)).targets.shape[1] == narrow
    assert packer(np.arange(40, 72)).targets.shape[1] == wide


@pytest.mark.parametrize("gated", [False, True])
def test_loss_and_gradient_are_the_padded_batch_s(gated: bool) -> None:
    size = Size(
        name="tiny", d_model=16, d_kv=8, d_ff=32, layers=2, heads=2, vocabulary_size=96, dropout=0.0,
        activation="gated_gelu" if gated else "relu", tied_head=not gated,
    )  # fmt: skip
    c = StepConfig(size, Optimizer(), 1, 1e-4, "none", "float32")
    params = t5.init_params(size, jax.random.key(0))
    rng = np.random.default_rng(1)
    inputs, targets = texts(rng.integers(1, 30, 12)), texts(rng.integers(1, 9, 12), seed=1)
    every = np.arange(12)
    packed = {name: jnp.asarray(a) for name, a in vars(Packer(inputs, targets, 12)(every)).items()}
    padded = {"inputs": jnp.asarray(inputs.padded(every, 32)), "targets": jnp.asarray(targets.padded(every, 10))}
    assert packed["inputs"].shape[0] < 12
    value = jax.jit(jax.value_and_grad(lambda p, b: loss_fn(p, b, None, c), has_aux=True))
    (one, sums), gradient = value(params, packed)
    (other, other_sums), other_gradient = value(params, padded)
    assert float(one) == pytest.approx(float(other), rel=1e-5)
    assert float(sums["tokens"]) == float(other_sums["tokens"]) and float(sums["hits"]) == float(other_sums["hits"])
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(other_gradient), strict=True):
        # float32 sums in another order: relative to the leaf's largest entry
        np.testing.assert_allclose(a, b, atol=2e-5 * float(jnp.abs(b).max()) + 1e-7)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 5))
def test_covering_lengths(longest: list[int], most: int) -> None:
    chosen = covering(np.array(longest), most)
    assert len(chosen) <= most and chosen.max() == max(longest) and set(chosen.tolist()) <= set(longest)
