"""How far a score of a running rollout can be trusted, learnt from those that finished.

A logistic fit turns a score and what is believed of the prompt into a probability of success. Two
numbers say whether that may be acted on, both of predictions made before the outcome was known:
the calibration error (are four in five right where it says .8?), which any rollout that was not
stopped can tell, and the concordance within groups (of two siblings, does the one with the higher
chance succeed?). Only groups in which nothing was stopped tell how high that is: the survivors of
others are the extremes, and flatter it. But where scores say nothing it is one half among survivors
too, so the latest groups of any kind are quick to raise the alarm.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from math import exp, log, sqrt
from typing import Any, Final, NamedTuple

RIDGE: Final = 1.0
ROUNDS: Final = 20
STEP_MAX: Final = 2.0
LOGIT_MAX: Final = 30.0


class Seen(NamedTuple):
    """A rollout whose end is known: its score, the prompt's logit, the prediction, the outcome."""

    score: float
    prior: float
    predicted: float
    outcome: float


class Pairs(NamedTuple):
    """Pairs of siblings of one group, one a success: how many, and how many in the right order."""

    total: float
    right: float


def logit(share: float) -> float:
    """Return the log odds of a share."""
    bounded = min(max(share, 1e-6), 1.0 - 1e-6)
    return log(bounded / (1.0 - bounded))


def sigmoid(value: float) -> float:
    """Return the share of log odds."""
    return 1.0 / (1.0 + exp(-min(max(value, -LOGIT_MAX), LOGIT_MAX)))


def fit_logistic(
    inputs: Sequence[tuple[float, float]], outcomes: Sequence[float], start: Sequence[float]
) -> list[float]:
    """Return intercept and two slopes of a ridge logistic regression, by Newton's method.

    The first slope is shrunk to 0 and the second, that of the prompt's own logit, to 1. The ridge
    keeps separable data finite; steps are bounded.
    """
    base, first, second = start
    for _ in range(ROUNDS):
        slope = [0.0, RIDGE * first, RIDGE * (second - 1.0)]
        bend = [0.0, 0.0, 0.0, RIDGE, 0.0, RIDGE]  # upper triangle by rows
        for (one, other), outcome in zip(inputs, outcomes, strict=True):
            chance = sigmoid(base + first * one + second * other)
            gap = chance - outcome
            curve = max(chance * (1.0 - chance), 1e-6)
            slope[0] += gap
            slope[1] += gap * one
            slope[2] += gap * other
            bend[0] += curve
            bend[1] += curve * one
            bend[2] += curve * other
            bend[3] += curve * one * one
            bend[4] += curve * one * other
            bend[5] += curve * other * other
        step = _solve(bend, slope)
        largest = max(abs(move) for move in step)
        share = min(1.0, STEP_MAX / largest) if largest > 0.0 else 1.0
        base -= share * step[0]
        first -= share * step[1]
        second -= share * step[2]
        if largest < 1e-4:
            break
    return [base, first, second]


def _solve(bend: Sequence[float], right: Sequence[float]) -> list[float]:
    """Return the solution of a positive definite system of three, by Cramer's rule."""
    a, b, c, d, e, f = bend
    cofactors = (
        (d * f - e * e, c * e - b * f, b * e - c * d),
        (c * e - b * f, a * f - c * c, b * c - a * e),
        (b * e - c * d, b * c - a * e, a * d - b * b),
    )
    determinant = a * cofactors[0][0] + b * cofactors[0][1] + c * cofactors[0][2]
    return [
        sum(part * value for part, value in zip(row, right, strict=True)) / determinant
        for row in cofactors
    ]


def _share(groups: Iterable[Pairs]) -> float:
    total = right = 0.0
    for one in groups:
        total += one.total
        right += one.right
    return right / total if total else 0.5


class Calibrator:
    """The fit and its two measures, over a window.

    Attributes:
        window: Rollouts that the fit and the calibration error look back on.
        group_window: Mixed groups that each concordance looks back on.
        bins: Of equal numbers of rollouts, for the calibration error.
        refit_every: New rollouts between two fits.
        seen, groups, recent: The windows, oldest first: rollouts, whole groups, all groups.
        weights: Intercept, and slopes of the standardised score and the prompt's logit.
        centre, spread: Mean and standard deviation of the scores at the last fit.
        waiting: New rollouts since the last fit.
        fits: Fits so far.
    """

    def __init__(self, window: int, group_window: int, bins: int, refit_every: int = 32) -> None:
        self.window = window
        self.group_window = group_window
        self.bins = bins
        self.refit_every = refit_every
        self.seen: deque[Seen] = deque(maxlen=window)
        self.groups: deque[Pairs] = deque(maxlen=group_window)
        self.recent: deque[Pairs] = deque(maxlen=group_window)
        self.weights = [0.0, 0.0, 1.0]  # before the first fit: what is believed of the prompt
        self.centre = 0.0
        self.spread = 1.0
        self.waiting = 0
        self.fits = 0

    def predict(self, score: float, prior: float) -> float:
        """Return the probability of success given a score and the prompt's logit."""
        standard = (score - self.centre) / self.spread
        return sigmoid(self.weights[0] + self.weights[1] * standard + self.weights[2] * prior)

    def observe(self, one: Seen) -> None:
        """Take note of how a rollout ended, and fit anew when enough have."""
        self.seen.append(one)
        self.waiting += 1
        if self.waiting >= self.refit_every:
            self._fit()

    def observe_group(
        self, chances: Sequence[float], outcomes: Sequence[float], whole: bool
    ) -> None:
        """Take note of a group, of use if it is mixed, and whether nothing in it was stopped."""
        total = right = 0.0
        for at, (chance, outcome) in enumerate(zip(chances, outcomes, strict=True)):
            for other in range(at):
                if outcomes[other] == outcome:
                    continue
                total += 1.0
                rise = (chance - chances[other]) * (outcome - outcomes[other])
                right += 1.0 if rise > 0.0 else 0.5 if rise == 0.0 else 0.0
        if total:
            self.recent.append(Pairs(total, right))
            if whole:
                self.groups.append(Pairs(total, right))

    def _fit(self) -> None:
        self.waiting = 0
        self.fits += 1
        scores = [one.score for one in self.seen]
        self.centre = sum(scores) / len(scores)
        variance = sum((one - self.centre) ** 2 for one in scores) / len(scores)
        self.spread = max(sqrt(variance), 1e-9)
        inputs = [((one.score - self.centre) / self.spread, one.prior) for one in self.seen]
        outcomes = [one.outcome for one in self.seen]
        self.weights = fit_logistic(inputs, outcomes, self.weights)

    def error(self) -> float:
        """Return the mean gap between prediction and outcome over bins; 1 before anything."""
        ordered = sorted(self.seen, key=lambda one: one.predicted)
        if not ordered:
            return 1.0
        total = 0.0
        for at in range(self.bins):
            start = at * len(ordered) // self.bins
            stop = (at + 1) * len(ordered) // self.bins
            total += abs(sum(one.predicted - one.outcome for one in ordered[start:stop]))
        return total / len(ordered)

    def concordance(self) -> float:
        """Return the share of pairs of whole groups that are in the right order; .5 before any."""
        return _share(self.groups)

    def recent_concordance(self) -> float:
        """Return the same of the latest groups, whole or not."""
        return _share(self.recent)

    def concordance_low(self, deviations: float = 1.64) -> float:
        """Return its lower bound (95 % on one side), groups being what varies; 0 for one group."""
        count = len(self.groups)
        if count < 2:
            return 0.0
        centre = self.concordance()
        total = sum(one.total for one in self.groups)
        squares = sum((one.right - centre * one.total) ** 2 for one in self.groups)
        return centre - deviations * sqrt(squares * count / (count - 1)) / total

    def state_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "seen": [list(one) for one in self.seen],
            "groups": [list(one) for one in self.groups],
            "recent": [list(one) for one in self.recent],
            "weights": list(self.weights),
            "scale": [self.centre, self.spread],
            "counts": [self.waiting, self.fits],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what was saved."""
        self.seen = deque((Seen(*one) for one in state["seen"]), self.window)
        self.groups = deque((Pairs(*one) for one in state["groups"]), self.group_window)
        self.recent = deque((Pairs(*one) for one in state["recent"]), self.group_window)
        self.weights = list(state["weights"])
        self.centre, self.spread = state["scale"]
        self.waiting, self.fits = state["counts"]
