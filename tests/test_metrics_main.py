"""`python -m metrics` with names that a console, a figure or a page could take for markup."""

import csv
import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from conf.errors import EdgewiseError
from conf.schema import Config, Metrics
from metrics.__main__ import check_split, main
from metrics.audit.finding import violated
from metrics.audit.output import audit_output
from metrics.scores import read_scores, write_scores
from tests.synthetic_scores import synthetic_grid, write_grid

SIZES = {"[/b]": (10, 1.5), "_[red]$x$": (20, 2.5), r"$\frac": (30, 3.0)}
DATASET = "[red]$5 $^ :smile: <b>"  # as long as a name may be that figures show whole


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """Where the scores of a grid with such names are, and where their tables go."""
    folder = tmp_path_factory.mktemp("names")
    for k, scores in enumerate(synthetic_grid(SIZES, seeds=2, examples=60, dataset=DATASET)):
        write_grid([scores], folder / str(k))
    return folder


def test_names_are_printed_and_drawn_as_they_are(output, capsys, recwarn):
    config = Metrics(scores=f"{output}/*/**/*.parquet", out=f"{output}/out", resamples=5)
    main(Config(metrics=config))
    said = capsys.readouterr().out
    assert f"{DATASET}: [/b] " in said and ", _[red]$x$ " in said and r", $\frac " in said
    assert not [str(one.message) for one in recwarn if "legend" in str(one.message)]
    for name, texts in {
        "fig3": [f"{DATASET} (n = 60)", "[/b] (2 seeds)", " _[red]$x$ (2 seeds)", r"$\frac (2 seeds)"],
        "fig4": [rf"{DATASET}: [/b] → $\frac (n = 60)", r"% of examples deferred to $\frac"],
    }.items():
        svg = ElementTree.parse(output / "out" / "figures" / f"{name}.svg")
        drawn = {"".join(one.itertext()) for one in svg.iter("{http://www.w3.org/2000/svg}text")}
        assert [text for text in texts if text not in drawn] == []
    summary = json.loads((output / "out" / "summary.json").read_text(encoding="utf-8"))
    assert list(summary["datasets"]) == [DATASET]
    page = (output / "out" / "report" / "index.html").read_text(encoding="utf-8")
    assert re.search(r"<title>Edgewise: \[red\]\$5 \$\^ :smile: &lt;b&gt;</title>", page)


def test_tables_hold_names_as_text(tmp_path):
    """In CSV no formula, in Markdown no HTML and no line break; the audit and the log read the names as they are."""
    dataset, sizes = "=1+1|<b>x\ny", {"@small": (10, 1.5), "-2": (20, 2.5)}
    write_grid(synthetic_grid(sizes, seeds=2, examples=60, dataset="x"), tmp_path)
    for path in tmp_path.glob("*.parquet"):
        scores = read_scores(path)
        write_scores(replace(scores, metadata=replace(scores.metadata, dataset=dataset)), path)
    main(Config(metrics=Metrics(scores=f"{tmp_path}/*.parquet", out=f"{tmp_path}/out", resamples=5)))
    tables = tmp_path / "out" / "tables"
    for path in [*tables.glob("*.csv"), *(tmp_path / "out" / "figures").glob("*.csv")]:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert {row["dataset"] for row in rows} <= {f"'{dataset}"}
        assert {row.get("small", "'@small") for row in rows} == {"'@small"} or not rows
        assert {row.get("large", "-2") for row in rows} <= {"-2", "'@small"}
    assert "'=1+1" in (tables / "table1.csv").read_text(encoding="utf-8")
    for path in tables.glob("*.md"):
        text = path.read_text(encoding="utf-8")
        assert "<b>" not in text and "=1+1|" not in text
    assert "=1+1\\|&lt;b>x y | @small | -2 |" in (tables / "table1.md").read_text(encoding="utf-8")
    assert not violated(audit_output(tmp_path / "out"))


def test_the_split_by_scoring_s_key_is_refused():
    check_split(["dataset=demo", "metrics.split=validation"])
    with pytest.raises(EdgewiseError, match="scoring reads that; .* metrics.split=validation"):
        check_split(["dataset=demo", "infer.split=validation"])
