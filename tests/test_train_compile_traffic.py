"""The bytes that a program reads from and writes to HBM, counted in HLO texts."""

import pytest

from tests.support import REPO
from train.compile import hlo
from train.compile.flops import flops
from train.compile.traffic import hbm_bytes

LAYERS, ROWS, D, DEVICES = 3, 16, 256, 4  # those of tests/golden/make_hlo.py; rows of each device

LOOP = """HloModule m

%body (state: (s32[], f32[3,8])) -> (s32[], f32[3,8]) {
  %state = (s32[], f32[3,8]{1,0}) parameter(0)
  %turn = s32[] get-tuple-element(%state), index=0
  %stack = f32[3,8]{1,0} get-tuple-element(%state), index=1
  %new = f32[1,8]{1,0} fusion(%stack, %turn), kind=kLoop, calls=%sliced
  %written = f32[3,8]{1,0} fusion(%stack, %new, %turn), kind=kLoop, calls=%updated
  ROOT %next = (s32[], f32[3,8]{1,0}) tuple(%turn, %written)
}

%sliced (a: f32[3,8], i: s32[]) -> f32[1,8] {
  %a = f32[3,8]{1,0} parameter(0)
  %i = s32[] parameter(1)
  ROOT %slice = f32[1,8]{1,0} dynamic-slice(%a, %i, %i), dynamic_slice_sizes={1,8}
}

%updated (b: f32[3,8], c: f32[1,8], j: s32[]) -> f32[3,8] {
  %b = f32[3,8]{1,0} parameter(0)
  %c = f32[1,8]{1,0} parameter(1)
  %j = s32[] parameter(2)
  ROOT %update = f32[3,8]{1,0} dynamic-update-slice(%b, %c, %j, %j)
}

%condition (other: (s32[], f32[3,8])) -> pred[] {
  %other = (s32[], f32[3,8]{1,0}) parameter(0)
  ROOT %always = pred[] constant(true)
}

ENTRY %main (x: f32[3,8]) -> f32[3,8] {
  %x = f32[3,8]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], f32[3,8]{1,0}) tuple(%zero, %x)
  %loop = (s32[], f32[3,8]{1,0}) while(%start), condition=%condition, body=%body, TURNS
  %near = (f32[3,8]{1,0:S(1)}, f32[3,8]{1,0}, u32[]{:S(2)}) copy-start(%x)
  %there = f32[3,8]{1,0:S(1)} copy-done(%near)
  ROOT %out = f32[3,8]{1,0} add(%there, %there)
}
""".replace("TURNS", 'backend_config={"known_trip_count":{"n":"3"}}')


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
