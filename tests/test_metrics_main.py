"""`python -m metrics` with names that a console, a figure or a page could take for markup."""

import json
import re
from xml.etree import ElementTree

import pytest

from conf.schema import Config, Metrics
from metrics.__main__ import main
from tests.synthetic_scores import synthetic_grid, write_grid

SIZES = {"[/b]": (10, 1.5), "_[red]$x$": (20, 2.5), r"$\frac": (30, 3.0)}
DATASET = "[red]cost $5 and $^ [/b] :smile: <b>"


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
    assert re.search(r"<title>Edgewise: \[red\]cost \$5 and \$\^ \[/b\] :smile: &lt;b&gt;</title>", page)
