"""One smoke test against a real W&B server: `just test-wandb`, which needs WANDB_API_KEY. It removes its runs again."""

import os
import uuid

import pytest

from tests.wandb_server import ENTITY
from tracking.interface import ArtifactDraft
from tracking.lineage import as_json, lineage
from tracking.wandb.project import WandbProject
from tracking.wandb.tracker import WandbTracker

pytestmark = pytest.mark.slow


@pytest.mark.skipif(
    not (os.environ.get("EDGEWISE_TEST_WANDB") and os.environ.get("WANDB_API_KEY")),
    reason="only by `just test-wandb`, with WANDB_API_KEY set",
)
def test_a_cell_is_delivered_found_elsewhere_and_resumed(tmp_path):
    exercise(WandbProject.chosen(name=os.environ.get("WANDB_PROJECT", "edgewise-smoke")), tmp_path)


def test_the_smoke_test_itself(wandb_server, tmp_path):
    exercise(WandbProject.chosen(ENTITY, "smoke"), tmp_path)
    assert wandb_server.project("smoke").runs == {}


def exercise(place, tmp_path):
    mark = uuid.uuid4().hex[:8]
    here, elsewhere = WandbTracker(tmp_path / "here", place), WandbTracker(tmp_path / "elsewhere", place)
    runs = [f"{job}-smoke-{mark}" for job in ("train", "infer")]
    file = tmp_path / "content"
    try:
        with here.start_run(runs[0], job_type="train", config={"seed": 0}, tags=["smoke"], group=f"g-{mark}") as run:
            for step in range(5):
                run.log({"loss": 1 / (step + 1)}, step)
            for content in ("old", "new", "old"):
                file.write_text(f"{content} {mark}")
                model = run.log_artifact(ArtifactDraft(f"model-smoke-{mark}", "model", files={"weights": file}))
            run.log_table("table", ["a"], [[1], [2]])
        with here.start_run(runs[1], job_type="infer", config={"seed": 0}, group=f"g-{mark}") as run:
            run.use_artifact(model)
            file.write_text(f"scores {mark}")
            run.log_artifact(ArtifactDraft(f"scores-smoke-{mark}", "scores", files={"scores.parquet": file}))
        pending = here.flush(120)
        assert not pending, pending

        assert elsewhere.run(runs[0]).state == "finished" and len(elsewhere.history(runs[0])) == 5
        found = elsewhere.artifact(f"model-smoke-{mark}:latest")  # logged again, so it is the latest once more
        assert found.digest == model.digest and found.file("weights").read_text() == f"old {mark}"
        assert [record.id for record in elsewhere.used_by(found)] == [runs[1]]
        edges = as_json(lineage(elsewhere.server, f"scores-smoke-{mark}"))["edges"]
        assert {(edge["kind"], edge["run"]) for edge in edges} == {
            ("logged", runs[1]), ("used", runs[1]), ("logged", runs[0])
        }  # fmt: skip

        with here.start_run(runs[0], job_type="train", config={"seed": 0}) as run:
            run.log({"loss": 0.1}, 5)
        assert not here.flush(120)
        assert [point["step"] for point in elsewhere.history(runs[0])] == list(range(6))
    finally:
        here.close()
        for run_id in runs:
            remote = elsewhere.server.fetch_run(run_id)
            if remote is not None:
                remote.delete(delete_artifacts=True)
