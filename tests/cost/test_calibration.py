"""Coefficients are found again through noise and stalls, and the errors that are told are real."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from measured_logs import BENT, TRUE, noisy, record_of, shifted

from sojourn.cost import Coefficients, Fitted, calibration
from sojourn.cost.calibration import calibrate, quantile
from sojourn.cost.fitted import SCALARS, dense_tokens
from sojourn.cost.samples import samples
from sojourn.errors import UserError
from sojourn.steplog.record import StepColumns

MILLISECOND = 10**9


@pytest.fixture(scope="module")
def steps() -> StepColumns:
    return record_of().steps


@pytest.fixture(scope="module")
def rough(steps):
    return calibrate(samples(noisy(steps, 0.15, stalls=0.004), "log"))


def taken(steps: StepColumns, rows) -> StepColumns:
    return StepColumns(**{one.name: getattr(steps, one.name)[rows] for one in fields(steps)})


def test_terms_of_merged_steps_are_sums_over_them(steps):
    found = samples(steps, "log")
    assert (found.steps > 1).any()
    cost = Fitted(TRUE)
    values = np.array([getattr(TRUE, name) for name in SCALARS])
    assert found.terms @ values == pytest.approx(found.seconds, rel=1e-12)
    row = int(np.argmax(found.steps))
    order = np.argsort(steps.start)[row]
    run = cost.run(int(steps.decodes[order]), int(steps.context[order]), int(steps.steps[order]))
    assert found.seconds[row] == pytest.approx(run / 1e12, rel=1e-12)


def test_a_log_without_noise_gives_back_its_coefficients_to_the_picosecond(steps):
    found = calibrate(samples(steps, "log"))
    assert found.coefficients == TRUE
    assert found.kept.all()
    assert found.overall.held_out.p90 < 1e-9
    assert not found.warnings


def test_noise_and_stalls_leave_what_matters_within_a_tenth(rough):
    for one in rough.estimates:
        if one.share > 0.02:
            close = 0.05 if one.share > 0.1 else 0.1
            assert one.seconds == pytest.approx(getattr(TRUE, one.name), rel=close)
            assert one.low <= one.seconds <= one.high
    assert sum(one.share for one in rough.estimates) == pytest.approx(1.0, abs=1e-3)


def test_the_predicted_total_is_not_biased_by_noise(rough):
    assert abs(rough.overall.in_sample.bias) < 1e-4
    assert abs(rough.overall.held_out.bias) < 0.005


def test_held_out_errors_are_those_of_the_noise(rough):
    # Of a normal deviate of 0.15 the median distance from its middle is 0.101; steps of both
    # kinds are told apart, since merged rows have less noise.
    mixed = next(one for one in rough.kinds if one.name == "mixed").held_out
    assert mixed.median == pytest.approx(0.101, rel=0.15)
    assert 0.2 < mixed.p90 < 0.3


def test_stalls_are_set_aside_and_counted(steps, rough):
    stalls = noisy(steps, 0.15, stalls=0.004).duration > 10 * steps.duration
    assert stalls.sum() > 5
    order = np.argsort(noisy(steps, 0.15, stalls=0.004).start)
    assert not rough.kept[stalls[order]].any()
    assert (~rough.kept).sum() < 1.5 * stalls.sum() + 3
    assert rough.aside_share > 0.1
    assert rough.bias_of_all < -0.9 * rough.aside_share


def test_a_machine_whose_speed_changes_is_told(steps, rough):
    assert not any("speed changed" in text for text in rough.warnings)
    order = np.argsort(steps.start)
    slow = order[len(order) // 3 : len(order) // 2]
    for spread, message in ((0.0, "too many for accidents"), (0.2, "speed changed during the log")):
        rough = noisy(steps, spread)
        factor = np.ones(len(order))
        factor[slow] = 2.5
        found = calibrate(samples(shifted(rough, rough.duration * factor), "log"))
        assert any(message in text for text in found.warnings)


def test_tenths_of_the_steps_cover_them_once(rough):
    assert sum(one.in_sample.steps for one in rough.batches) == rough.overall.in_sample.steps
    assert 3 <= len(rough.batches) <= 10


def test_time_between_steps_is_part_of_them(steps):
    pause = 2 * MILLISECOND
    shorter = shifted(steps, steps.duration - pause * steps.steps, pause * steps.steps)
    found = calibrate(samples(shorter, "log"))
    assert found.between_share == pytest.approx(
        pause * steps.steps.sum() / steps.duration.sum(), rel=1e-3
    )
    assert found.coefficients == TRUE


def test_idle_time_is_not_part_of_steps(steps):
    # The engine sleeps for an hour wherever nobody decodes in the step that follows.
    order = np.argsort(steps.start)
    idle = np.zeros(len(order), dtype=np.int64)
    idle[:-1][steps.decodes[order][1:] == 0] = 3600 * 10**12
    assert idle.any()
    late = replace(taken(steps, order))
    late.start = late.start + np.concatenate([[0], np.cumsum(idle)[:-1]])
    assert calibrate(samples(late, "log")).coefficients == TRUE


def test_decisions_are_not_part_of_the_engine(steps):
    decision = 500_000_000
    longer = shifted(steps, steps.duration + decision * steps.steps)
    assert calibrate(samples(longer, "log", decision / 1e12)).coefficients == TRUE


@pytest.mark.parametrize("spread", [0.02, 0.05, 0.2])
def test_a_price_that_bends_with_the_size_of_the_step_is_found_when_it_helps(steps, spread):
    found = calibrate(samples(noisy(record_of(BENT).steps, spread), "log"))
    assert found.coefficients.dense_until
    straight = calibrate(samples(noisy(steps, spread), "log"))
    assert not straight.coefficients.dense_until
    ours, theirs = Fitted(found.coefficients), Fitted(BENT)
    for decodes in (1, 4, 12, 30, 45):
        step = (0, 0, 0, 0, decodes, 700 * decodes)
        assert ours.step(*step) == pytest.approx(theirs.step(*step), rel=0.04)


@pytest.mark.parametrize(
    ("errors", "wanted"),
    [((0.98, 0.98), True), ((0.995, 0.995), False), ((0.4, 1.55), True), ((0.4, 1.65), False)],
)
def test_more_terms_must_lower_the_squared_error_by_a_hundredth(steps, errors, wanted):
    """In turn in the even and the odd stretches of time: only the sum counts."""
    rows = samples(steps, "log")
    before = 1.1 * rows.seconds
    share = np.where(calibration._stretches(rows) % 2, errors[1], errors[0])
    told = rows.seconds * (1.0 + 0.1 * np.sqrt(share))
    everything = np.ones(len(rows), dtype=bool)
    assert calibration._is_better(rows, told, before, everything) is wanted


def test_a_step_is_priced_by_its_tokens_between_bounds():
    assert dense_tokens(5, (16, 64)) == [5, 0, 0]
    assert dense_tokens(64, (16, 64)) == [16, 48, 0]
    assert dense_tokens(100, (16, 64)) == [16, 48, 36]
    cost = Fitted(Coefficients(fixed=1e-3, dense_until=(16, 64), dense_token=(1e-6, 1e-7, 1e-8)))
    assert cost.step(0, 0, 0, 0, 100, 0) == 10**9 + 16 * 10**6 + 48 * 10**5 + 36 * 10**4
    assert cost.run(20, 400, 7) == sum(cost.step(0, 0, 0, 0, 20, 400 + 20 * n) for n in range(7))


def test_what_never_occurred_is_said_so(steps):
    alone = taken(steps, (steps.prefill_tokens == 0) | (steps.decodes == 0))
    more = replace(alone, prior=np.zeros_like(alone.prior))
    found = calibrate(samples(more, "log"))
    remarks = {one.name: one.remark for one in found.estimates}
    assert remarks["prior_token"] == "never occurred"
    assert remarks["mixed_context_token"] == "never occurred"
    assert any("no prompt was computed in several chunks" in text for text in found.warnings)


def test_coefficients_that_rise_together_are_told(steps):
    # Every sequence reads as many tokens: a decode cannot be told from its context.
    same = replace(steps, context=steps.decodes * 500, steps=np.ones_like(steps.steps))
    rows = (same.prefill_tokens > 0) | (same.decodes > 0)
    same = taken(same, rows)
    values = np.array([getattr(TRUE, name) for name in SCALARS])
    exact = samples(same, "log").terms @ values
    found = calibrate(samples(shifted(same, exact * 1e12), "log"))
    likes = {one.name: one.like for one in found.estimates if one.like}
    assert likes["decode"] == "context_token"
    assert any("decode" in text and "rose and fell together" in text for text in found.warnings)
    assert found.overall.held_out.p90 < 1e-3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (lambda _: np.arange(20), "holds 20 rows of steps with tokens; at least 100"),
        (lambda s: s.prefill_tokens == 0, "no step of the log computed prompt tokens"),
        (lambda s: s.prefill_tokens > 0, "no step of the log decoded only"),
        (
            lambda s: (s.prefill_tokens > 0) | (s.decodes == 2) | (s.decodes == 3),
            "had only 2 and 3 sequences",
        ),
    ],
)
def test_a_log_that_does_not_cover_a_fit_is_refused(steps, rows, message):
    with pytest.raises(UserError, match=message):
        calibrate(samples(taken(steps, rows(steps)), "log"))


def test_a_log_of_an_older_version_is_refused(steps):
    older = replace(steps, pairs=np.full_like(steps.pairs, -1))
    with pytest.raises(UserError, match=r"'old\.parquet' does not say what its steps read"):
        samples(older, "old.parquet")


def test_weighted_quantiles_by_hand():
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([1, 5, 4])
    assert [quantile(values, weights, share) for share in (0.1, 0.5, 0.51, 0.9, 0.91, 1.0)] == [
        1.0,
        1.0,
        2.0,
        2.0,
        3.0,
        3.0,
    ]
