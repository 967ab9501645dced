"""The truth of simulated prompts: what each knob does, and that nothing depends on order."""

from math import log, sqrt
from statistics import mean, stdev

import pytest

from sojourn.errors import UserError
from sojourn.sim.rollout.lengths import LengthPlan
from sojourn.sim.rollout.truth import PromptPlan, Truth, TruthPlan


def truth(prompts=None, plan=None, lengths=None, turns=1.0, seed=0):
    return Truth(
        prompts or PromptPlan(count=400), plan or TruthPlan(), lengths or LengthPlan(), turns, seed
    )


def correlation(xs, ys):
    mx, my = mean(xs), mean(ys)
    both = sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True))
    return both / sqrt(sum((x - mx) ** 2 for x in xs) * sum((y - my) ** 2 for y in ys))


def test_a_draw_depends_on_its_name_alone():
    one, other = truth(), truth()
    for place in range(5):
        other.draw(7, 0, place)
    assert one.draw(3, 2, 1)[:4] == other.draw(3, 2, 1)[:4]
    assert one.draw(3, 2, 1)[:4] != one.draw(3, 2, 2)[:4]
    assert one.draw(3, 2, 1)[:4] != truth(seed=1).draw(3, 2, 1)[:4]


def test_successes_are_as_frequent_as_the_probability_says():
    world = truth()
    for prompt in (0, 1, 2):
        share = mean(world.draw(prompt, visit, 0).right for visit in range(3000))
        assert share == pytest.approx(world.probability(prompt), abs=0.04)


@pytest.mark.parametrize("rho", [0.0, 0.5, 1.0])
def test_siblings_are_as_alike_as_the_knob_says(rho):
    lengths = LengthPlan(
        group_correlation=rho, wrong_factor=1.0, median_tokens=50_000, difficulty_correlation=0.0
    )
    world = truth(PromptPlan(count=3000), lengths=lengths)
    pairs = [
        (log(world.draw(at, 0, 0).tokens), log(world.draw(at, 0, 1).tokens)) for at in range(3000)
    ]
    assert correlation(*zip(*pairs, strict=True)) == pytest.approx(rho, abs=0.05)
    assert mean(x for x, _ in pairs) == pytest.approx(log(50_000), abs=0.06)
    assert stdev(x for x, _ in pairs) == pytest.approx(0.8, abs=0.04)


def test_the_tail_is_a_pareto_law_behind_the_body():
    plan = LengthPlan(
        median_tokens=1000,
        tail_share=0.05,
        tail_alpha=1.5,
        group_correlation=0.0,
        wrong_factor=1.0,
        difficulty_correlation=0.0,
    )
    law = plan.law()
    begins = law.at(1.6448536)
    assert law.at(1.6448537) == pytest.approx(begins, rel=1e-4)
    # Twice as long is (1/2)^1.5 as frequent: the score of 0.05 / 2^1.5.
    assert law.at(2.1043) == pytest.approx(2 * begins, rel=0.01)


def test_recorded_lengths_take_the_place_of_the_law():
    plan = LengthPlan(recorded=(10, 20, 30), group_correlation=0.0, wrong_factor=1.0)
    world = truth(lengths=plan)
    drawn = [world.draw(at, 0, 0).tokens for at in range(400)]
    assert min(drawn) >= 10
    assert max(drawn) <= 30
    assert mean(drawn) == pytest.approx(20, abs=1)


def test_hard_prompts_and_failures_are_longer():
    plan = LengthPlan(difficulty_correlation=0.9, group_correlation=0.9, wrong_factor=3.0)
    world = truth(lengths=plan)
    hard = sorted(range(400), key=world.probability)
    lengths = {at: world.draw(at, 0, 0).tokens for at in hard}
    assert mean(lengths[at] for at in hard[:100]) > 2 * mean(lengths[at] for at in hard[300:])


def test_training_gains_and_is_forgotten():
    plan = TruthPlan(gain_logits=1.0, domain_gain_logits=0.0, drift_logits=0.0, forget_share=0.5)
    world = truth(plan=plan)
    before = [world.probability(at) for at in range(400)]
    world.train([5])
    gained = world.probability(5)
    assert gained > before[5]
    assert [world.probability(at) for at in range(400) if at != 5] == [
        one for at, one in enumerate(before) if at != 5
    ]
    for _ in range(40):
        world.advance()
    assert world.probability(5) == pytest.approx(before[5], abs=1e-6)


def test_a_domain_learns_together():
    plan = TruthPlan(gain_logits=0.0, domain_gain_logits=0.5, drift_logits=0.0)
    world = truth(PromptPlan(count=400, domains={"a": 0.5, "b": 0.5}), plan)
    before = [world.probability(at) for at in range(400)]
    first = next(one.id for one in world.prompts if one.domain == "a")
    world.train([first])
    for one in world.prompts:
        assert (world.probability(one.id) > before[one.id]) == (one.domain == "a")


def test_drift_lifts_all_and_jumps_lift_or_drop_some():
    world = truth(plan=TruthPlan(drift_logits=0.1, jump_share=0.05, jump_logits=3.0))
    still = truth(plan=TruthPlan(drift_logits=0.0, jump_share=0.0))
    world.advance()
    still.advance()
    change = [world.base[at] - still.base[at] for at in range(400)]
    assert 15 <= sum(one != 0.0 for one in change) <= 21
    assert {round(one, 6) for one in change} == {-3.0, 0.0, 3.0}
    same = [at for at in range(400) if change[at] == 0.0]
    assert all(world.probability(at) > still.probability(at) for at in same)


@pytest.mark.parametrize("auc", [0.5, 0.7, 0.9])
def test_features_have_the_auc_that_is_stated_at_every_look(auc):
    world = truth(PromptPlan(count=1500), TruthPlan(logit_sd=0.1, feature_auc=auc))
    draws = [world.draw(at, 0, 0) for at in range(1500)]
    for _ in range(2):
        scored = [(world.feature(draw), draw.right) for draw in draws]
        right = [value for value, success in scored if success]
        wrong = sorted(value for value, success in scored if not success)
        from bisect import bisect_left

        found = mean(bisect_left(wrong, value) for value in right) / len(wrong)
        assert found == pytest.approx(auc, abs=0.03)


def test_noisy_rewards_are_wrong_as_often_as_stated():
    world = truth(plan=TruthPlan(reward_noise=0.2, logit_mean=20.0, logit_sd=0.0))
    values = [world.reward(world.draw(0, at, 0), True, -1.0, 1.0) for at in range(2000)]
    assert mean(value == -1.0 for value in values) == pytest.approx(0.2, abs=0.03)
    assert world.plan.reward_noise == 0.2


def test_turns_are_geometric_and_split_the_tokens():
    world = truth(turns=4.0, lengths=LengthPlan(median_tokens=5000))
    draws = [world.draw(at, 0, 0) for at in range(400)]
    assert mean(1 + len(draw.turn_ends) for draw in draws) == pytest.approx(4.0, abs=0.6)
    for draw in draws:
        assert list(draw.turn_ends) == sorted(set(draw.turn_ends))
        assert all(0 < end < draw.tokens for end in draw.turn_ends)


def test_domains_have_their_shares_and_embeddings_know_something():
    plan = PromptPlan(count=2000, domains={"a": 3.0, "b": 1.0}, embedding_numbers=4)
    world = truth(plan)
    assert mean(one.domain == "a" for one in world.prompts) == pytest.approx(0.75, abs=0.03)
    first = [one.meta["embedding"][0] for one in world.prompts]
    assert correlation(first, world.base) > 0.5
    assert len(world.prompts[0].meta["embedding"]) == 4


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: LengthPlan(group_correlation=1.5), "lengths.group_correlation is 1.5"),
        (lambda: TruthPlan(feature_auc=0.4), "truth.feature_auc is 0.4"),
        (lambda: PromptPlan(count=0), "prompts.count is 0"),
        (lambda: PromptPlan(domains={"a": 0.0}), "each share above 0"),
    ],
)
def test_values_out_of_range_are_refused(make, sentence):
    with pytest.raises(UserError, match=sentence):
        make()
