"""Defines `policy.json`, all that is needed to answer as a switcher does, and reads and writes it."""

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conf.errors import EdgewiseError, first_line
from conf.names import joined_name
from conf.schema import DEPLOYABLE_SCORES, TASKS
from tracking.printing import strict

SCHEMA_VERSION = 1
_KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("dataset", "task", "template", "dtype"), str),
    **dict.fromkeys(("decoding", "goal", "certificate", "expected", "over_seeds", "parts", "inputs"), dict),
    "labels": list,
    "self_check": (list, type(None)),
}
_KIND_NAMES: dict[type | tuple[type, ...], str] = {
    str: "text",
    dict: "an object",
    list: "a list",
    (list, type(None)): "a list or null",
}


@dataclass(frozen=True)
class Stage:
    """Holds one run of the chain. The last has neither score nor threshold: it answers all that reach it."""

    size: str
    seed: int
    model: str  # digest of the model artifact
    parameters: int
    flops_per_example: float
    score: str | None
    threshold: float | None  # natural logarithm: a score of at least exp(threshold) goes on to the next stage

    @property
    def name(self) -> str:
        """Names the run among those of its dataset, such as `small-s0`."""
        return joined_name(self.size, f"s{self.seed}")


@dataclass(frozen=True)
class Policy:
    """Holds a switcher: how text becomes an answer, and what was found when it was chosen.

    `goal`, `certificate`, `expected`, `over_seeds` and `parts` are as docs/serving.md describes them. `calibration`
    has, for each stage but the last, the sorted log scores of the certify part's examples that reach it. `self_check`
    has what each stage's model gave for seeded random token ids when its scores were made; None where they were made
    before that was kept.
    """

    dataset: str
    task: str
    labels: list[list[str]]  # pairs (label in the data, target string) in the order of the likelihoods; else []
    template: str
    max_input_length: int
    max_target_length: int | None
    decoding: dict[str, Any]
    dtype: str
    stages: list[Stage]
    goal: dict[str, Any]
    certificate: dict[str, Any]
    expected: dict[str, Any]
    over_seeds: dict[str, Any]
    parts: dict[str, Any]
    calibration: list[list[float]]
    self_check: list[dict[str, Any]] | None
    inputs: dict[str, str]  # name of each scores artifact that was looked at -> its digest

    @property
    def name(self) -> str:
        """Returns the name of the artifact: `switcher-D-S-L`, with every size of the chain."""
        return joined_name("switcher", self.dataset, *(stage.size for stage in self.stages))

    @property
    def classes(self) -> list[str]:
        """Returns the target strings, in the order of the likelihoods."""
        return [target for _, target in self.labels]

    @property
    def chain(self) -> str:
        """Names the chain for people, such as `nano-s0 -> micro-s1`."""
        return " -> ".join(stage.name for stage in self.stages)


def policy_json(policy: Policy) -> str:
    """Returns the text of `policy.json`; the same policy gives the same text. Infinite thresholds are "Infinity"."""
    values = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(policy)}
    return json.dumps(strict(values), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def read_policy(text: str, where: str) -> Policy:
    """Reads the text of a `policy.json`.

    Raises EdgewiseError, starting with `where`, for what isn't one, is one of another schema version, or contradicts
    itself.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EdgewiseError(f"{where}: not JSON ({first_line(error)}); expected a switcher's policy.json") from None
    if not isinstance(values, dict) or "schema_version" not in values:
        raise EdgewiseError(f"{where}: not a switcher's policy.json: it has no schema_version")
    if values.pop("schema_version") != SCHEMA_VERSION:
        raise EdgewiseError(
            f"{where}: another schema version than {SCHEMA_VERSION}: make the switcher again (python -m infer.switcher)"
        )
    names = {field.name for field in dataclasses.fields(Policy)}
    if missing := sorted(names - set(values)):
        raise EdgewiseError(f"{where}: lacks {', '.join(missing)}; make the switcher again")
    try:
        stages = [_stage(stage) for stage in values["stages"]]
        calibration = [[float(score) for score in scores] for scores in values["calibration"]]
        policy = Policy(**{name: values[name] for name in names} | {"stages": stages, "calibration": calibration})
        _check(policy)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise EdgewiseError(f"{where}: not a policy as this version writes it ({first_line(error)})") from None
    return policy


def _stage(values: Mapping[str, Any]) -> Stage:
    """Reads a stage; a threshold may be the text of an infinity."""
    named = values["size"], values["seed"], values["model"]
    if [*map(type, named)] != [str, int, str]:
        raise ValueError(f"a stage with {str(named):.120}, expected size, seed and the model's digest")
    if not _is_positive(values["flops_per_example"]):
        raise ValueError(f"flops_per_example {values['flops_per_example']!r:.40}, expected a number above 0")
    threshold = values["threshold"]
    return Stage(**{**values, "threshold": None if threshold is None else float(threshold)})


def _check(policy: Policy) -> None:
    """Raises ValueError for values that can't be a policy's."""
    for name, kind in _KINDS.items():
        if not isinstance(getattr(policy, name), kind):
            raise ValueError(f"{name} {getattr(policy, name)!r:.40}, expected {_KIND_NAMES[kind]}")
    if policy.task not in TASKS:
        raise ValueError(f"task {policy.task!r}")
    if len(policy.stages) < 2:
        raise ValueError(f"{len(policy.stages)} stages, expected two or more")
    for stage in policy.stages[:-1]:
        if stage.score not in DEPLOYABLE_SCORES or stage.threshold is None or math.isnan(stage.threshold):
            raise ValueError(f"stage {stage.name} has score {stage.score} and threshold {stage.threshold}")
    if policy.stages[-1].score is not None or policy.stages[-1].threshold is not None:
        raise ValueError("the last stage has a threshold")
    if policy.dtype not in ("float32", "bfloat16"):
        raise ValueError(f"dtype {policy.dtype!r}")
    if (policy.task == "classification") != bool(policy.labels):
        raise ValueError(f"task {policy.task} with {len(policy.labels)} labels")
    if any(not isinstance(pair, list) or [*map(type, pair)] != [str, str] for pair in policy.labels):
        raise ValueError("labels: expected pairs of texts, of the label in the data and the target string")
    _check_count("max_input_length", policy.max_input_length)
    if policy.task != "classification":
        _check_count("max_target_length", policy.max_target_length)
    if len(policy.calibration) != len(policy.stages) - 1 or not policy.calibration[0]:
        raise ValueError("calibration: expected scores for each stage but the last, and some of the first")
    if any(map(math.isnan, itertools.chain.from_iterable(policy.calibration))):
        raise ValueError("calibration: a score is NaN")
    if policy.self_check is not None and len(policy.self_check) != len(policy.stages):
        raise ValueError(f"self_check of {len(policy.self_check)} stages, expected {len(policy.stages)}, or null")
    _check_expected(policy.expected)


def _check_expected(expected: Mapping[str, Any]) -> None:
    """Raises ValueError or KeyError where numbers are missing that a watch of the traffic compares with."""
    _check_share("expected.deferred.value", expected["deferred"]["value"])
    _check_count("expected.examples", expected["examples"])
    if (disagreement := expected.get("disagreement")) is not None:
        _check_share("expected.disagreement.value", disagreement["value"])
        for name, part in (("disagreement", disagreement), ("disagreement.certify", disagreement["certify"])):
            _check_count(f"expected.{name}.examples", part["examples"])
            if not 0 <= part["differing"] <= part["examples"]:
                raise ValueError(f"expected.{name}.differing {part['differing']!r} of {part['examples']:,} examples")


def _is_positive(value: Any) -> bool:
    """Tells whether a value is a number above 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _check_share(name: str, value: Any) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} {value!r}, expected a share from 0 to 1")


def _check_count(name: str, value: Any) -> None:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} {value!r}, expected a count of 1 or more")
