"""The rows of docs/scale.md, of reports by hand."""

from pathlib import Path

import pytest

from bench import scale_page
from bench.scale_page import attention_row, first_that_fits, slice_row


def report(**changes):
    step = {
        "fits": True,
        "temporaries": 2**31,
        "memory": 2**32,
        "hbm": 2**34,
        "flops": 4e12,
        "accessed": 3 * 2**30,
        "error": None,
    }
    return {"steps": [step | changes]}


def test_a_row_of_attention_says_before_and_after():
    row = attention_row(
        "v5e-16", "3b", ("mesh=fsdp", "train.remat=dots"), {"plain": report(), "kernel": report(temporaries=2**30)}
    )
    assert row[:3] == ["v5e-16", "3b", "`mesh=fsdp train.remat=dots`"]
    assert row[3:] == ["2.00 GiB → 1.00 GiB", "25% → 25%", "4.0 → 4.0", "3.00 GiB → 3.00 GiB"]


def test_a_step_that_does_not_fit_says_what_it_wanted():
    nothing = dict.fromkeys(("temporaries", "memory", "flops", "accessed"))
    told = "Ran out of memory on HBM, the total memory required for HLO temporaries (18.20G) exceeds available HBM"
    too_large = report(fits=False, error=told, **nothing)
    row = attention_row("v5e-16", "3b", ("mesh=fsdp",), {"plain": too_large, "kernel": report()})
    assert row[3:] == ["18.20 GiB → 2.00 GiB", "does not fit → 25%", "– → 4.0", "– → 3.00 GiB"]
    row = attention_row(
        "v5e-16", "3b", (), {"plain": report(fits=False, error="Too large.", **nothing), "kernel": report()}
    )
    assert row[3] == "– → 2.00 GiB"


@pytest.mark.parametrize(
    ("fitting", "row"),
    [
        ("fsdp train.remat=none", ["`mesh=fsdp train.remat=none`", "1.00 GiB + 2.00 GiB", "25%", "4.0", "50%"]),
        ("no recipe", ["`mesh=fsdp train.remat=full`", "does not fit", "", "", ""]),
    ],
)
def test_the_first_recipe_by_which_both_steps_fit_is_the_row_s(monkeypatch, fitting, row):
    def compiled(kept, again, *overrides):
        fits = fitting in " ".join(overrides) or overrides[-1] == "compile.step=train" and "auto" in overrides[2]
        known = {"arguments": 2**30, "model_flops": 2e12, "collectives": [{"sent": 2**30}], "seconds": 61.0}
        return report(fits=fits, **known) | {"size": "3b"}

    monkeypatch.setattr(scale_page, "compiled", compiled)
    found = slice_row("v5e-16", *first_that_fits(Path(), False, "v5e:4x4", "3b"))
    assert found[:7] == ["v5e-16", "3b", *row]
