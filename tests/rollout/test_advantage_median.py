"""Median-centred advantages by hand, and the corrections that trainers get."""

from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as some
from stub_views import StubView, result_of, setting

from sojourn.errors import UserError
from sojourn.policies.advantage import median_centred
from sojourn.rollout.corrections import (
    KEPT_AT_RANDOM,
    behaviour_logprobs,
    corrected_mean,
    corrections,
    inclusion_weights,
    truncated_ratios,
)
from sojourn.rollout.model import Decision, Segment, Subset, TrainGroup


def advantages(rewards, **config):
    result = result_of(rewards)
    policy = median_centred.MedianCentred(median_centred.Config(**config), setting())
    subset = Subset(tuple(result.scored), (1.0,) * len(result.scored))
    return policy.compute([(result, subset)], StubView())[0]


def test_by_hand():
    assert advantages([1.0, 3.0, 9.0]) == [-1.0, None, 3.0]
    assert advantages([0.0, 0.0, 1.0]) == [None, 0.0, 1.0]
    assert advantages([1.0, 1.0, 0.0]) == [None, 0.0, -1.0]


@pytest.mark.parametrize(("size", "printed"), [(2, 3000), (4, 5000), (8, 9000)])
def test_a_lone_success_under_the_released_code(size, printed):
    found = advantages([0.0] * size + [1.0], preset="code")
    assert found[-1] == pytest.approx(printed)
    assert found[0] is None
    assert set(found[1:-1]) <= {0.0}


def test_ragged_groups():
    assert advantages([1.0]) == [0.0]
    assert advantages([]) == []
    assert advantages([1.0, 0.0]) == [1.0, -1.0], "an even group has no pivot, its MAD is .5"
    assert advantages([1.0, None, 0.0, 0.0]) == [1.0, None, 0.0]


@given(some.lists(some.integers(-5, 5), min_size=3, max_size=9).filter(lambda one: len(one) % 2))
def test_an_odd_group_has_one_pivot(rewards):
    found = advantages([float(one) for one in rewards])
    assert found.count(None) == 1
    assert min(one for one in found if one is not None) <= 0.0


def test_presets_are_named():
    with pytest.raises(UserError, match="allowed: code, paper"):
        median_centred.Config(preset="mean")


def test_weights_undo_what_chance_kept():
    assert inclusion_weights([1.0, 0.5, 0.5]) == pytest.approx([0.6, 1.2, 1.2])
    assert inclusion_weights([1.0, 0.01], cap=4.0) == pytest.approx([0.4, 1.6])
    assert inclusion_weights([]) == []
    assert corrected_mean([1.0, 0.0], [1.0, 0.25]) == pytest.approx(0.2)


def test_ratios_are_cut_above_only():
    found = truncated_ratios([log(0.5), log(0.1), 0.0], [log(0.1), log(0.5), -1000.0])
    assert found == pytest.approx([2.0, 0.2, 2.0])


def trained():
    result = result_of([1.0, 0.0, 0.0])
    for at, one in enumerate(result.rollouts):
        one.segments = [
            Segment("sampled", 2, 0, token_ids=[5, 6], logprobs=[-1.0, -2.0], chosen=[1]),
            Segment("tool", 1, 0, token_ids=[7]),
            Segment("sampled", 1, 1, token_ids=[8], logprobs=[-3.0]),
        ]
        if at == 1:
            one.decisions.append(Decision("extend", "", 0.5, 0, KEPT_AT_RANDOM))
    subset = Subset((0, 1, 2), (1.0, 0.5, 1.0), ((), (3,), ()))
    return TrainGroup(result, subset, (1.0, -1.0, None), False)


def test_corrections_of_a_group():
    group = trained()
    assert behaviour_logprobs(group.result.rollouts[0]) == [-1.0, None, None, -3.0]
    now = {one.rid: [-0.5, -9.0, -9.0, -2.0] for one in group.result.rollouts}
    first, second = corrections(group, now)
    assert (first.rid, second.rid) == (0, 1)
    assert first.weight == pytest.approx(0.75)
    assert second.weight == pytest.approx(1.5)
    assert first.ratios == pytest.approx((1.6487, 0.0, 0.0, 2.0), abs=1e-4)
    assert first.truncated == 1
    assert second.ratios == pytest.approx((1.6487, 0.0, 0.0, 0.0), abs=1e-4)
    assert second.truncated == 0
