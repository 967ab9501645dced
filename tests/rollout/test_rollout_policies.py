"""The plain rollout policies, worked out by hand, and the cutting of rounds to a budget."""

import json
from itertools import pairwise
from statistics import stdev
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sojourn.errors import UserError
from sojourn.policies.advantage import grpo
from sojourn.policies.allocate import fixed
from sojourn.policies.control import april
from sojourn.policies.dispatch import least_in_flight
from sojourn.policies.replay import no_replay
from sojourn.policies.select import uniform
from sojourn.policies.subsample import whole_group
from sojourn.policies.tables import ROLLOUT_SLOTS, SLOTS
from sojourn.recipes.rollouts import rollout_recipe
from sojourn.rollout.machine import RolloutMachine
from sojourn.rollout.model import Group, GroupResult, Prompt, Rollout, Subset
from sojourn.rollout.opening import within
from sojourn.rollout.plan import Plan
from sojourn.rollout.slots import Round, Setting
from sojourn.rollout.streams import Stream

PROMPTS = tuple(Prompt(at, meta={"embedding": [at / 10, 1.0]}) for at in range(10))


def setting(**plan):
    return Setting(Plan(**plan), PROMPTS, Stream(0, "test"))


def result_of(rewards):
    """Return a group; None stands for a pruned rollout."""
    rollouts = [
        Rollout(at, 0, 0, at, 100, status="pruned" if one is None else "finished")
        for at, one in enumerate(rewards)
    ]
    return GroupResult(Group(0, 0, 0, 1, 0), rollouts, list(rewards))


def view_of(open_prompts=(), **more):
    return SimpleNamespace(is_open=lambda prompt: prompt in open_prompts, **more)


def test_uniform_takes_every_prompt_once_in_a_pass():
    policy = uniform.Uniform(uniform.Config(), setting())
    taken = [one.prompt_id for _ in range(5) for one in policy.propose(4, view_of())]
    assert sorted(taken[:10]) == sorted(taken[10:]) == list(range(10))
    assert taken[:10] != taken[10:]
    assert policy.propose(4, view_of())[0].propensity == 0.4


def test_uniform_puts_off_what_is_open():
    policy = uniform.Uniform(uniform.Config(), setting())
    first = [one.prompt_id for one in policy.propose(9, view_of(open_prompts=(3,)))]
    assert sorted([*first, 3]) == list(range(10))
    assert policy.propose(1, view_of())[0].prompt_id == 3


def test_uniform_gives_fewer_when_there_are_no_more():
    policy = uniform.Uniform(uniform.Config(), setting())
    assert len(policy.propose(50, view_of())) == 10
    assert policy.propose(5, view_of(open_prompts=range(10))) == []


def test_uniform_goes_on_where_it_stood():
    policy, other = (uniform.Uniform(uniform.Config(), setting()) for _ in range(2))
    policy.propose(7, view_of())
    other.load_state_dict(json.loads(json.dumps(policy.state_dict())))
    assert other.propose(9, view_of()) == policy.propose(9, view_of())


def test_fixed_gives_the_plan_or_its_own_number():
    for config, rollouts in ((fixed.Config(), 6), (fixed.Config(3), 3)):
        policy = fixed.Fixed(config, setting(rollouts_per_group=6))
        assert policy.open([None, None], 12, None) == [Round(rollouts)] * 2
        assert policy.more([None], 9, None) == [Round(0)]


def test_whole_group_leaves_out_what_has_no_reward():
    subset = whole_group.WholeGroup(whole_group.Config(), setting()).select(
        result_of([1.0, None, 0.0]), None
    )
    assert subset == Subset((0, 2), (1.0, 1.0))


def test_no_replay_takes_the_whole_batch_from_generation():
    policy = no_replay.NoReplay(no_replay.Config(), setting())
    assert policy.fresh(SimpleNamespace(plan=Plan(batch_groups=7))) == 7
    assert policy.sample(5, None) == ()
    assert policy.evict(9) == 0


def advantages(rewards, **config):
    result = result_of(rewards)
    policy = grpo.Grpo(grpo.Config(**config), setting())
    subset = Subset(tuple(result.scored), (1.0,) * len(result.scored))
    return policy.compute([(result, subset)], None)[0]


def test_grpo_on_groups_of_any_size():
    assert advantages([1.0]) == [0.0], "a group of one is no baseline for itself"
    assert advantages([1.0, 1.0, 1.0]) == [0.0] * 3
    assert advantages([]) == []
    spread = stdev([1.0, 0.0, 0.0]) + 1e-6
    assert advantages([1.0, 0.0, None, 0.0]) == pytest.approx(
        [(2 / 3) / spread, (-1 / 3) / spread, (-1 / 3) / spread]
    )
    assert advantages([1.0, 0.0], divides=False) == [0.5, -0.5]
    assert advantages([1.0, 0.0], unbiased=False, epsilon=0.0) == [1.0, -1.0]
    assert advantages([1e-200, 0.0], epsilon=0.0) == [0.0, 0.0], "their squares vanish"


@given(some.lists(some.floats(-9, 9), min_size=2, max_size=9))
def test_grpo_is_centred_and_keeps_the_order(rewards):
    found = advantages(rewards)
    assert sum(found) == pytest.approx(0.0, abs=1e-6)
    order = sorted(range(len(rewards)), key=lambda at: rewards[at])
    assert all(found[a] <= found[b] for a, b in pairwise(order))


def test_ragged_groups_are_their_own_baselines():
    one, other = result_of([1.0, 0.0]), result_of([1.0, 1.0, 0.0, 0.0, 0.0])
    policy = grpo.Grpo(grpo.Config(), setting())
    pairs = [(one, Subset((0, 1), (1.0,) * 2)), (other, Subset(tuple(range(5)), (1.0,) * 5))]
    together = policy.compute(pairs, None)
    assert together == [policy.compute([pair], None)[0] for pair in pairs]
    assert [len(one) for one in together] == [2, 5]


def engines(*in_flight):
    return [SimpleNamespace(id=at, in_flight=count) for at, count in enumerate(in_flight)]


def test_least_in_flight_sticks_and_balances():
    policy = least_in_flight.LeastInFlight(least_in_flight.Config(), setting())
    new, known = SimpleNamespace(engine=-1), SimpleNamespace(engine=0)
    assert policy.place(new, engines(3, 1, 1), None) == 1
    assert policy.place(known, engines(3, 1, 1), None) == 0
    assert policy.place(SimpleNamespace(engine=9), engines(3, 1, 1), None) == 1
    loose = least_in_flight.LeastInFlight(least_in_flight.Config(sticky=False), setting())
    assert loose.place(known, engines(3, 1, 1), None) == 1
    few = least_in_flight.LeastInFlight(least_in_flight.Config(engine_rollouts_max=1), setting())
    assert few.place(known, engines(3, 1, 1), None) is None
    assert few.place(known, engines(3, 1, 0), None) == 2


def test_april_opens_up_to_its_ratio_while_a_batch_is_wanted():
    policy = april.April(april.Config(ratio=1.5), setting())
    view = SimpleNamespace(wanted=True, need=5, usable=1, open_groups={1: None, 2: None}, step=2)
    assert policy.appetite(view) == 8 - 3
    view.wanted = False
    assert policy.appetite(view) == 0


@given(some.integers(1, 64), some.integers(0, 300))
def test_april_keeps_to_its_ratio_over_steps_and_never_opens_too_few(need, percent):
    policy = april.April(april.Config(ratio=1.0 + percent / 100.0), setting())
    view = SimpleNamespace(wanted=True, need=need, usable=0, open_groups={})
    opened = []
    for view.step in range(1, 101):
        opened.append(policy.appetite(view))
    assert sum(opened) == need * (100 + percent)
    assert min(opened) >= need
    assert max(opened) - min(opened) <= 1


@given(some.lists(some.integers(0, 20), min_size=1, max_size=9), some.integers(0, 60))
def test_rounds_are_cut_from_the_largest_down(counts, extra):
    budget = len(counts) + extra
    cut = [one.rollouts for one in within([Round(count) for count in counts], budget, 1)]
    wanted = [max(count, 1) for count in counts]
    assert sum(cut) == min(sum(wanted), budget)
    assert all(1 <= had <= want for had, want in zip(cut, wanted, strict=True))
    height = max(cut)
    assert all(had == want or had >= height - 1 for had, want in zip(cut, wanted, strict=True))


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (april.Config, {"ratio": 0.5}),
        (fixed.Config, {"rollouts": -1}),
        (grpo.Config, {"epsilon": -1.0}),
        (least_in_flight.Config, {"engine_rollouts_max": -1}),
    ],
)
def test_parameters_out_of_range_are_refused(config, wrong):
    with pytest.raises(UserError, match=f"{next(iter(wrong))} is .* it must be at least"):
        config(**wrong)


def test_every_slot_has_its_usual_policy():
    policies = rollout_recipe({}, "a test").build(Plan(), PROMPTS, 0)
    metrics = RolloutMachine(Plan(), PROMPTS, policies).metrics()
    assert metrics["select.passes"] == 0.0
    assert metrics["tokens.generated"] == 0.0


@pytest.mark.parametrize("slot", ROLLOUT_SLOTS)
def test_every_rollout_policy_is_made_and_saved(slot):
    for name, (config, policy) in SLOTS[slot].items():
        made = policy(config(), Setting(Plan(turns_max=4), PROMPTS, Stream(0, name)))
        state = json.loads(json.dumps(made.state_dict()))
        made.load_state_dict(state)
        assert made.state_dict() == state
        assert all(isinstance(value, int | float) for value in made.metrics().values())
