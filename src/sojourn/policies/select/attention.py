"""Success rates of prompts never tried, from those of a reference set and embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt
from operator import mul
from typing import Final, NamedTuple

NEWTON_STEPS: Final = 12
EDGE: Final = 1e-4
"""How near to 0 and 1 a rate may come before its logit is taken."""
RIDGE: Final = 1e-2
"""Pull of a calibration towards none, so that it exists for any reference set."""


class Known(NamedTuple):
    """A prompt of the reference set: its embedding and success rate."""

    embedding: Sequence[float]
    rate: float


class Calibration(NamedTuple):
    """A correction of predictions: of their logits, or of themselves."""

    slope: float = 1.0
    offset: float = 0.0
    of_logits: bool = True

    def apply(self, rate: float) -> float:
        """Return a corrected prediction."""
        if not self.of_logits:
            return min(max(self.slope * rate + self.offset, 0.0), 1.0)
        return sigmoid(self.slope * logit(rate) + self.offset)


def logit(rate: float) -> float:
    """Return the log odds of a rate, kept off the edges."""
    rate = min(max(rate, EDGE), 1.0 - EDGE)
    return log(rate / (1.0 - rate))


def sigmoid(value: float) -> float:
    """Return the rate with given log odds."""
    return 1.0 / (1.0 + exp(-value)) if value >= 0.0 else 1.0 - 1.0 / (1.0 + exp(value))


def attend(query: Sequence[float], known: Sequence[Known], skip: int = -1) -> float:
    """Return the mean rate of the reference set, weighted by scaled dot-product attention.

    `skip` leaves one of the set out, so that its own rate can be predicted.
    """
    scale = 1.0 / sqrt(len(query))
    scores = [scale * sum(map(mul, query, one.embedding)) for one in known]
    if skip >= 0:
        scores[skip] = float("-inf")
    top = max(scores)
    weights = [exp(one - top) for one in scores]
    rates = (one.rate for one in known)
    return sum(map(mul, weights, rates), 0.0) / sum(weights)


def fit_line(predicted: Sequence[float], actual: Sequence[float]) -> Calibration:
    """Return the least-squares line from predictions to rates; a constant if they are all alike."""
    count = len(predicted)
    middle, mean = sum(predicted) / count, sum(actual) / count
    spread = sum((one - middle) ** 2 for one in predicted)
    joint = sum((one - middle) * (rate - mean) for one, rate in zip(predicted, actual, strict=True))
    slope = joint / spread if spread > 1e-12 else 0.0
    return Calibration(slope, mean - slope * middle, of_logits=False)


def fit_logits(predicted: Sequence[float], actual: Sequence[float]) -> Calibration:
    """Return the slope and offset of logits under which the rates are most likely.

    Newton's method on a concave likelihood with a weak pull to slope 1 and offset 0.
    """
    slope, offset = 1.0, 0.0
    points = [(logit(one), rate) for one, rate in zip(predicted, actual, strict=True)]
    for _ in range(NEWTON_STEPS):
        g0, g1 = -RIDGE * (slope - 1.0), -RIDGE * offset
        h00, h01, h11 = RIDGE, 0.0, RIDGE
        for place, rate in points:
            guess = sigmoid(slope * place + offset)
            spread = guess * (1.0 - guess)
            g0 += (rate - guess) * place
            g1 += rate - guess
            h00 += spread * place * place
            h01 += spread * place
            h11 += spread
        det = h00 * h11 - h01 * h01
        up, along = (h11 * g0 - h01 * g1) / det, (h00 * g1 - h01 * g0) / det
        longest = max(abs(up), abs(along), 2.0) / 2.0  # no step further than 2
        slope, offset = slope + up / longest, offset + along / longest
    return Calibration(slope, offset)


class Predictor:
    """Predictions from one reference set, calibrated on it.

    With `apart` each of the set is predicted without itself and the logits are corrected; else
    with itself, and a line is fitted.
    """

    def __init__(self, known: Sequence[Known], apart: bool) -> None:
        self.known = known
        tried = enumerate(one.embedding for one in known)
        guesses = [attend(one, known, at if apart else -1) for at, one in tried]
        self.calibration = (fit_logits if apart else fit_line)(guesses, [one.rate for one in known])

    def rate(self, embedding: Sequence[float]) -> float:
        """Return the success rate predicted for an embedding."""
        return self.calibration.apply(attend(embedding, self.known))
