"""Prompts from difficulty bins, those that persistently lose weighing more.

Source: after abstract and summaries of Prompt-GDRO (Panaganti et al. 2026; arXiv 2601.19280): bins
    by online pass rate, multiplicative weights on a moving average of the loss that is not biased
    by how often a bin is visited.
Reads: beliefs of the candidates and of the prompt of a settled group; which prompts are open.
Memory: for each bin, the average loss and its visits; its stream.
Needs: nothing.
Deviations: constants are assumed: 8 bins by the mean of the belief, not pass@k; loss = 1 - success
    rate; the average keeps 0.95 at each visit and is divided by what of it was ever filled; a tenth
    of the weight is spread evenly. Bins are met within a pool of candidates.
Fails when: much of the data cannot be solved at all: its bin has the highest loss for ever, and
    takes the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import Final

from sojourn.errors import UserError
from sojourn.policies.select.pool import Pooled
from sojourn.rollout.model import GroupResult
from sojourn.rollout.slots import Metrics, Pick, Setting, State
from sojourn.rollout.views import View

BINS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the weights.

    Attributes:
        pool: Candidates for each prompt wanted.
        bins: Bins of equal width in success rate.
        rate: How strongly loss weighs: η in exp(η loss).
        keep: Weight that a bin's average keeps at each visit.
        even_share: Share of the weight that is spread over all bins.
    """

    pool: int = 16
    bins: int = 8
    rate: float = 2.0
    keep: float = 0.95
    even_share: float = 0.1

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("pool", "bins"):
            if getattr(self, name) < 1:
                raise UserError(f"select.{name} is {getattr(self, name)}; it must be at least 1")
        if self.bins > BINS_MAX:
            raise UserError(f"select.bins is {self.bins}; it must be at most {BINS_MAX}")
        if self.rate < 0.0:
            raise UserError(f"select.rate is {self.rate:g}; it must be at least 0")
        if not 0.0 <= self.keep < 1.0 or not 0.0 < self.even_share <= 1.0:
            raise UserError("select.keep must be in [0, 1) and select.even_share in (0, 1]")


class PromptGdroInspired(Pooled):
    """Multiplicative weights over bins."""

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(setting, config.pool)
        self.config = config
        self.sums = [0.0] * config.bins
        self.visits = [0] * config.bins

    def propose(self, count: int, view: View) -> list[Pick]:
        """Draw from the candidates, each with its bin's weight over the bin's candidates."""
        pool = self.pool(count, view)
        places = [self._bin(one, view) for one in pool]
        members = [0] * self.config.bins
        for place in places:
            members[place] += 1
        weights = self.weights()
        logs = [log(weights[place] / members[place]) for place in places]
        return self.drawn(pool, logs, count, "weight of its bin")

    def weights(self) -> list[float]:
        """Return the weight of each bin; a bin never visited has the highest loss there is."""
        config = self.config
        logs = [config.rate * self.loss(at) for at in range(config.bins)]
        most = max(logs)
        raw = [exp(one - most) for one in logs]
        total, even = sum(raw), config.even_share / config.bins
        return [(1.0 - config.even_share) * one / total + even for one in raw]

    def loss(self, at: int) -> float:
        """Return a bin's average loss, over the share of the average that was ever filled."""
        visits = self.visits[at]
        return self.sums[at] / (1.0 - self.config.keep**visits) if visits else 1.0

    def observe(self, result: GroupResult, view: View) -> None:
        """Average a group's loss into its bin."""
        values, at = result.values, self._bin(result.group.prompt_id, view)
        loss = 1.0 - sum(map(view.plan.success, values)) / len(values)
        self.sums[at] = self.config.keep * self.sums[at] + (1.0 - self.config.keep) * loss
        self.visits[at] += 1

    def metrics(self) -> Metrics:
        """Return the weight of each bin."""
        return {f"bin_{at}_weight": one for at, one in enumerate(self.weights())}

    def state_dict(self) -> State:
        """Return the bins beside the stream."""
        return {**super().state_dict(), "sums": list(self.sums), "visits": list(self.visits)}

    def load_state_dict(self, state: State) -> None:
        """Go on where another left off."""
        super().load_state_dict(state)
        self.sums, self.visits = list(state["sums"]), list(state["visits"])

    def _bin(self, prompt_id: int, view: View) -> int:
        mean = view.beliefs.read(prompt_id, view.version).mean
        return min(int(mean * self.config.bins), self.config.bins - 1)
