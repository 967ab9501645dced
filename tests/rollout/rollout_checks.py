"""What holds of a run between any two events, counted anew from its records."""

from collections import Counter

from sojourn.rollout import states as st
from sojourn.rollout.tokens import place_of


def check(run):
    check_rollouts(run)
    check_tokens(run)
    check_groups(run)
    check_engines(run)
    check_budget(run)


def check_rollouts(run):
    for rid, rollout in run.rollouts.items():
        assert rollout.rid == rid
        assert rollout.status in (*st.LIVE, *st.ENDED)
        assert (rollout.status in st.LIVE) == any(rid in ids for ids in run.by_status.values())
        versions = [one.weight_version for one in rollout.segments]
        assert versions == sorted(versions)
        spans = [version for version, _ in rollout.spans()]
        assert spans == sorted(set(spans))
        assert rollout.length == sum(one.tokens for one in rollout.segments)
        sampled = sum(one.tokens for one in rollout.segments if one.kind == "sampled")
        assert rollout.sampled == sampled <= rollout.token_limit
        for one in rollout.segments:
            assert len(one.token_ids) in (0, one.tokens)
            assert len(one.trainable_mask()) == one.tokens
        assert not rollout.stop or rollout.status == st.RUNNING
    live = Counter(one.status for one in run.rollouts.values())
    for status, ids in run.by_status.items():
        assert len(ids) == live[status]
    ended = sum(live[status] for status in st.ENDED)
    assert run.submitted == sum(run.ended.values()) + sum(live.values()) - ended


def check_tokens(run):
    held = Counter()
    for rollout in run.rollouts.values():
        held[place_of(rollout.status)] += rollout.sampled
    tokens = run.tokens
    tokens.check()
    assert tokens.in_flight == held["in_flight"]
    assert tokens.carried == held["carried"]
    assert tokens.discarded >= held["discarded"]
    assert tokens.stale <= tokens.trained


def check_groups(run):
    for uid, group in run.groups.items():
        assert group.uid == uid
        assert (uid in run.open_groups) == (group.status == st.OPEN)
        assert (uid in run.usable_groups) == (group.status == st.SETTLED)
        waiting = sum(
            one.status in st.LIVE
            or (one.status in st.SCORED and not any(row.final for row in run.rewards.get(rid, ())))
            for rid, one in ((rid, run.rollouts[rid]) for rid in group.rids)
        )
        assert group.waiting == waiting
        assert len(group.rids) == group.budget_spent == group.n_target
        assert not (group.status == st.SETTLED and waiting)
        assert run.ledger.age(group.opened_at_version) <= run.ledger.allowance.versions
    assert run.ledger.running == len(run.open_groups) <= run.ledger.capacity
    assert {uid for uids in run.cohorts.values() for uid in uids} == set(run.open_groups)
    assert Counter(one.prompt_id for one in run.groups.values()) == run.open_prompts
    assert not run.ripe
    assert not run.woken


def check_engines(run):
    for engine in run.engines.values():
        here = [
            one
            for one in run.rollouts.values()
            if one.status == st.RUNNING and one.engine == engine.id
        ]
        assert engine.in_flight == len(here)
        prompt = sum(run.prompts[one.prompt_id].tokens for one in here)
        assert engine.context_tokens == prompt + sum(one.length for one in here)


def check_budget(run):
    assert run.budget >= 0
    assert run.submitted + run.budget == run.plan.rollouts_per_group * run.next_uid
