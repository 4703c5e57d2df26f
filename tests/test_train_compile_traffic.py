"""The bytes that a program reads from and writes to HBM, counted in HLO texts."""

import pytest

from tests.hlo_loop import LOOP
from tests.support import REPO
from train.compile import hlo
from train.compile.flops import flops
from train.compile.traffic import hbm_bytes

LAYERS, ROWS, D, DEVICES = 3, 16, 256, 4  # those of tests/golden/make_hlo.py; rows of each device


def test_slices_count_and_what_lies_in_other_memories_does_not():
    index, row, stack = 4, 32, 96
    # a turn reads a row and writes it elsewhere; that is read and written into the stack; each takes an index
    turn = (row + index + row) + (row + index + row)
    assert hbm_bytes(hlo.parse(LOOP)) == 3 * turn + stack + stack  # copied into the chip; its sum, written back
    assert hbm_bytes(hlo.parse(LOOP), "body") == turn


@pytest.mark.parametrize("name", ["cpu", "v5e"])
def test_a_whole_program_moves_at_least_its_weights_and_less_than_all_its_arrays_each_turn(name):
    module = hlo.parse((REPO / f"tests/golden/scan_{name}.hlo").read_text())
    weights = LAYERS * D * D * 4
    assert weights < hbm_bytes(module) < 100 * weights


def test_a_kernel_has_the_operations_that_it_says():
    said = '{"custom_call_config":{"cost_estimate":{"flops":"1234","transcendentals":"5"}}}'
    call = f'custom-call(%x), custom_call_target="tpu_custom_call", backend_config={said}'
    entry = f"  %x = bf16[8,16]{{1,0}} parameter(0)\n  ROOT %k = bf16[8,16]{{1,0}} {call}\n"
    module = hlo.parse(f"HloModule m\n\nENTRY %main (x: bf16[8,16]) -> bf16[8,16] {{\n{entry}}}\n")
    assert flops(module) == 1234 and hbm_bytes(module) == 2 * 8 * 16 * 2
