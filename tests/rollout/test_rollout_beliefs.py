"""Beliefs worked out by hand, and lengths against what made them."""

import json
from math import exp, log
from random import Random

import pytest

from sojourn.errors import UserError
from sojourn.rollout.beliefs import BeliefRules, BeliefStore
from sojourn.rollout.lengths import LengthBelief


def test_without_decay_counts_add_up():
    store = BeliefStore(BeliefRules())
    store.observe(7, 3, 8, version=0)
    store.observe(7, 1, 8, version=5)
    belief = store.read(7, 9)
    assert (belief.alpha, belief.beta) == (1 + 3 + 1, 1 + 5 + 7)
    assert (belief.visits, belief.trials, belief.version) == (2, 16, 5)
    assert belief.mean == pytest.approx(5 / 18)
    assert belief.variance == pytest.approx(5 * 13 / (18**2 * 19))


def test_a_prompt_never_seen_is_the_prior():
    store = BeliefStore(BeliefRules(prior_alpha=2.0, prior_beta=3.0))
    belief = store.read(1, 4)
    assert (belief.alpha, belief.beta, belief.visits, belief.version) == (2.0, 3.0, 0, -1)
    assert not store.counts, "a look stores nothing"


def test_decay_at_an_update_is_that_of_mopps():
    """α becomes λα + (1 - λ)·1 + s, β likewise with n - s."""
    store = BeliefStore(BeliefRules(update_keep=0.5))
    store.observe(0, 8, 8, version=0)
    assert store.read(0, 0)[:2] == (9.0, 1.0)
    store.observe(0, 2, 8, version=1)
    assert store.read(0, 1)[:2] == (0.5 * 9 + 0.5 + 2, 0.5 * 1 + 0.5 + 6)


def test_decay_by_version_pulls_towards_the_prior_seen_or_not():
    store = BeliefStore(BeliefRules(version_keep=0.5))
    store.observe(0, 4, 4, version=2)
    assert store.read(0, 2)[:2] == (5.0, 1.0)
    assert store.read(0, 4)[:2] == (1.0 + 4.0 * 0.25, 1.0)
    assert store.read(0, 1)[:2] == (5.0, 1.0), "a look at an earlier version decays nothing"
    store.observe(0, 0, 4, version=4)
    assert store.read(0, 4)[:2] == (2.0, 5.0)


def test_both_scales_together():
    store = BeliefStore(BeliefRules(update_keep=0.5, version_keep=0.5))
    store.observe(0, 4, 4, version=0)
    store.observe(0, 1, 2, version=1)
    alpha = 0.5 * (1 + 0.5 * 4) + 0.5 + 1
    assert store.read(0, 1)[:2] == (alpha, 0.5 * 1 + 0.5 + 1)


def test_parts_of_successes_count_in_part():
    store = BeliefStore(BeliefRules())
    store.observe(0, 1.5, 2, version=0)
    assert store.read(0, 0)[:2] == (2.5, 1.5)


def test_recent_observations_are_a_window():
    store = BeliefStore(BeliefRules(window=2))
    for version in range(4):
        store.observe(0, version, 4, version)
    assert [tuple(one) for one in store.recent(0)] == [(2, 2, 4), (3, 3, 4)]
    assert store.recent(1) == ()
    assert store.pool_mean == pytest.approx((6 + 1) / (16 + 2))


def test_versions_only_go_up():
    store = BeliefStore(BeliefRules())
    store.observe(0, 1, 1, version=3)
    with pytest.raises(AssertionError):
        store.observe(0, 1, 1, version=2)


def test_shares_of_domains_are_of_the_latest_rollouts():
    store = BeliefStore(BeliefRules(domain_window=4))
    assert store.domain_share("a") == 0.0
    for domain in "aaabbb":
        store.completed(domain)
    assert store.domain_share("a") == 0.25
    assert store.domain_share("b") == 0.75
    for _ in range(4):
        store.completed("b")
    assert "a" not in store.domain_counts


@pytest.mark.parametrize(
    "wrong",
    [
        {"prior_alpha": 0.0},
        {"update_keep": 1.1},
        {"version_keep": -0.1},
        {"window": 0},
        {"length_sd_log": 0.0},
    ],
)
def test_rules_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match=f"beliefs.{next(iter(wrong))} is "):
        BeliefRules(**wrong)


def filled(prompts=60, each=12, between=0.8, within=0.4, seed=4, keep=1.0):
    dice = Random(seed)
    store = BeliefStore(BeliefRules(length_keep=keep))
    means = [dice.gauss(6.5, between) for _ in range(prompts)]
    for prompt, mean in enumerate(means):
        for _ in range(each):
            store.lengths.observe(prompt, round(exp(dice.gauss(mean, within))))
    return store, means


def test_lengths_find_the_spread_within_and_between_prompts():
    store, means = filled()
    within, between, centre = store.lengths._variances()
    assert within == pytest.approx(0.16, rel=0.15)
    assert between == pytest.approx(0.64, rel=0.35)
    assert centre == pytest.approx(sum(means) / len(means), abs=0.1)
    errors = [abs(store.length(at).mean_log - mean) for at, mean in enumerate(means)]
    assert sum(errors) / len(errors) < 0.15


def test_an_unseen_prompt_has_the_pool_and_its_whole_spread():
    store, _ = filled()
    unseen, seen = store.length(999), store.length(0)
    assert unseen.sd_log > 1.5 * seen.sd_log
    assert unseen.weight == 0.0
    assert seen.weight == 12.0


def test_equal_prompts_lean_on_the_pool():
    """Without a difference between prompts three rollouts say next to nothing about one."""
    store, _ = filled(between=0.0)
    store.lengths.observe(999, 5000)
    assert store.length(999).mean_log < log(1500)


def test_lengths_before_any_are_the_prior():
    belief = BeliefStore(BeliefRules(length_mean_log=5.0, length_sd_log=0.5)).length(0)
    assert belief.mean_log == pytest.approx(5.0)
    assert belief.sd_log == pytest.approx(0.5, rel=0.01)


def test_decayed_sums_are_those_of_the_prompts():
    store, _ = filled(prompts=5, keep=0.7)
    lengths = store.lengths
    sums = lengths.prompts.values()
    assert lengths.pool.count == pytest.approx(sum(one.count for one in sums))
    assert lengths.pool.total == pytest.approx(sum(one.total for one in sums))
    assert lengths.pool.squares == pytest.approx(sum(one.squares for one in sums))
    assert lengths.explained == pytest.approx(sum(one.explained for one in sums))


def test_a_cut_rollout_counts_as_longer_than_where_it_was_cut():
    store, _ = filled(prompts=20, between=0.1)
    before = store.length(3).mean_log
    store.lengths.observe_longer(3, round(exp(before)))
    after = store.length(3).mean_log
    assert after > before
    short = store.length(4).mean_log
    store.lengths.observe_longer(4, 1)  # a cut that says nothing
    assert store.length(4).mean_log == pytest.approx(short, abs=0.05)


def test_the_predictive_distribution_against_draws():
    belief = LengthBelief(6.0, 0.7, 1.0)
    dice = Random(1)
    drawn = [exp(dice.gauss(6.0, 0.7)) for _ in range(40_000)]
    assert belief.mean() == pytest.approx(sum(drawn) / len(drawn), rel=0.02)
    beyond = [one for one in drawn if one > 800]
    assert belief.survival(800) == pytest.approx(len(beyond) / len(drawn), rel=0.05)
    assert belief.mean_beyond(800) == pytest.approx(sum(beyond) / len(beyond), rel=0.03)
    assert belief.quantile(0.5) == pytest.approx(exp(6.0))
    assert belief.survival(0) == 1.0
    assert belief.mean_beyond(0) == belief.mean()
    assert belief.mean_beyond(1e9) == 1e9


def test_a_store_goes_through_json():
    store, _ = filled(prompts=6, keep=0.9)
    for version in range(12):
        store.observe(version % 4, version % 3, 3, version)
        store.completed("ab"[version % 2])
    state = json.loads(json.dumps(store.state_dict()))
    other = BeliefStore(store.rules)
    other.load_state_dict(state)
    assert other.state_dict() == store.state_dict()
    for prompt in range(8):
        assert other.read(prompt, 20) == store.read(prompt, 20)
        assert other.recent(prompt) == store.recent(prompt)
        assert other.length(prompt) == store.length(prompt)
    assert other.domain_share("a") == store.domain_share("a")
