"""Putting training batches together: the oldest groups first, and what replay adds."""

from __future__ import annotations

from collections import Counter

from sojourn.rollout import states as st
from sojourn.rollout.actions import Train
from sojourn.rollout.events import Batched
from sojourn.rollout.model import Group, GroupResult, Rollout, Subset, TrainGroup
from sojourn.rollout.records import Run
from sojourn.rollout.versions import stale_tokens


def make_batch(run: Run) -> Batched | None:
    """Hand a batch to the trainer if one is wanted and ready."""
    policies = run.policies
    if not run.wanted:
        return None
    policies.replay.evict(run.version)  # or a batch would count on what is about to go
    if run.usable < run.need:
        return None
    oldest = sorted(
        run.usable_groups.values(), key=lambda group: (group.opened_at_version, group.uid)
    )
    overdue = sum(run.ledger.overdue(group.opened_at_version) for group in oldest)
    count = min(max(run.need, overdue), run.plan.batch_groups)
    # Replay gives way where later batches would not have the places for all that has begun.
    while count < min(run.plan.batch_groups, len(oldest)) and _too_many(run, oldest[count:]):
        count += 1
    if _leaves_too_many(run, oldest[count:]):
        return None
    if not all(control.ready(run) for control in policies.controls):
        return None
    again = list(policies.replay.sample(run.plan.batch_groups - count, run))
    taken = oldest[: run.plan.batch_groups - len(again)]
    fresh = [run.result(group.uid) for group in taken]
    chosen = [(one, policies.subsample.select(one, run)) for one in fresh + again]
    for result, subset in chosen:
        assert set(subset.indices) <= set(result.scored), "only scored rollouts are trained"
        assert len(subset.indices) == len(subset.inclusion)
    advantages = policies.advantage.compute(chosen, run)
    groups = tuple(
        TrainGroup(result, subset, tuple(values), at >= len(fresh))
        for at, ((result, subset), values) in enumerate(zip(chosen, advantages, strict=True))
    )
    stale = _count_tokens(run, groups)
    run.wanted = False
    run.ledger.batched(run.plan.batch_groups - len(fresh))
    run.actions.append(Train(run.step, run.version, groups, stale, run.time))
    for result, subset in chosen[: len(fresh)]:
        policies.replay.put(result, run)
        group = run.groups[result.group.uid]
        run.enter_group(group, st.TRAINED)
        run.forget(group, (result.rollouts[at].rid for at in subset.indices))
    return Batched(run.time, run.step, tuple(one.result.group.uid for one in groups))


def _leaves_too_many(run: Run, left: list[Group]) -> bool:
    """Return whether a batch must wait for groups that are open.

    Young groups that finish early must not take the places that slow, older ones will need.
    Nothing is waited for but open groups: a batch never waits for one that can go at once.
    """
    if not run.open_groups:
        return False
    oldest = min(one.opened_at_version for one in run.open_groups.values())
    return _too_many(run, left, oldest)


def _too_many(run: Run, left: list[Group], since: int = 0) -> bool:
    """Return whether more would be left than batches can take before it is too old.

    Args:
        run: The run; its open groups are left too.
        left: Settled groups that the coming batch leaves.
        since: The oldest version whose groups are looked at; older ones take places all the same.
    """
    seen = Counter(one.opened_at_version for one in left)
    seen.update(one.opened_at_version for one in run.open_groups.values())
    remaining = 0
    for version in sorted(seen):
        remaining += seen[version]
        if version >= since and remaining > run.ledger.places(version):
            return True
    return False


def _count_tokens(run: Run, groups: tuple[TrainGroup, ...]) -> int:
    """Count what is stale, replayed and carried over; return the stale tokens."""
    stale = 0
    for one in groups:
        for rollout in _trained(one.result, one.subset):
            if one.replayed:
                run.tokens.replayed += rollout.sampled
            else:
                stale += stale_tokens(rollout.segments, run.version)
    run.tokens.stale += stale
    run.tokens.carried_over += sum(
        run.rollouts[rid].sampled for live in run.by_status.values() for rid in live
    )
    return stale


def _trained(result: GroupResult, subset: Subset) -> list[Rollout]:
    return [result.rollouts[at] for at in subset.indices]
