"""Hand-worked cases of the published selectors."""

from itertools import chain
from math import exp, lgamma, log, sqrt

import pytest
from choice_stubs import StubView, make_prompts, tell

from sojourn.errors import UserError
from sojourn.policies.select import (
    cures,
    dapo_filter,
    domain_ratio,
    insight_inspired,
    mopps,
    prompt_gdro_inspired,
    uniform,
    vade_inspired,
)
from sojourn.policies.select.beta_math import (
    digamma,
    information,
    mixed_chance,
    outcome_variance,
)
from sojourn.rollout.beliefs import BeliefStore


def taught(counts, rules=None):
    """A view whose prompts 0, 1, ... had so many successes and rollouts."""
    view = StubView(prompts=make_prompts(len(counts)))
    if rules is not None:
        view.beliefs = BeliefStore(rules)
    for at, (successes, trials) in enumerate(counts):
        if trials:
            view.beliefs.observe(at, successes, trials, 0)
    return view


def ids(picks):
    return [one.prompt_id for one in picks]


def test_digamma():
    assert digamma(1.0) == pytest.approx(-0.5772156649015329, abs=1e-11)
    assert digamma(0.5) == pytest.approx(-1.9635100260214235, abs=1e-11)
    assert digamma(10.0) == pytest.approx(2.2517525890667211, abs=1e-11)


@pytest.mark.parametrize(("alpha", "beta", "nats"), [(1, 1, 0.193), (4, 4, 0.059), (20, 20, 0.012)])
def test_information_of_one_outcome(alpha, beta, nats):
    assert information(alpha, beta) == pytest.approx(nats, abs=6e-4)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (2.5, 0.7), (9.0, 3.0)])
@pytest.mark.parametrize("outcomes", [1, 3, 8])
def test_information_by_quadrature(alpha, beta, outcomes):
    """Entropy of the count less its expected entropy given θ, summed over a fine grid."""
    grid = [(at + 0.5) / 20_000 for at in range(20_000)]
    base = lgamma(alpha) + lgamma(beta) - lgamma(alpha + beta)
    density = [exp((alpha - 1) * log(t) + (beta - 1) * log(1 - t) - base) / 20_000 for t in grid]
    ways = [
        exp(lgamma(outcomes + 1) - lgamma(y + 1) - lgamma(outcomes - y + 1))
        for y in range(outcomes + 1)
    ]
    inner, marginal = 0.0, [0.0] * (outcomes + 1)
    for t, d in zip(grid, density, strict=True):
        chances = [w * t**y * (1 - t) ** (outcomes - y) for y, w in enumerate(ways)]
        inner -= d * sum(p * log(p) for p in chances if p > 0.0)
        marginal = [m + d * p for m, p in zip(marginal, chances, strict=True)]
    expected = -sum(p * log(p) for p in marginal) - inner
    assert information(alpha, beta, outcomes) == pytest.approx(expected, abs=2e-3)


def test_mixed_chance_of_an_even_prior():
    for rollouts in (4, 8, 16):
        assert mixed_chance(1.0, 1.0, rollouts) == pytest.approx(1.0 - 2.0 / (rollouts + 1))
    assert mixed_chance(2.0, 3.0, 1) == pytest.approx(0.0, abs=1e-12)
    assert outcome_variance(1.0, 1.0) == pytest.approx(1.0 / 6.0)


def test_mopps_takes_the_means_nearest_to_one_half_without_draws():
    view = taught([(0, 8), (4, 8), (8, 8), (3, 8), (0, 0)])
    policy = mopps.Mopps(mopps.Config.posterior_mean(), view.setting())
    assert set(ids(policy.propose(3, view))) == {1, 3, 4}  # never seen: a mean of one half


def test_mopps_draws_prefer_what_is_uncertain_or_near():
    view = taught([(0, 64), (32, 64), (64, 64), (1, 64)])
    policy = mopps.Mopps(mopps.Config(), view.setting())
    assert all(ids(policy.propose(1, view)) == [1] for _ in range(50))


def test_mopps_band_takes_any_within_it():
    view = taught([(20, 64), (32, 64), (64, 64), (42, 64)])
    policy = mopps.Mopps(mopps.Config(variant="band", low=0.2, high=0.8), view.setting())
    chosen = {ids(policy.propose(1, view))[0] for _ in range(60)}
    assert chosen == {0, 1, 3}


def test_mopps_presets_differ_in_what_is_forgotten():
    counts = {}
    for name, rules in mopps.BELIEFS.items():
        view = taught([(8, 8)], rules)
        view.beliefs.observe(0, 0, 8, 1)
        belief = view.beliefs.read(0, 1)
        counts[name] = belief.alpha, belief.beta
    assert counts["released"] == (9.0, 9.0)
    assert counts["forgetting"] == (5.0, 9.0)  # (1 + 8) / 2 + 1 / 2 and 1 + 8


def test_vade_forgets_on_two_scales():
    view = taught([(8, 8)], vade_inspired.BELIEFS["assumed"])
    assert view.beliefs.read(0, 0).alpha == 9.0
    assert view.beliefs.read(0, 500).alpha == pytest.approx(1.0 + 8.0 * 0.998**500)
    policy = vade_inspired.VadeInspired(vade_inspired.Config(), view.setting())
    assert ids(policy.propose(1, view)) == [0]


def test_insight_prefers_the_less_known_of_equal_means():
    view = taught([(32, 64), (2, 4), (4, 4), (0, 64)])
    policy = insight_inspired.InsightInspired(insight_inspired.Config(), view.setting())
    assert ids(policy.propose(2, view)) == [1, 2]
    whole = insight_inspired.InsightInspired(insight_inspired.Config.whole_group(), view.setting())
    assert whole.outcomes == 8
    assert ids(whole.propose(1, view)) == [1]


def test_cures_as_released_is_uniform_in_effect():
    view = taught([(0, 0), (0, 64), (64, 64), (32, 64)])
    released = cures.Cures(cures.Config(), view.setting())
    weights = [exp(released.log_weight(at, view)) for at in range(4)]
    assert weights[0] == pytest.approx(exp(0.5 / 100.0))
    assert weights[3] == pytest.approx(exp(0.5 / 3300.0))
    assert max(weights) / min(weights) < 1.006
    entropy = cures.Cures(cures.Config.entropy(), view.setting())
    assert exp(entropy.log_weight(0, view)) == pytest.approx(exp(2.5))
    edge = (1 / 66) * (65 / 66)
    assert exp(entropy.log_weight(1, view)) == pytest.approx(exp(10.0 * edge))


def test_dapo_drops_groups_that_are_all_alike():
    view = StubView()
    policy = dapo_filter.DapoFilter(dapo_filter.Config(), view.setting())
    assert tell(policy, view, 0, [0.0, 1.0])
    assert not tell(policy, view, 1, [1.0, 1.0])
    assert not tell(policy, view, 2, [0.0])
    assert tell(policy, view, 3, [0.5, 0.5, 0.6])
    assert policy.metrics() == {"kept": 2.0, "dropped": 2.0}
    strict = dapo_filter.DapoFilter(dapo_filter.Config(std_min=0.1), view.setting())
    assert not tell(strict, view, 3, [0.5, 0.5, 0.6])


def test_dapo_takes_every_prompt_once_in_an_epoch():
    view = StubView(prompts=make_prompts(30))
    policy = dapo_filter.DapoFilter(dapo_filter.Config(), view.setting())
    epochs = [[ids(policy.propose(10, view)) for _ in range(3)] for _ in range(2)]
    assert all(sorted(chain(*one)) == list(range(30)) for one in epochs)
    assert epochs[0] != epochs[1]
    assert len(set(ids(policy.propose(25, view)) + ids(policy.propose(5, view)))) == 30


def test_a_pass_owes_a_prompt_that_is_open_once():
    view = StubView(prompts=make_prompts(10))
    policy = uniform.Uniform(uniform.Config(), view.setting())
    view.open.update(range(9))
    for _ in range(20):
        assert len(policy.propose(4, view)) == 1
        assert len(policy.left) <= 20
    view.open.add(9)
    passes = policy.passes
    for _ in range(20):
        assert policy.propose(4, view) == []
        assert len(policy.left) <= 20
    assert policy.passes <= passes + 1
    view.open.clear()
    assert sorted(ids(policy.propose(10, view))) == list(range(10))


def test_gdro_bears_any_rate():
    view = StubView()
    policy = prompt_gdro_inspired.PromptGdroInspired(
        prompt_gdro_inspired.Config(bins=2, rate=1e6, even_share=0.1), view.setting()
    )
    tell(policy, view, 1, [1.0] * 8)
    assert policy.weights() == pytest.approx([0.95, 0.05])


def test_gdro_weighs_bins_by_a_loss_that_visits_do_not_bias():
    view = StubView()
    config = prompt_gdro_inspired.Config(bins=2, even_share=0.1)
    policy = prompt_gdro_inspired.PromptGdroInspired(config, view.setting())
    tell(policy, view, 0, [0.0] * 8)  # one visit of the lower bin: a loss of 1
    for _ in range(40):
        tell(policy, view, 1, [1.0] * 8)  # many of the upper one: a loss of 0
    assert policy.loss(0) == pytest.approx(1.0)
    assert policy.loss(1) == 0.0
    assert policy.weights()[0] == pytest.approx(0.9 * exp(2.0) / (exp(2.0) + 1.0) + 0.05)
    picked = ids(policy.propose(100, StubView(beliefs=view.beliefs)))
    assert 0 in picked


def test_domain_ratio_corrects_after_fifty_completions():
    view = StubView()
    config = domain_ratio.Config(targets="a=3,b=1")
    policy = domain_ratio.DomainRatio(config, view.setting())
    assert policy.weights(view) == {"a": 0.75, "b": 0.25}
    for at in range(12):
        tell(policy, view, 2 * at + 1, [1.0, 0.0, 0.0, 0.0])  # 48 of domain b
    assert policy.weights(view) == {"a": 0.75, "b": 0.25}
    tell(policy, view, 0, [1.0, 0.0])
    assert policy.weights(view) == {
        "a": pytest.approx(0.75 * 10.0),  # 0.75 / 0.04, clipped
        "b": pytest.approx(0.25 * 0.25 / 0.96),
    }
    assert sum(one.prompt_id % 2 for one in policy.propose(20, view)) <= 3


def test_domain_ratio_window_reacts_where_cumulative_does_not():
    weights = {}
    for variant in domain_ratio.VARIANTS:
        view = StubView()
        policy = domain_ratio.DomainRatio(domain_ratio.Config(variant=variant), view.setting())
        for step in range(1500):
            domain = step < 1400
            view.beliefs.completed("b" if domain else "a")
            tell(policy, view, int(domain), [1.0])
        weights[variant] = policy.weights(view)
    assert weights["cumulative"]["a"] / weights["cumulative"]["b"] == pytest.approx(14.0)
    assert weights["window"]["a"] / weights["window"]["b"] == pytest.approx(9.0)


@pytest.mark.parametrize("targets", ["a", "a=x", "a=-1,b=2", "a=0", "a=inf", "a=nan"])
def test_domain_targets_are_refused(targets):
    with pytest.raises(UserError, match="targets"):
        domain_ratio.Config(targets=targets)


def test_an_unknown_domain_is_refused():
    with pytest.raises(UserError, match=r"unknown domain in select\.targets 'c'"):
        domain_ratio.DomainRatio(domain_ratio.Config(targets="c=1"), StubView().setting())


def test_configs_refuse_what_is_out_of_range():
    for make in (
        lambda: mopps.Config(pool=0),
        lambda: mopps.Config(variant="nearst"),
        lambda: mopps.Config(low=0.6),
        lambda: cures.Config(temperature=0.0),
        lambda: dapo_filter.Config(std_min=-1.0),
        lambda: insight_inspired.Config(outcomes=-1),
        lambda: insight_inspired.Config(outcomes=10**9),
        lambda: prompt_gdro_inspired.Config(bins=10**9),
        lambda: prompt_gdro_inspired.Config(keep=1.0),
        lambda: domain_ratio.Config(ratio_min=0.0),
    ):
        with pytest.raises(UserError):
            make()


def test_square_root_of_spread_is_what_cures_weighs():
    view = taught([(1, 8)])
    policy = cures.Cures(cures.Config(temperature=1.0), view.setting())
    p = 2.0 / 10.0
    assert policy.log_weight(0, view) == pytest.approx(sqrt(p * (1 - p)) / 2.0)
