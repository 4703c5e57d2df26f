"""Draws made-up models with a known truth, to check that intervals and tests hold what they claim.

An example has a difficulty. A run of a size gets it right where its skill, minus the difficulty, plus noise, is above
0; the noise has a part that all runs of the size share and a part of the run's own. How uncertain a run is follows from
how far its value is from 0. `skill_sd` spreads the skill of a size's runs: 0 is the regime in which runs differ example
by example, larger ones make whole runs better or worse. Nothing here uses the statistics that it is to check.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Regime:
    """Names one way in which runs differ: `skill_sd` in logits; `shared` and `own` noise of examples."""

    name: str
    skill_sd: float
    shared: float = 0.6
    own: float = 0.5


@dataclass
class Draw:
    """Holds the runs of each size: correctness [R, n] bool, uncertainty [R, n] float64 and answers [R, n] int.

    `value` [R, n] is what a run gets right where it is above 0; `cluster` [n] int says which examples belong together.
    """

    correct: dict[str, np.ndarray]
    uncertainty: dict[str, np.ndarray]
    answer: dict[str, np.ndarray]
    value: dict[str, np.ndarray]
    cluster: np.ndarray


# The spread of skill gives standard deviations of a run's accuracy of 0, about 1.1 and about 2 points.
REGIMES = (Regime("examples", 0.0), Regime("runs_1", 0.05), Regime("runs_2", 0.09))
SKILLS = {"small": 0.8, "large": 1.4}


def draw(
    regime: Regime,
    runs: int | dict[str, int],
    examples: int,
    rng: np.random.Generator,
    skills: dict[str, float] | None = None,
    per_cluster: int = 1,
    cluster_sd: float = 0.0,
) -> Draw:
    """Returns fresh runs of every size on fresh examples.

    `per_cluster` examples in a row share a part of their difficulty, of standard deviation `cluster_sd`.
    """
    skills = skills or SKILLS
    clusters = -(-examples // per_cluster)
    difficulty = (
        rng.normal(0, 1.2, examples) + np.repeat(rng.normal(0, 1, clusters) * cluster_sd, per_cluster)[:examples]
    )
    common = rng.normal(0, regime.shared, examples)
    correct, uncertainty, answer, values = {}, {}, {}, {}
    for size, skill in skills.items():
        count = runs if isinstance(runs, int) else runs[size]
        of_size = rng.normal(0, regime.shared, examples)
        value = (
            skill
            + rng.normal(0, 1, (count, 1)) * regime.skill_sd
            - difficulty
            + 0.5 * common
            + of_size
            + rng.normal(0, regime.own, (count, examples))
        )
        values[size] = value
        correct[size] = value > 0
        uncertainty[size] = -np.abs(value + rng.normal(0, 0.3, (count, examples)))
        answer[size] = np.where(correct[size], 0, 1)
    return Draw(correct, uncertainty, answer, values, np.arange(examples) // per_cluster)


def two_like_scores(value: np.ndarray, regime: Regime, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns two scores of the same quality for the runs of a size, from their `value` [R, n]: [R, n] float64 each.

    Each is how near the value is to 0, with noise. Where whole runs differ, so do their scores: the noise of each run
    and score has a scale of its own. The two are exchangeable, so that in the population no difference is to be found.
    """
    spread = 10 * regime.skill_sd  # of the scale's logarithm
    one, other = (
        -np.abs(value + np.exp(rng.normal(-0.5, spread, (len(value), 1))) * rng.normal(0, 1, value.shape))
        for _ in range(2)
    )
    return one, other
