"""What all selectors have in common: they pick what may be picked, repeatably, at low cost."""

from importlib import import_module

import pytest
from choice_stubs import StubView, make_prompts, tell, through_json
from hypothesis import given, settings
from hypothesis import strategies as some

from sojourn.policies.select import TABLE
from sojourn.policies.select.pool import draw, weighted
from sojourn.rollout.streams import Stream

every_selector = pytest.mark.parametrize("name", TABLE)
VARIANTS = [
    (name, variant)
    for name, (config, _) in TABLE.items()
    for variant in ("", *getattr(import_module(config.__module__), "VARIANTS", ()))
]
every_variant = pytest.mark.parametrize(("name", "variant"), VARIANTS)


def made(name, view, variant="", seed=3):
    config, policy = TABLE[name]
    return policy(config(variant=variant) if variant else config(), view.setting(seed))


def live(policy, view, steps, dice, uid=0):
    """Let a selector choose and learn; return all that it picked, and whether groups are kept."""
    told = []
    for _ in range(steps):
        picks = policy.propose(8, view)
        told.append(list(picks))
        view.open.update(one.prompt_id for one in picks)
        for one in picks:
            hard = one.prompt_id / len(view.prompts)
            values = [float(dice.uniform() > hard) for _ in range(4)]
            uid += 1
            told.append(tell(policy, view, one.prompt_id, values, uid))
        view.open.clear()
        view.version += 1
        view.step += 1
    return told


@every_variant
def test_picks_are_different_and_not_open(name, variant):
    view = StubView(prompts=make_prompts(60))
    policy, dice = made(name, view, variant), Stream(1, "dice")
    live(policy, view, 12, dice)
    view.open = set(range(0, 60, 3))
    for count in (1, 5, 40):
        picks = policy.propose(count, view)
        ids = [one.prompt_id for one in picks]
        assert len(ids) == len(set(ids)) <= count
        assert not view.open & set(ids)
        assert all(0.0 < one.propensity <= 1.0 for one in picks)


@every_selector
def test_picks_what_is_left_when_nearly_all_are_open(name):
    view = StubView(prompts=make_prompts(20))
    view.open = set(range(18))
    picks = made(name, view).propose(8, view)
    assert {one.prompt_id for one in picks} <= {18, 19}
    view.open = set(range(20))
    assert list(made(name, view).propose(8, view)) == []


@every_variant
def test_a_restored_selector_goes_on_alike(name, variant):
    for steps in (1, 6):
        view, dice = StubView(), Stream(1, "dice")
        policy = made(name, view, variant)
        live(policy, view, steps, dice)
        state = through_json(policy.state_dict())
        other = made(name, view, variant, seed=99)
        other.load_state_dict(state)
        assert through_json(other.state_dict()) == state
        assert other.metrics() == policy.metrics()
        beliefs = through_json(view.beliefs.state_dict())
        at = dice.state_dict(), view.version, view.step
        told = live(policy, view, 5, dice)
        dice.load_state_dict(at[0])
        view.version, view.step = at[1:]
        view.beliefs.load_state_dict(beliefs)
        assert live(other, view, 5, dice) == told


@every_selector
def test_the_stream_decides(name):
    def ids(seed):
        view = StubView()
        return live(made(name, view, seed=seed), view, 6, Stream(1, "dice"))

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)


@pytest.mark.parametrize(
    "name", ["mopps", "vade_inspired", "insight_inspired", "cures", "likely_mixed"]
)
def test_a_pick_costs_candidates_and_not_prompts(name):
    view = StubView(prompts=make_prompts(20_000))
    looks = []
    read = view.beliefs.read
    view.beliefs.read = lambda *asked: looks.append(asked) or read(*asked)
    view.is_open = lambda one: looks.append(one) or False
    made(name, view).propose(4, view)
    assert len(looks) <= 2 * 16 * 4


@settings(max_examples=60)
@given(some.integers(1, 60), some.integers(0, 70), some.sets(some.integers(0, 59)))
def test_draw_is_a_sample_without_the_open_ones(total, count, taken):
    view = StubView()
    view.open = taken
    found = draw(Stream(4, "draw"), range(total), count, view, beside={1})
    free = set(range(total)) - taken - {1}
    assert len(found) == len(set(found)) == min(count, len(free))
    assert set(found) <= free


def test_draw_is_even():
    view, counts = StubView(), [0] * 10
    stream = Stream(4, "draw")
    for _ in range(3000):
        for one in draw(stream, range(10), 3, view):
            counts[one] += 1
    assert all(abs(one - 900) < 120 for one in counts)  # 4.7 standard deviations


def test_weighted_draws_follow_the_weights():
    stream, counts = Stream(4, "weights"), {5: 0, 6: 0, 7: 0}
    for _ in range(4000):
        ((one, chance),) = weighted(stream, [5, 6, 7], [0.0, 1.0, -700.0], 1)
        counts[one] += 1
        if one == 6:
            assert chance == pytest.approx(0.7310585786)
    assert counts[7] == 0
    assert counts[6] / 4000 == pytest.approx(0.731, abs=0.03)
    assert weighted(stream, [], [], 3) == []
