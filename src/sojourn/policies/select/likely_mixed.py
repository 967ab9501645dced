"""Of a random pool, the prompts whose group may well have both successes and failures.

Source: ours. The chance of a mixed group is what DAPO's filter is paid by; it is computed from a
    filter of success probabilities on the logit scale (`logit_filter`), in which prompts drift
    together, gain by training, and now and then jump. What is not known of it counts in favour:
    its standard deviation is added, as upper confidence bounds do.
Reads: which prompts are open; the plan's rollouts for each group; rewards and version of settled
    groups. Not the run's beliefs, which know no drift that prompts share.
Memory: mean and variance of each prompt seen, level and gain of all; its stream.
Needs: nothing.
Deviations: none; it has no paper.
Fails when: rewards are mostly partial: groups then differ although few of their rollouts succeed
    or fail. A run is so short that few prompts come twice: it tries what is new first, and has no
    time to use what it learnt.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from sojourn.errors import UserError
from sojourn.policies.select.logit_filter import LogitFilter, Motion, mixed
from sojourn.policies.select.pool import Pooled
from sojourn.rollout.model import GroupResult
from sojourn.rollout.slots import Metrics, Pick, Setting, State
from sojourn.rollout.views import View


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the choice.

    Attributes:
        pool: Candidates for each prompt wanted.
        renewal: Chance that a prompt's difficulty begins anew in one version.
        offset_step: Standard deviation by which a prompt's logit moves in one version.
        curiosity: Standard deviations of the chance that are added to it.
        filters: Whether groups without a difference in rewards are dropped and replaced.
    """

    pool: int = 16
    renewal: float = 0.002
    offset_step: float = 0.05
    curiosity: float = 1.0
    filters: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.pool < 1:
            raise UserError(f"select.pool is {self.pool}; it must be at least 1")
        if not 0.0 <= self.renewal < 1.0:
            raise UserError(f"select.renewal is {self.renewal:g}; it must be in [0, 1)")
        for name in ("offset_step", "curiosity"):
            if getattr(self, name) < 0.0:
                raise UserError(f"select.{name} is {getattr(self, name):g}; it must be at least 0")


class LikelyMixed(Pooled):
    """The highest bound of the chance of a mixed group."""

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(setting, config.pool)
        self.config = config
        self.filter = LogitFilter(Motion(renewal=config.renewal, offset_step=config.offset_step))

    def propose(self, count: int, view: View) -> list[Pick]:
        """Take the candidates with the highest chance, what is not known included."""
        rollouts, prior = view.plan.rollouts_per_group, self.filter.prior
        unseen = mixed(prior.mean, prior.variance, rollouts)
        pool = self.pool(count, view)
        scores = []
        for one in pool:
            chance, square = unseen
            if one in self.filter.tracks:
                mean, variance, renewed = self.filter.forecast(one, view.version)
                known = mixed(mean, variance, rollouts)
                chance = known[0] + renewed * (unseen[0] - known[0])
                square = known[1] + renewed * (unseen[1] - known[1])
            spread = sqrt(max(square - chance * chance, 0.0))
            scores.append(chance + self.config.curiosity * spread)
        return self.best(pool, scores, count, "chance of a mixed group")

    def keep(self, result: GroupResult, view: View) -> bool:
        """Train every group, or only the mixed ones."""
        return result.mixed or not self.config.filters

    def observe(self, result: GroupResult, view: View) -> None:
        """Let a group teach the filter; only a mixed one will teach the policy in training."""
        values = result.values
        successes = sum(map(view.plan.success, values))
        self.filter.observe(
            result.group.prompt_id, successes, len(values), view.version, result.mixed
        )

    def metrics(self) -> Metrics:
        """Return what all prompts share."""
        prior = self.filter.prior
        return {
            **super().metrics(),
            "level": prior.mean,
            "spread": prior.variance**0.5,
            "gain": self.filter.gain,
        }

    def state_dict(self) -> State:
        """Return the filter beside the stream."""
        return {**super().state_dict(), "filter": self.filter.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Go on where another left off."""
        super().load_state_dict(state)
        self.filter.load_state_dict(state["filter"])
