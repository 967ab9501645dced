"""The logit filter, and the selector that takes what is most likely mixed."""

from math import exp
from random import Random
from statistics import fmean

import pytest
from choice_stubs import StubView, make_prompts, tell, through_json
from hypothesis import given, settings
from hypothesis import strategies as some

from sojourn.errors import UserError
from sojourn.policies.select import likely_mixed
from sojourn.policies.select.logit_filter import LogitFilter, Motion, expected, mixed, sigmoid

STILL = Motion(
    level_sd=1e-6, gain_sd=1e-6, level_step=0.0, gain_step=0.0, offset_step=0.0, renewal=0.0
)


def test_quadrature_gives_moments():
    assert expected(1.5, 4.0, lambda one: one) == pytest.approx(1.5)
    assert expected(1.5, 4.0, lambda one: one * one) == pytest.approx(1.5**2 + 4.0)
    sure = 1.0 - 2.0 / 2**8
    assert mixed(0.0, 1e-12, 8) == pytest.approx((sure, sure * sure))
    assert mixed(0.0, 4.0, 1) == pytest.approx((0.0, 0.0), abs=1e-12)


def test_a_posterior_by_hand():
    """One success of one rollout, a wide even prior: compare with a fine sum."""
    tracked = LogitFilter(STILL)
    tracked.observe(0, 1.0, 1, 0, trained=False)
    grid = [0.001 * at for at in range(-10_000, 10_001)]
    weights = [exp(-0.5 * one * one / 4.0) * sigmoid(one) for one in grid]
    mean = sum(w * x for w, x in zip(weights, grid, strict=True)) / sum(weights)
    second = sum(w * x * x for w, x in zip(weights, grid, strict=True)) / sum(weights)
    found = tracked.forecast(0, 0)
    assert found.mean == pytest.approx(mean, abs=1e-3)
    assert found.variance == pytest.approx(second - mean * mean, rel=1e-2)


def test_many_outcomes_find_the_probability():
    tracked, dice = LogitFilter(STILL), Random(1)
    for _ in range(60):
        tracked.observe(0, sum(dice.random() < 0.8 for _ in range(8)), 8, 0, trained=False)
    assert tracked.probability(0, 0) == pytest.approx(0.8, abs=0.04)
    assert tracked.variance(0, 0) == pytest.approx(0.16, abs=0.02)


def test_outcomes_may_be_counted_in_before_they_are_told():
    tracked = LogitFilter(Motion())
    tracked.observe(0, 2.0, 8, 0, trained=False)
    ahead = tracked.variance(0, 0, 4.0, 4)
    assert ahead > tracked.variance(0, 0)  # nearer to one half
    assert tracked.variance(0, 0) == tracked.variance(0, 0, 0.0, 0)


def world(steps, drift, gain, seed=5):
    """Outcomes of 300 prompts seen in turn, all of them drifting and gaining when mixed."""
    dice, tracked = Random(seed), LogitFilter(Motion())
    logits = [dice.gauss(0.0, 2.0) for _ in range(300)]
    for step in range(steps):
        for at in dice.sample(range(300), 30):
            wins = sum(dice.random() < sigmoid(logits[at]) for _ in range(8))
            tracked.observe(at, wins, 8, step, 0 < wins < 8)
            logits[at] += gain * (0 < wins < 8)
        logits = [one + drift for one in logits]
    return tracked, logits


def test_drift_that_prompts_share_moves_those_not_seen():
    tracked, _ = world(60, drift=0.03, gain=0.0)
    assert tracked.level == pytest.approx(1.8, abs=0.45)
    assert tracked.prior.mean == tracked.level


def test_gain_is_told_from_drift():
    tracked, _ = world(100, drift=0.0, gain=0.3)
    assert tracked.gain == pytest.approx(0.3, abs=0.12)
    assert abs(tracked.level) < 0.5


@pytest.mark.parametrize(("believed", "true"), [(1.0, 3.0), (3.0, 1.0)])
def test_the_spread_of_prompts_is_learnt(believed, true):
    dice, tracked = Random(2), LogitFilter(Motion(spread=believed, spread_weight=10.0))
    for at in range(600):
        p = sigmoid(dice.gauss(0.0, true))
        tracked.observe(at, sum(dice.random() < p for _ in range(8)), 8, 0, trained=False)
    found = tracked.prior.variance**0.5
    assert abs(found - true) < 0.5 * abs(believed - true)


@pytest.mark.parametrize(("before", "after"), [(0.95, 0.1), (0.05, 0.6), (0.5, 0.95)])
def test_a_jump_is_followed_within_ten_visits(before, after):
    late = []
    for seed in range(20):
        dice, tracked = Random(seed), LogitFilter(Motion())
        for visit in range(50):
            p = before if visit < 30 else after
            wins = sum(dice.random() < p for _ in range(8))
            tracked.observe(0, wins, 8, 5 * visit, trained=False)
            if visit == 39:
                late.append(tracked.probability(0, 5 * visit))
    assert fmean(late) == pytest.approx(after, abs=0.08)


@settings(max_examples=80)
@given(
    some.lists(
        some.tuples(
            some.integers(0, 5), some.floats(0, 1), some.integers(1, 64), some.integers(0, 40)
        ),
        max_size=40,
    )
)
def test_any_outcomes_leave_it_in_order(outcomes):
    tracked, version = LogitFilter(Motion()), 0
    for at, share, trials, passed in outcomes:
        version += passed
        tracked.observe(at, share * trials, trials, version, trained=share > 0.5)
        found = tracked.forecast(at, version)
        assert abs(found.mean) <= 8.0
        assert found.variance > 0.0
        level, both, gain = tracked.cov
        assert level > 0.0
        assert level * gain >= both * both
        assert 0.0 < tracked.probability(at, version) < 1.0
    again = LogitFilter(Motion())
    again.load_state_dict(through_json(tracked.state_dict()))
    assert again.state_dict() == tracked.state_dict()


def test_takes_the_prompts_that_are_likely_mixed():
    view = StubView(prompts=make_prompts(40))
    policy = likely_mixed.LikelyMixed(likely_mixed.Config(), view.setting())
    for at in range(40):
        wins = 4 if at in (3, 17, 20) else 8 * (at % 2)
        tell(policy, view, at, [1.0] * wins + [0.0] * (8 - wins))
    assert {one.prompt_id for one in policy.propose(3, view)} == {3, 17, 20}


def test_solved_prompts_come_back_when_they_were_long_not_seen():
    view = StubView(prompts=make_prompts(2))
    config = likely_mixed.Config(renewal=0.01)
    policy = likely_mixed.LikelyMixed(config, view.setting())
    tell(policy, view, 0, [1.0] * 8)
    tell(policy, view, 0, [1.0] * 8)
    view.version = 400
    tell(policy, view, 1, [1.0] * 7 + [1.0])
    tell(policy, view, 1, [1.0] * 8)
    assert policy.propose(1, view)[0].prompt_id == 0


def test_filtering_is_a_choice():
    view = StubView()
    keeps = likely_mixed.LikelyMixed(likely_mixed.Config(), view.setting())
    drops = likely_mixed.LikelyMixed(likely_mixed.Config(filters=True), view.setting())
    assert tell(keeps, view, 0, [1.0, 1.0])
    assert not tell(drops, view, 0, [1.0, 1.0])
    assert tell(drops, view, 0, [1.0, 0.0])


def test_out_of_range():
    for fields in ({"pool": 0}, {"renewal": 1.0}, {"offset_step": -0.1}, {"curiosity": -1.0}):
        with pytest.raises(UserError, match=next(iter(fields))):
            likely_mixed.Config(**fields)
