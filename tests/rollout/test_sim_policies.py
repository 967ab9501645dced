"""Every rollout policy runs in simulation, with its defaults, and in jumps as in steps."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sim_worlds import (
    LIMITS,
    PLAN,
    WHOLE,
    engines,
    recipe,
    same_in_jumps_and_in_steps,
    simulate,
    world,
)

from sojourn.errors import UserError
from sojourn.policies.tables import ROLLOUT_SLOTS, SLOTS
from sojourn.recipes.rollouts import PRESETS
from sojourn.sim.rollout.lengths import LengthPlan
from sojourn.sim.rollout.truth import PromptPlan, TruthPlan
from sojourn.sim.rollout.world import SYNC_MODES, Loss, RewardPlan, ToolPlan, TrainerPlan

NAMES = [(slot, name) for slot in ROLLOUT_SLOTS for name in SLOTS[slot]]
AGENTS = world(
    prompts=PromptPlan(60, 12.0, embedding_numbers=4, domains={"a": 0.5, "b": 0.5}),
    truth=TruthPlan(feature_auc=0.8),
    tools=ToolPlan(2.0, 5, 0.03),
    plan=replace(PLAN, turns_max=6, staleness_versions=2, rollouts_per_group=4),
    steps=8,
)


def filled(slot, name):
    """Return a recipe with a policy beside the usual ones; a control that only adds needs one."""
    if slot != "control":
        return recipe("april", **{slot: name})
    return recipe("april", control=[name] if name in ALONE else ["april", name])


ALONE = ("april", "asynchronous", "synchronous", "windowed")


@pytest.mark.parametrize(("slot", "name"), NAMES)
def test_every_policy_runs_in_jumps_as_in_steps(slot, name):
    record = same_in_jumps_and_in_steps(AGENTS, filled(slot, name))
    assert record["complete"]
    assert len(record["steps"]) == 8


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_runs(preset):
    assert same_in_jumps_and_in_steps(AGENTS, recipe(preset))["complete"]


QUICK = TrainerPlan(update_seconds=0.0, update_token_seconds=0.0)


@pytest.mark.parametrize("batches", [1, 2, 3])
@pytest.mark.parametrize("versions", [1, 2, 4])
def test_replay_gives_way_to_what_would_become_too_old(batches, versions):
    plan = replace(PLAN, batch_groups=4, batches_per_version=batches, groups_max=1024)
    where = world(plan=plan, prompts=PromptPlan(count=300), steps=12 * batches * versions)
    which = recipe("async", replay="dots", plan={"staleness_versions": versions})
    for seed in range(2):
        rows = simulate(where, which, seed).steps
        assert max(row.lag_versions_max for row in rows) <= versions
        assert sum(row.replayed for row in rows) > 0


def test_a_batch_does_not_count_on_what_replay_is_about_to_forget():
    replay = {"policy": "dots", "versions_max": 1, "fresh_share": 0.3}
    which = recipe("april", replay=replay)
    for seed in range(4):
        rows = simulate(world(steps=12), which, seed).steps
        assert {row.groups + row.replayed for row in rows} == {3}


def test_long_rounds_wake_what_has_yet_to_stop():
    plan = replace(PLAN, batch_groups=4, batches_per_version=3, staleness_versions=2)
    where = world(plan=plan, trainer=QUICK, rewards=RewardPlan(0.0), steps=12)
    for seed in range(8):
        assert simulate(where, recipe("async", dispatch="rollpacker_inspired"), seed).complete


@st.composite
def worlds(draw):
    """A world in which every limit varies."""
    blocks = draw(st.integers(24, 60))
    limits = replace(
        LIMITS,
        num_gpu_blocks=blocks,
        max_model_len=blocks * 4 - draw(st.integers(0, 8)),
        max_num_seqs=draw(st.integers(1, 8)),
        max_num_batched_tokens=draw(st.integers(8, 40)),
        enable_prefix_caching=draw(st.booleans()),
    )
    count = draw(st.integers(1, 3))
    times = st.integers(1, 600).map(lambda ms: ms / 1000)
    losses = draw(
        st.lists(st.builds(Loss, times, st.integers(0, count), times), max_size=3).map(tuple)
    )
    even = draw(st.booleans())
    return world(
        engines=engines(
            count=count,
            limits=limits,
            losses=losses,
            load_period_seconds=draw(st.sampled_from([0.0, 0.01, 0.25])),
            **({"step_time": WHOLE} if even else {}),
        ),
        lengths=LengthPlan(
            draw(st.sampled_from([1.0, 4.0, 15.0])), draw(st.sampled_from([0.0, 1.0]))
        ),
        tools=ToolPlan(draw(st.sampled_from([1.0, 3.0])), draw(st.integers(0, 6)), 0.02, 0.0, 0.05),
        rewards=RewardPlan(draw(st.sampled_from([0.0, 0.005])), 0.0),
        plan=replace(
            PLAN,
            tokens_max=draw(st.integers(1, 60)),
            turns_max=draw(st.integers(0, 3)),
            batches_per_version=draw(st.integers(1, 2)),
        ),
        trainer=TrainerPlan(
            draw(st.sampled_from([0.0, 0.01])),
            0.0,
            draw(st.sampled_from([0.0, 0.003])),
            draw(st.sampled_from(SYNC_MODES)),
            draw(st.booleans()),
            draw(st.booleans()),
        ),
        steps=4,
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    where=worlds(),
    preset=st.sampled_from(["sync", "april", "async", "windowed", "dapo"]),
    dispatch=st.sampled_from(sorted(SLOTS["dispatch"])),
    staleness=st.integers(0, 3),
    seed=st.integers(0, 3),
)
def test_random_worlds_jump_as_they_step_and_lose_no_token(
    where, preset, dispatch, staleness, seed
):
    which = recipe(preset, dispatch=dispatch, plan={"staleness_versions": staleness})
    try:
        record = same_in_jumps_and_in_steps(where, which, seed)
    except UserError:
        with pytest.raises(UserError, match="'dapo' has given up"):
            simulate(where, which, seed, max_horizon=1)
        return
    tokens = record["tokens"]
    held = sum(tokens[name] for name in ("in_flight", "carried", "trained", "discarded"))
    assert tokens["generated"] == held
    assert record["engine_tokens"] == tokens["generated"] + record["untold_tokens"]


def test_a_filter_that_keeps_nothing_is_said_and_not_waited_for():
    where = world(truth=TruthPlan(logit_mean=-20.0, logit_sd=0.0, drift_logits=0.0))
    with pytest.raises(UserError, match="'dapo' has given up 1501 groups in step 1 for a batch"):
        simulate(where, recipe("dapo"))
