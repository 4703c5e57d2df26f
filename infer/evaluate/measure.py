"""Lets the switcher and each of its models alone answer the same inputs, in turns, and measures each."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from infer.engine.engine import Answers, Engine
from infer.evaluate.energy import EnergyMeter
from train.progress import Meter
from train.stopping import Stop

SWITCHER = "switcher"


@dataclass
class Side:
    """Holds what one side answered, and the seconds and joules of each of its turns; None where none are counted."""

    name: str
    prediction: np.ndarray  # [n] object (str)
    stage: np.ndarray  # [n] int8: who answered, by its place in the chain
    seconds: list[float] = field(default_factory=list)
    joules: list[float | None] = field(default_factory=list)


def take_turns(
    engine: Engine, texts: list[str], rounds: int, energy: EnergyMeter, stop: Stop, meter: Meter | None = None
) -> list[Side]:
    """Returns the sides, the switcher first and then each model of the chain: all answer all inputs `rounds` times.

    A turn before the first is not measured, because it compiles. Each round starts with the next side, so that what
    changes with time (heat, neighbours) is shared alike. Raises Stopped between two turns.
    """
    stages = [stage.name for stage in engine.policy.stages]
    sides: list[Side] = []
    for name in (SWITCHER, *stages):
        answers = _answer(engine, stages, name, texts)
        sides.append(Side(name, answers.prediction, answers.stage))
        if meter is not None:
            meter.advance(1)
        stop.check()
    for turn in range(rounds):
        for place in range(len(sides)):
            side = sides[(place + turn) % len(sides)]
            stop.check()
            joules, start = energy.joules(), time.perf_counter()
            _answer(engine, stages, side.name, texts)
            side.seconds.append(time.perf_counter() - start)
            after = energy.joules()
            side.joules.append(None if joules is None or after is None else after - joules)
            if meter is not None:
                meter.advance(1)
    return sides


def _answer(engine: Engine, stages: Sequence[str], name: str, texts: list[str]) -> Answers:
    """Returns the answers of the switcher, or of one of its models alone."""
    if name == SWITCHER:
        return engine.answer_texts(texts)
    place = stages.index(name)
    prediction, score = engine.run_stage(place, texts)
    return Answers(prediction, np.full(len(texts), place, np.int8), score)
