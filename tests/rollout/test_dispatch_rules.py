"""Dispatch policies by hand: who goes first, and where."""

import json
from math import exp, log
from random import Random
from statistics import NormalDist

import pytest
from stub_views import StubView, engine, setting

from sojourn.errors import UserError
from sojourn.policies.dispatch import kv_balanced, rollpacker_inspired, seer_inspired
from sojourn.policies.dispatch.sibling_lengths import expected_remaining, with_running
from sojourn.rollout.actions import Abort, Close, Resume
from sojourn.rollout.events import Batched, BatchWanted, Finished, Settled, Started
from sojourn.rollout.lengths import LengthBelief


def seer(**config):
    return seer_inspired.SeerInspired(seer_inspired.Config(**config), setting())


def ranked(policy, view):
    waiting = view.in_status("pending")
    return [one.rid for one in sorted(waiting, key=lambda one: (policy.key(one, view), one.rid))]


def test_one_probe_of_each_group_goes_first():
    view, policy = StubView(), seer()
    view.add(0, 3, "pending")
    view.add(1, 3, "pending")
    for one in view.in_status("pending"):
        policy.key(one, view)
    assert ranked(policy, view) == [0, 3, 1, 2, 4, 5]
    assert policy.metrics() == {"probes": 2.0}


def finish(view, policy, rid, length):
    one = view.rollouts[rid]
    one.status, one.sampled = "finished", length
    view.beliefs.lengths.observe(one.prompt_id, length)
    policy.on_event(Finished(view.time, rid, 1, 0, ()), view)
    return list(policy.changed(Finished(0, rid, 1, 0, ()), view))


def start(view, policy, rid):
    view.rollouts[rid].status = "running"
    policy.on_event(Started(view.time, rid, 1), view)


def test_known_groups_go_by_length():
    view, policy = StubView(), seer()
    for uid in range(3):
        probe, *_ = view.add(uid, 3, "pending")
        policy.key(probe, view)
        start(view, policy, probe.rid)
    assert finish(view, policy, 0, 100)[:2] == [1, 2]
    finish(view, policy, 3, 5000)
    finish(view, policy, 6, 900)
    assert ranked(policy, view) == [4, 5, 7, 8, 1, 2]


def test_a_group_whose_probe_is_still_running_rises():
    view, policy = StubView(), seer()
    for uid in range(6):
        probe, *_ = view.add(uid, 3, "pending")
        policy.key(probe, view)
        start(view, policy, probe.rid)
    again = []
    for uid in range(5):
        view.time += 300
        again += finish(view, policy, 3 * uid, 300 * (uid + 1))
    assert policy.pace == pytest.approx(1.0)
    assert {16, 17} < set(again), "ranked anew although none of them has ended"
    assert ranked(policy, view)[:2] == [16, 17]


def test_a_group_of_which_one_stands_aside_rises():
    view, policy = StubView(), seer()
    for uid in range(2):
        view.add(uid, 3, "pending")
    for prompt in range(20, 30):
        for _ in range(3):
            view.beliefs.lengths.observe(prompt, 400 * (prompt - 19))
    assert ranked(policy, view) == [0, 3, 1, 2, 4, 5]
    view.rollouts[3].status, view.rollouts[3].sampled = "parked", 8000
    assert ranked(policy, view) == [0, 4, 5, 1, 2]


def test_siblings_that_share_nothing_teach_nothing():
    belief = LengthBelief(7.0, 1.0, 0.0, within_log=1.0)
    assert with_running(belief, [5000.0, 9000.0]) == belief


def test_a_running_sibling_moves_a_belief_as_far_as_quadrature_says():
    belief = LengthBelief(7.0, 1.0, 0.0, within_log=0.6)
    found = with_running(belief, [3000.0])
    grid = [7.0 + at / 200 for at in range(-1200, 1201)]
    common = NormalDist(7.0, 0.8)
    weights = [common.pdf(at) * (1 - NormalDist(at, 0.6).cdf(log(3000.0))) for at in grid]
    mean = sum(at * one for at, one in zip(grid, weights, strict=True)) / sum(weights)
    square = sum(at * at * one for at, one in zip(grid, weights, strict=True)) / sum(weights)
    assert found.mean_log == pytest.approx(mean, abs=1e-3)
    assert found.sd_log**2 == pytest.approx(square - mean**2 + 0.36, abs=1e-3)


def test_expected_remainders_by_sampling():
    belief, dice = LengthBelief(7.0, 0.8, 0.0), Random(1)
    lengths = [exp(dice.gauss(7.0, 0.8)) for _ in range(40_000)]
    for done, limit in ((0.0, 1e9), (0.0, 1500.0), (1000.0, 4000.0)):
        left = [min(one, limit) - done for one in lengths if one > done]
        found = expected_remaining(belief, done, limit)
        assert found == pytest.approx(sum(left) / len(left), rel=0.02)
    assert expected_remaining(belief, 2000.0, 2000.0) == 0.0


def test_what_a_rollout_has_already_counts():
    view, policy = StubView(), seer()
    first, *_ = view.add(0, 3, "pending")
    policy.key(first, view)
    for length in range(900, 1100, 2):
        finish(view, policy, first.rid, length)
    view.rollouts[2].sampled = view.rollouts[2].length = 900
    assert ranked(policy, view) == [1, 2], "the same group, less to come"


def test_seats_are_filled_evenly_and_then_rollouts_wait():
    view, policy = StubView(), seer(seats=4)
    (one,) = view.add(0, 1, "pending")
    assert policy.place(one, [engine(0, 3, 8), engine(1, 1, 2), engine(2, 2)], view) == 0
    assert policy.place(one, [engine(0, 8, 8), engine(1, 4)], view) is None


def test_seer_goes_on_where_it_stood():
    view, policy, other = StubView(), seer(), seer()
    policy.key(view.add(0, 2, "pending")[0], view)
    start(view, policy, 0)
    view.add(1, 2, "pending")
    other.load_state_dict(json.loads(json.dumps(policy.state_dict())))
    assert ranked(other, view) == ranked(policy, view)
    policy.on_event(Settled(0, 0, "settled"), view)
    assert set(policy.probes) == {1}
    assert not policy.starts


def kv(**config):
    return kv_balanced.KvBalanced(kv_balanced.Config(**config), setting())


def test_the_least_full_cache_takes_it():
    view = StubView()
    (one,) = view.add(0, 1, "pending")
    engines = [
        engine(0, in_flight=1, kv_tokens=100_000, context_tokens=50_000),
        engine(1, in_flight=9, kv_tokens=100_000, context_tokens=20_000),
        engine(2, in_flight=1, kv_tokens=20_000, context_tokens=10_000),
    ]
    assert kv().place(one, engines, view) == 1
    engines[1].kv = 0.7
    assert kv().place(one, engines, view) == 0, "its own report says more than what is known here"


def test_what_does_not_fit_waits_unless_the_engine_is_empty():
    view = StubView()
    (one,) = view.add(0, 1, "pending", length=900)
    full = engine(0, in_flight=1, kv_tokens=1000, context_tokens=100)
    assert kv().place(one, [full], view) is None
    full.in_flight = 0
    assert kv().place(one, [full], view) == 0


def test_expected_growth_is_reserved():
    view = StubView()
    (one,) = view.add(0, 1, "pending")
    for _ in range(200):
        view.beliefs.lengths.observe(0, 10_000)
    half = engine(0, in_flight=1, kv_tokens=20_000, context_tokens=8_000)
    assert kv(growth_share=0.0).place(one, [half], view) == 0
    assert kv(growth_share=1.0).place(one, [half], view) is None


def test_without_known_sizes_its_report_decides():
    view = StubView()
    (one,) = view.add(0, 1, "pending")
    engines = [engine(0, in_flight=2, kv=0.5), engine(1, in_flight=5, kv=0.3)]
    assert kv().place(one, engines, view) == 1
    assert kv().place(one, [engine(0, in_flight=2, kv=0.9)], view) is None


def test_a_conversation_goes_back_while_there_is_room():
    view = StubView()
    (one,) = view.add(0, 1, "pending")
    one.engine = 0
    engines = [
        engine(0, in_flight=1, kv_tokens=100_000, context_tokens=50_000),
        engine(1, in_flight=1, kv_tokens=100_000),
    ]
    assert kv().place(one, engines, view) == 0
    assert kv(sticky=False).place(one, engines, view) == 1
    engines[0].context_tokens = 90_000
    assert kv().place(one, engines, view) == 1


def rollpacker(**config):
    config = rollpacker_inspired.Config(**{"queue_groups": 2, **config})
    return rollpacker_inspired.RollpackerInspired(config, setting())


def test_a_short_round_ends_a_group_with_its_first_rollouts():
    view, policy = StubView(), rollpacker(taken_share=0.75)
    members = view.add(0, 4)
    for one in members[:2]:
        one.status = "finished"
        assert policy.on_event(Finished(0, one.rid, 1, 0, ()), view) == ()
    members[2].status = "finished"
    (close,) = policy.on_event(Finished(0, 2, 1, 0, ()), view)
    assert close == Close(0, reason="enough have ended")
    members[3].status = "finished"
    assert policy.on_event(Finished(0, 3, 1, 0, ()), view) == ()


def begun(view, uid, status="running"):
    members = view.add(uid, 2, status)
    for one in members:
        one.attempt = 1
    return members


def test_who_loses_waits_for_a_long_round():
    view, policy = StubView(), rollpacker()
    begun(view, 0)
    stops = policy.on_event(Batched(0, 1, ()), view)
    assert stops == [Abort(rid, keep=True, reason="left behind") for rid in (0, 1)]
    assert not policy.long
    for one in view.members(0):
        one.status = "parked"
    assert policy.on_event(BatchWanted(0), view) == [Resume(0), Resume(1)]
    for one in view.members(0):
        one.status = "pending"
    view.add(1, 2, "pending")
    assert ranked(policy, view) == [2, 3, 0, 1]
    view.rollouts[2].status = "running"
    assert policy.place(view.rollouts[0], [engine(0)], view) is None
    assert policy.place(view.rollouts[3], [engine(0)], view) == 0


def test_enough_losers_make_a_long_round_which_is_not_raced():
    view, policy = StubView(), rollpacker()
    for uid in range(2):
        begun(view, uid)
    policy.on_event(Batched(0, 1, ()), view)
    assert policy.long
    for one in view.rollouts.values():
        one.status = "pending"
    view.add(2, 2, "pending")
    assert ranked(policy, view) == [0, 1, 2, 3, 4, 5]
    assert policy.place(view.rollouts[0], [engine(0)], view) == 0
    view.rollouts[0].status = "finished"
    assert policy.on_event(Finished(0, 0, 1, 0, ()), view) == ()
    policy.on_event(Settled(0, 0, "settled"), view)
    assert list(policy.behind) == [1]


def test_losers_do_not_wait_for_an_idle_fleet_or_when_overdue():
    view, policy = StubView(), rollpacker()
    begun(view, 0)
    policy.on_event(Batched(0, 1, ()), view)
    for one in view.members(0):
        one.status = "pending"
    other = view.add(1, 1)[0]
    assert policy.place(view.rollouts[0], [engine(0)], view) is None
    view.old.add(0)
    assert policy.place(view.rollouts[0], [engine(0)], view) == 0
    view.old.clear()
    other.status = "finished"
    assert policy.place(view.rollouts[0], [engine(0)], view) == 0
    assert policy.long


def test_rollpacker_goes_on_where_it_stood():
    view, policy, other = StubView(), rollpacker(), rollpacker()
    begun(view, 0)
    policy.on_event(Batched(0, 1, ()), view)
    other.load_state_dict(json.loads(json.dumps(policy.state_dict())))
    assert other.state_dict() == policy.state_dict()
    assert other.metrics() == policy.metrics()


def test_values_out_of_range():
    with pytest.raises(UserError, match="fill_most"):
        kv_balanced.Config(fill_most=1.5)
    with pytest.raises(UserError, match="seats"):
        seer_inspired.Config(seats=0)
    with pytest.raises(UserError, match="taken_share"):
        rollpacker_inspired.Config(taken_share=0.0)
