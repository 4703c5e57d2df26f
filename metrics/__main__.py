"""Makes tables, figures and the report of a dataset's scores, in `metrics.out`. Starts without JAX.

From scores artifacts: `python -m metrics dataset=D`. From plain Parquet files: `python -m metrics
'metrics.scores=GLOB' metrics.out=DIR`.
"""

from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from rich.console import Console

from conf.errors import EdgewiseError
from conf.schema import Config
from metrics.output.headline import print_headline
from metrics.stage import compute_metrics, metrics_from_files


def main(config: Config) -> None:
    """Makes the tables and says what to look at."""
    if HydraConfig.initialized():
        check_split(HydraConfig.get().overrides.task)
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    if config.metrics.scores:
        out = metrics_from_files(config, console.print)
    else:
        from tracking import open_tracker

        out = compute_metrics(config, open_tracker(config.tracking), console.print)
    print_headline(out, console)


def check_split(overrides: Sequence[str]) -> None:
    """Raises EdgewiseError where a command line names the split by the key that scoring reads."""
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key == "infer.split":
            raise EdgewiseError(f"{override}: scoring reads that; of the tables' split, type metrics.split={value}")


if __name__ == "__main__":
    from conf.app import command

    command(main)()
