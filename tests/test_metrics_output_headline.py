"""The last lines of a metrics command: sentences that the intervals allow, and no others."""

import json
from io import StringIO

import pytest
from rich.console import Console

from conf.schema import Metrics
from metrics.output.headline import findings, one_run_lines, print_headline
from tests.metrics_runs import write_without_pictures
from tests.support import REPO
from tests.synthetic_scores import synthetic_grid, write_grid

CONFIG = Metrics(resamples=60)


def entry(value, low=None, high=None):
    return {"value": value, "ci_low": low, "ci_high": high}


def dataset(
    area, gap=(0.1, 0.05, 0.15), over=((0.3, 0.2, 0.4), (0.4, 0.3, 0.5)), seeds=(0, 1), measure="accuracy", share=0.345
):
    """A dataset's entry in summary.json, as far as the headline reads it."""
    sizes = [
        {"name": name, "seeds": list(seeds), "over_majority": None if one is None else entry(*one)}
        for name, one in zip(("nano", "micro"), over, strict=True)
    ]
    margin = {"area": entry(*area)}
    if share is not None:
        margin["least_share"] = {"within_epsilon": share, "epsilon": 0.01, "confidence": 0.95}
    pair = {"small": "nano", "large": "micro", "gap": entry(*gap), "scores": {"margin": margin}}
    return {
        "measure": measure,
        "majority": {"class": "positive", "share": 0.5033},
        "sizes": sizes,
        "pairs": [pair],
    }


@pytest.mark.parametrize(
    ("area", "sentence"),
    [
        ((0.0475, 0.0372, 0.0577), "nano -> micro: deferral by margin beats random by 4.75 points (3.72 to 5.77)"),
        ((0.0072, -0.0013, 0.0163), "deferral by margin can't be told from random: 0.72 points (-0.13 to 1.63)"),
        ((0.0, 0.0, 0.0), "deferral by margin can't be told from random: 0.00 points (0.00 to 0.00)"),
        ((0.003, 0.00001, 0.006), "deferral by margin can't be told from random: 0.30 points (0.00 to 0.60)"),
        ((1e-17, 1e-18, 1e-16), "deferral by margin can't be told from random: 0.00 points (0.00 to 0.00)"),
        ((-1e-17, -1e-16, -1e-18), "deferral by margin can't be told from random: 0.00 points (0.00 to 0.00)"),
        ((-0.02, -0.03, -0.01), "deferral by margin is worse than random: -2.00 points (-3.00 to -1.00)"),
        ((0.02,), "deferral by margin over random: 2.00 points, without an interval, so nothing is shown"),
    ],
)
def test_a_gain_over_random_is_claimed_as_its_interval_allows(area, sentence):
    (line,) = findings(dataset(area, share=None))
    assert line.endswith(sentence)
    if area[0] > 0.01 and len(area) == 3:
        assert "can't" not in line


def test_the_readme_quotes_the_line():
    (line,) = findings(dataset((0.0475, 0.0372, 0.0577)))
    assert f"\n  {line}\n" in (REPO / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("share", "sentence"),
    [
        (0.335, "; deferring 34 % loses at most 1.00 points against micro (95 % confidence)"),
        (0.34, "; deferring 34 % loses at most 1.00 points against micro (95 % confidence)"),
        (0.0, "; deferring 0 % loses at most 1.00 points against micro (95 % confidence)"),
        (0.998, "; only deferring all is shown to lose at most 1.00 points against micro (95 % confidence)"),
    ],
)
def test_the_share_to_defer_is_said_where_it_is_shown(share, sentence):
    (line,) = findings(dataset((0.02, 0.01, 0.03), share=share))
    assert line.endswith(f"(1.00 to 3.00){sentence}")
    for gap in ((0.001, -0.01, 0.012), (-0.02, -0.03, -0.01), (0.1,)):  # no gain is shown, so none is to be had
        (line,) = findings(dataset((0.02, 0.01, 0.03), gap=gap, share=share))
        assert "deferring" not in line
    result = dataset((0.02, 0.01, 0.03))
    result["pairs"][0]["scores"]["margin"]["least_share"]["within_epsilon"] = None  # without resamples
    assert findings(result)[0].endswith("(1.00 to 3.00)")


def test_bleu_is_in_its_own_points():
    (line,) = findings(dataset((4.75, 3.9, 5.42), over=(None, None), measure="bleu", share=None) | {"majority": None})
    assert line.endswith("beats random by 4.75 points (3.90 to 5.42)")


def test_a_larger_model_that_is_not_shown_to_be_better_is_called_that():
    (line,) = findings(dataset((0.02, 0.01, 0.03), gap=(0.001, -0.01, 0.012)))
    assert line.endswith("; micro isn't shown to be the better model: 0.10 points (-1.00 to 1.20)")
    (line,) = findings(dataset((0.02, 0.01, 0.03), gap=(-0.02, -0.03, -0.01)))
    assert line.endswith("; micro is the worse model: -2.00 points (-3.00 to -1.00)")


def test_sizes_within_noise_of_the_majority_class():
    noise, worse = (0.002, -0.008, 0.011), (-0.05, -0.06, -0.04)
    lines = findings(dataset((0.02, 0.01, 0.03), over=(noise, worse)))
    assert lines == [
        'nano is within noise of always answering "positive", the majority class with 50.33 %: '
        "0.20 points (-0.80 to 1.10)",
        'micro is worse than always answering "positive", the majority class with 50.33 %: -5.00 points '
        "(-6.00 to -4.00)",
        "nano -> micro: models too weak to conclude (deferral by margin over random: 2.00 points (1.00 to 3.00))",
    ]
    lines = findings(dataset((0.02, 0.01, 0.03), over=(noise, (0.3, 0.2, 0.4))))
    assert len(lines) == 2 and "nano is within noise" in lines[0] and "beats random" in lines[1]
    assert len(findings(dataset((0.02, 0.01, 0.03), over=((0.002,), (0.002,))))) == 1  # no interval, no claim


def test_summaries_of_before_the_majority_class_can_be_read():
    result = dataset((0.02, 0.01, 0.03))
    del result["majority"], result["sizes"][0]["over_majority"], result["sizes"][1]["over_majority"]
    assert len(findings(result)) == 1


def printed(out):
    text = StringIO()
    print_headline(out, Console(file=text, soft_wrap=True, markup=False, emoji=False))
    return text.getvalue().splitlines()


def test_one_size_and_one_seed_are_said(tmp_path):
    write_without_pictures(synthetic_grid({"nano": (10, 1.5)}, seeds=3, examples=90), CONFIG, tmp_path / "size")
    lines = printed(tmp_path / "size")
    assert lines[0].startswith("synthetic: nano ") and "one size only (nano)" in lines[1]
    assert "nothing of deferral" in lines[1] and not any("beats" in line for line in lines)
    write_without_pictures(synthetic_grid(seeds=1, examples=90), CONFIG, tmp_path / "seed")
    assert any(
        line.startswith("  one seed of small, base: the intervals hold for other")
        for line in printed(tmp_path / "seed")
    )


def test_the_summary_has_the_majority_class(tmp_path):
    scores = synthetic_grid(seeds=2, examples=90)
    summary = write_without_pictures(scores, CONFIG, tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())["datasets"]["synthetic"]
    counts = {name: list(scores[0].target).count(name) for name in ("class 0", "class 1")}
    name = max(counts, key=counts.get)
    assert summary["majority"] == {"class": name, "share": pytest.approx(counts[name] / 90)}
    for size in summary["sizes"]:
        over = size["over_majority"]
        assert over["value"] == pytest.approx(size["accuracy"]["value"] - counts[name] / 90)
        assert over["ci_low"] < over["value"] < over["ci_high"]
    summary = write_without_pictures(synthetic_grid(seeds=2, examples=60, task="translation"), CONFIG, tmp_path / "t")
    (result,) = summary["datasets"].values()
    assert result["majority"] is None and {size["over_majority"] for size in result["sizes"]} == {None}


@pytest.mark.parametrize("task", ["classification", "span_qa", "translation"])
def test_one_run_alone(tmp_path, task):
    skill = -5.0 if task == "classification" else 1.5
    (path,) = write_grid(synthetic_grid({"nano": (10, skill)}, seeds=1, examples=60, task=task), tmp_path)
    first, *weak, last = one_run_lines(path, CONFIG)
    assert first.startswith("synthetic: nano ") and first.endswith("(seed 0)")
    assert "one run only, so there are no tables" in last and "seed=0,1" in last
    assert len(weak) == (task == "classification") and all("is worse than always answering" in line for line in weak)
