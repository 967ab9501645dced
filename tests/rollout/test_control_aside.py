"""Standing aside: who lends its seat, when it comes back, and when nobody should."""

import json

import pytest
from stub_views import StubView, setting

from sojourn.errors import UserError
from sojourn.policies.control import stand_aside
from sojourn.policies.dispatch.sibling_lengths import common_share
from sojourn.rollout.actions import Abort, Resume
from sojourn.rollout.events import Aborted, Finished, Progress, Settled, Started
from sojourn.rollout.lengths import LengthBelief, Lengths

HALF = 16384 // 2


def aside(**config):
    return stand_aside.StandAside(stand_aside.Config(**config), setting())


def progress(view, policy, rollout, sampled):
    rollout.sampled = rollout.length = sampled
    return policy.on_event(Progress(0, rollout.rid, 1, 0, ()), view)


def crowded():
    """Return a view with a long rollout, one that has not begun, and the policy."""
    view, policy = StubView(), aside()
    (long,) = view.add(0, 1)
    (fresh,) = view.add(1, 1, "pending")
    return view, policy, long, fresh


def park(view, policy, rollout):
    rollout.status = "parked"
    return policy.on_event(Aborted(0, rollout.rid, 1, 0, ()), view)


def test_it_asks_for_a_report_at_half_of_the_limit():
    view, policy, long, _ = crowded()
    assert policy.stretch(long, view).report_at == (HALF,)


def test_who_has_come_far_makes_way_and_returns_when_all_have_begun():
    view, policy, long, fresh = crowded()
    assert progress(view, policy, long, HALF - 1) == []
    assert progress(view, policy, long, HALF) == [Abort(long.rid, True, "stands aside")]
    assert park(view, policy, long) == [], "the other has not begun"
    fresh.status = "running"
    assert policy.on_event(Started(0, fresh.rid, 1), view) == [Resume(long.rid)]
    assert policy.on_event(Started(0, fresh.rid, 1), view) == [], "it is back"
    assert policy.metrics() == {"stood_aside": 1.0}


def test_nobody_does_it_twice():
    view, policy, long, _ = crowded()
    progress(view, policy, long, HALF)
    assert progress(view, policy, long, HALF + 500) == []


def test_without_anybody_to_begin_all_stay():
    view, policy, long, fresh = crowded()
    fresh.sampled = 300  # it waits, but has begun before
    assert progress(view, policy, long, HALF) == []
    fresh.status = "running"
    assert progress(view, policy, long, HALF) == []


def test_an_overdue_group_makes_way_for_overdue_ones_only():
    view, policy, long, _ = crowded()
    view.old = {0}
    assert progress(view, policy, long, HALF) == []
    view.old = {0, 1}
    assert progress(view, policy, long, HALF) == [Abort(long.rid, True, "stands aside")]
    view.old = {0}
    assert park(view, policy, long) == [Resume(long.rid)], "its group has become overdue"


def test_where_siblings_are_alike_nobody_makes_way():
    view, policy, long, _ = crowded()
    for prompt in range(20, 40):
        for _ in range(4):
            view.beliefs.lengths.observe(prompt, 100 * (prompt - 19) ** 2)
    assert common_share(view.beliefs.length(long.prompt_id)) > 0.9
    assert progress(view, policy, long, HALF) == []


def test_who_ended_on_the_way_is_not_resumed():
    view, policy, long, fresh = crowded()
    progress(view, policy, long, HALF)
    long.status = "finished"
    fresh.status = "running"
    assert policy.on_event(Finished(0, long.rid, 1, 0, ()), view) == []
    policy.on_event(Settled(0, 0, "settled"), view)
    assert not policy.aside


def test_it_is_remembered():
    view, policy, long, fresh = crowded()
    progress(view, policy, long, HALF)
    park(view, policy, long)
    other = aside()
    other.load_state_dict(json.loads(json.dumps(policy.state_dict())))
    assert other.state_dict() == policy.state_dict()
    fresh.status = "running"
    assert other.on_event(Started(0, fresh.rid, 1), view) == [Resume(long.rid)]


def test_the_common_share_is_that_of_the_pool_whatever_is_known_of_a_prompt():
    lengths = Lengths(1.0, 7.0, 1.0)
    for prompt in range(30):
        for at in range(6):
            lengths.observe(prompt, 500 + 200 * prompt + 900 * at)
    unseen, seen = lengths.read(99), lengths.read(3)
    assert common_share(unseen) == pytest.approx(common_share(seen))
    between = unseen.sd_log**2 - unseen.within_log**2
    assert common_share(unseen) == pytest.approx(between / unseen.sd_log**2)
    assert common_share(LengthBelief(7.0, 1.0, 0.0, within_log=1.0)) == 0.0
    assert common_share(LengthBelief(7.0, 1.0, 0.0)) == 1.0


@pytest.mark.parametrize(
    ("name", "value"), [("limit_share", 0.0), ("limit_share", 1.0), ("common_share_max", 1.1)]
)
def test_values_out_of_range(name, value):
    with pytest.raises(UserError, match=name):
        aside(**{name: value})
