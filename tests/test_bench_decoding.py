"""The bytes that decoding has to read, by hand, and the batch of a measured train step."""

import numpy as np
import pytest

from bench.decoding import Shape, bound_seconds, step_bytes
from bench.decoding_compiled import decoding_loop, heaviest
from bench.train_step import packed_batch
from conf.schema import Size
from tests.hlo_loop import LOOP
from train.compile import hlo

SIZE = Size(name="tiny", d_model=8, d_kv=2, d_ff=16, layers=5, decoder_layers=3, heads=2, vocabulary_size=10)


def test_a_step_reads_the_decoder_s_weights_the_head_and_the_keys_and_values():
    weights = 4 * 8 * 4 + 2 * 8 * 4 + 2 * 8 * 16 + 3 * 8  # self-attention, cross-attention's two, feed-forward, norms
    head = 4 * 8 * 10
    first = step_bytes(SIZE, Shape(rows=1, source=0, beams=1, written=9), position=0, width=2)
    assert first == 3 * 2 * (weights + 2 * 4) + head  # and its own key and value
    shape = Shape(rows=6, source=7, beams=3, written=9)
    assert step_bytes(SIZE, shape, 4, 2) - step_bytes(SIZE, shape, 3, 2) == 3 * 2 * (2 * 6 * 3 * 4)
    inputs_read = step_bytes(SIZE, shape, 0, 4) - step_bytes(SIZE, Shape(6, 0, 3, 9), 0, 4)
    assert inputs_read == 3 * 4 * (2 * 6 * 7 * 4)  # once a row, not once a beam
    gated = Size(**(vars(SIZE) | {"activation": "gated_gelu"}))
    assert step_bytes(gated, shape, 0, 1) - step_bytes(SIZE, shape, 0, 1) == 3 * 8 * 16


def test_the_bound_adds_up_the_steps():
    shape = Shape(2, 3, 1, 4)
    total = sum(step_bytes(SIZE, shape, position, 2) for position in range(4))
    assert bound_seconds(SIZE, shape, 4, 2, 1e9) == pytest.approx(total / 1e9)


def test_a_measured_step_s_rows_hold_as_many_segments_each():
    batch = packed_batch(3, 10, 4, segments=4, vocabulary=40)
    np.testing.assert_array_equal(batch["input_segments"][2], [1, 1, 1, 2, 2, 3, 3, 3, 4, 4])
    np.testing.assert_array_equal(batch["target_segments"][0], [1, 2, 3, 4])
    assert batch["inputs"].shape == (3, 10) and batch["inputs"].min() >= 2
    with pytest.raises(ValueError, match="4 segments in 10 and 3 positions"):
        packed_batch(3, 10, 3, segments=4, vocabulary=40)


def test_what_moves_most_in_a_turn_of_the_loop_is_named():
    named = LOOP.replace("calls=%sliced", 'calls=%sliced, metadata={op_name="jit(decode)/while/body/dynamic_slice"}')
    module = hlo.parse(named)
    assert decoding_loop(module) == "body"
    row, index = 32, 4
    assert heaviest(module, "body", 9) == [
        ("fusion body/dynamic_slice", row + index + row),
        ("fusion written", row + index + row),
    ]
    assert len(heaviest(module, "body", 1)) == 1


def test_a_program_without_a_loop_is_refused():
    straight = "HloModule m\n\nENTRY %main (x: f32[2]) -> f32[2] {\n  ROOT %x = f32[2]{0} parameter(0)\n}\n"
    with pytest.raises(ValueError, match="no loop: expected decoding"):
        decoding_loop(hlo.parse(straight))
