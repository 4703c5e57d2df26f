"""Trains one cell and logs its model: `python -m train dataset=demo size=nano seed=0`.

With `mesh.seed=N`, N seeds of it at once: `seed`, `seed` + 1, …
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from conf.app import command
from conf.schema import Config
from tracking import open_tracker
from train.identity import trained_model
from train.pretrained.find import resolved
from train.seeds import seeds_of, side_by_side
from train.stopping import Stop

if TYPE_CHECKING:
    import jax


def main(config: Config) -> None:
    """Trains the seeds that have no model yet, side by side where there are several."""
    config = resolved(config)
    tracker = open_tracker(config.tracking)
    missing = []
    for cell in seeds_of(config):
        model = None if config.force else trained_model(cell, tracker)
        if model is None:
            missing.append(cell)
        else:
            tracker.make_latest(model)
            print(f"{model.ref} is trained already; force=true trains it again")
    if not missing:
        return
    from train import hosts  # JAX starts here, not for a cell that is done
    from train.compilation_cache import keep_compiled
    from train.loop import train

    hosts.join(config.hosts)
    keep_compiled()

    def train_one(cell: Config, devices: "Sequence[jax.Device] | None", stop: Stop | None) -> None:
        model = train(cell, hosts.shared(open_tracker(cell.tracking)), devices, stop)
        if hosts.first():
            print(f"logged {model.ref}, {model.metadata['parameters']:,} parameters", flush=True)

    side_by_side(config, missing, train_one)


if __name__ == "__main__":
    command(main)()
