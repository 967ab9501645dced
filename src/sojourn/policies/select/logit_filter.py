"""Success probabilities tracked on the logit scale: prompts drift together, and each on its own.

The logit of a prompt's success probability is taken to be the level of all prompts, plus the
prompt's own offset, plus a gain if it was trained since it was last seen. Level and gain are two
numbers that every outcome teaches (an extended Kalman filter); an offset is a normal distribution,
updated by quadrature with the exact binomial likelihood. An offset moves a little with each
version, and with a small chance begins anew as that of a prompt never seen: so a jump is believed
as soon as outcomes ask for it. An observation and a look cost O(1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import exp, log, pi, sqrt
from typing import Any, Final, NamedTuple

STEP: Final = 0.25
GRID: Final = tuple(STEP * at for at in range(-32, 33))
"""Logits at which a posterior is computed."""
LOG_SUCCESS: Final = tuple(-log(1.0 + exp(-one)) for one in GRID)
LOG_FAILURE: Final = tuple(-log(1.0 + exp(one)) for one in GRID)
VARIANCE_MIN: Final = STEP * STEP
NODES: Final = (0.0, 1.1544053947399681, 2.366759410734541, 3.750439717725742)
WEIGHTS: Final = (0.45714285714285713, 0.2401231786050127, 0.0307571239675865, 0.00054826885597222)
"""Gauss-Hermite quadrature of seven points, for the standard normal distribution."""
RULE: Final = tuple(
    (side * node, weight)
    for node, weight in zip(NODES, WEIGHTS, strict=True)
    for side in ((1.0, -1.0) if node else (1.0,))
)


@dataclass(frozen=True, slots=True)
class Motion:
    """How fast things are taken to move; none of it is tuned to a model.

    Attributes:
        spread: Standard deviation of logits over prompts, believed before any outcome.
        spread_weight: Prompts that belief counts as; after that the data speak.
        level_sd, gain_sd: Of the level and of the gain of training, before any outcome.
        level_step, gain_step, offset_step: How much each moves in one version.
        renewal: Chance that an offset begins anew in one version.
    """

    spread: float = 2.0
    spread_weight: float = 50.0
    level_sd: float = 1.5
    gain_sd: float = 0.3
    level_step: float = 0.05
    gain_step: float = 0.01
    offset_step: float = 0.05
    renewal: float = 0.002


class Forecast(NamedTuple):
    """Logit of a prompt: normal, or with a small chance that of a prompt never seen."""

    mean: float
    variance: float
    renewed: float


@dataclass(slots=True)
class Track:
    """What is stored of a prompt, as of `version`; `trained` since then is 0 or 1."""

    offset: float
    variance: float
    version: int
    trained: float


def sigmoid(value: float) -> float:
    """Return the probability with given log odds."""
    return 1.0 / (1.0 + exp(-value)) if value >= 0.0 else 1.0 - 1.0 / (1.0 + exp(value))


class LogitFilter:
    """Offsets of all prompts seen, and the level, gain and spread that they share.

    Attributes:
        motion: How fast things move; never changes.
        tracks: By prompt, in the order of the first time.
        level, gain: What all share, with `cov`, their variances and covariance.
        squares, firsts: Expected squared offsets of prompts at their first outcome, and how many.
        version: Latest version seen.
    """

    def __init__(self, motion: Motion) -> None:
        self.motion = motion
        self.tracks: dict[int, Track] = {}
        self.level = self.gain = 0.0
        self.cov = (motion.level_sd**2, 0.0, motion.gain_sd**2)
        self.squares = motion.spread_weight * motion.spread**2
        self.firsts = motion.spread_weight
        self.version = 0

    @property
    def prior(self) -> Forecast:
        """Logit of a prompt never seen."""
        return Forecast(self.level, self.squares / self.firsts, 0.0)

    def forecast(self, prompt_id: int, version: int) -> Forecast:
        """Return the logit of a prompt at a version."""
        track = self.tracks.get(prompt_id)
        if track is None:
            return self.prior
        age, motion = max(version - track.version, 0), self.motion
        mean = self.level + track.offset + self.gain * track.trained
        return Forecast(
            max(min(mean, GRID[-1]), GRID[0]),
            track.variance + age * motion.offset_step**2,
            1.0 - (1.0 - motion.renewal) ** age,
        )

    def probability(self, prompt_id: int, version: int) -> float:
        """Return the expected success probability of a prompt at a version."""
        return self._expected(self.forecast(prompt_id, version), sigmoid)

    def variance(
        self, prompt_id: int, version: int, successes: float = 0.0, trials: int = 0
    ) -> float:
        """Return the expected variance p (1 - p) of one rollout of a prompt at a version.

        Outcomes that the filter has not been told yet may be counted in.
        """
        seen = self.forecast(prompt_id, version)
        if trials:
            seen = Forecast(*self._posterior(seen, successes, trials), 0.0)
        return self._expected(seen, lambda one: sigmoid(one) * sigmoid(-one))

    def _expected(self, seen: Forecast, of: Callable[[float], float]) -> float:
        mean, variance, renewed = seen
        value = expected(mean, variance, of)
        if renewed:
            value += renewed * (expected(*self.prior[:2], of) - value)
        return value

    def observe(
        self, prompt_id: int, successes: float, trials: int, version: int, trained: bool
    ) -> None:
        """Take note of a group, and whether it will be trained."""
        motion, passed = self.motion, max(version - self.version, 0)
        level, both, gain = self.cov
        self.cov = (
            level + passed * motion.level_step**2,
            both,
            gain + passed * motion.gain_step**2,
        )
        self.version += passed
        known = self.tracks.get(prompt_id)
        self._share(self.forecast(prompt_id, version), known, successes, trials)
        mean, variance = self._posterior(self.forecast(prompt_id, version), successes, trials)
        if known is None:
            self.squares += (mean - self.level) ** 2 + variance
            self.firsts += 1.0
        self.tracks[prompt_id] = Track(mean - self.level, variance, version, float(trained))

    def _share(self, seen: Forecast, known: Track | None, successes: float, trials: int) -> None:
        """Let an outcome teach the level and the gain, as far as a prompt was not renewed."""
        chance, square, slope = 0.0, 0.0, 0.0
        for node, weight in RULE:
            p = sigmoid(seen.mean + node * sqrt(seen.variance))
            chance += weight * p
            square += weight * p * p
            slope += weight * p * (1.0 - p)
        within = (chance - square) / trials
        surprise = (successes / trials - chance) / slope
        noise = (within + square - chance * chance) / slope**2 + seen.renewed * self.prior.variance
        level, both, gain = self.cov
        trained = known.trained if known is not None else 0.0
        first, second = level + both * trained, both + gain * trained
        total = first + second * trained + noise
        surprise = max(min(surprise, 3.0 * sqrt(total)), -3.0 * sqrt(total))  # outliers say less
        self.level += first / total * surprise
        self.gain += second / total * surprise
        self.cov = (
            level - first * first / total,
            both - first * second / total,
            gain - second * second / total,
        )

    def _posterior(self, seen: Forecast, successes: float, trials: int) -> tuple[float, float]:
        """Return mean and variance of a prompt's logit after an outcome."""
        prior, failures = self.prior, trials - successes
        own = (1.0 - seen.renewed) / sqrt(2.0 * pi * seen.variance)
        new = seen.renewed / sqrt(2.0 * pi * prior.variance)
        logs = [
            successes * up + failures * down
            for up, down in zip(LOG_SUCCESS, LOG_FAILURE, strict=True)
        ]
        top, total, first, second = max(logs), 0.0, 0.0, 0.0
        for place, one in zip(GRID, logs, strict=True):
            density = own * exp(-0.5 * (place - seen.mean) ** 2 / seen.variance)
            if new:
                density += new * exp(-0.5 * (place - prior.mean) ** 2 / prior.variance)
            weight = density * exp(one - top)
            total += weight
            first += weight * place
            second += weight * place * place
        if total <= 0.0:  # the likelihood lies beyond what the forecast can reach in floats
            return seen.mean, seen.variance
        mean = first / total
        return mean, max(second / total - mean * mean, VARIANCE_MIN)

    def state_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "tracks": [[key, *asdict(one).values()] for key, one in self.tracks.items()],
            "shared": [self.level, self.gain, *self.cov],
            "spread": [self.squares, self.firsts],
            "version": self.version,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what was saved."""
        self.tracks = {key: Track(*rest) for key, *rest in state["tracks"]}
        self.level, self.gain, level, both, gain = state["shared"]
        self.cov = (level, both, gain)
        self.squares, self.firsts = state["spread"]
        self.version = state["version"]


def expected(mean: float, variance: float, of: Callable[[float], float]) -> float:
    """Return the expectation of a function of a normal logit, by quadrature."""
    spread = sqrt(variance)
    return sum(weight * of(mean + node * spread) for node, weight in RULE)


def mixed(mean: float, variance: float, rollouts: int) -> tuple[float, float]:
    """Return mean and mean square of the chance of a mixed group, for a normal logit.

    A group is mixed if its rollouts neither all succeed nor all fail.
    """
    spread, first, second = sqrt(variance), 0.0, 0.0
    for node, weight in RULE:
        p = sigmoid(mean + node * spread)
        chance = 1.0 - p**rollouts - (1.0 - p) ** rollouts
        first += weight * chance
        second += weight * chance * chance
    return first, second
