"""Lists the campaigns, with the counts of the published page: together less than 20 minutes on two cores."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench.torture import answers, damage, jobs
from bench.torture.outcome import Outcome


class Campaign(NamedTuple):
    """Names a campaign; `run` takes the count, an empty folder and the seed."""

    title: str
    run: Callable[[int, Path, int], Outcome]
    attempts: int


CAMPAIGNS = {
    "kills": Campaign("`kill -9` at random moments of a sweep", jobs.kills, 20),
    "applies": Campaign("`kill -9` at random moments of `infer.apply`", answers.killed_applies, 20),
    "versions": Campaign("Versions of one artifact from four processes at once", jobs.versions, 1080),
    "disks": Campaign("Full disks, at random sizes", jobs.disks, 8),
    "wandb": Campaign("Ways of W&B to fail (loopback server)", jobs.wandb, 100),
    "safetensors": Campaign("Bit flips in safetensors headers", damage.safetensors_headers, 3000),
    "scores": Campaign("Bit flips in scores files (Parquet)", damage.scores_bits, 3000),
    "t5x": Campaign("Bit flips and mutations of T5X trees", damage.t5x_trees, 1000),
    "checkpoint": Campaign("Mutated `config.json` and shard indexes", damage.checkpoint_json, 1000),
    "tables": Campaign("Mutated CSV, TSV, JSON and JSON Lines", damage.tables, 3000),
    "settings": Campaign("Mutated YAML of settings", damage.settings, 2000),
}
