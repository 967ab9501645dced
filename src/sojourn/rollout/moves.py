"""Carrying out what policies propose: abort, resume, fork, extend, migrate, close.

A proposal that cannot be carried out, because the rollout has ended meanwhile, say, is counted and
changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from sojourn.rollout import states as st
from sojourn.rollout.actions import Abort, Close, Extend, Fork, Migrate, Proposal, Resume
from sojourn.rollout.model import FORKED, SAMPLED, Group, Rollout, Segment
from sojourn.rollout.records import Run

KEEP: Final = "keep"
DISCARD: Final = "discard"


def apply(run: Run, proposals: Iterable[Proposal]) -> None:
    """Carry out proposals; of those about one rollout the strongest.

    Closing a group beats discarding, then come parking, resuming and moving. Extending goes with
    any of them but discarding, and forking too.
    """
    closes: dict[int, Close] = {}
    aborts: dict[int, Abort] = {}
    resumes: dict[int, Resume] = {}
    migrates: dict[int, Migrate] = {}
    others: list[Extend | Fork] = []
    for one in proposals:
        if isinstance(one, Close):
            closes.setdefault(one.group, one)
        elif isinstance(one, Abort):
            if one.rid not in aborts or (aborts[one.rid].keep and not one.keep):
                aborts[one.rid] = one
        elif isinstance(one, Resume):
            resumes.setdefault(one.rid, one)
        elif isinstance(one, Migrate):
            migrates.setdefault(one.rid, one)
        else:
            others.append(one)
    for close in closes.values():
        _count(run, _close(run, close))
    for other in others:
        gone = aborts.get(other.rid)
        if gone is None or gone.keep:
            done = _extend(run, other) if isinstance(other, Extend) else _fork(run, other)
            _count(run, done)
    for abort in aborts.values():
        _count(run, _abort(run, abort))
    for resume in resumes.values():
        if resume.rid not in aborts:
            _count(run, _resume(run, resume.rid))
    for migrate in migrates.values():
        if migrate.rid not in aborts:
            _count(run, _migrate(run, migrate))


def _count(run: Run, done: bool) -> None:
    run.refused += not done


def _close(run: Run, close: Close) -> bool:
    """Discard what is live of a group, and the group itself if it had settled."""
    group = run.groups.get(close.group)
    if group is None or (group.closed and group.status == st.OPEN):
        return False
    group.closed = True
    group.decisions.append(
        run.decision("close", close.propensity, close.reason, group.uid, group.rids, run.version)
    )
    if group.status == st.SETTLED:
        run.ledger.withdraw()
        run.enter_group(group, st.DISCARDED)
        run.forget(group)
        return True
    for rollout in run.members(group.uid):
        if rollout.status in st.LIVE:
            _stop(run, rollout, keep=False, reason=close.reason or "group closed")
    if not group.waiting:
        run.ripe[group.uid] = None
    return True


def _abort(run: Run, abort: Abort) -> bool:
    rollout = run.rollouts.get(abort.rid)
    if rollout is None or rollout.status not in st.LIVE:
        return False
    decided = run.decision(
        "abort",
        abort.propensity,
        abort.reason,
        abort.keep,
        rollout.rid,
        rollout.sampled,
        rollout.features,
    )
    if not _stop(run, rollout, abort.keep, abort.reason):
        return False
    rollout.decisions.append(decided)
    return True


def _stop(run: Run, rollout: Rollout, keep: bool, reason: str) -> bool:
    """Park or discard a live rollout, by way of its engine if one has it."""
    if rollout.status == st.RUNNING:
        if rollout.stop == DISCARD:
            return False
        if not rollout.stop:
            run.actions.append(Abort(rollout.rid, keep, reason, attempt=rollout.attempt))
        rollout.stop = KEEP if keep else DISCARD
        rollout.resumes = False
        rollout.destination = -1
    elif not keep:
        run.enter(rollout, st.PRUNED, reason)
    elif rollout.status == st.PARKED:
        rollout.holds = True
    else:
        run.enter(rollout, st.PARKED)
    return True


def _resume(run: Run, rid: int) -> bool:
    rollout = run.rollouts.get(rid)
    if rollout is None:
        return False
    if rollout.status == st.RUNNING and rollout.stop == KEEP:
        rollout.resumes = True  # as soon as the abort is answered
        return True
    if rollout.status != st.PARKED or rollout.sampled >= rollout.token_limit:
        return False
    go_on(run, rollout)
    return True


def go_on(run: Run, rollout: Rollout) -> None:
    """Let a rollout that no engine has go on, or wait for its environment first."""
    if rollout.awaits_tool:
        run.enter(rollout, st.ACTING)
    else:
        run.enter(rollout, st.PENDING)


def _migrate(run: Run, migrate: Migrate) -> bool:
    rollout = run.rollouts.get(migrate.rid)
    engine = run.engines.get(migrate.engine)
    if rollout is None or engine is None or rollout.status not in st.LIVE:
        return False
    if rollout.status == st.RUNNING:
        if rollout.stop or rollout.engine == engine.id:
            return False
        run.actions.append(Abort(rollout.rid, True, "migrate", attempt=rollout.attempt))
        rollout.stop = KEEP
        rollout.resumes = True
    elif rollout.status == st.PARKED:
        if rollout.sampled >= rollout.token_limit:
            return False
        go_on(run, rollout)
    rollout.destination = engine.id
    return True


def _extend(run: Run, extend: Extend) -> bool:
    rollout = run.rollouts.get(extend.rid)
    if rollout is None or rollout.status not in st.LIVE or min(extend.tokens, extend.turns) < 0:
        return False
    rollout.token_limit += extend.tokens
    if rollout.turn_limit:
        rollout.turn_limit += extend.turns
    rollout.decisions.append(
        run.decision(
            "extend",
            extend.propensity,
            extend.reason,
            rollout.rid,
            rollout.sampled,
            rollout.turns,
        )
    )
    return True


def _fork(run: Run, fork: Fork) -> bool:
    """Make a second continuation, which shares the parent's tokens up to a point."""
    parent = run.rollouts.get(fork.rid)
    if parent is None or run.budget < 1 or not 0 <= fork.at <= parent.length:
        return False
    group: Group = run.groups[parent.group]
    if group.status != st.OPEN or group.closed or parent.status in (st.PRUNED, st.FAILED):
        return False
    shared, sampled = _cut(parent, fork.at)
    chosen = fork.token >= 0
    limit = parent.token_limit - sampled - chosen
    if limit < 1:
        return False
    child = run.add_rollout(group, limit, parent.rid, fork.at)
    group.n_target += 1
    child.segments = shared
    child.length = fork.at
    if chosen:
        run.give(child, FORKED, 1, [fork.token])
        child.segments[-1].chosen.append(0)
    decided = run.decision("fork", fork.propensity, fork.reason, parent.rid, fork.at, fork.token)
    child.decisions.append(decided)
    run.enter(child, st.PENDING)
    run.ripe.pop(group.uid, None)
    return True


def _cut(parent: Rollout, at: int) -> tuple[list[Segment], int]:
    """Return copies of a rollout's segments up to a token, and how much of them it sampled."""
    shared: list[Segment] = []
    left, sampled = at, 0
    for one in parent.segments:
        if not left:
            break
        tokens = min(one.tokens, left)
        left -= tokens
        sampled += tokens if one.kind == SAMPLED else 0
        shared.append(
            replace(
                one,
                kind=FORKED if one.kind == SAMPLED else one.kind,
                tokens=tokens,
                token_ids=one.token_ids[:tokens],
                logprobs=one.logprobs[:tokens],
                chosen=[offset for offset in one.chosen if offset < tokens],
            )
        )
    return shared, sampled
