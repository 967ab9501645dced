"""Random streams: their distributions, and that they go on where they stood."""

import json
from collections import Counter
from statistics import fmean, pvariance

import pytest

from sojourn.rollout.streams import Stream


def test_purposes_do_not_disturb_each_other():
    one, other, again = Stream(1, "a"), Stream(1, "b"), Stream(1, "a")
    other.bits()
    first = [one.bits() for _ in range(5)]
    assert first == [again.bits() for _ in range(5)]
    assert first != [Stream(2, "a").bits() for _ in range(5)]


def test_known_numbers_stay_as_they_are():
    """SplitMix64 from key 0: the first outputs of the reference code for seed 0."""
    stream = Stream(0, "x")
    stream.key = 0
    assert [stream.bits() for _ in range(3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


def test_a_stream_goes_through_json():
    stream = Stream(3, "x")
    stream.normal()
    state = json.loads(json.dumps(stream.state_dict()))
    other = Stream(9, "y")
    other.load_state_dict(state)
    assert [other.beta(2, 3) for _ in range(9)] == [stream.beta(2, 3) for _ in range(9)]


@pytest.mark.parametrize(
    ("draw", "mean", "variance"),
    [
        (lambda one: one.uniform(), 1 / 2, 1 / 12),
        (lambda one: one.normal(), 0.0, 1.0),
        (lambda one: one.exponential(), 1.0, 1.0),
        (lambda one: one.gamma(0.3), 0.3, 0.3),
        (lambda one: one.gamma(4.5), 4.5, 4.5),
        (lambda one: one.beta(2.0, 6.0), 0.25, 2 * 6 / (64 * 9)),
        (lambda one: one.beta(0.5, 0.5), 0.5, 1 / 8),
        (lambda one: float(one.below(7)), 3.0, 4.0),
    ],
)
def test_moments(draw, mean, variance):
    stream = Stream(5, "moments")
    drawn = [draw(stream) for _ in range(20_000)]
    assert fmean(drawn) == pytest.approx(mean, abs=4 * (variance / 20_000) ** 0.5)
    assert pvariance(drawn) == pytest.approx(variance, rel=0.06)


def test_weights_and_orders():
    stream = Stream(6, "weights")
    seen = Counter(stream.weighted([0.0, 1.0, 3.0, 0.0]) for _ in range(8000))
    assert set(seen) == {1, 2}
    assert seen[2] / 8000 == pytest.approx(0.75, abs=0.02)
    orders = Counter(tuple(stream.shuffled("abc")) for _ in range(6000))
    assert len(orders) == 6
    assert min(orders.values()) > 850
    sampled = Counter(one for _ in range(4000) for one in stream.sample(range(5), 2))
    assert all(count == pytest.approx(1600, abs=130) for count in sampled.values())
    assert sorted(stream.sample([3, 1], 9)) == [1, 3]
