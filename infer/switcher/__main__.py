"""Chooses a switcher and logs it: `python -m infer.switcher dataset=demo switcher.goal=budget switcher.budget=0.2`.

From the dataset's scores artifacts; starts without JAX.
"""

from pathlib import Path

from conf.app import command
from conf.schema import Config
from tracking import open_tracker


def main(config: Config) -> None:
    """Chooses the switcher, logs it, and says what to expect of it and how to use it."""
    from infer.switcher.card import expectation_lines, goal_sentence
    from infer.switcher.stage import make_switcher, write_out

    artifact, policy, notes = make_switcher(config, open_tracker(config.tracking))
    print(f"logged {artifact.ref}: {policy.chain} by {policy.stages[0].score}; it {goal_sentence(policy)}")
    for line in expectation_lines(policy):
        print(f"  {line}")
    for note in notes:
        print(f"note: {note}")
    if config.switcher.out is not None:
        write_out(artifact, Path(config.switcher.out))
        print(f"wrote {config.switcher.out}")
    print(f"answer new text: python -m infer.apply switcher.ref={artifact.ref} apply.input=FILE apply.output=FILE")


if __name__ == "__main__":
    command(main)()
