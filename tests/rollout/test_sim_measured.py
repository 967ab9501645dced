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
from sojourn.sim.rollout.offered import prompts_of
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
    plan = prompts_of({"prompts": {"file": "x.csv", "count": 10}}, "s", tmp_path, Plan())
    world = Truth(plan, TruthPlan(), LengthPlan(recorded=plan.measured.recorded), 1.0, 0)
    assert len(world.prompts) == 10
    assert len(set(world.base)) == 10


def test_what_is_cut_in_the_file_is_said(tmp_path):
    found = read(write_lines(tmp_path / "x.jsonl", ROWS))
    assert cut_text(found, 100) == "", "one of them is the longest, by chance"
    several = read(write_lines(tmp_path / "y.jsonl", ROWS * 3))
    assert cut_text(several, 100).startswith("33.3% of the measured lengths are 40, the longest")
    assert cut_text(several, 40) == ""
    assert "2 with 3 rollouts, 33.3% of them right; 30 tokens" in measured_text(found)


def test_fits_of_little():
    assert fit_prior([MeasuredPrompt(0.0, 4)] * 3) == (0.05, 1.05)
    alpha, beta = fit_prior([MeasuredPrompt(2.0, 4)])
    assert alpha == beta
    assert fit_wrong_factor([MeasuredPrompt(1.0, 1, lengths=((9, True),))]) == 1.0
    assert intraclass_correlation([[1.0], [2.0]]) == 0.0
    assert intraclass_correlation([[1.0, 1.0], [2.0, 2.0]]) == 0.99
    assert intraclass_correlation([[1.0, 1.0], [1.0, 1.0]]) == 0.0
