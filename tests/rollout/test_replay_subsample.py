"""Replay and subsampling by hand, and the probabilities that they put on record."""

import json
from collections import Counter
from itertools import combinations
from statistics import pvariance

import pytest
from hypothesis import given
from hypothesis import strategies as some
from stub_views import StubView, result_of, setting

from sojourn.errors import UserError
from sojourn.policies.replay import dots
from sojourn.policies.subsample import d3s, resample_on_correct, whole_group
from sojourn.rollout.corrections import KEPT_AT_RANDOM
from sojourn.rollout.draws import inclusions, systematic
from sojourn.rollout.model import Decision, Reward
from sojourn.rollout.streams import Stream


def buffer(**config):
    return dots.Dots(dots.Config(**config), setting())


def test_the_share_of_fresh_groups_falls_as_the_buffer_fills():
    policy, view = buffer(), StubView(batch_groups=4)
    assert policy.fresh(view) == 4
    policy.put(result_of([1.0, 0.0], prompt=0), view)
    assert policy.fresh(view) == 3
    for prompt in range(1, 9):
        policy.put(result_of([1.0, 0.0], prompt=prompt), view)
    assert policy.fresh(view) == 2
    assert len(policy.sample(2, view)) == 2


def test_equal_rewards_are_dropped_and_prompts_kept_once():
    policy, view = buffer(capacity_groups=2), StubView()
    policy.put(result_of([1.0, 1.0], prompt=0), view)
    assert not policy.kept
    for uid, prompt in enumerate((1, 2, 1, 3)):
        policy.put(result_of([1.0, 0.0], uid=uid, prompt=prompt), view)
    assert [(one.group.uid, prompt) for prompt, one in policy.kept.items()] == [(2, 1), (3, 3)]


def test_old_groups_go_only_if_asked_to():
    for limit, left in ((0, 2), (3, 1)):
        policy, view = buffer(versions_max=limit), StubView()
        policy.put(result_of([1.0, 0.0], prompt=0, version=1), view)
        policy.put(result_of([1.0, 0.0], prompt=1, version=3), view)
        assert policy.evict(5) == 2 - left
        assert len(policy.kept) == left


def test_a_revised_reward_changes_what_is_kept():
    policy, view = buffer(), StubView()
    original = result_of([1.0, 0.0, 0.0], uid=1)
    policy.put(original, view)
    policy.revise(Reward(101, 1.0, 1, True, "", 0))
    assert policy.kept[0].rewards == [1.0, 1.0, 0.0]
    assert original.rewards == [1.0, 0.0, 0.0], "what was trained is not touched"
    policy.revise(Reward(102, 1.0, 1, True, "", 0))
    assert not policy.kept


def test_dots_goes_on_where_it_stood():
    policy, other, view = buffer(), buffer(), StubView()
    for prompt in range(9):
        policy.put(result_of([1.0, 0.0], uid=prompt, prompt=prompt), view)
    policy.sample(3, view)
    other.load_state_dict(json.loads(json.dumps(policy.state_dict())))
    assert other.sample(4, view) == policy.sample(4, view)
    assert other.metrics() == policy.metrics()


@given(some.lists(some.integers(0, 4), min_size=1, max_size=8), some.integers(1, 8))
def test_extremes_have_the_largest_variance_of_all_subsets(rewards, count):
    count = min(count, len(rewards))
    found = pvariance(d3s.extremes([float(one) for one in rewards], count))
    assert found == pytest.approx(max(pvariance(one) for one in combinations(rewards, count)))


def widest(**config):
    return d3s.D3S(d3s.Config(**{"ramp_steps": 0, "share_last": 0.5, **config}), setting())


def test_d3s_by_hand():
    subset = widest().select(result_of([0.9, 0.5, 0.1, 0.4]), StubView())
    assert subset == ((0, 2), (1.0, 1.0), ())
    subset = widest().select(result_of([1.0] * 6 + [0.0] * 2), StubView())
    assert subset.indices[-2:] == (6, 7)
    assert sorted(subset.inclusion) == pytest.approx([2 / 6, 2 / 6, 1.0, 1.0])


def test_d3s_ramp_and_small_groups():
    policy = widest(share_first=0.5, share_last=1.0, ramp_steps=10)
    assert [policy.share(step) for step in (1, 6, 11, 99)] == [0.5, 0.75, 1.0, 1.0]
    assert widest().select(result_of([1.0, None, 0.0]), StubView()).indices == (0, 2)
    assert widest().select(result_of([None]), StubView()).indices == ()


@pytest.mark.parametrize(
    ("count", "good", "bad", "wanted"),
    [(16, 8, 24, 4), (16, 30, 2, 14), (16, 31, 1, 15), (4, 1, 7, 1), (2, 4, 4, 1), (4, 0, 8, 0)],
)
def test_classes_are_in_proportion(count, good, bad, wanted):
    assert resample_on_correct.split(count, good, bad, 2) == wanted


@given(some.integers(1, 20), some.integers(0, 12), some.integers(0, 12), some.integers(0, 3))
def test_a_split_is_possible(count, good, bad, least):
    count = min(count, good + bad)
    found = resample_on_correct.split(count, good, bad, least)
    assert 0 <= found <= good
    assert 0 <= count - found <= bad


PENALTIES = [(0.0, 0.4), (0.0, 0.0), (0.0, 0.2), (0.0,), (0.0, 0.9), (), (), ()]


def roc(seed=0, **config):
    made = resample_on_correct.Config(**config)
    return resample_on_correct.ResampleOnCorrect(made, setting(seed))


def test_the_released_code_ranks():
    result = result_of([1.0] * 5 + [0.0] * 3, features=PENALTIES)
    subset = roc(preset="code").select(result, StubView())
    assert subset == ((1, 2, 5, 6), (1.0,) * 4, ())


def test_the_paper_draws_with_the_probabilities_on_record():
    result = result_of([1.0] * 5 + [0.0] * 3, features=PENALTIES)
    seen, chances = Counter(), {}
    for seed in range(3000):
        subset = roc(seed, preset="paper").select(result, StubView())
        assert len(subset.indices) == 4
        seen.update(subset.indices)
        chances |= dict(zip(subset.indices, subset.inclusion, strict=True))
    assert set(seen) == set(range(8))
    for at, chance in chances.items():
        assert seen[at] / 3000 == pytest.approx(chance, abs=0.03)
    assert chances[1] > chances[2] > chances[0] > chances[3] > chances[4]


@given(
    some.lists(some.floats(0.01, 10), min_size=1, max_size=10),
    some.integers(0, 10),
    some.integers(0, 99),
)
def test_systematic_draws_have_their_size(weights, count, seed):
    count = min(count, len(weights))
    chances = inclusions(weights, count)
    assert sum(chances) == pytest.approx(count)
    assert all(0.0 <= one <= 1.0 for one in chances)
    drawn = systematic(chances, Stream(seed, "test"))
    assert len(set(drawn)) == count


def test_subsets_know_what_controls_left_to_chance():
    for policy in (
        whole_group.WholeGroup(whole_group.Config(), setting()),
        widest(share_last=1.0),
        roc(keep_share=1.0),
    ):
        result = result_of([1.0, 0.0, 1.0, 0.0])
        result.rollouts[1].decisions.append(Decision("extend", "", 0.1, 0, KEPT_AT_RANDOM))
        result.rollouts[2].decisions.append(Decision("extend", "", 0.1, 0, "more turns"))
        assert policy.select(result, StubView()).inclusion == (1.0, 0.1, 1.0, 1.0)


def test_values_out_of_range():
    for wrong, made in (
        ("fresh_share", lambda: dots.Config(fresh_share=0.0)),
        ("capacity_groups", lambda: dots.Config(capacity_groups=0)),
        ("share_first", lambda: d3s.Config(share_first=1.5)),
        ("did you mean 'paper'", lambda: resample_on_correct.Config(preset="papr")),
    ):
        with pytest.raises(UserError, match=wrong):
            made()
