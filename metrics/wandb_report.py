"""Makes a W&B Report page of a dataset's latest metrics at W&B: `python -m metrics.wandb_report dataset=imdb`.

The page is made of what W&B holds, and made once: the same command again brings it up to date. The page that stands
alone, with every figure and the examples, is report/index.html in the metrics artifact.
"""

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from conf.errors import EdgewiseError
from conf.names import joined_name
from conf.schema import Config
from metrics.output.headline import findings
from metrics.output.replace import MARK
from metrics.tables.paper import TABLE1, TABLE2, TABLE3, PaperTable
from tracking.interface import NotFound
from tracking.wandb.project import WandbProject

if TYPE_CHECKING:
    # the package itself hands its classes on by `import *`, which type checkers don't follow
    from wandb_workspaces.reports.v2.interface import CustomChart, Layout, Report, Runset, TextLikeField

    from tracking.wandb.server import Server
from tracking.wandb.server_artifact import ServerArtifact

_WIDTH = 24  # of a panel grid, in its units


def main(config: Config) -> None:
    """Makes or updates the page, and says where it is."""
    tracking = config.tracking
    project = WandbProject.chosen(tracking.entity, tracking.project, tracking.base_url)
    report, is_new = save_report(config.dataset.name, project)
    print(f"{'made' if is_new else 'updated'} {report.url}")


def save_report(dataset: str, project: WandbProject) -> tuple["Report", bool]:
    """Returns the saved page, and whether it is new. Raises EdgewiseError where W&B holds no metrics of the dataset."""
    from tracking.wandb.server import Server

    if project.base_url is not None:
        os.environ["WANDB_BASE_URL"] = project.base_url  # wandb-workspaces asks the environment alone
    server = Server(project, remember=True)
    name = joined_name("metrics", dataset)
    try:
        artifact = server.artifact(f"{name}:latest")
    except NotFound:
        raise EdgewiseError(
            f"{project} holds no artifact {name}: make it there (python -m metrics dataset={dataset} "
            f"tracking.backend=wandb), or send it there (python -m tracking push {name})"
        ) from None
    report = compose(dataset, artifact, server)
    there = server.report_ids(report.title)
    if there:
        report.id = there[0]
    with server.explained("the report page"):
        report.save()
    return report, not there


def compose(dataset: str, artifact: "ServerArtifact", server: "Server") -> "Report":
    """Composes the page: what was asked, runs, switcher curves, Tables 1-3, churn, where each number comes from."""
    import wandb_workspaces.reports.v2.interface as wr

    summary = json.loads(artifact.file(MARK).read_text(encoding="utf-8"))
    [result] = summary["datasets"].values()
    made_by = [record for record in server.logged_by(artifact) if record.job_type == "metrics"]
    if not made_by:
        raise EdgewiseError(f"{artifact.ref} in {server.project}: no metrics run logged it, so there is none to show")
    record = made_by[-1]
    run = server.last_attempt(record.id)
    assert run is not None
    own = _runset(server, "metrics", f"ID == '{run.id}'")
    group = f" and Group == '{record.group}'" if record.group else f" and Tags in ['{dataset}']"
    pairs = [(pair["small"], pair["large"]) for pair in result["pairs"]]
    title, logged = ("BLEU", "bleu") if result["measure"] == "bleu" else ("Accuracy", "accuracy")  # as infer logs it
    blocks: list[Any] = [
        wr.TableOfContents(),
        wr.H2("What was asked"),
        wr.P(f"On which examples of {dataset} does a larger model do better than a smaller one?"),
        wr.UnorderedList(_asked(summary, result)),
        wr.H2("Runs"),
        wr.P(f"Every run of the group {record.group}." if record.group else f"Every run tagged {dataset}."),
        wr.PanelGrid(
            runsets=[
                _runset(server, "training", f"JobType == 'train'{group}"),
                _runset(server, "scoring", f"JobType == 'infer'{group}"),
            ],
            panels=[
                wr.LinePlot(title="Training loss", x="Step", y=["loss"], layout=_layout(0)),
                wr.BarPlot(title=title, metrics=[logged], layout=_layout(1)),
            ],
        ),
        wr.H2("Switcher curves"),
        wr.P("Mean over pairs of runs: the quality when the share on the x axis, most uncertain first, is deferred."),
        wr.PanelGrid(
            runsets=[own],
            panels=[_curve(small, large, place) for place, (small, large) in enumerate(pairs)]
            or [wr.WeavePanelSummaryTable(table_name="inputs")],
        ),
    ]
    for table in (TABLE1, TABLE3):
        blocks += [wr.H2(table.title), wr.MarkdownBlock(_table(artifact, table))]
    blocks += [
        wr.H2("Table 2: churn"),
        wr.MarkdownBlock(_table(artifact, TABLE2)),
        wr.PanelGrid(
            runsets=[own],
            panels=[wr.MediaBrowser(title="Figures", media_keys=_figures(artifact), layout=_layout(0, _WIDTH))],
        ),
        wr.H2("Where the numbers come from"),
        wr.P(["Tables and figures: ", wr.Link(artifact.ref, artifact.remote.url), f", digest {artifact.digest}, by "]),
        wr.P([wr.Link(f"run {record.id}", run.url), f", code version {record.code_version}."]),
        wr.UnorderedList([_source(used) for used in server.inputs_of(run)]),
        wr.P("The whole way back to the data, and on to every table:"),
        wr.CodeBlock(f"python -m tracking lineage {artifact.name} --backend wandb"),
    ]
    return wr.Report(
        entity=server.entity,
        project=server.project.name,
        title=f"Edgewise: {dataset}",
        description=f"Made of {artifact.ref}, digest {artifact.digest}.",
        blocks=blocks,
        width="fluid",
    )


def _asked(summary: Mapping[str, Any], result: Mapping[str, Any]) -> list["TextLikeField"]:
    """Says what was compared and how, and what came of it, a line each."""
    measure = result["measure"]
    unit, sign = (1, "BLEU") if measure == "bleu" else (100, "%")
    sizes = []
    for size in result["sizes"]:
        seeds = len(size["seeds"])
        quality = f"{measure} {unit * size[measure]['value']:.2f} {sign}"
        sizes.append(f"{size['name']}: {seeds} seed{'s' if seeds > 1 else ''}, {quality}")
    about = [f"{result['examples']:,} examples of the {result['split']} split", f"signature {summary['signature']}"]
    return [*about, *sizes, *findings(result), *summary["notes"]]


def _runset(server: "Server", name: str, filters: str) -> "Runset":
    from wandb_workspaces.reports.v2.interface import Runset

    return Runset(entity=server.entity, project=server.project.name, name=name, filters=filters, groupby=["group"])


def _layout(place: int, width: int = _WIDTH // 2) -> "Layout":
    from wandb_workspaces.reports.v2.interface import Layout

    per_row = _WIDTH // width
    return Layout(x=width * (place % per_row), y=10 * (place // per_row), w=width, h=10)


def _curve(small: str, large: str, place: int) -> "CustomChart":
    """Shows the chart that the metrics run logged (`wandb.plot.line_series`), by the table behind it."""
    from wandb_workspaces.reports.v2.interface import CustomChart

    return CustomChart(
        query={"summaryTable": {"tableKey": f"curves/switcher/{small}-{large}_table"}},
        chart_name="wandb/lineseries/v0",
        chart_fields={"step": "step", "lineKey": "lineKey", "lineVal": "lineVal"},
        chart_strings={"title": f"{small} → {large}", "xname": "share deferred to the larger model"},
        layout=_layout(place),
    )


def _table(artifact: "ServerArtifact", table: PaperTable) -> str:
    return artifact.file(f"tables/{table.name}.md").read_text(encoding="utf-8")


def _figures(artifact: "ServerArtifact") -> list[str]:
    return sorted(
        name.removesuffix(".png") for name in artifact.files if name.startswith("figures/") and name.endswith(".png")
    )


def _source(used: "ServerArtifact") -> "TextLikeField":
    from wandb_workspaces.reports.v2.interface import Link

    return [Link(used.ref, used.remote.url), f", digest {used.digest}"]


if __name__ == "__main__":
    from conf.app import command

    command(main)()
