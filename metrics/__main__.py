"""Makes tables, figures and the report of a dataset's scores, in `metrics.out`. Starts without JAX.

From scores artifacts: `python -m metrics dataset=D`. From plain Parquet files: `python -m metrics
'metrics.scores=GLOB' metrics.out=DIR`.
"""

from rich.console import Console

from conf.schema import Config
from metrics.output.headline import print_headline
from metrics.stage import compute_metrics, metrics_from_files


def main(config: Config) -> None:
    """Makes the tables and says what to look at."""
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    if config.metrics.scores:
        out = metrics_from_files(config, console.print)
    else:
        from tracking import open_tracker

        out = compute_metrics(config, open_tracker(config.tracking), console.print)
    print_headline(out, console)


if __name__ == "__main__":
    from conf.app import command

    command(main)()
