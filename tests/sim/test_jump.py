"""A jump over n steps equals n single steps, for every recipe, on hostile workloads."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from sim_workloads import MILLISECOND, WHOLE, Case, cases, make, run, ties

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


@pytest.mark.parametrize("recipe", recipe_names())
@SETTINGS
@given(case=ties())
def test_jump_equals_steps_where_replicas_and_turns_meet_at_one_moment(recipe, case):
    same_in_jumps_and_in_steps(case, recipe, cost=WHOLE)


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
