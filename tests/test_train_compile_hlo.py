"""The counts read from HLO texts, beside those that follow from the program of tests/golden/make_hlo.py."""

import pytest

from tests.support import REPO
from train.compile import hlo
from train.compile.collectives import collectives
from train.compile.flops import flops
from train.compile.traffic import launches

LAYERS, DEVICES, ROWS, D = 3, 4, 16, 256  # rows of each device


@pytest.fixture(params=["cpu", "v5e"])
def module(request):
    return hlo.parse((REPO / f"tests/golden/scan_{request.param}.hlo").read_text())


def test_a_loop_s_body_counts_as_often_as_it_turns(module):
    loops = [i for _, i, _ in module.running() if i.opcode == "while"]
    assert len(loops) == 2 and module.open_loops == []
    assert max(module.runs.values()) >= LAYERS and module.runs[module.entry] == 1


def test_flops_are_those_of_the_three_products_of_each_layer(module):
    forward = 2 * ROWS * D * D
    assert flops(module) == 3 * LAYERS * forward  # the result, the gradients of x and of w


def test_collectives_of_the_cpu_and_of_the_tpu():
    found = {}
    for name in ("cpu", "v5e"):
        module = hlo.parse((REPO / f"tests/golden/scan_{name}.hlo").read_text())
        found[name] = {c.kind: c for c in collectives(module)}
    # The weights are gathered on the way there and on the way back, and their gradient is summed; the CPU computes in
    # float32 and keeps a part of the sum, the TPU adds up that part alone, in bfloat16.
    assert set(found["cpu"]) == {"all-gather", "all-reduce"}
    assert set(found["v5e"]) == {"all-gather", "reduce-scatter"}
    for name, width in (("cpu", 4), ("v5e", 2)):
        gather = found[name]["all-gather"]
        assert (gather.count, gather.bytes) == (2 * LAYERS, 2 * LAYERS * D * D * width)
        assert gather.sent == gather.bytes * 3 / 4
    assert found["cpu"]["all-reduce"].sent == LAYERS * D * D * 4 * 2 * 3 / 4
    assert found["v5e"]["reduce-scatter"].sent == LAYERS * D * D * 2 * 3 / 4


def test_what_the_device_is_given_counts_once_a_run_and_not_inside_a_fusion():
    module = hlo.parse("""HloModule m

%fused (a: f32[4]) -> f32[4] {
  %a = f32[4] parameter(0)
  %b = f32[4] add(%a, %a)
  ROOT %c = f32[4] multiply(%b, %b)
}

%body (t: (s32[], f32[4])) -> (s32[], f32[4]) {
  %t = (s32[], f32[4]) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %x = f32[4] get-tuple-element(%t), index=1
  %y = f32[4] fusion(%x), kind=kLoop, calls=%fused
  %z = f32[4] copy(%y)
  ROOT %r = (s32[], f32[4]) tuple(%i, %z)
}

%condition (t: (s32[], f32[4])) -> pred[] {
  ROOT %u = pred[] constant(true)
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %p = f32[4] parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], f32[4]) tuple(%zero, %p)
  %loop = (s32[], f32[4]) while(%start), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %out = f32[4] get-tuple-element(%loop), index=1
  ROOT %last = f32[4] fusion(%out), kind=kLoop, calls=%fused
}
""")
    assert launches(module) == 5 * 2 + 1


HEAD = "HloModule m\n\n%sum (a: f32[], b: f32[]) -> f32[] {\n  %a = f32[] parameter(0)\n}\n\n"


def one(line, attributes="", shapes=()):
    """A module whose entry is one instruction on parameters of these shapes."""
    parameters = "".join(f"  %p{i} = {shape} parameter({i})\n" for i, shape in enumerate(shapes))
    names = ", ".join(f"%p{i}" for i in range(len(shapes)))
    return hlo.parse(HEAD + f"ENTRY %main () -> f32[] {{\n{parameters}  ROOT %x = {line}({names}){attributes}\n}}\n")


@pytest.mark.parametrize(
    ("line", "attributes", "kind", "size", "sent"),
    [
        ("f32[10]{0} all-reduce", ", replica_groups={{0,1,2,3,4}}, to_apply=%sum", "all-reduce", 40, 64),
        ("(f32[10]{0}, bf16[2,4]{1,0}) all-reduce", ", replica_groups=[2,4]<=[8]", "all-reduce", 56, 84),
        ("bf16[8,4]{1,0} all-gather", ", replica_groups=[1,4]<=[4], dimensions={0}", "all-gather", 64, 48),
        ("(f32[2]{0}, f32[8]{0:T(8,128)}) all-gather-start", ", replica_groups=[1,4]<=[4]", "all-gather", 32, 24),
        ("f32[2]{0} reduce-scatter", ", replica_groups=[2,4]<=[2,4]T(1,0)", "reduce-scatter", 32, 24),
        (
            "s8[16]{0} all-to-all",
            ", replica_groups=mesh['axis_0'=2,'axis_1'=4], device_ids=([2,4]T(1,0)) {'axis_1'}",
            "all-to-all",
            16,
            12,
        ),
        ("f32[4]{0} collective-permute", ", source_target_pairs={{0,1},{1,0}}", "collective-permute", 16, 16),
        (
            "(f32[4]{0}, f32[4]{0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start",
            ", source_target_pairs={{0,1}}",
            "collective-permute",
            16,
            16,
        ),
    ],
)
def test_bytes_of_each_kind(line, attributes, kind, size, sent):
    [found] = collectives(one(line, attributes, ["f32[10]{0}"]))
    assert (found.kind, found.count, found.bytes, found.sent) == (kind, 1, size, sent)


def test_a_collective_s_end_is_not_another_one():
    assert collectives(one("f32[8]{0} all-gather-done", "", ["f32[8]{0}"])) == []


def test_a_product_with_batch_dimensions():
    attributes = ", lhs_batch_dims={0}, lhs_contracting_dims={2}, rhs_batch_dims={0}, rhs_contracting_dims={1}"
    module = one("f32[5,2,7]{2,1,0} dot", attributes, ["f32[5,2,3]{2,1,0}", "f32[5,3,7]{2,1,0}"])
    assert flops(module) == 2 * 5 * 2 * 3 * 7


def test_a_convolution_counts_no_padding():
    # a window of 3 over 4 places, padded by one on each side: 2 + 3 + 3 + 2 places meet an input
    attributes = ", window={size=3 pad=1_1}, dim_labels=b0f_0io->b0f"
    module = one("f32[2,4,7]{2,1,0} convolution", attributes, ["f32[2,4,5]{2,1,0}", "f32[3,5,7]{2,1,0}"])
    assert flops(module) == 2 * 2 * 5 * 7 * 10


def test_a_batched_product_written_as_a_convolution():
    # the way of the TPU's compiler: the batch dimension is spatial, and the window meets it once at each place
    attributes = ", window={size=6 pad=5_5 rhs_reversal=1}, dim_labels=b0f_0io->b0f"
    module = one("f32[2,6,7]{2,1,0} convolution", attributes, ["f32[2,1,5]{2,1,0}", "f32[6,5,7]{2,1,0}"])
    assert flops(module) == 2 * 2 * 5 * 7 * 6


def test_a_loop_that_doesn_t_say_how_often_it_turns_is_named():
    text = HEAD + (
        "%body (s: (s32[])) -> (s32[]) {\n  ROOT %s = (s32[]) parameter(0)\n}\n\n"
        "%until (t: (s32[])) -> pred[] {\n  %t = (s32[]) parameter(0)\n  ROOT %c = pred[] custom-call(%t)\n}\n\n"
        "ENTRY %main () -> (s32[]) {\n  %p = (s32[]) parameter(0)\n"
        "  ROOT %w = (s32[]) while(%p), condition=%until, body=%body\n}\n"
    )
    module = hlo.parse(text)
    assert module.open_loops == ["w"] and module.runs["body"] == 1


def test_a_text_that_is_no_module_is_refused():
    with pytest.raises(ValueError, match="ENTRY"):
        hlo.parse("nothing")
