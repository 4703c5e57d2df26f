"""Scores a split by the cell's model and logs the scores: `python -m infer dataset=demo size=nano seed=0`.

With `mesh.seed=N`, by the models of N seeds at once: `seed`, `seed` + 1, …
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from conf.app import command
from conf.schema import Config
from infer.identity import column_note, find_model, finished_scores, quality
from tracking import open_tracker
from train.data.remember import recover_dataset
from train.pretrained.find import resolved
from train.seeds import seeds_of, side_by_side
from train.stopping import Stop

if TYPE_CHECKING:
    import jax


def main(config: Config) -> None:
    """Scores the seeds that have no scores yet, side by side where there are several."""
    config = resolved(config)
    tracker = open_tracker(config.tracking)
    sources, missing = {}, []
    for cell in seeds_of(config):
        source = sources[cell.seed] = find_model(cell, tracker)
        if source.note:
            print(source.note, file=sys.stderr)
        scores = None if config.force else finished_scores(cell, tracker, source.digest)
        if scores is None:
            missing.append(cell)
        else:
            tracker.make_latest(scores)
            print(f"{scores.ref} is there already; force=true scores again")
            if note := column_note(cell, scores):
                print(f"note: {note}", file=sys.stderr)
    if not missing:
        return
    from infer.scoring import score  # JAX starts here
    from train import hosts
    from train.compilation_cache import keep_compiled

    hosts.join(config.hosts)
    keep_compiled()

    def score_one(cell: Config, devices: "Sequence[jax.Device] | None", stop: Stop | None) -> None:
        scores = score(cell, hosts.shared(open_tracker(cell.tracking)), sources[cell.seed], devices, stop)
        if hosts.first():
            examples = f"{scores.metadata['examples']:,} examples"
            print(f"logged {scores.ref}, {quality(scores.metadata)} on {examples}", flush=True)

    side_by_side(config, missing, score_one)


if __name__ == "__main__":
    recover_dataset(sys.argv[1:])
    command(main)()
