"""How far generation may run ahead of training, in one place.

Source of the admission rule: AReaL's staleness manager, min(C - running, (η + v + 1) B -
(accepted + running)), with groups as the unit. "Staleness" means three things in three systems;
`Allowance` is the common measure, and the functions beside it convert, for none may be copied.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor
from typing import Any, NamedTuple

from sojourn.rollout.model import Segment


class Allowance(NamedTuple):
    """How stale training data may become.

    Attributes:
        versions: Weight versions that may pass between the opening of a group and its training.
        groups: Groups that may be ahead of what training has asked for.
    """

    versions: int
    groups: int


def from_versions(versions: int, groups_per_version: int) -> Allowance:
    """Return the allowance of AReaL's η: so many versions, and the groups that they train on."""
    return Allowance(versions, versions * groups_per_version)


def from_excess(excess: float, groups_per_version: int) -> Allowance:
    """Return that of verl's `staleness_threshold`: the share of a version's groups in excess.

    A group in excess of 100 % is trained two versions later, and so on.
    """
    return Allowance(ceil(excess), floor(excess * groups_per_version))


def from_samples(samples: int, rollouts_per_group: int, groups_per_version: int) -> Allowance:
    """Return that of PipelineRL's `max_lag`: rollouts that training may lag behind."""
    groups = samples // rollouts_per_group
    return Allowance(ceil(groups / groups_per_version), groups)


def to_excess(allowance: Allowance, groups_per_version: int) -> float:
    """Return an allowance as verl's excess share."""
    return allowance.groups / groups_per_version


def to_samples(allowance: Allowance, rollouts_per_group: int) -> int:
    """Return an allowance as PipelineRL's lag in rollouts."""
    return allowance.groups * rollouts_per_group


def stale_tokens(segments: Iterable[Segment], version: int) -> int:
    """Return how many trainable tokens were made by weights older than `version`."""
    return sum(one.tokens for one in segments if one.trainable and one.weight_version < version)


@dataclass(slots=True)
class VersionLedger:
    """Counts groups against the versions that may train on them.

    Attributes:
        allowance: How far ahead generation may run.
        groups_per_version, batches_per_version: Groups that are trained between two versions: B,
            and in how many batches.
        capacity: Groups that may be open at once: C.
        version: Version of the weights in training: v.
        running: Groups open.
        batches: Batches made since these weights went live.
        accepted: Groups settled and kept, since the start; filtered ones never count, or the
            capacity would shrink to nothing.
    """

    allowance: Allowance
    groups_per_version: int
    capacity: int
    version: int = 0
    running: int = 0
    accepted: int = 0
    batches: int = 0
    batches_per_version: int = 1

    def admission(self, replayed: int = 0) -> int:
        """Return how many groups may be opened now.

        `replayed` is how many groups of each coming batch are not newly generated: so many fewer
        can be used, in the batches to come of this version and in the lead.
        """
        batch = self.groups_per_version // self.batches_per_version
        coming = max(self.batches_per_version - self.batches, 0)
        spared = coming * replayed + self.allowance.groups * replayed // batch
        ahead = self.allowance.groups + (self.version + 1) * self.groups_per_version - spared
        free = min(self.capacity - self.running, ahead - (self.accepted + self.running))
        return max(free, 0)

    def opened(self) -> None:
        """Count a group that was opened."""
        self.running += 1

    def accept(self) -> None:
        """Count a group that settled and will be trained."""
        assert self.running > 0
        self.running -= 1
        self.accepted += 1

    def reject(self) -> None:
        """Count a group that was open and will not be trained: filtered or given up."""
        assert self.running > 0
        self.running -= 1

    def withdraw(self) -> None:
        """Count a group that had settled and will not be trained after all."""
        assert self.accepted > 0
        self.accepted -= 1

    def batched(self, replayed: int = 0) -> None:
        """Count a batch, and the groups in it that were not newly generated."""
        self.batches += 1
        self.accepted += replayed

    def advance(self, version: int) -> None:
        """Take note of new weights."""
        assert version >= self.version, "versions only go up"
        if version > self.version:
            self.batches = 0
        self.version = version

    def places(self, opened_at_version: int) -> int:
        """Return how many groups can be trained after the coming batch and in time.

        In time is before a group opened at that version is too old.
        """
        versions = opened_at_version + self.allowance.versions - self.version + 1
        taken = (self.batches + 1) * self.groups_per_version // self.batches_per_version
        return max(versions * self.groups_per_version - taken, 0)

    def age(self, opened_at_version: int) -> int:
        """Return how many versions have passed since a group was opened."""
        return self.version - opened_at_version

    def overdue(self, opened_at_version: int) -> bool:
        """Return whether a group must be in the very next batch, or become too old."""
        return self.age(opened_at_version) >= self.allowance.versions

    def recover(self, version: int, waiting: int, running: int) -> None:
        """Begin again at a version after a loss of state.

        `waiting` are settled groups that were saved, `running` the open ones. What had been
        trained is version times batch; counting from 0 would let a burst of groups in.
        """
        self.version = version
        self.batches = 0
        self.accepted = version * self.groups_per_version + waiting
        self.running = running

    def state_dict(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {
            "version": self.version,
            "running": self.running,
            "accepted": self.accepted,
            "batches": self.batches,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over counts that were saved."""
        self.version = state["version"]
        self.running = state["running"]
        self.accepted = state["accepted"]
        self.batches = state["batches"]
