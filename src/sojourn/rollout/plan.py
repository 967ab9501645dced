"""What a training run asks of its rollouts: sizes, limits and how stale data may become."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from sojourn.errors import UserError
from sojourn.rollout.versions import Allowance, from_versions


@dataclass(frozen=True, slots=True)
class Plan:
    """The numbers of a training run that no policy decides.

    Attributes:
        batch_groups: Groups in a training batch.
        rollouts_per_group: Rollouts that each group opened adds to the budget: the mean that
            allocation may spend.
        groups_max: Groups that may be open at once.
        staleness_versions: Weight versions that may pass between the opening of a group and its
            training.
        staleness_groups: Groups that generation may be ahead of training; -1 for as many as those
            versions train on.
        batches_per_version: Batches that are trained before the engines get new weights.
        tokens_max: Sampled tokens after which a rollout is truncated.
        turns_max: Turns after which it is truncated; 0 for no limit.
        rounds_max: Rounds of allocation that a group may have.
        reward_low, reward_high: Rewards that count as a failure and as a success; those between
            count in part.
        sampling: Name of the sampling parameters.
        seed: Seed of every policy's random stream.
    """

    batch_groups: int = 32
    rollouts_per_group: int = 8
    groups_max: int = 1024
    staleness_versions: int = 0
    staleness_groups: int = -1
    batches_per_version: int = 1
    tokens_max: int = 16384
    turns_max: int = 0
    rounds_max: int = 16
    reward_low: float = 0.0
    reward_high: float = 1.0
    sampling: str = "default"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in (
            "batch_groups",
            "rollouts_per_group",
            "groups_max",
            "batches_per_version",
            "tokens_max",
            "rounds_max",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"plan.{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("staleness_versions", "turns_max", "seed"):
            if getattr(self, name) < 0:
                raise UserError(f"plan.{name} is {getattr(self, name)}; it must be at least 0")
        if self.staleness_groups < -1:
            raise UserError(
                f"plan.staleness_groups is {self.staleness_groups}; it must be at least -1"
            )
        most = self.staleness_versions * self.groups_per_version
        if self.staleness_groups > most:
            raise UserError(
                f"plan.staleness_groups is {self.staleness_groups}; it must be at most "
                f"staleness_versions × batches_per_version × batch_groups, which is {most}"
            )
        if not isfinite(self.reward_high - self.reward_low):
            raise UserError(
                f"plan.reward_low is {self.reward_low:g} and reward_high {self.reward_high:g}; "
                "both must be finite numbers"
            )
        if not self.reward_low < self.reward_high:
            raise UserError(
                f"plan.reward_low is {self.reward_low}; it must be below reward_high, "
                f"which is {self.reward_high}"
            )
        if self.groups_max < self.batch_groups:
            raise UserError(
                f"plan.groups_max is {self.groups_max}; it must be at least batch_groups, "
                f"which is {self.batch_groups}"
            )

    @property
    def groups_per_version(self) -> int:
        """Groups that are trained between two versions of the weights."""
        return self.batch_groups * self.batches_per_version

    @property
    def allowance(self) -> Allowance:
        """How far generation may run ahead."""
        usual = from_versions(self.staleness_versions, self.groups_per_version)
        if self.staleness_groups < 0:
            return usual
        return Allowance(self.staleness_versions, self.staleness_groups)

    def success(self, reward: float) -> float:
        """Return a reward as a share of a success, from 0 to 1."""
        share = (reward - self.reward_low) / (self.reward_high - self.reward_low)
        return min(max(share, 0.0), 1.0)
