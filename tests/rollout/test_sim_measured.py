"""Measured prompts: what is fitted to them, and that a world made of them is like them."""

from __future__ import annotations

from statistics import fmean, median

import pytest
from measured_worlds import ROWS, correlation, known_world, read, recorded, write_csv, write_lines

from sojourn.rollout.plan import Plan
from sojourn.rollout.streams import Stream
from sojourn.sim.rollout.lengths import LengthPlan
from sojourn.sim.rollout.measured import (
    MeasuredPrompt,
    cut_text,
    fit,
    fit_prior,
    fit_wrong_factor,
    intraclass_correlation,
    measured_text,
)
from sojourn.sim.rollout.offered import lengths_of, prompts_of
from sojourn.sim.rollout.truth import PromptPlan, Truth, TruthPlan


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("factor", [1.0, 1.6])
def test_the_laws_of_a_known_world_are_found_again(tmp_path, rho, factor):
    world = known_world(rho, factor)
    found = read(write_lines(tmp_path / "x.jsonl", recorded(world)))
    assert found.group_correlation == pytest.approx(rho, abs=0.05)
    assert found.wrong_factor == pytest.approx(factor, rel=0.06)
    mean = fmean(world.probability(at) for at in range(600))
    assert found.alpha / (found.alpha + found.beta) == pytest.approx(mean, abs=0.02)


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """Rows of a known world, and those of a world made of these rows."""
    rows = recorded(known_world(0.6, 1.4))
    found = read(write_lines(tmp_path_factory.mktemp("rows") / "x.jsonl", rows))
    plan = LengthPlan(
        recorded=found.recorded,
        group_correlation=found.group_correlation,
        wrong_factor=found.wrong_factor,
    )
    made = Truth(PromptPlan(count=600, measured=found), TruthPlan(), plan, 1.0, 0)
    return rows, recorded(made)


def groups_of(rows, value):
    return [[row[value] for row in rows[at : at + 8]] for at in range(0, len(rows), 8)]


def test_a_world_of_measured_prompts_has_their_lengths_and_pass_rates(again):
    tokens, others = (sorted(row["response_tokens"] for row in rows) for rows in again)
    assert median(others) == pytest.approx(median(tokens), rel=0.05)
    assert others[4560] == pytest.approx(tokens[4560], rel=0.08)
    before, after = (fmean(row["reward"] for row in rows) for rows in again)
    assert after == pytest.approx(before, abs=0.02)
    mixed = [fmean(0 < sum(one) < 8 for one in groups_of(rows, "reward")) for rows in again]
    assert mixed[1] == pytest.approx(mixed[0], abs=0.06), "as many groups have a signal"


def test_what_was_hard_is_hard_and_what_was_long_is_long(again):
    for value in ("reward", "response_tokens"):
        before, after = ([fmean(one) for one in groups_of(rows, value)] for rows in again)
        assert correlation(before, after) > 0.7, value


def test_seeds_differ_in_what_the_file_leaves_open_and_in_nothing_else():
    few = fit([MeasuredPrompt(2.0, 8)] * 3 + [MeasuredPrompt(5.0, 8)] * 3)
    many = fit([MeasuredPrompt(2e5, 800_000), MeasuredPrompt(6e5, 800_000)])
    drawn = [few.probability(0, Stream(seed, "x")) for seed in range(400)]
    assert max(drawn) - min(drawn) > 0.1
    assert 0.26 < fmean(drawn) < 0.44, "drawn towards the other prompts"
    sure = [many.probability(0, Stream(seed, "x")) for seed in range(400)]
    assert max(sure) - min(sure) < 0.01
    assert fmean(sure) == pytest.approx(0.25, abs=0.001)


def test_more_prompts_than_were_measured_are_drawn_anew(tmp_path):
    write_csv(tmp_path / "x.csv", ROWS)
    given = {"prompts": {"file": "x.csv", "count": 10}}
    plan = prompts_of(given, "s", tmp_path, Plan(batch_groups=2))
    world = Truth(plan, TruthPlan(), LengthPlan(recorded=plan.measured.recorded), 1.0, 0)
    assert len(world.prompts) == 10
    assert len(set(world.base)) == 10


def test_what_is_cut_in_the_file_is_said(tmp_path):
    found = read(write_lines(tmp_path / "x.jsonl", ROWS))
    assert "longest" not in cut_text(found, 100), "one of them is the longest, by chance"
    several = read(write_lines(tmp_path / "y.jsonl", many(ROWS)))
    assert cut_text(several, 100) == (
        "33.3% of the measured lengths are 40, the longest: rollouts were cut there; nothing is "
        "known of lengths up to plan.tokens_max, which is 100"
    )
    assert cut_text(several, 40) == ""
    assert "2 with 3 rollouts, 33.3% of them right; 30 tokens" in measured_text(found)


def many(rows, copies=5):
    """Return the rows of so many prompts in the place of each."""
    return [{**row, "prompt": f"{row['prompt']}{at}"} for at in range(copies) for row in rows]


def test_laws_that_few_prompts_tell_are_said_to_be(tmp_path):
    one = read(write_lines(tmp_path / "x.jsonl", ROWS))
    assert cut_text(one, 40) == (
        "only 1 prompt has two rollouts or more, so how prompts differ in pass rates and lengths "
        "is measured on little; only 1 prompt has both successes and failures, so how many times "
        "as long failures are is measured on little"
    )
    four = fit([MeasuredPrompt(2.0, 8)] * 4)
    assert cut_text(four, 40) == (
        "only 4 prompts have two rollouts or more, so how prompts differ in pass rates is "
        "measured on little"
    )
    assert cut_text(fit([MeasuredPrompt(2.0, 8)] * 5), 40) == ""


def test_how_long_failures_are_is_not_made_up(tmp_path):
    rows = [
        {"prompt": at % 6, "reward": at % 2, "response_tokens": 12 * (1 + at % 2 + at // 6)}
        for at in range(24)
    ]
    write_lines(tmp_path / "x.jsonl", rows)
    found = read(tmp_path / "x.jsonl")
    assert found.wrong_factor == LengthPlan().wrong_factor
    assert found.recorded[0] == 10, "a failure of 12 tokens is a success of 10"
    assert (
        "times as long failures are is not measurable (no prompt has both successes and failures)"
        ", lengths.wrong_factor is 1.20, correlation within groups 0." in measured_text(found)
    )
    assert found.summary()["wrong_factor"] is None
    assert cut_text(found, 10) == ""
    document = {"prompts": {"file": "x.jsonl"}, "lengths": {"wrong_factor": 2.0}}
    prompts = prompts_of(document, "s", tmp_path, Plan(batch_groups=2))
    lengths = lengths_of(document, "s", tmp_path, prompts.measured)
    assert lengths.wrong_factor == prompts.measured.wrong_factor == 2.0
    assert lengths.recorded[0] == 6


def test_how_alike_siblings_are_is_not_made_up():
    alone = fit([MeasuredPrompt(1.0, 2, lengths=((9, True), (12, False)))])
    assert alone.group_correlation == LengthPlan().group_correlation
    assert "correlation within groups not measurable, lengths.group_correlation is 0.50" in (
        measured_text(alone)
    )
    assert alone.summary()["group_correlation"] is None
    single = fit([MeasuredPrompt(1.0, 1, lengths=((9, True),))] * 9, LengthPlan(wrong_factor=3.0))
    assert single.assumed == ("wrong_factor", "group_correlation")
    assert single.wrong_factor == 3.0


def test_fits_of_little():
    assert fit_prior([MeasuredPrompt(0.0, 4)] * 3) == (0.05, 1.05)
    alpha, beta = fit_prior([MeasuredPrompt(2.0, 4)])
    assert alpha == beta
    assert fit_wrong_factor([MeasuredPrompt(1.0, 1, lengths=((9, True),))]) is None
    assert intraclass_correlation([[1.0], [2.0]]) is None
    assert intraclass_correlation([[1.0, 2.0]]) is None
    assert intraclass_correlation([[1.0, 1.0], [2.0, 2.0]]) == 0.99
    assert intraclass_correlation([[1.0, 1.0], [1.0, 1.0]]) == 0.0
