"""The table of what few texts teach from scratch: its figures are the artifacts' own."""

import json

import pytest

from bench.marked_page import write_between_marks
from bench.scratch import DATASETS, MARKS, PAGE, PAIRS, pairs_table, table
from conf.init.__main__ import SEQUENCE_SIZES, SIZES
from tracking.interface import ArtifactDraft, NotFound


def test_the_table_has_means_of_the_seeds_beside_the_run_to_beat(tracker, tmp_path):
    over = {"baseline": 80.0, "over_baseline": 1.0, "over_baseline_ci_low": -2.5, "over_baseline_ci_high": 4.5}
    for name in DATASETS:
        rows = [{"size": size, **over} for size in SIZES.split(",")]
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps({"beyond": {"baseline": {"rows": rows}}}))
        for size in SIZES.split(","):
            for seed, accuracy in enumerate((0.79, 0.83)):
                metadata = {"accuracy": accuracy, "parameters": 1234}
                with tracker.start_run(
                    f"train-{name}-{size}-s{seed}", job_type="train", config={}, tags=[name, size]
                ) as run:
                    run.log_artifact(ArtifactDraft(f"scores-{name}-{size}-s{seed}-test", "scores", metadata=metadata))
    written = table(tracker, tmp_path, 2).splitlines()
    assert len(written) == 2 + len(DATASETS) * len(SIZES.split(",")) + 2
    assert written[2].startswith(f"| trec | 80.0 | {SIZES.split(',')[0]} | 1,234 | 81.0 ± 2.8 | +1.0 [-2.5, +4.5] | ")
    assert "Of 2 seeds" in written[-1]
    with pytest.raises(NotFound):
        table(tracker, tmp_path, 3)


def test_sentence_pairs_have_their_bleu(tracker):
    for i, size in enumerate(SEQUENCE_SIZES.split(",")):
        with tracker.start_run(f"train-{size}", job_type="train", config={}, tags=[PAIRS, size]) as run:
            metadata = {"bleu": 30.25 + i, "parameters": 1234}
            run.log_artifact(ArtifactDraft(f"scores-{PAIRS}-{size}-s0-test", "scores", metadata=metadata))
    rows = pairs_table(tracker).splitlines()[2:]
    assert rows[0].startswith(f"| {PAIRS} | {SEQUENCE_SIZES.split(',')[0]} | 1,234 | 30.2 | ")
    assert len(rows) == 2


def test_the_page_has_its_marks(tmp_path):
    page = tmp_path / PAGE.name
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    write_between_marks(page, MARKS, "a table")
    assert "a table" in page.read_text(encoding="utf-8")
