"""Watches a stream of answered inputs, and raises an alarm where it differs from what the switcher was chosen on.

Three tests (`metrics/statistics/watch/`) share one probability of a false alarm, over the whole stream and all of them
together, by a union bound. Each compares the stream with examples that didn't choose what it looks at:

- *deferral*: how many inputs the first stage passes on, against the evaluate part's count;
- *scores*: the first stage's log scores, against those of the certify part (`calibration` of policy.json);
- *disagreement*: on how many kept inputs that went to the largest model too it answers otherwise, against the evaluate
  part's count.
"""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from conf.errors import EdgewiseError, first_line
from infer.switcher.policy import Policy, policy_json
from metrics.statistics.policies.routing import passes_on
from metrics.statistics.text import normalized
from metrics.statistics.watch.bets import shape_bets, share_bets
from metrics.statistics.watch.bounds import stability_index, upper_share
from metrics.statistics.watch.change import ChangeMartingale
from metrics.statistics.watch.conformal import ScoreRanks, ShareRanks
from tracking.files import written_whole

SHARES = {"deferral": 0.5, "scores": 0.25, "disagreement": 0.25}  # of the probability of a false alarm
RECENT = 2048  # inputs that the gauges of the moment are of
TOGETHER = 32  # inputs that the tests look at at once, or more: each call of numpy costs as much as ten inputs
STATE_VERSION = 1
SAVED_EVERY = 1.0  # seconds, at most that often
_DECILES = 10
_EITHER_WAY, _MORE = (1 / 3, 1 / 1.6, 1.6, 3.0), (1.6, 3.0, 9.0)  # times the odds, that the bets expect
_BLOCK, _RARE_BLOCK = 64, 8  # inputs between the starts of new bets; of those that few are compared of


class WatchSettings(Protocol):
    """Says what the watch needs of the config: `serve.false_alarms`, `apply.false_alarms`."""

    false_alarms: float


class Alarm(NamedTuple):
    """Says which test found a change, and what was seen then; never anything of the inputs' text."""

    name: str  # deferral | scores | disagreement
    message: str


@dataclass
class _Test:
    """Holds one test: its wealth, what ranks its observations, the wealth at which it raises an alarm, its chance."""

    martingale: ChangeMartingale
    ranks: ShareRanks | ScoreRanks
    needed: float
    generator: np.random.Generator  # its own, so that it matters not how calls about other observations come between

    def update(self, observed: np.ndarray) -> None:
        self.martingale.update(self.ranks.p_values(observed, self.generator.random(len(observed))))


class Watch:
    """Watches one switcher's answers; any thread may call it.

    The state is kept in `directory`, in a file of this policy's own, at most once a second and when an alarm is raised:
    a restart goes on with the same wealth, and an alarm stays until the file is removed or another switcher is watched.
    One process at a time may use a directory.

    Attributes:
        path: the file of the state; None where none is kept.
        alarms: those raised, in the order in which they were.

    """

    def __init__(self, policy: Policy, settings: WatchSettings, directory: Path | None):
        """Begins to watch, or goes on with the state that `directory` holds of this policy.

        Raises EdgewiseError for a state that can't be read.
        """
        self._identity = hashlib.sha256(policy_json(policy).encode()).hexdigest()
        self._policy = policy
        self.alarms: tuple[Alarm, ...] = ()
        self.path = None if directory is None else Path(directory) / f"watch-{self._identity[:16]}.json"
        self._lock = threading.RLock()
        self._tests = _tests_of(policy, settings.false_alarms, int(self._identity[:16], 16))
        calibration = np.asarray(policy.calibration[0], np.float64)
        self._edges = np.unique(np.quantile(calibration, np.arange(1, _DECILES) / _DECILES, method="lower"))
        self._expected_deciles = self._decile_counts(np.searchsorted(self._edges, calibration, side="right"))
        self._recent_decile, self._recent_deferred = np.zeros(RECENT, np.uint8), np.zeros(RECENT, np.uint8)
        self._count = self._deferred = self._compared = self._disagreed = 0
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._waiting_count = 0
        self._unreported: tuple[Alarm, ...] = ()
        self._saved_at = -np.inf
        self._saving = threading.Lock()  # held while the file is written; never waited for by who holds `_lock`
        self._alarm_unsaved = False
        self.saving_failed: str | None = None
        if self.path is not None and self.path.exists():
            self._read(self.path)

    def answered(self, log_scores: np.ndarray, deferred: np.ndarray) -> tuple[Alarm, ...]:
        """Takes note of answered inputs: the first stage's log scores [n] and whether it passed each on, [n] bool.

        In the order in which they came in: batches of like inputs, one after the other, would look like changes
        (`infer.watch.order` undoes them). How they are divided among calls makes no difference. They are looked at when
        there are TOGETHER of them, or when the gauges or the state are asked for. Returns the alarms that no
        call has returned yet.
        """
        with self._lock:
            self._waiting.append((np.asarray(log_scores, np.float64), np.asarray(deferred, dtype=bool)))
            self._waiting_count += len(deferred)
            if self._waiting_count < TOGETHER:
                return ()
            self._look_at_waiting()
            new = self._reported()
        self._save_where_due()
        return new

    def compared(self, disagreed: np.ndarray) -> tuple[Alarm, ...]:
        """Takes note of kept inputs that went to the largest model too: whether it answered otherwise, [n] bool.

        They are a random share of all that an earlier stage answered. Returns the alarms that no call has returned
        yet.
        """
        disagreed = np.asarray(disagreed, dtype=bool)
        if not len(disagreed):
            return ()
        with self._lock:
            self._look_at_waiting()
            if "disagreement" in self._tests:
                self._tests["disagreement"].update(disagreed)
            self._compared += len(disagreed)
            self._disagreed += int(disagreed.sum())
            self._raise()
            new = self._reported()
        self._save_where_due()
        return new

    def gauges(self) -> dict[str, float]:
        """Returns what there is to see, by name; as docs/serving.md describes it.

        Shares are fractions; what hasn't been seen yet is NaN.
        """
        with self._lock:
            self._look_at_waiting()
            recent = min(self._count, RECENT)
            found: dict[str, float] = {
                "inputs": self._count,
                "deferred_share": self._deferred / self._count if self._count else np.nan,
                "deferred_share_recent": self._deferred_recently() if recent else np.nan,
                "deferred_share_expected": float(self._policy.expected["deferred"]["value"]),
                "psi": self._psi() if recent else np.nan,
                "compared": self._compared,
                "disagreement": self._disagreed / self._compared if self._compared else np.nan,
                "loss_at_most": self._loss_at_most(),
                "state_saved": float(self.saving_failed is None),
            }
            if (expected := self._policy.expected.get("disagreement")) is not None:
                found["disagreement_expected"] = float(expected["value"])
            raised = {alarm.name for alarm in self.alarms}
            for name, test in self._tests.items():
                found[f"evidence_{name}"] = test.martingale.wealth
                found[f"evidence_needed_{name}"] = test.needed
                found[f"alarm_{name}"] = float(name in raised)
            found["alarm"] = float(bool(self.alarms))
        if self._alarm_unsaved:
            self.save()
        return found

    def state(self) -> dict[str, Any]:
        """Returns all that `restore` needs to go on, in JSON values; it has no text, and no score to the last digit."""
        with self._lock:
            self._look_at_waiting()
            counts = self._scores.counts
            some = np.flatnonzero(counts)
            return {
                "version": STATE_VERSION,
                "policy": self._identity,
                "count": self._count,
                "deferred": self._deferred,
                "compared": self._compared,
                "disagreed": self._disagreed,
                "alarms": [list(alarm) for alarm in self.alarms],
                "generators": {name: test.generator.bit_generator.state for name, test in self._tests.items()},
                "martingales": {name: test.martingale.state() for name, test in self._tests.items()},
                "shares": {
                    name: [test.ranks.yes, test.ranks.total]
                    for name, test in self._tests.items()
                    if isinstance(test.ranks, ShareRanks)
                },
                "scores": [some.tolist(), counts[some].tolist()],
                "recent": [
                    base64.b64encode(values.tobytes()).decode()
                    for values in (self._recent_decile, self._recent_deferred)
                ],
            }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` returned of the same policy. Raises ValueError, KeyError, TypeError for another."""
        if state["version"] != STATE_VERSION or state["policy"] != self._identity:
            raise ValueError("it is another version's, or another switcher's")
        with self._lock:
            self._count, self._deferred = int(state["count"]), int(state["deferred"])
            self._compared, self._disagreed = int(state["compared"]), int(state["disagreed"])
            self.alarms = tuple(Alarm(name, message) for name, message in state["alarms"])
            for name, test in self._tests.items():
                test.generator.bit_generator.state = state["generators"][name]
                test.martingale.restore(state["martingales"][name])
                if isinstance(test.ranks, ShareRanks):
                    test.ranks.yes, test.ranks.total = state["shares"][name]
            places, counts = state["scores"]
            self._scores.counts[:] = 0
            self._scores.counts[np.array(places, np.int64)] = counts
            recent = [np.frombuffer(base64.b64decode(text), np.uint8) for text in state["recent"]]
            self._recent_decile[:], self._recent_deferred[:] = recent

    def save(self) -> None:
        """Writes the state, whole or not at all. Where that fails `saving_failed` says why, and watching goes on.

        Other threads may call the watch meanwhile: a slow disk keeps none of them waiting but those that save too.
        """
        if self.path is None:
            return
        with self._saving:
            with self._lock:
                self._saved_at = time.monotonic()
                text = json.dumps(self.state())
                self._alarm_unsaved = False
            try:
                with written_whole(self.path) as partial:
                    partial.write_text(text, encoding="utf-8")
                self.saving_failed = None
            except OSError as error:
                self.saving_failed = first_line(error)

    def _look_at_waiting(self) -> None:
        """Tells the tests of the inputs that came since the last time."""
        if not self._waiting_count:
            return
        log_scores, deferred = (np.concatenate(columns) for columns in zip(*self._waiting, strict=True))
        self._waiting, self._waiting_count = [], 0
        self._tests["deferral"].update(deferred)
        self._tests["scores"].update(log_scores)
        places = np.arange(self._count, self._count + len(deferred))[-RECENT:] % RECENT
        deciles = np.searchsorted(self._edges, log_scores[-RECENT:], side="right")
        self._recent_decile[places], self._recent_deferred[places] = deciles, deferred[-RECENT:]
        self._count += len(deferred)
        self._deferred += int(deferred.sum())
        self._raise()

    @property
    def _scores(self) -> ScoreRanks:
        ranks = self._tests["scores"].ranks
        assert isinstance(ranks, ScoreRanks)
        return ranks

    def _read(self, path: Path) -> None:
        try:
            self.restore(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise EdgewiseError(
                f"{path}: the watch's state can't be read ({first_line(error)}); remove the file to begin anew, and "
                "with it any alarm that was raised"
            ) from None

    def _raise(self) -> None:
        """Raises an alarm for each test that now has the wealth for it; the state is to be saved then."""
        raised = {alarm.name for alarm in self.alarms}
        new = tuple(
            Alarm(name, self._message(name))
            for name, test in self._tests.items()
            if name not in raised and test.martingale.largest >= test.needed
        )
        if new:
            self.alarms += new
            self._unreported += new
            self._alarm_unsaved = self.path is not None

    def _save_where_due(self) -> None:
        """Saves the state where there was an alarm, or where it is time to."""
        if self._alarm_unsaved or time.monotonic() - self._saved_at >= SAVED_EVERY:
            self.save()

    def _reported(self) -> tuple[Alarm, ...]:
        """Returns the alarms that no call has returned yet."""
        new, self._unreported = self._unreported, ()
        return new

    def _message(self, name: str) -> str:
        """Says what a test found, and what to do."""
        chance = 100 / self._tests[name].needed
        seen = self._seen()[name]()
        return (
            f"{seen}; without a change, the chance of ever seeing such evidence is at most {chance:.2g} %. What was "
            "promised may not hold any more: look at what has changed, and choose the switcher again on examples like "
            "these"
        )

    def _seen(self) -> Mapping[str, Callable[[], str]]:
        """Returns for each test the function that puts what it saw in words."""

        def deferral() -> str:
            expected = 100 * float(self._policy.expected["deferred"]["value"])
            recent = min(self._count, RECENT)
            return (
                f"after {self._count:,} inputs, {100 * self._deferred_recently():.1f} % of the last {recent:,} were "
                f"deferred, where {expected:.1f} % of the examples were that the switcher was evaluated on"
            )

        def scores() -> str:
            recent = min(self._count, RECENT)
            return (
                f"after {self._count:,} inputs, the scores of the first stage are distributed otherwise than those of "
                f"the examples that it was certified on (PSI {self._psi():.2f} of the last {recent:,})"
            )

        def disagreement() -> str:
            expected = 100 * float(self._policy.expected["disagreement"]["value"])
            return (
                f"of {self._compared:,} kept inputs that {self._policy.stages[-1].name} answered too, "
                f"{100 * self._disagreed / self._compared:.1f} % got another answer, where {expected:.1f} % of the "
                "examples did that the switcher was evaluated on"
            )

        return {"deferral": deferral, "scores": scores, "disagreement": disagreement}

    def _deferred_recently(self) -> float:
        return float(self._recent_deferred[: min(self._count, RECENT)].mean())

    def _psi(self) -> float:
        recent = self._recent_decile[: min(self._count, RECENT)]
        return stability_index(self._expected_deciles, self._decile_counts(recent))

    def _decile_counts(self, places: np.ndarray) -> np.ndarray:
        return np.bincount(places, minlength=len(self._edges) + 1)

    def _loss_at_most(self) -> float:
        """Returns a limit of the loss on these inputs, at all times at once but for the policy's δ.

        An answer that the largest model shares loses nothing against it, so the loss is at most the share kept times
        the share of those that it answers otherwise; δ/2 each. Of a longer chain all may be kept. NaN for translations,
        whose loss is one of BLEU.
        """
        if self._policy.task == "translation":
            return np.nan
        level = float(self._policy.goal["delta"]) / 2
        kept = 1.0
        if self._count and len(self._policy.stages) == 2:
            kept = upper_share(self._count - self._deferred, self._count, level)
        return kept * (upper_share(self._disagreed, self._compared, level) if self._compared else 1.0)


def disagreements(policy: Policy, answers: Sequence[str], largest: Sequence[str]) -> np.ndarray:
    """Returns where the largest model answers otherwise: [n] bool, from n answers and the n that it gave.

    As when the switcher was chosen, answers to questions (span QA) are compared as SQuAD normalises them.
    """
    same = normalized if policy.task == "span_qa" else str
    return np.array([same(one) != same(other) for one, other in zip(answers, largest, strict=True)], dtype=bool)


def _tests_of(policy: Policy, false_alarms: float, seed: int) -> dict[str, _Test]:
    """Returns the tests that a policy has the examples for, by name."""
    needed = {name: 1 / (share * false_alarms) for name, share in SHARES.items()}
    generators = {name: np.random.default_rng([seed, place]) for place, name in enumerate(SHARES)}
    expected, threshold = policy.expected, policy.stages[0].threshold
    assert threshold is not None
    calibration = np.asarray(policy.calibration[0], np.float64)
    certify = int(passes_on(calibration, threshold).sum())
    examples = int(expected["examples"])
    found = {
        "deferral": _Test(
            ChangeMartingale(share_bets(_guess(certify, len(calibration)), _EITHER_WAY), _BLOCK),
            ShareRanks(round(expected["deferred"]["value"] * examples), examples),
            needed["deferral"],
            generators["deferral"],
        ),
        "scores": _Test(
            ChangeMartingale(shape_bets, _BLOCK), ScoreRanks(calibration), needed["scores"], generators["scores"]
        ),
    }
    if (disagreement := expected.get("disagreement")) is not None:
        guess = _guess(disagreement["certify"]["differing"], disagreement["certify"]["examples"])
        found["disagreement"] = _Test(
            ChangeMartingale(share_bets(guess, _MORE), _RARE_BLOCK),
            ShareRanks(disagreement["differing"], disagreement["examples"]),
            needed["disagreement"],
            generators["disagreement"],
        )
    return found


def _guess(count: int, total: int) -> float:
    """Returns a share strictly between 0 and 1, from the certify part: the ranked examples are the evaluate part's."""
    return (count + 0.5) / (total + 1)
