"""Staleness admission worked out by hand, and the three meanings of staleness."""

import pytest

from sojourn.errors import UserError
from sojourn.rollout.model import Segment
from sojourn.rollout.plan import Plan
from sojourn.rollout.versions import (
    Allowance,
    VersionLedger,
    from_excess,
    from_samples,
    from_versions,
    stale_tokens,
    to_excess,
    to_samples,
)


def ledger(eta=0, batch=4, capacity=100):
    return VersionLedger(from_versions(eta, batch), batch, capacity)


def opened(one, count):
    for _ in range(count):
        one.opened()


def test_without_allowance_a_batch_and_no_more():
    one = ledger()
    assert one.admission() == 4
    opened(one, 4)
    assert one.admission() == 0
    for _ in range(4):
        one.accept()
    assert one.admission() == 0, "the weights that trained on them are not live yet"
    one.advance(1)
    assert one.admission() == 4


def test_the_formula_of_areal():
    """min(C - running, (η + v + 1) B - (accepted + running)), η = 2, v = 3, B = 4, C = 9."""
    one = ledger(eta=2, capacity=9)
    one.version, one.accepted, one.running = 3, 15, 2
    assert one.admission() == min(9 - 2, (2 + 3 + 1) * 4 - (15 + 2)) == 7
    one.accepted = 20
    assert one.admission() == 2
    one.running = 9
    assert one.admission() == 0


def test_filtered_groups_do_not_eat_the_capacity():
    one = ledger()
    for _ in range(100):
        opened(one, 1)
        one.reject()
    assert one.admission() == 4


def test_a_group_given_up_after_it_settled_is_admitted_again():
    one = ledger()
    opened(one, 4)
    for _ in range(4):
        one.accept()
    one.withdraw()
    assert one.admission() == 1


def test_what_replay_gives_counts_as_accepted():
    """Half of each batch replayed: without counting it the lead would grow with every version."""
    one = ledger(eta=1)
    for version in range(1, 9):
        opened(one, 2)
        one.accept()
        one.accept()
        one.batched(replayed=2)
        one.advance(version)
        assert one.admission() == 8
        assert one.admission(replayed=2) == 4


def test_recovery_counts_what_was_trained():
    one = ledger(eta=1)
    one.recover(version=5, waiting=2, running=3)
    assert one.accepted == 22
    assert one.admission() == (1 + 5 + 1) * 4 - (22 + 3) == 3
    naive = ledger(eta=1)
    naive.version = 5
    assert naive.admission() == 28, "the burst that recovery must not cause"


def test_age_and_what_is_overdue():
    one = ledger(eta=2)
    one.advance(5)
    assert one.age(3) == 2
    assert one.overdue(3)
    assert not one.overdue(4)


def test_versions_only_go_up():
    one = ledger()
    one.advance(2)
    with pytest.raises(AssertionError):
        one.advance(1)


def test_a_ledger_is_restored():
    one = ledger(eta=1)
    opened(one, 3)
    one.accept()
    one.advance(1)
    other = ledger(eta=1)
    other.load_state_dict(one.state_dict())
    assert other == one


def test_three_meanings_of_staleness_are_converted():
    """B = 32 groups of 8 rollouts for each version."""
    assert from_versions(2, 32) == Allowance(2, 64)
    assert from_excess(0.5, 32) == Allowance(1, 16)
    assert from_excess(2.0, 32) == Allowance(2, 64)
    assert from_samples(512, 8, 32) == Allowance(2, 64)
    assert from_samples(100, 8, 32) == Allowance(1, 12)
    for allowance in (Allowance(2, 64), Allowance(1, 16), Allowance(0, 0)):
        assert from_excess(to_excess(allowance, 32), 32) == allowance
        assert from_samples(to_samples(allowance, 8), 8, 32) == allowance


def test_stale_tokens_are_those_of_older_weights_that_may_be_trained():
    segments = [
        Segment("hint", 5, 0),
        Segment("sampled", 7, 1),
        Segment("tool", 3, 1),
        Segment("sampled", 11, 2),
    ]
    assert stale_tokens(segments, 2) == 7
    assert stale_tokens(segments, 3) == 18
    assert stale_tokens(segments, 1) == 0


def test_a_plan_gives_the_allowance():
    assert Plan(batch_groups=8, staleness_versions=2).allowance == Allowance(2, 16)
    assert Plan(batch_groups=8, batches_per_version=3, staleness_versions=1).allowance.groups == 24
    assert Plan(staleness_versions=1, staleness_groups=5).allowance == Allowance(1, 5)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"batch_groups": 0}, "plan.batch_groups is 0; it must be at least 1"),
        ({"staleness_versions": -1}, "plan.staleness_versions is -1; it must be at least 0"),
        ({"staleness_groups": 5}, "plan.staleness_groups is 5; it must be at most"),
        ({"reward_low": -1e308, "reward_high": 1e308}, "both must be finite numbers"),
        ({"staleness_groups": -2}, "plan.staleness_groups is -2; it must be at least -1"),
        ({"reward_low": 1.0}, "plan.reward_low is 1.0; it must be below reward_high"),
        ({"groups_max": 2}, "plan.groups_max is 2; it must be at least batch_groups"),
    ],
)
def test_plans_out_of_range_are_refused(wrong, text):
    with pytest.raises(UserError, match=text):
        Plan(**wrong)


def test_rewards_become_shares_of_a_success():
    plan = Plan(reward_low=-1.0, reward_high=1.0)
    assert [plan.success(one) for one in (-2.0, -1.0, 0.0, 0.5, 3.0)] == [0, 0, 0.5, 0.75, 1]


def test_places_left_before_a_group_is_too_old():
    """η = 2, B = 4, v = 5: a group of version 4 may wait for the batches of versions 5 and 6."""
    one = ledger(eta=2)
    one.advance(5)
    assert [one.places(opened_at) for opened_at in (2, 3, 4, 5)] == [0, 0, 4, 8]
    one.batched()
    assert one.places(5) == 4
    one.advance(6)
    assert one.places(5) == 4


def test_two_batches_for_each_version_half_of_them_replayed():
    """B = 8 in two batches, two fresh groups in each: the second must not be locked out."""
    one = VersionLedger(from_versions(0, 8), 8, 100, batches_per_version=2)
    for version in range(1, 4):
        for batch in range(2):
            assert one.admission(replayed=2) == 4 - 2 * batch
            opened(one, 2)
            one.accept()
            one.accept()
            one.batched(replayed=2)
        assert one.admission(replayed=2) == 0
        one.advance(version)


def test_replay_that_begins_within_a_version():
    one = VersionLedger(from_versions(0, 8), 8, 100, batches_per_version=2)
    opened(one, 4)
    for _ in range(4):
        one.accept()
    one.batched()
    assert one.admission() == 4
    assert one.admission(replayed=2) == 2
