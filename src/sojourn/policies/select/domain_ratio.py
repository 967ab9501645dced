"""Domains are drawn so that the shares of completed rollouts keep to a target.

Source: the domain sampler that Apriel adds to PipelineRL, released code: after 50 completions the
    weight of a domain is its target times target / actual share, that ratio clipped to 0.1 to 10.
Reads: domains of prompts; the share of each among rollouts that ended; which prompts are open.
Memory: completed rollouts by domain; its stream.
Needs: nothing.
Deviations: presets differ in what is counted: all completions ("cumulative", as released) or the
    latest ones, as many as the run's beliefs remember ("window"). Within a domain prompts are drawn
    at random.
Fails when: cumulative and late in a run: counts are so large that a shift takes as long to mend as
    it took to come. A domain has fewer prompts than its share asks for: they come again and again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from sojourn.errors import UserError, unknown
from sojourn.policies.select.pool import draw
from sojourn.rollout.model import GroupResult
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Metrics, Pick, Setting, State
from sojourn.rollout.states import ENDED
from sojourn.rollout.views import View

VARIANTS: Final = ("cumulative", "window")
SHARE_MAX: Final = 1e9


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the shares.

    Attributes:
        targets: Share of each domain, such as "math=0.7,code=0.3"; those of the data set if empty.
        completions_min: Rollouts that must have ended before shares are corrected.
        ratio_min: Lower bound of target over actual share.
        ratio_max: Upper bound of it.
        variant: What is counted: "cumulative" or "window".
    """

    targets: str = ""
    completions_min: int = 50
    ratio_min: float = 0.1
    ratio_max: float = 10.0
    variant: str = "cumulative"

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.completions_min < 1:
            raise UserError(f"select.completions_min is {self.completions_min}; it must be above 0")
        if not 0.0 < self.ratio_min <= 1.0 <= self.ratio_max:
            raise UserError("select.ratio_min must be in (0, 1] and select.ratio_max at least 1")
        if self.variant not in VARIANTS:
            raise unknown("select.variant", self.variant, VARIANTS)
        self.shares()

    def shares(self) -> dict[str, float]:
        """Return the targets by domain, adding up to 1; empty if none are given."""
        found: dict[str, float] = {}
        for part in filter(None, self.targets.split(",")):
            name, _, share = part.partition("=")
            try:
                found[name.strip()] = float(share)
            except ValueError:
                raise UserError(f"select.targets has {part!r}; write domain=share") from None
        if not all(0.0 <= one <= SHARE_MAX for one in found.values()) or (
            found and not sum(found.values())
        ):
            raise UserError(
                f"select.targets needs shares from 0 to {SHARE_MAX:g}, some of them above 0"
            )
        return {name: one / sum(found.values()) for name, one in found.items()}


class DomainRatio:
    """Draws domains, then prompts."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config, self.stream = config, setting.stream
        self.prompts = setting.prompts
        self.members: dict[str, list[int]] = {}
        for one in setting.prompts:
            self.members.setdefault(one.domain, []).append(one.id)
        total = len(setting.prompts)
        own = {name: len(ids) / total for name, ids in self.members.items()}
        self.targets = config.shares() or own
        for name in self.targets:
            if name not in self.members:
                raise unknown("domain in select.targets", name, self.members)
        self.counts = dict.fromkeys(self.targets, 0)

    def propose(self, count: int, view: View) -> list[Pick]:
        """Draw a domain for each pick, then so many different prompts of each."""
        weights = self.weights(view)
        names = list(weights)
        wanted = dict.fromkeys(names, 0)
        for _ in range(count):
            wanted[names[self.stream.weighted(list(weights.values()))]] += 1
        total = sum(weights.values())
        picks: list[Pick] = []
        for name, share in weights.items():
            chance = min(count * share / total / len(self.members[name]), 1.0)
            drawn = draw(self.stream, self.members[name], wanted[name], view)
            picks += [Pick(one, chance, f"domain {name}") for one in drawn]
        return picks

    def weights(self, view: View) -> dict[str, float]:
        """Return the weight of each domain."""
        config, done = self.config, sum(self.counts.values())
        if done < config.completions_min:
            return dict(self.targets)
        weights = {}
        for name, target in self.targets.items():
            windowed = config.variant == "window"
            actual = view.beliefs.domain_share(name) if windowed else self.counts[name] / done
            ratio = target / actual if actual > 0.0 else config.ratio_max
            weights[name] = target * min(max(ratio, config.ratio_min), config.ratio_max)
        return weights

    def keep(self, result: GroupResult, view: View) -> bool:
        """Train every group."""
        return True

    def observe(self, result: GroupResult, view: View) -> None:
        """Count rollouts that ended."""
        name = self.prompts[result.group.prompt_id].domain
        if name in self.counts:
            self.counts[name] += sum(one.status in ENDED for one in result.rollouts)

    def metrics(self) -> Metrics:
        """Return the share of each domain so far."""
        done = max(sum(self.counts.values()), 1)
        return {f"share_{name}": count / done for name, count in self.counts.items()}

    def state_dict(self) -> State:
        """Return the counts and the stream."""
        return {"stream": self.stream.state_dict(), "counts": dict(self.counts)}

    def load_state_dict(self, state: State) -> None:
        """Go on where another left off."""
        self.stream.load_state_dict(state["stream"])
        self.counts = dict(state["counts"])
