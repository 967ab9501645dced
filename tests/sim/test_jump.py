"""A jump over n steps equals n single steps, for every recipe, on hostile workloads."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from sim_workloads import MILLISECOND, WHOLE, Case, cases, copies, make, run, ties

from sojourn.decide.limits import HORIZON_STEPS, EngineLimits
from sojourn.recipes import recipe_names

FIELDS = (
    "arrival",
    "admitted",
    "first_token",
    "finish",
    "output_tokens",
    "outcome",
    "gap",
    "preemptions",
    "recomputed_tokens",
    "cached_tokens",
)
HOSTS = [(name, "vllm") for name in recipe_names()] + [("fastserve", "ideal")]
SETTINGS = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])


def same_in_jumps_and_in_steps(case, recipe, **more):
    jumped = run(case, recipe, **more)
    stepped = run(case, recipe, max_horizon=1, **more)
    for field in FIELDS:
        left, right = getattr(jumped.requests, field), getattr(stepped.requests, field)
        assert np.array_equal(left, right), f"{field}: {left.tolist()} != {right.tolist()}"
    assert jumped.steps.steps.sum() == stepped.steps.steps.sum()
    assert jumped.steps.duration.sum() == stepped.steps.duration.sum()


@pytest.mark.parametrize(("recipe", "host"), HOSTS)
@SETTINGS
@given(case=cases())
def test_jump_equals_steps(recipe, host, case):
    same_in_jumps_and_in_steps(case, recipe, host=host)


@SETTINGS
@given(case=cases())
def test_jump_equals_steps_where_few_seats_change_hands(case):
    few = (("compose", "exchanges_burst", "1"), ("compose", "exchange_steps", "3"))
    same_in_jumps_and_in_steps(case, "fastserve", overrides=few)


@pytest.mark.parametrize("recipe", recipe_names())
@SETTINGS
@given(case=ties())
def test_jump_equals_steps_where_replicas_and_turns_meet_at_one_moment(recipe, case):
    same_in_jumps_and_in_steps(case, recipe, cost=WHOLE)


@pytest.mark.parametrize("recipe", recipe_names())
@SETTINGS
@given(case=copies())
def test_jump_equals_steps_where_the_cache_has_copies_of_an_id(recipe, case):
    same_in_jumps_and_in_steps(case, recipe, cost=WHOLE)


@pytest.mark.parametrize(("recipe", "admitted"), [("vllm", 4), ("vllm-v0", 5)])
def test_a_run_ends_when_an_idle_copy_of_the_blocked_head_s_prefix_is_evicted(recipe, admitted):
    """Ids of 4 tokens, blocks of 1, 20 blocks; row 3 needs 17 and has id 7 in common with 0 and 1.

    Row 0 leaves its copy of id 7 idle at 1; row 1 computes its own. At 2 row 2 has left 10 blocks,
    2 are bare, and row 1 grows by a block a step: into the idle copy, next in line, at 4. From then
    on row 3 shares row 1's copy and needs 13, which are free: for stock, which grows first, in the
    same plan, for V0 in the next.
    """
    case = Case(
        make(
            [(0.0, 4, 1, 0), (0.001, 4, 12, 0), (0.001, 10, 1, 0), (0.002, 17, 1, 0)],
            block_tokens=4,
            prefix=[(7,), (7,), (), (7, 20, 21, 22)],
        ),
        EngineLimits(num_gpu_blocks=20, block_size=1, max_model_len=20, block_tokens=4),
    )
    for horizon in (1, HORIZON_STEPS):
        record = run(case, recipe, cost=WHOLE, max_horizon=horizon)
        assert record.requests.cached_tokens.tolist() == [0, 0, 0, 4]
        assert record.requests.admitted[3] == admitted * MILLISECOND


def test_a_turn_that_follows_at_once_joins_the_plan_of_another_replica_at_that_moment():
    """Replica 1 answers after 4 ms, and the turn that follows is sent to replica 0."""
    case = Case(
        make(
            [(0.0, 4, 9, 0), (0.0, 4, 4, 0), (0.0, 4, 2, 0)],
            following=[-1, 2, -1],
        ),
        EngineLimits(num_gpu_blocks=100, max_model_len=64),
        replicas=2,
    )
    for horizon in (1, HORIZON_STEPS):
        record = run(case, cost=WHOLE, max_horizon=horizon)
        assert record.requests.replica.tolist() == [0, 1, 0]
        assert record.requests.arrival[2] == record.requests.finish[1] == 4 * MILLISECOND
        assert record.requests.first_token[2] == 5 * MILLISECOND
