"""A jump over n steps equals n single steps, for every recipe, on hostile workloads."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from sim_workloads import cases, run

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


@pytest.mark.parametrize(("recipe", "host"), HOSTS)
@SETTINGS
@given(case=cases())
def test_jump_equals_steps(recipe, host, case):
    jumped = run(case, recipe, host=host)
    stepped = run(case, recipe, host=host, max_horizon=1)
    for field in FIELDS:
        left, right = getattr(jumped.requests, field), getattr(stepped.requests, field)
        assert np.array_equal(left, right), f"{field}: {left.tolist()} != {right.tolist()}"
    assert jumped.steps.steps.sum() == stepped.steps.steps.sum()
    assert jumped.steps.duration.sum() == stepped.steps.duration.sum()
