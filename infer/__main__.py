"""`python -m infer dataset=demo size=nano seed=0`: scores a split by the cell's model and logs the scores."""

import sys

from conf.app import command
from conf.schema import Config
from infer.identity import find_model, finished_scores, quality
from tracking import open_tracker
from train.pretrained.find import resolved


def main(config: Config) -> None:
    config = resolved(config)
    tracker = open_tracker(config.tracking)
    source = find_model(config, tracker)
    if source.note:
        print(source.note, file=sys.stderr)
    scores = None if config.force else finished_scores(config, tracker, source.digest)
    if scores is not None:
        print(f"{scores.ref} is there already; force=true scores again")
        return
    from infer.scoring import score  # JAX starts here
    from train import hosts
    from train.compilation import keep_compiled

    hosts.join(config.hosts)
    keep_compiled()
    scores = score(config, hosts.shared(tracker), source)
    if hosts.first():
        print(f"logged {scores.ref}, {quality(scores.metadata)} on {scores.metadata['examples']:,} examples")


if __name__ == "__main__":
    command(main)()
