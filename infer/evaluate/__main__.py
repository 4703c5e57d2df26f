"""Measures a switcher on labelled rows: `python -m infer.evaluate switcher.ref=REF dataset=D infer.split=test`.

The switcher and its models alone take turns; quality, time, FLOPs and energy stand beside what was promised.
"""

import sys

from conf.app import command
from conf.schema import Config
from tracking import open_tracker
from train.data.remember import recover_dataset


def main(config: Config) -> None:
    """Measures the switcher and says what came of it."""
    from infer.evaluate.result import comparison_lines
    from infer.evaluate.stage import evaluate

    logged, result = evaluate(config, open_tracker(config.tracking))
    for side in result["sides"]:
        quality = 100 * side["quality"]["value"]
        print(
            f"{side['side']}: {result['measure']} {quality:.2f}, {side['ms_per_example']['median']:.3f} ms an example"
        )
    for line in comparison_lines(result):
        print(f"  {line}")
    print(f"logged {logged.ref}: {result['examples']:,} examples of {result['dataset']} {result['split']}")


if __name__ == "__main__":
    recover_dataset(sys.argv[1:])
    command(main)()
