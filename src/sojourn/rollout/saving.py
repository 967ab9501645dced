"""The state of a run as JSON values, and back: what is restored goes on with the same actions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from sojourn.rollout import states as st
from sojourn.rollout.model import Reward
from sojourn.rollout.records import Engine, Run
from sojourn.rollout.slots import Policies, State
from sojourn.rollout.stored import group_from, rollout_from
from sojourn.rollout.waiting import Waiting

FORMAT: Final = 1
NUMBERS: Final = (
    "time",
    "step",
    "wanted",
    "budget",
    "next_uid",
    "next_rid",
    "next_cohort",
    "submitted",
    "stale_events",
    "refused",
)
"""Attributes of a run that are plain numbers."""


def save(run: Run, waiting: Waiting) -> State:
    """Return everything that the next actions depend on, between two events."""
    assert not run.actions
    assert not run.ripe
    assert not run.woken
    return {
        "format": FORMAT,
        **{name: getattr(run, name) for name in NUMBERS},
        "groups": [asdict(one) for one in run.groups.values()],
        "open": list(run.open_groups),
        "usable": list(run.usable_groups),
        "rollouts": [asdict(one) for one in run.rollouts.values()],
        "by_status": {status: list(rids) for status, rids in run.by_status.items()},
        "rewards": [list(row) for rows in run.rewards.values() for row in rows],
        "engines": [asdict(one) for one in run.engines.values()],
        "cohorts": [[cohort, list(uids)] for cohort, uids in run.cohorts.items()],
        "ended": dict(run.ended),
        "groups_over": dict(run.groups_over),
        "beliefs": run.beliefs.state_dict(),
        "ledger": run.ledger.state_dict(),
        "tokens": run.tokens.state_dict(),
        "waiting": waiting.state_dict(run),
        "policies": _policies_state(run.policies),
    }


def restore(run: Run, waiting: Waiting, state: State) -> None:
    """Put a fresh run, made with the same plan, prompts and policies, where another one was."""
    assert state["format"] == FORMAT
    assert not run.next_rid, "a run is restored before its first event"
    for name in NUMBERS:
        setattr(run, name, state[name])
    run.groups = {one["uid"]: group_from(one) for one in state["groups"]}
    run.open_groups = {uid: run.groups[uid] for uid in state["open"]}
    run.usable_groups = {uid: run.groups[uid] for uid in state["usable"]}
    run.open_prompts = {}
    for group in run.groups.values():
        run.open_prompts[group.prompt_id] = run.open_prompts.get(group.prompt_id, 0) + 1
    run.rollouts = {one["rid"]: rollout_from(one) for one in state["rollouts"]}
    run.by_status = {status: dict.fromkeys(state["by_status"][status]) for status in st.LIVE}
    run.rewards = {}
    for row in state["rewards"]:
        run.rewards.setdefault(row[0], []).append(Reward(*row))
    run.engines = {one["id"]: Engine(**one) for one in state["engines"]}
    run.cohorts = {cohort: dict.fromkeys(uids) for cohort, uids in state["cohorts"]}
    run.ended = dict(state["ended"])
    run.groups_over = dict(state["groups_over"])
    run.beliefs.load_state_dict(state["beliefs"])
    run.ledger.load_state_dict(state["ledger"])
    run.tokens.load_state_dict(state["tokens"])
    waiting.load_state_dict(state["waiting"])
    _restore_policies(run.policies, state["policies"])


def _policies_state(policies: Policies) -> State:
    return {
        slot: (
            [one.state_dict() for one in policy]
            if isinstance(policy, tuple)
            else policy.state_dict()
        )
        for slot, policy in policies._asdict().items()
    }


def _restore_policies(policies: Policies, states: State) -> None:
    for slot, policy in policies._asdict().items():
        if isinstance(policy, tuple):
            for one, state in zip(policy, states[slot], strict=True):
                one.load_state_dict(state)
        else:
            policy.load_state_dict(states[slot])
