"""`run` is the sum of its steps, `steps_until` its inverse, and more work never costs less."""

from __future__ import annotations

import pytest
from cost_strategies import costs, roofline, steps
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.cost import Coefficients, Fitted, LinearStep, Roofline
from sojourn.decide.services import StepTime

fast = settings(max_examples=60, deadline=None)


@fast
@given(costs, st.integers(1, 512), st.integers(1, 2_000_000), st.integers(0, 300))
def test_run_is_exactly_the_sum_of_single_steps(
    cost: LinearStep, decodes: int, context: int, count: int
) -> None:
    singles = sum(cost.step(0, 0, 0, 0, decodes, context + i * decodes) for i in range(count))
    assert cost.run(decodes, context, count) == singles


@fast
@given(
    costs,
    st.integers(1, 512),
    st.integers(1, 2_000_000),
    st.integers(0, 10_000),
    st.integers(0, 10_000),
)
def test_a_run_splits_anywhere(
    cost: LinearStep, decodes: int, context: int, first: int, second: int
) -> None:
    whole = cost.run(decodes, context, first + second)
    rest = cost.run(decodes, context + first * decodes, second)
    assert whole == cost.run(decodes, context, first) + rest


@fast
@given(costs, st.integers(1, 512), st.integers(1, 2_000_000), st.integers(0, 10**16))
def test_steps_until_is_the_smallest_count_that_fills_the_duration(
    cost: LinearStep, decodes: int, context: int, duration: int
) -> None:
    count = cost.steps_until(decodes, context, duration)
    assert count >= 1
    assert cost.run(decodes, context, count) >= duration
    assert count == 1 or cost.run(decodes, context, count - 1) < duration


@fast
@given(costs, st.integers(1, 512), st.integers(1, 2_000_000), st.integers(1, 100_000))
def test_steps_until_inverts_run(cost: LinearStep, decodes: int, context: int, count: int) -> None:
    duration = cost.run(decodes, context, count)
    assert cost.steps_until(decodes, context, duration) == count
    assert cost.steps_until(decodes, context, duration + 1) == count + 1


@fast
@given(costs, steps(), st.integers(0, 5), st.integers(1, 1000))
def test_more_of_anything_never_takes_less(
    cost: LinearStep, step: tuple[int, int, int, int, int, int], which: int, more: int
) -> None:
    larger = [*step]
    larger[which] += more
    assert cost.step(*larger) >= cost.step(*step)


@fast
@given(costs, steps())
def test_a_mixed_step_is_never_cheaper_than_either_part(
    cost: LinearStep, step: tuple[int, int, int, int, int, int]
) -> None:
    tokens, pairs, prior, prompts, decodes, context = step
    whole = cost.step(*step)
    assert whole >= cost.step(tokens, pairs, prior, prompts, 0, 0)
    assert whole >= cost.step(0, 0, 0, 0, decodes, context)


@given(costs)
@fast
def test_an_empty_step_takes_no_time(cost: LinearStep) -> None:
    assert cost.step(0, 0, 0, 0, 0, 0) == 0
    assert cost.run(0, 0, 5) == 0
    assert cost.run(3, 100, 0) == 0


def test_a_step_time_without_context_growth_inverts_too() -> None:
    flat = Fitted(Coefficients(fixed=0.010))
    assert flat.run(7, 100, 3) == 30 * 10**9
    assert flat.steps_until(7, 100, 30 * 10**9) == 3
    assert flat.steps_until(7, 100, 30 * 10**9 + 1) == 4


def test_asking_when_no_decodes_fill_a_duration_is_our_bug() -> None:
    with pytest.raises(AssertionError, match="no decode"):
        roofline("llama-3.1-8b", "h100-sxm", 1, False, False).steps_until(0, 0, 10)


def test_a_roofline_is_a_step_time() -> None:
    cost: StepTime = roofline("llama-3.1-8b", "h100-sxm", 1, False, False)
    assert isinstance(cost, Roofline)
    assert all(
        isinstance(value, int) for value in (cost.step(5, 15, 0, 1, 2, 9), cost.run(1, 1, 2))
    )
