"""The bytes that a program reads from and writes to HBM, counted in HLO texts."""

import pytest

from tests.hlo_loop import LOOP
from tests.support import REPO
from train.compile import hlo
from train.compile.flops import flops
from train.compile.traffic import hbm_bytes, in_hbm, launches

LAYERS, ROWS, D, DEVICES = 3, 16, 256, 4  # those of tests/golden/make_hlo.py; rows of each device


def test_slices_count_and_what_lies_in_other_memories_does_not():
    index, row, stack = 4, 32, 96
    # a turn reads a row and writes it elsewhere; that is read and written into the stack; each takes an index
    turn = (row + index + row) + (row + index + row)
    assert hbm_bytes(hlo.parse(LOOP)) == 3 * turn + stack + stack  # copied into the chip; its sum, written back
    assert hbm_bytes(hlo.parse(LOOP), "body") == turn


def test_slices_in_fusions_of_fusions_count_as_slices():
    inside = """
%rows (d: f32[3,8], k: s32[]) -> f32[1,8] {
  %d = f32[3,8]{1,0} parameter(0)
  %k = s32[] parameter(1)
  ROOT %row = f32[1,8]{1,0} dynamic-slice(%d, %k, %k), dynamic_slice_sizes={1,8}
}

%put (e: f32[3,8], f: f32[1,8], l: s32[]) -> f32[3,8] {
  %e = f32[3,8]{1,0} parameter(0)
  %f = f32[1,8]{1,0} parameter(1)
  %l = s32[] parameter(2)
  ROOT %place = f32[3,8]{1,0} dynamic-update-slice(%e, %f, %l, %l)
}
"""
    slicing, updating = "dynamic-slice(%a, %i, %i), dynamic_slice_sizes={1,8}", "dynamic-update-slice(%b, %c, %j, %j)"
    nested = LOOP.replace(slicing, "fusion(%a, %i), kind=kLoop, calls=%rows")
    nested = nested.replace(updating, "fusion(%b, %c, %j), kind=kLoop, calls=%put")
    nested = nested.replace("\n%condition", inside + "\n%condition")
    assert hbm_bytes(hlo.parse(nested)) == hbm_bytes(hlo.parse(LOOP))
    whole = nested.replace("dynamic-slice(%d, %k, %k), dynamic_slice_sizes={1,8}", "custom-call(%d, %k)")
    assert hbm_bytes(hlo.parse(whole), "body") - hbm_bytes(hlo.parse(LOOP), "body") == 96 - 32


def test_a_slice_that_is_copied_meanwhile_counts_alone():
    start = "((f32[3,8]{1,0}), f32[1,8]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%x), slice={[0:1], [0:8]}"
    copying = LOOP.replace("  %near =", f"  %row.start = {start}\n  %near =")
    assert hbm_bytes(hlo.parse(copying)) - hbm_bytes(hlo.parse(LOOP)) == 32
    out = hlo.parse(copying.replace("f32[1,8]{1,0:S(1)}", "f32[1,8]{1,0}"))
    assert hbm_bytes(out) - hbm_bytes(hlo.parse(LOOP)) == 64


def test_an_array_in_tiles_has_whole_tiles():
    assert in_hbm("bf16[3,12,64]{2,1,0:T(8,128)(2,1)}") == 3 * 16 * 128 * 2
    assert in_hbm("bf16[3,12,64]{2,0,1:T(8,128)(2,1)}") == 8 * 12 * 128 * 2  # the two innermost axes are 64 and 3
    assert in_hbm("(bf16[3,16,128]{2,1,0:T(8,128)(2,1)}, f32[5]{0:T(128)S(1)})") == 3 * 16 * 128 * 2
    assert in_hbm("bf16[3,12,64]{2,1,0}") == 3 * 12 * 64 * 2


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


def test_memory_that_is_set_aside_is_neither_moved_nor_launched():
    aside = '  %aside = f32[3,8]{1,0} custom-call(), custom_call_target="AllocateBuffer"\n'
    module = hlo.parse(LOOP.replace("  %zero =", aside + "  %zero ="))
    assert hbm_bytes(module) == hbm_bytes(hlo.parse(LOOP)) and launches(module) == launches(hlo.parse(LOOP))
