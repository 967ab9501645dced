"""Windows, hopeless lengths and turns: each rule by hand."""

import json

import pytest
from stub_views import StubView, setting

from sojourn.errors import UserError
from sojourn.policies.control import divided, masa_inspired, turn_limits, windowed
from sojourn.rollout.actions import Abort, Extend, Resume
from sojourn.rollout.corrections import KEPT_AT_RANDOM
from sojourn.rollout.events import (
    Batched,
    BatchWanted,
    Finished,
    Progress,
    Rewarded,
    Settled,
    Started,
    Tick,
    TurnEnd,
)


def window(tokens=100, **more):
    return windowed.Windowed(windowed.Config(tokens, **more), setting())


def test_a_window_is_a_stretch():
    view, policy = StubView(), window()
    (one,) = view.add(0, 1, length=30)
    assert policy.stretch(one, view).tokens == 100


def test_the_next_window_begins_when_all_have_stopped():
    view, policy = StubView(batch_groups=1), window()
    first, second = view.add(0, 2)
    for one in (first, second):
        policy.stretch(one, view)
    first.status, first.sampled = "parked", 100
    assert policy.on_event(Tick(0), view) == ()
    second.status, second.sampled = "parked", 100
    assert policy.on_event(Tick(0), view) == [Resume(0), Resume(1)]
    assert policy.windows == 1


def test_it_waits_for_rewards_that_may_complete_the_batch():
    view, policy = StubView(batch_groups=1), window()
    view.add(0, 1, "finished")
    (left,) = view.add(1, 1, "parked", length=100)
    policy.goals[left.rid] = 100
    assert policy.on_event(Tick(0), view) == ()
    view.open_groups[0].waiting = 0  # rewarded; if it settles, the window is taken back
    assert policy.on_event(Rewarded(0, 0, 1.0), view) == [Resume(left.rid)]
    left.status = "pending"
    assert policy.on_event(Batched(0, 1, (0,)), view) == [
        Abort(left.rid, keep=True, reason="the window is over")
    ]


def test_a_group_that_holds_up_the_batch_goes_on():
    view, policy = StubView(batch_groups=1), window()
    view.usable = 1
    (left,) = view.add(1, 1, "parked", length=100)
    assert policy.on_event(Tick(0), view) == ()
    view.old.add(1)
    policy.goals[left.rid] = 100
    assert policy.on_event(Tick(0), view) == [Resume(left.rid)]


def test_what_is_at_its_limit_is_left_to_be_truncated():
    view, policy = StubView(batch_groups=1), window()
    (one,) = view.add(0, 1, "parked", length=16384)
    policy.goals[one.rid] = 16384
    assert policy.on_event(Finished(0, one.rid, 1, 0, (), "length"), view) == []
    one.sampled = 50
    policy.goals[one.rid] = 100
    assert policy.on_event(Finished(0, one.rid, 1, 0, (), "length"), view) == []


def test_it_opens_to_its_ratio_and_trains_between_windows():
    view, policy = StubView(batch_groups=4), window(ratio=1.5)
    assert policy.appetite(view) == 6
    view.usable = 1
    view.add(0, 1)
    assert policy.appetite(view) == 4
    assert not policy.ready(view)
    view.rollouts[0].status = "parked"
    assert policy.ready(view)
    view.wanted = False
    assert policy.appetite(view) == 0


def masa(**config):
    config = {"correct_min": 4, "random_share": 0.5, **config}
    return masa_inspired.MasaInspired(masa_inspired.Config(**config), setting())


def teach(policy, view, lengths, reward=1.0):
    for uid, length in enumerate(lengths, start=50):
        (one,) = view.add(uid, 1, "finished", length=length)
        policy.on_event(Rewarded(0, one.rid, reward), view)


def test_masa_learns_from_correct_rollouts_only():
    policy, view = masa(), StubView()
    teach(policy, view, [100] * 3)
    teach(policy, view, [100] * 9, reward=0.0)
    assert policy.stretch(view.add(0, 1)[0], view).report_at == ()
    teach(policy, view, [100])
    (at,) = policy.stretch(view.rollouts[len(view.rollouts) - 2], view).report_at
    assert at > 200


def judged(policy, view, count=4):
    members = view.add(0, count)
    for one in members:
        (cut,) = policy.stretch(one, view).report_at
        one.sampled = cut
    said = []
    for one in members:
        for proposal in policy.on_event(Progress(0, one.rid, 1, 0, ()), view):
            said.append(proposal)
            if isinstance(proposal, Abort):
                one.stop = "discard"
        assert policy.on_event(Progress(0, one.rid, 1, 0, ()), view) == () or one in said
    return said


def test_masa_stops_the_long_but_some():
    fates = {Abort: 0, Extend: 0}
    for seed in range(40):
        policy, view = masa(siblings_min=0), StubView()
        policy.stream.key += seed
        teach(policy, view, [100] * 4)
        for one in judged(policy, view):
            fates[type(one)] += 1
            assert one.propensity == 0.5
            assert isinstance(one, Abort) or one.reason == KEPT_AT_RANDOM
    assert sum(fates.values()) == 160
    assert 55 < fates[Abort] < 105


def test_masa_leaves_some_siblings():
    policy, view = masa(siblings_min=3, random_share=1e-9), StubView()
    teach(policy, view, [100] * 4)
    assert len(judged(policy, view)) == 1


def test_masa_leaves_the_short_alone_and_forgets_groups():
    policy, view = masa(), StubView()
    teach(policy, view, [100] * 4)
    (one,) = view.add(0, 1)
    policy.stretch(one, view)
    one.sampled = 150
    assert policy.on_event(Progress(0, one.rid, 1, 0, ()), view) == ()
    assert json.loads(json.dumps(policy.state_dict()))["cuts"]
    policy.on_event(Settled(0, 0, "settled"), view)
    assert not policy.cuts


def turns(plan_turns=5, seed=0, **config):
    made = turn_limits.TurnLimits(
        turn_limits.Config(**{"unrestricted_min": 4, "turns_most": 40, **config}),
        setting(seed, turns_max=plan_turns),
    )
    return made, StubView(turns_max=plan_turns)


def live_through(policy, view, uid, needed):
    """Run one rollout that needs so many turns; return its limit at the end and what was said."""
    (one,) = view.add(uid, 1)
    said = list(policy.on_event(Started(0, one.rid, 1), view))
    one.turn_limit += said[0].turns
    while True:
        one.turns += 1
        if one.turns >= needed:
            one.status = "finished"
            one.turns -= 1  # the last turn ends with the rollout
            said += policy.on_event(Finished(0, one.rid, 1, 0, ()), view)
            return one.turn_limit, said
        one.status = "acting"
        more = list(policy.on_event(TurnEnd(0, one.rid, 1, 0, ()), view))
        said += more
        one.turn_limit += sum(proposal.turns for proposal in more)
        if one.turns >= one.turn_limit:
            return one.turn_limit, said


def test_turns_are_unrestricted_until_enough_is_known():
    policy, view = turns()
    for uid, needed in enumerate((6, 8, 10, 20)):
        limit, said = live_through(policy, view, uid, needed)
        assert limit == 40
        assert said[0].reason == "unrestricted"
        assert said[0].propensity == 1.0
    assert list(policy.turns) == [6, 8, 10, 20]
    assert policy.limit() == 10, "the third of four"


def test_turns_limited_and_extended_once_while_nobody_succeeds():
    policy, view = turns(random_share=1e-9, extension_turns=3)
    policy.turns.extend((6, 8, 10, 20))
    limit, said = live_through(policy, view, 9, 99)
    assert [one.turns for one in said] == [5, 3]
    assert limit == 13
    assert policy.counts["extended"] == 1


def test_no_extension_after_a_success_of_a_sibling():
    policy, view = turns(random_share=1e-9)
    policy.turns.extend((6, 8, 10, 20))
    first, second = view.add(3, 2)
    policy.on_event(Started(0, first.rid, 1), view)
    view.rewards[second.rid] = 1.0
    first.turns = first.turn_limit
    assert policy.on_event(TurnEnd(0, first.rid, 1, 0, ()), view) == ()


def test_turn_limits_need_a_limit():
    with pytest.raises(UserError, match="turns_max is 0"):
        turn_limits.TurnLimits(turn_limits.Config(), setting())


def test_limit_is_never_below_the_plan():
    policy, _ = turns(plan_turns=15)
    policy.turns.extend((1, 1, 2, 2))
    assert policy.limit() == 15


def test_batch_wanted_begins_a_window():
    view, policy = StubView(batch_groups=1), window()
    (one,) = view.add(0, 1, "parked", length=100)
    policy.goals[one.rid] = 100
    assert policy.on_event(BatchWanted(0), view) == [Resume(one.rid)]


def test_chunks_end_and_go_on_unless_at_a_limit():
    view, policy = StubView(), divided.Divided(divided.Config(100), setting())
    (one,) = view.add(0, 1, length=30)
    assert policy.stretch(one, view).tokens == 100
    one.status, one.sampled = "parked", 130
    ended = Finished(0, one.rid, 1, 0, (), "length")
    assert policy.on_event(ended, view) == [Resume(one.rid)]
    assert policy.metrics() == {"chunks": 1.0}
    one.sampled = 120
    assert policy.on_event(ended, view) == (), "the engine's own limit"
    one.sampled = one.token_limit = 130
    assert policy.on_event(ended, view) == ()
    other = divided.Divided(divided.Config(100), setting())
    other.load_state_dict(json.loads(json.dumps(policy.state_dict())))
    assert other.state_dict() == policy.state_dict()
    policy.on_event(Settled(0, 0, "settled"), view)
    assert not policy.goals
