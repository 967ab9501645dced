"""Control, dispatch, replay and subsample policies under random lengths and faults."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from rollout_host import Host, Knobs

from sojourn.recipes.rollouts import rollout_recipe
from sojourn.rollout import states as st
from sojourn.rollout.machine import RolloutMachine
from sojourn.rollout.model import Prompt
from sojourn.rollout.plan import Plan

PROMPTS = tuple(Prompt(at, tokens=3 + at % 5) for at in range(60))
SYNC = "synchronous"
APRIL = {"policy": "april", "ratio": 2.0}
PRUNING = {
    "policy": "arrol_inspired",
    "check_tokens": 4,
    "rollouts_min": 1,
    "groups_min": 1,
    "calibration_error_max": 1.0,
    "concordance_min": -1.0,
    "random_share": 0.3,
}
HOPELESS = {"policy": "masa_inspired", "correct_min": 2, "multiple": 1.0, "siblings_min": 1}
TURNS = {"policy": "turn_limits", "unrestricted_min": 3, "turns_most": 6, "extension_turns": 1}
CANDIDATES = {
    "windowed": {"control": [{"policy": "windowed", "window_tokens": 7}]},
    "pruned": {"control": [SYNC, PRUNING]},
    "pruned april": {"control": [APRIL, PRUNING]},
    "hopeless": {"control": [APRIL, HOPELESS]},
    "turns": {"control": [SYNC, TURNS]},
    "all at once": {
        "control": [{"policy": "windowed", "window_tokens": 9}, PRUNING, HOPELESS, TURNS]
    },
    "seer": {"control": [APRIL], "dispatch": {"policy": "seer_inspired", "seats": 3}},
    "divided seer": {
        "control": [SYNC, {"policy": "divided", "chunk_tokens": 5}],
        "dispatch": {"policy": "seer_inspired", "seats": 3},
    },
    "aside": {
        "control": [APRIL, {"policy": "stand_aside", "limit_share": 0.2, "common_share_max": 1.0}],
        "dispatch": {"policy": "seer_inspired", "seats": 2},
    },
    "kv": {"control": [SYNC], "dispatch": {"policy": "kv_balanced", "fill_most": 0.5}},
    "rollpacker": {
        "control": [APRIL],
        "dispatch": {"policy": "rollpacker_inspired", "seats": 3, "queue_groups": 2},
    },
    "replayed": {"replay": "dots", "subsample": "d3s", "advantage": "median_centred"},
    "resampled": {
        "replay": {"policy": "dots", "versions_max": 2},
        "subsample": "resample_on_correct",
        "advantage": {"policy": "median_centred", "preset": "code"},
    },
}


def machine_of(name, plan):
    policies = rollout_recipe(CANDIDATES[name], "a test").build(plan, PROMPTS, plan.seed)
    return RolloutMachine(plan, PROMPTS, policies)


share = some.sampled_from((0.0, 0.0, 0.1))
knobs = some.builds(
    Knobs,
    engines=some.integers(1, 3),
    length_mean=some.sampled_from((2, 10, 40)),
    chunk=some.sampled_from((1, 5)),
    reports=some.sampled_from((0.0, 0.5, 1.0)),
    loss=share,
    unasked=share,
    turns=some.sampled_from((0.0, 0.5)),
    errors=some.sampled_from((0.0, 0.2)),
    seats=some.sampled_from((0, 2)),
    reward_delay=some.integers(0, 5),
    abort_delay=some.integers(0, 4),
    train_delay=some.integers(0, 6),
    rolling=some.booleans(),
    batches=some.just(3),
)
plans = some.builds(
    Plan,
    batch_groups=some.integers(1, 3),
    rollouts_per_group=some.integers(1, 5),
    groups_max=some.integers(4, 12),
    staleness_versions=some.integers(0, 3),
    tokens_max=some.sampled_from((6, 20, 200)),
    turns_max=some.sampled_from((1, 3)),
    seed=some.integers(0, 99),
)


@pytest.mark.parametrize("name", CANDIDATES)
@settings(max_examples=12, deadline=None)
@given(plan=plans, knobs=knobs, seed=some.integers(0, 999), cut=some.integers(1, 150))
def test_batches_come_and_nothing_is_lost_even_after_a_restart(name, plan, knobs, seed, cut):
    machine = machine_of(name, plan)
    host = Host(machine, seed, knobs, twin=(cut, lambda: machine_of(name, plan))).run()
    run = machine.run
    assert len(host.batches) >= knobs.batches
    assert run.tokens.generated == host.told_tokens
    assert Counter(host.ends.values()) == Counter(
        {status: count for status, count in run.ended.items() if count}
    )
    assert all(isinstance(value, float | int) for value in machine.metrics().values())


@pytest.mark.parametrize("name", ["pruned", "hopeless"])
def test_pruning_happens_in_these_runs(name):
    plan = Plan(batch_groups=3, rollouts_per_group=5, staleness_versions=1, turns_max=1)
    machine = machine_of(name, plan)
    Host(machine, 1, Knobs(length_mean=40, reports=1.0, batches=12)).run()
    assert machine.run.ended[st.PRUNED] > 5


def test_windows_carry_rollouts_over():
    plan = Plan(batch_groups=3, rollouts_per_group=3, staleness_versions=4)
    machine = machine_of("windowed", plan)
    Host(machine, 1, Knobs(length_mean=20, batches=6)).run()
    assert machine.run.tokens.carried_over > 0
    assert machine.metrics()["controls.0.windows"] > 3


def test_long_rounds_and_races_happen():
    plan = Plan(batch_groups=3, rollouts_per_group=5, staleness_versions=6)
    machine = machine_of("rollpacker", plan)
    Host(machine, 1, Knobs(length_mean=40, batches=20)).run()
    found = machine.metrics()
    assert found["dispatch.long_rounds"] > 0
    assert found["dispatch.races"] > 0
