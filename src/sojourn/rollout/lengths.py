"""How long the rollouts of a prompt are believed to be: log-normal, with a shared prior.

One-way random effects on log lengths: every prompt has a mean of its own around the pool's, and
its rollouts spread around it. Between- and within-prompt variance are estimated from all
observations (analysis of variance), so a prompt with few rollouts leans on the pool exactly as
much as the data say. An observation costs O(1).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import NormalDist
from typing import Any, Final, NamedTuple

STANDARD: Final = NormalDist()
VARIANCE_MIN: Final = 1e-6


class LengthBelief(NamedTuple):
    """A log-normal predictive distribution of a length in tokens.

    Attributes:
        mean_log, sd_log: Mean and standard deviation of the logarithm.
        weight: Observations of the prompt behind it, after decay.
        within_log: The part of `sd_log` that is of each rollout's own; 0 for not known.
    """

    mean_log: float
    sd_log: float
    weight: float
    within_log: float = 0.0

    def mean(self) -> float:
        """Return the expected length."""
        return exp(self.mean_log + 0.5 * self.sd_log**2)

    def quantile(self, share: float) -> float:
        """Return the length that this share of rollouts stays below."""
        return exp(self.mean_log + self.sd_log * STANDARD.inv_cdf(share))

    def survival(self, length: float) -> float:
        """Return the probability of being longer than `length`."""
        if length <= 0:
            return 1.0
        return STANDARD.cdf((self.mean_log - log(length)) / self.sd_log)

    def mean_beyond(self, length: float) -> float:
        """Return the expected length given that it is longer than `length`."""
        if length <= 0:
            return self.mean()
        beyond = self.survival(length)
        if beyond < 1e-12:
            return length
        part = STANDARD.cdf((self.mean_log + self.sd_log**2 - log(length)) / self.sd_log)
        return max(length, self.mean() * part / beyond)


@dataclass(slots=True)
class Sums:
    """Decayed count, sum and sum of squares of the log lengths of one prompt."""

    count: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    @property
    def explained(self) -> float:
        """What the prompt's own mean explains of its squares."""
        return self.total**2 / self.count if self.count > 0.0 else 0.0


class Lengths:
    """Log lengths of all prompts and the pool's variance within and between them.

    Attributes:
        keep: Weight that earlier observations of a prompt keep at each new one.
        prior_mean, prior_sd: What is believed of log lengths before anything was seen.
        prompts: Sums by prompt id.
        pool: Sum of all of them.
        explained: Sum of what each prompt's mean explains.
    """

    def __init__(self, keep: float, prior_mean: float, prior_sd: float) -> None:
        self.keep = keep
        self.prior_mean = prior_mean
        self.prior_sd = prior_sd
        self.prompts: dict[int, Sums] = {}
        self.pool = Sums()
        self.explained = 0.0

    def observe(self, prompt_id: int, length: int) -> None:
        """Take note of the length of a rollout that ended by itself."""
        self._add(prompt_id, log(max(length, 1)))

    def observe_longer(self, prompt_id: int, length: int) -> None:
        """Take note of a rollout that was cut at a length: it would have been longer.

        It counts with the expected logarithm of a length beyond that one.
        """
        belief = self.read(prompt_id)
        cut = log(max(length, 1))
        score = (cut - belief.mean_log) / belief.sd_log
        beyond = STANDARD.cdf(-score)
        if beyond > 1e-9:
            cut = max(cut, belief.mean_log + belief.sd_log * STANDARD.pdf(score) / beyond)
        self._add(prompt_id, cut)

    def read(self, prompt_id: int) -> LengthBelief:
        """Return the predictive distribution of the next rollout of a prompt."""
        within, between, mean = self._variances()
        sums = self.prompts.get(prompt_id, Sums())
        pull = within / between
        centre = (pull * mean + sums.total) / (pull + sums.count)
        spread = within + within / (pull + sums.count)
        return LengthBelief(centre, sqrt(spread), sums.count, sqrt(within))

    def _add(self, prompt_id: int, value: float) -> None:
        sums = self.prompts.setdefault(prompt_id, Sums())
        pool = self.pool
        self.explained -= sums.explained
        lost = 1.0 - self.keep
        pool.count += 1.0 - lost * sums.count
        pool.total += value - lost * sums.total
        pool.squares += value**2 - lost * sums.squares
        sums.count = self.keep * sums.count + 1.0
        sums.total = self.keep * sums.total + value
        sums.squares = self.keep * sums.squares + value**2
        self.explained += sums.explained

    def _variances(self) -> tuple[float, float, float]:
        """Return the variance within and between prompts, and the pool's mean.

        The prior counts as one observation of each, which fades as others come.
        """
        pool, half = self.pool, 0.5 * self.prior_sd**2
        mean = (self.prior_mean + pool.total) / (1.0 + pool.count)
        freedom = max(pool.count - len(self.prompts), 0.0)
        residual = max(pool.squares - self.explained, 0.0)
        within = max((half + residual) / (1.0 + freedom), VARIANCE_MIN)
        spread = max(pool.squares - pool.count * mean**2, 0.0) if pool.count else 0.0
        overall = (2.0 * half + spread) / (1.0 + pool.count)
        return within, max(overall - within, VARIANCE_MIN), mean

    def state_dict(self) -> dict[str, Any]:
        """Return all sums as JSON values."""
        return {
            "prompts": [
                [key, one.count, one.total, one.squares] for key, one in self.prompts.items()
            ],
            "pool": [self.pool.count, self.pool.total, self.pool.squares],
            "explained": self.explained,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over sums that were saved."""
        self.prompts = {key: Sums(*sums) for key, *sums in state["prompts"]}
        self.pool = Sums(*state["pool"])
        self.explained = state["explained"]
