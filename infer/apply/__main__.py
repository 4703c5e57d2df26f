"""Answers the rows of a file: `python -m infer.apply switcher.ref=REF apply.input=new.csv apply.output=answered.csv`.

Ends with status 0 where every row has an answer, 2 where some were kept without one, 1 where nothing was written, and,
with apply.fail_on_alarm=true, 3 where the rows differ from what the switcher was chosen on.
"""

import sys

from conf.app import command
from conf.schema import Config

SOME_WITHOUT_ANSWER, ALARMED = 2, 3  # exit statuses


def main(config: Config) -> None:
    """Answers the file, and says by whom how many rows were answered."""
    from infer.apply.stage import apply

    counts = apply(config)
    answered = ", ".join(f"{name} {count:,}" for name, count in counts.answered.items())
    share = 100 * counts.deferred / max(counts.rows - counts.bad, 1)
    print(f"{config.apply.output}: {counts.rows:,} rows, {share:.2f} % deferred ({answered})")
    if counts.bad:
        print(f"{counts.bad:,} rows stayed without an answer")
    for alarm in counts.alarms:
        print(f"alarm: {alarm}")
    if counts.alarms and config.apply.fail_on_alarm:
        sys.exit(ALARMED)
    if counts.bad:
        sys.exit(SOME_WITHOUT_ANSWER)


if __name__ == "__main__":
    command(main)()
