"""python -m metrics dataset=D, or python -m metrics 'metrics.scores=GLOB' metrics.out=DIR: tables, figures, report.

From a dataset's scores artifacts (or from plain Parquet files) to `metrics.out`. Starts without JAX.
"""

from rich.console import Console

from conf.schema import Config
from metrics.output.headline import tell
from metrics.stage import compute_metrics, metrics_from_files


def main(config: Config) -> None:
    """Makes the tables and says what to look at."""
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    if config.metrics.scores:
        out = metrics_from_files(config, console.print)
    else:
        from tracking import open_tracker

        out = compute_metrics(config, open_tracker(config.tracking), console.print)
    tell(out, console)


if __name__ == "__main__":
    from conf.app import command

    command(main)()
