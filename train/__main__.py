"""`python -m train dataset=demo size=nano seed=0`: fine-tunes one cell and logs its model."""

from conf.app import command
from conf.schema import Config
from tracking import open_tracker
from train.identity import trained_model
from train.pretrained.find import resolved


def main(config: Config) -> None:
    config = resolved(config)
    tracker = open_tracker(config.tracking)
    model = None if config.force else trained_model(config, tracker)
    if model is not None:
        print(f"{model.ref} is trained already; force=true trains it again")
        return
    from train import hosts  # JAX starts here, not for a cell that is done
    from train.compilation import keep_compiled
    from train.loop import train

    hosts.join(config.hosts)
    keep_compiled()
    model = train(config, hosts.shared(tracker))
    if hosts.first():
        print(f"logged {model.ref}, {model.metadata['parameters']:,} parameters")


if __name__ == "__main__":
    command(main)()
