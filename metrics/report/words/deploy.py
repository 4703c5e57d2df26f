"""Writes the command that makes a switcher of the share that the report recommends deferring."""

import math
import shlex

from metrics.analysis.dataset import Analysis
from metrics.analysis.pairs import SizePair

SHARE_DIGITS = 3  # of a budget, which is never below the recommended share


def deploy_command(analysis: Analysis, pair: SizePair, share: float) -> str:
    """Returns the command that makes a switcher of the recommended share to defer, 0-1, from the same scores.

    What is recommended loses at most `metrics.epsilon`, so the switcher's goal is to be certified for that loss, with
    the confidence that the report has. A translation is neither right nor wrong and can't be certified: the share is
    its budget.
    """
    shares = pair.least_share["margin"]
    words = ["python", "-m", "infer.switcher", f"dataset={analysis.grid.dataset}"]
    if analysis.grid.task == "translation":
        step = 10**SHARE_DIGITS
        budget = min(math.ceil(share * step - 1e-6) / step, 1.0)
        words += ["switcher.goal=budget", f"switcher.budget={budget:g}"]
    else:
        words += ["switcher.goal=certified", f"switcher.epsilon={shares.epsilon:g}"]
    words.append(f"switcher.delta={1 - shares.confidence:.6g}")
    if len(analysis.grid.sizes) > 2:
        words.append(f"switcher.sizes=[{pair.small},{pair.large}]")
    if analysis.grid.split != "test":
        words.append(f"switcher.split={analysis.grid.split}")
    return shlex.join(words)


def deploy_sentence(analysis: Analysis) -> str:
    """Writes what the command of `deploy_command` promises, as the start of a line that ends with the command."""
    if analysis.grid.task == "translation":
        return "To deploy that, with a limit of the share deferred:"
    return "To deploy that, with the loss certified on examples that chose nothing:"
