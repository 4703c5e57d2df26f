"""The demo in full: what its data promises is what its tables show."""

import json
import subprocess
import sys

import pytest

from tests.support import REPO


@pytest.mark.slow
def test_the_demo_shows_what_its_data_promises(tmp_path):
    given = [f"tracking.root={tmp_path / 'runs'}", f"metrics.out={tmp_path / 'out'}"]
    subprocess.run([sys.executable, "-m", "sweeps", "sweep=demo", *given], cwd=REPO, check=True)
    result = json.loads((tmp_path / "out/summary.json").read_text())["datasets"]["demo"]
    [pair] = result["pairs"]
    assert pair["gap"]["value"] > 0.03  # several points
    assert pair["gap"]["ci_low"] > 0
    assert pair["scores"]["margin"]["area"]["ci_low"] > 0  # the most uncertain examples beat random ones
    kinds = {row["value"]: row for row in result["slices"] if row["column"] == "slice_kind"}
    accuracy = {kind: {size: value["value"] for size, value in row["accuracy"].items()} for kind, row in kinds.items()}
    assert accuracy["composition"]["nano"] < 0.7
    assert accuracy["composition"]["micro"] > accuracy["composition"]["nano"] + 0.15
    assert min(accuracy["easy"].values()) > 0.95
    assert max(accuracy["noise"].values()) < 0.2  # nobody can know a flipped label
    assert (kinds["composition"]["gains"][0]["ci_low"]) > 0
