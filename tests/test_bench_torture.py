"""Small fault campaigns: each kind of damage is read as what was written, or refused, and never a traceback."""

import json

import pytest

from bench.torture import damage, jobs
from bench.torture.campaigns import CAMPAIGNS
from bench.torture.outcome import Outcome, attempts
from bench.torture.page import Line, write_figures
from conf.errors import EdgewiseError
from metrics.convert.__main__ import main
from tests.support import REPO

COUNTS = {"safetensors": 50, "scores": 300, "t5x": 50, "checkpoint": 50, "tables": 300, "settings": 300, "versions": 80}


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_a_small_campaign_breaks_no_promise(name, tmp_path):
    outcome = CAMPAIGNS[name].run(COUNTS[name], tmp_path, 1)
    assert outcome.faults == [] and outcome.tried == COUNTS[name]
    assert name == "versions" or len(outcome.counts) > 1  # some were refused, some not


@pytest.mark.slow
def test_killed_commands_and_a_full_disk(tmp_path):
    for name in ("kills", "applies", "disks"):
        (tmp_path / name).mkdir()
        outcome = CAMPAIGNS[name].run(1, tmp_path / name, 0)
        assert outcome.faults == [] and outcome.tried == 1


def test_bits_of_scores_files(tmp_path):
    outcome = damage.scores_bits(40, tmp_path)
    assert outcome.faults == [] and outcome.counts["refused"] > 20


def test_a_broken_promise_is_seen(tmp_path, monkeypatch):
    def attempt(rng):
        match rng.integers(3):
            case 0:
                raise EdgewiseError("as it should be")
            case 1:
                raise KeyError("a traceback")
        return "read"

    outcome = attempts(60, attempt, 0)
    assert outcome.tried == 60 == sum(outcome.counts.values()) + len(outcome.faults)
    assert (
        set(outcome.counts) == {"refused", "read"}
        and "KeyError: 'a traceback' (test_bench_torture.py:" in outcome.faults[0]
    )
    # a reader that believes the pages finds other scores
    import metrics.parquet_file

    opened = metrics.parquet_file.pq.ParquetFile
    monkeypatch.setattr(metrics.parquet_file.pq, "ParquetFile", lambda path, **options: opened(path))
    assert any("other scores" in fault for fault in damage.scores_bits(60, tmp_path).faults)


def test_processes_that_write_versions_at_once(tmp_path):
    outcome = jobs.versions(12, tmp_path)
    assert outcome == Outcome(12, {"kept as returned": 12}, [])


def test_the_figures_go_between_the_page_s_markers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- torture -->\nold\n<!-- end -->\nafter\n")
    write_figures(page, [Line("Flips", Outcome(1200, {"refused": 1100, "the same": 99}, ["one"]), 61.0)], 120.0)
    text = page.read_text()
    assert "| Flips | 1,200 | 1,100 refused, 99 the same | 1 | 61 |" in text and "old" not in text
    assert text.startswith("before\n<!-- torture -->\n") and text.endswith("\n<!-- end -->\nafter\n")
    page.write_text("no markers")
    with pytest.raises(ValueError, match="lacks the markers"):
        write_figures(page, [], 0.0)


ROWS = "id,label,a,b\n" + "".join(f"e{k},{k % 2},0.25,0.75\n" for k in range(8))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"file": "x" * 5000}, "can't be read: File name too long"),
        ({"out": "x" * 5000 + ".parquet"}, "can't be written: File name too long"),
        ({"class": None}, "give either --class NAME=COLUMN for each class"),
        ({"class": 3}, "class=3: expected a mapping"),
        ({"slice": 3}, "slice=3: expected a column or a list"),
        ({None: 3}, "None: no such setting"),
    ],
)
def test_what_mutated_settings_brought_to_light_is_an_error(change, said, tmp_path, capsys):
    (tmp_path / "rows.csv").write_text(ROWS)
    run = {"file": str(tmp_path / "rows.csv"), "out": str(tmp_path / "out.parquet"), "id": "id", "target": "label"}
    run |= {"dataset": "own", "size": "small", "seed": 0, "parameters": 1000, "class": {"0": "a", "1": "b"}}
    texts = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in (run | change).items())
    (tmp_path / "settings.yaml").write_text(f"{{{texts}}}")
    assert main(["--config", str(tmp_path / "settings.yaml")]) == 1
    assert said in capsys.readouterr().err


def test_the_published_figures_are_of_every_campaign_and_have_no_fault():
    text = (REPO / "docs" / "reliability.md").read_text(encoding="utf-8")
    if "No figures are published yet" in text:
        pytest.skip("docs/reliability.md has no figures yet: `just torture` makes them")
    for campaign in CAMPAIGNS.values():
        [row] = [line for line in text.splitlines() if line.startswith(f"| {campaign.title} |")]
        assert row.split("|")[-3].strip() == "0", row
