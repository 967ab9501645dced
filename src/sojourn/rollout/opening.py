"""Opening groups, giving them rounds of rollouts, and settling them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from sojourn.rollout import states as st
from sojourn.rollout.events import Settled
from sojourn.rollout.model import HINT, Group
from sojourn.rollout.records import Run
from sojourn.rollout.slots import Round

OPENED_AT_ONCE_MAX: Final = 1 << 20


def open_groups(run: Run) -> None:
    """Open as many groups as staleness, the controls and the selector want."""
    policies = run.policies
    count = min(
        run.admission,
        OPENED_AT_ONCE_MAX,
        *(control.appetite(run) for control in policies.controls),
    )
    if count < 1:
        return
    picks = list(policies.select.propose(count, run))
    assert len(picks) <= count, "a selector gives no more than it is asked for"
    if not picks:
        return
    run.budget += run.plan.rollouts_per_group * len(picks)
    rounds = list(policies.allocate.open(picks, run.budget, run))
    assert len(rounds) == len(picks)
    cohort = run.next_cohort
    run.next_cohort += 1
    for at, (pick, one) in enumerate(zip(picks, within(rounds, run.budget, 1), strict=True)):
        group = run.add_group(pick.prompt_id, cohort)
        belief = run.beliefs.read(pick.prompt_id, run.version)
        group.decisions.append(
            run.decision("select", pick.propensity, pick.reason, pick.prompt_id, belief, at)
        )
        _submit(run, group, one, "allocate")


def within(rounds: Sequence[Round], budget: int, least: int) -> list[Round]:
    """Return rounds cut so that all together keep to a budget, from the largest down.

    Each keeps at least `least` rollouts; a budget pays for so many.
    """
    most = budget - least * (len(rounds) - 1)  # what one may have if the others have the least
    counts = [max(min(one.rollouts, most), least) for one in rounds]
    excess = sum(counts) - budget
    if excess > 0:
        largest = sorted(range(len(counts)), key=lambda at: -counts[at])
        while excess > 0:
            height = counts[largest[0]]
            assert height > least, "the budget pays for the least of all"
            for at in largest:
                if not excess or counts[at] < height:
                    break
                counts[at] -= 1
                excess -= 1
            largest.sort(key=lambda at: -counts[at])
    return [one._replace(rollouts=count) for one, count in zip(rounds, counts, strict=True)]


def _submit(run: Run, group: Group, one: Round, kind: str) -> None:
    """Make the rollouts of a round; they wait for an engine."""
    group.n_target += one.rollouts
    group.rounds += 1
    belief = run.beliefs.read(group.prompt_id, run.version)
    group.decisions.append(
        run.decision(kind, one.propensity, one.reason, group.uid, belief, one.rollouts)
    )
    for _ in range(one.rollouts):
        rollout = run.add_rollout(group, run.plan.tokens_max)
        run.give(rollout, HINT, one.hint_tokens, one.hint_ids)
        run.enter(rollout, st.PENDING)


def settle(run: Run) -> list[Settled]:
    """Settle the groups that are ripe, or give them another round; say which settled."""
    settled: list[Settled] = []
    while run.ripe:
        uid = next(iter(run.ripe))
        del run.ripe[uid]
        group = run.groups[uid]
        assert group.status == st.OPEN
        if group.waiting:
            continue
        if group.closed:
            settled.append(_settle(run, group))
            continue
        asked = _asked(run, group)
        if asked and not _more(run, asked):
            settled += [_settle(run, one) for one in asked]
    return settled


def _asked(run: Run, group: Group) -> list[Group]:
    """Return the groups that are to be asked about with this one; none while some are not ripe."""
    if not run.policies.allocate.together:
        return [group]
    together = [run.groups[uid] for uid in run.cohorts[group.cohort]]
    return [] if any(one.waiting for one in together) else together


def _more(run: Run, groups: list[Group]) -> bool:
    """Give another round to groups that want one; whether there were any."""
    able = [
        one
        for one in groups
        if not one.closed and one.rounds < run.plan.rounds_max and one.status == st.OPEN
    ]
    if not able or run.budget < 1:
        return False
    rounds = list(run.policies.allocate.more(able, run.budget, run))
    assert len(rounds) == len(able)
    given = within(rounds, run.budget, 0)
    for group, one in zip(able, given, strict=True):
        if one.rollouts:
            _submit(run, group, one, "more")
    for group in groups:
        run.ripe.pop(group.uid, None)
    return any(one.rollouts for one in given)


def _settle(run: Run, group: Group) -> Settled:
    """Let the beliefs and policies see a group, and keep it, filter it or give it up."""
    policies = run.policies
    result = run.result(group.uid)
    values = result.values
    if not values:
        status = st.DISCARDED
    else:
        successes = sum(run.plan.success(value) for value in values)
        run.beliefs.observe(group.prompt_id, successes, len(values), run.version)
        policies.select.observe(result, run)
        policies.allocate.observe(result, run)
        status = st.SETTLED if policies.select.keep(result, run) else st.FILTERED
    cohort = group.cohort
    run.enter_group(group, status)
    if status == st.SETTLED:
        run.ledger.accept()
    else:
        run.ledger.reject()
        run.forget(group)
    _wake(run, run.cohorts.get(cohort, ()))
    return Settled(run.time, group.uid, status)


def _wake(run: Run, uids: Iterable[int]) -> None:
    """Let the rest of a cohort be looked at again, now that one of it is no longer open."""
    if run.policies.allocate.together:
        first = next(iter(uids), None)
        if first is not None and not run.groups[first].waiting:
            run.ripe[first] = None
