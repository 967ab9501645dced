"""Hand-worked cases of the allocators, and what they have in common."""

from importlib import import_module
from itertools import product
from math import sqrt

import pytest
from choice_stubs import StubView, probed, tell, through_json
from hypothesis import given, settings
from hypothesis import strategies as some

from sojourn.errors import UserError
from sojourn.policies.allocate import (
    TABLE,
    cures,
    dars,
    gvm,
    rollout_gdro_inspired,
    tracked_neyman,
    xrpo_inspired,
)
from sojourn.policies.allocate.sharing import Tally, least_variance, proportional
from sojourn.policies.allocate.student import quantile
from sojourn.rollout.opening import within
from sojourn.rollout.slots import Pick, Round

GDRO = rollout_gdro_inspired


def counts(rounds):
    return [one.rollouts for one in rounds]


def group_of(wins, trials=8):
    return [1.0] * wins + [0.0] * (trials - wins)


def test_the_schedules_of_dars():
    """Extras at 0 to 4 of 8 correct, as its code gives them."""
    view = StubView()
    groups = probed(view, [group_of(wins) for wins in range(9)])
    equal = dars.Dars(dars.Config(), view.setting())
    hard = dars.Dars(dars.Config.hardness_weighted(), view.setting())
    assert counts(equal.more(groups, 999, view)) == [24, 11, 3, 1, 0, 0, 0, 0, 0]
    assert counts(hard.more(groups, 999, view)) == [56, 24, 8, 3, 0, 0, 0, 0, 0]
    for one in groups:
        one.rounds = 2
    assert counts(equal.more(groups, 999, view)) == [0] * 9


def test_dars_costs_more_than_equal_groups():
    """12.3 and 18.1 rollouts for each prompt if success rates are spread evenly."""
    equal, hard = (
        dars.Dars(one, StubView().setting())
        for one in (dars.Config(), dars.Config.hardness_weighted())
    )
    mean = [8 + sum(one.extra(wins / 8) for wins in range(9)) / 9 for one in (equal, hard)]
    assert mean == [pytest.approx(12.3, abs=0.1), pytest.approx(18.1, abs=0.1)]


def test_gvm_weights():
    released = gvm.Gvm(gvm.Config(), StubView().setting())
    contrast = gvm.Gvm(gvm.Config.contrast(), StubView().setting())
    assert released.weight(1 / 8) == pytest.approx(2.74, abs=0.005)
    assert released.weight(1 / 2) == pytest.approx(1.41, abs=0.005)
    assert released.weight(1.0) == pytest.approx(1.0, abs=0.005)
    assert released.weight(0.0) == 0.0
    assert contrast.weight(1.0) == 0.0
    assert contrast.weight(0.5) == released.weight(0.5)
    steep = gvm.Gvm(gvm.Config(beta=2000.0), StubView().setting())
    assert steep.weight(1 / 8) == 0.0


def test_gvm_divides_the_rest_and_keeps_the_sum():
    view = StubView()
    groups = probed(view, [group_of(0), group_of(1), group_of(4), group_of(8)])
    rounds = counts(gvm.Gvm(gvm.Config(), view.setting()).more(groups, 100, view))
    assert rounds == [0, 53, 27, 20]  # in proportion to 0, 2.74, 1.41, 1.0
    assert sum(rounds) == 100


def test_cures_gives_nothing_to_probes_that_agree():
    view = StubView()
    groups = probed(view, [group_of(0, 4), group_of(2, 4), group_of(3, 4), group_of(4, 4)])
    rounds = cures.Cures(cures.Config(), view.setting()).more(groups, 32, view)
    weights = [0.5, sqrt(3) / 4]
    assert counts(rounds) == [0, *(round(32 * one / sum(weights)) for one in weights), 0]


def test_cures_as_released_does_not_keep_the_sum():
    view = StubView()
    groups = probed(view, [group_of(2, 4)] * 3)
    released = cures.Cures(cures.Config(), view.setting()).more(groups, 11, view)
    even = cures.Cures(cures.Config.even(), view.setting()).more(groups, 11, view)
    assert counts(released) == [4, 4, 4]
    assert sorted(counts(even)) == [3, 4, 4]


def test_student():
    for share, freedom, value in (
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 3, 3.182),
        (0.975, 7, 2.365),
        (0.95, 5, 2.015),
        (0.975, 30, 2.042),
    ):
        assert quantile(share, freedom) == pytest.approx(value, rel=5e-3)
        assert quantile(1.0 - share, freedom) == pytest.approx(-value, rel=5e-3)


def test_xrpo_without_a_bonus_starves_what_always_failed():
    view = StubView()
    groups = probed(view, [group_of(0, 4), group_of(2, 4), group_of(1, 4)])
    starved = xrpo_inspired.XrpoInspired(xrpo_inspired.Config(bonus=0.0), view.setting())
    curious = xrpo_inspired.XrpoInspired(xrpo_inspired.Config(bonus=0.2), view.setting())
    first = counts(starved.more(groups, 24, view))
    assert first[0] == 0
    assert sum(first) == 12  # half of the budget in the first of two rounds
    assert counts(curious.more(groups, 24, view))[0] > 0


def test_xrpo_gives_all_the_same_where_nobody_gains():
    view = StubView()
    groups = probed(view, [group_of(0, 4)] * 4)
    policy = xrpo_inspired.XrpoInspired(xrpo_inspired.Config(bonus=0.0), view.setting())
    assert counts(policy.more(groups, 32, view)) == [4, 4, 4, 4]


def test_a_budget_cuts_the_largest_first_whatever_was_asked():
    asked = [Round(10**12), Round(3), Round(1), Round(10**12)]
    assert counts(within(asked, 20, 1)) == [8, 3, 1, 8]
    assert counts(within(asked, 4, 1)) == [1, 1, 1, 1]
    assert counts(within([Round(9), Round(2)], 7, 1)) == [5, 2]


def test_xrpo_by_hand():
    view = StubView()
    (group,) = probed(view, [group_of(2, 4)])
    policy = xrpo_inspired.XrpoInspired(xrpo_inspired.Config(bonus=0.0), view.setting())
    spread = sqrt(1 / 3)
    assert policy.width(spread, 4) == pytest.approx(3.182 * spread / 2.0, rel=5e-3)
    gain = policy.width(spread, 4) - policy.width(spread, 5)
    assert policy.priority(Tally(2.0, 4), 4, 4) == pytest.approx(gain)
    assert group.budget_spent == 4


def test_xrpo_hints_only_where_nothing_succeeded():
    view = StubView()
    config = xrpo_inspired.Config(bonus=0.5, exemplar_tokens=100)
    policy = xrpo_inspired.XrpoInspired(config, view.setting())
    rounds = policy.more(probed(view, [group_of(0, 4), group_of(2, 4)]), 24, view)
    assert [one.hint_tokens for one in rounds] == [100, 0]


def test_the_price_is_paid_by_the_root_of_the_variance():
    view = StubView()
    policy = GDRO.RolloutGdroInspired(GDRO.Config(n_min=1), view.setting())
    policy.price = 0.001
    view.beliefs.observe(1, 0.0, 97, 0)
    rounds = policy.open([Pick(0), Pick(1)], 999, view)
    assert counts(rounds)[0] == round(sqrt(1 / 6 / 0.001))  # E[p (1 - p)] of an even prior
    low = 1 * 98 / (99 * 100)
    assert counts(rounds)[1] == round(sqrt(low / 0.001))
    assert policy.price == pytest.approx(0.001 + 1e-4 * (sum(counts(rounds)) / 2 - 8))


def test_the_price_settles_at_the_mean_budget():
    view = StubView()
    policy = GDRO.RolloutGdroInspired(GDRO.Config(), view.setting())
    policy.price = 0.05
    for at in range(200):
        view.beliefs.observe(at, float(at % 9), 8, 0)
    picks = [Pick(at) for at in range(200)]
    spent = [sum(counts(policy.open(picks, 10**6, view))) / 200 for _ in range(400)]
    assert sum(spent[-50:]) / 50 == pytest.approx(8.0, rel=0.01)


@pytest.mark.parametrize("probes", [0, 3])
def test_exact_spends_everything_and_keeps_a_floor(probes):
    view = StubView()
    for at in range(8):
        view.beliefs.observe(at, 0.0 if at < 4 else 4.0, 8, 0)
        view.beliefs.observe(at, 0.0 if at < 4 else 4.0, 8, 0)
    config = GDRO.Config(variant="exact", probes=probes)
    policy = GDRO.RolloutGdroInspired(config, view.setting())
    rounds = counts(policy.open([Pick(at) for at in range(8)], 64, view))
    if probes:
        assert rounds == [3] * 8
        groups = probed(view, [[0.0] * 3] * 4 + [[1.0, 0.0, 0.0]] * 4)
        rounds = [3 + one for one in counts(policy.more(groups, 64 - 24, view))]
        for one in groups:
            one.rounds = 2
        assert counts(policy.more(groups, 5, view)) == [0] * 8
    assert sum(rounds) == 64
    assert min(rounds) >= 2
    assert min(rounds[4:]) > max(rounds[:4])


@pytest.mark.parametrize("probes", [0, 2])
def test_tracked_neyman_gives_more_to_what_varies(probes):
    view = StubView()
    policy = tracked_neyman.TrackedNeyman(tracked_neyman.Config(probes=probes), view.setting())
    for at in range(40):
        tell(policy, view, at, group_of((0, 4, 8)[at % 3]))
    picks = [Pick(at) for at in range(9)]
    rounds = counts(policy.open(picks, 72, view))
    if probes:
        assert rounds == [2] * 9
        groups = probed(view, [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]] * 3)
        rounds = [2 + one for one in counts(policy.more(groups, 72 - 18, view))]
    assert sum(rounds) == 72
    assert min(rounds) >= 2
    assert min(rounds[1::3]) > max(rounds[0::3] + rounds[2::3])


@settings(max_examples=80)
@given(
    some.lists(some.floats(0.0, 0.25), min_size=1, max_size=4),
    some.integers(0, 12),
    some.integers(1, 2),
)
def test_least_variance_is_least(variances, spare, low):
    lows, high = [low] * len(variances), 6
    total = low * len(variances) + spare
    found, _ = least_variance(variances, total, lows, high)
    assert sum(found) == min(total, high * len(variances))
    best = min(
        sum(v / n for v, n in zip(variances, one, strict=True))
        for one in product(range(low, high + 1), repeat=len(variances))
        if sum(one) == sum(found)
    )
    assert sum(v / n for v, n in zip(variances, found, strict=True)) <= best + 1e-12


@given(some.lists(some.floats(0.0, 9.0), max_size=9), some.integers(0, 200))
def test_proportional_keeps_the_sum(weights, total):
    found = proportional(weights, total)
    if sum(weights) > 1e-9:
        assert sum(found) == total
        whole = sum(weights)
        assert all(abs(n - total * w / whole) < 1.0 for n, w in zip(found, weights, strict=True))


@pytest.mark.parametrize("name", TABLE)
def test_a_restored_allocator_goes_on_alike(name):
    config, policy = TABLE[name]
    view = StubView()
    one = policy(config(), view.setting())
    for at in range(60):
        view.version = at // 8
        one.open([Pick(at)], 64, view)
        tell(one, view, at, group_of(at % 9))
    state = through_json(one.state_dict())
    other = policy(config(), view.setting(seed=9))
    other.load_state_dict(state)
    assert through_json(other.state_dict()) == state
    assert other.metrics() == one.metrics()
    picks = [Pick(at) for at in range(50, 90)]
    assert other.open(picks, 320, view) == one.open(picks, 320, view)


@pytest.mark.parametrize("name", TABLE)
def test_asked_twice_it_comes_to_an_end(name):
    config, policy = TABLE[name]
    view = StubView()
    one = policy(config(), view.setting())
    groups = probed(view, [group_of(wins, 4) for wins in range(5)])
    for round_number in range(1, 9):
        for group in groups:
            group.rounds = round_number
        rounds = one.more(groups, 1000, view)
        assert len(rounds) == 5
        assert all(got.rollouts >= 0 for got in rounds)
    assert counts(rounds) == [0] * 5


def test_out_of_range():
    for make in (
        lambda: dars.Config(first=1),
        lambda: dars.Config(variant="et"),
        lambda: gvm.Config(alpha=0.0),
        lambda: cures.Config(probes=0),
        lambda: xrpo_inspired.Config(base=1),
        lambda: xrpo_inspired.Config(alpha=1e-17),
        lambda: GDRO.Config(n_min=0),
        lambda: GDRO.Config(probes=65),
        lambda: tracked_neyman.Config(n_min=9, n_max=8),
    ):
        with pytest.raises(UserError):
            make()


def test_every_variant_has_a_name():
    for config, _ in TABLE.values():
        for variant in getattr(import_module(config.__module__), "VARIANTS", ()):
            assert config(variant=variant).variant == variant
