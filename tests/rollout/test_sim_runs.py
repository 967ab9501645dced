"""What a simulated training run must show: times by hand, tokens to the last, caches, losses."""

from dataclasses import replace

import pytest
from sim_worlds import (
    LIMITS,
    PLAN,
    WHOLE,
    comparable,
    engines,
    recipe,
    simulate,
    world,
)

from sojourn.errors import UserError
from sojourn.sim.rollout.lengths import LengthPlan
from sojourn.sim.rollout.truth import PromptPlan, TruthPlan
from sojourn.sim.rollout.world import Loss, RewardPlan, ToolPlan, TrainerPlan

EVEN = LengthPlan(median_tokens=20.0, sigma_log=0.0, wrong_factor=1.0, difficulty_correlation=0.0)
"""Every rollout has 20 tokens."""


def by_hand(**changes):
    """One engine whose every step takes a millisecond, with a seat for all."""
    given = {
        "engines": engines(
            count=1,
            step_time=WHOLE,
            limits=replace(LIMITS, num_gpu_blocks=400, max_num_seqs=16, max_num_batched_tokens=512),
            load_period_seconds=0.0,
        ),
        "lengths": EVEN,
        "prompts": PromptPlan(count=30, tokens_median=8.0, tokens_sigma_log=0.0),
        "rewards": RewardPlan(seconds_median=0.5),
        "trainer": TrainerPlan(2.0, 0.0, 1.0),
        "steps": 3,
    }
    return world(**(given | changes))


def test_a_synchronous_step_is_prefill_and_decode_and_reward_and_update_and_sync():
    record = simulate(by_hand(), recipe("sync"))
    # One step for all prompts, which gives the first token, and 19 for the others.
    for row in record.steps:
        assert row.seconds == pytest.approx(0.020 + 0.5 + 2.0 + 1.0)
        assert row.waiting_seconds == pytest.approx(0.520)
        assert (row.groups, row.rollouts, row.tokens) == (3, 9, 180)
        assert row.stale_tokens == row.lag_versions_max == 0
        assert row.busy_share == pytest.approx(0.020 / 3.520)
    assert record.tokens["generated"] == record.tokens["trained"] == 3 * 180
    assert record.trained_lengths == record.offered_lengths == [20] * 18


def test_each_trained_token_takes_its_time():
    slow = by_hand(trainer=TrainerPlan(2.0, 0.01, 1.0))
    record = simulate(slow, recipe("sync"))
    assert record.steps[0].seconds == pytest.approx(0.520 + 2.0 + 1.8 + 1.0)


def test_with_several_batches_to_a_version_weights_are_brought_after_the_last():
    where = by_hand(plan=replace(PLAN, batches_per_version=3))
    record = simulate(where, recipe("sync"))
    seconds = [row.seconds for row in record.steps]
    # Staleness admits the groups of all three batches, but a synchronous control opens one.
    assert seconds == pytest.approx([2.520, 2.520, 3.520])


def test_asynchronous_generation_goes_on_while_training_does():
    record = simulate(by_hand(steps=6), recipe("async"))
    later = record.steps[2:]
    assert all(row.waiting_seconds == pytest.approx(0.0) for row in later)
    assert all(row.seconds == pytest.approx(3.0) for row in later)
    assert {row.lag_versions_max for row in later} == {1}


def test_turns_wait_for_tools_and_compute_only_what_is_new():
    tools = ToolPlan(400.0, 4, 0.25, 0.0)
    where = by_hand(tools=tools, steps=1, warmup=0)
    record = simulate(where, recipe("sync"))
    # Twenty turns of one token each: 19 answers of 4 tokens at a quarter of a second.
    assert record.steps[0].waiting_seconds == pytest.approx(20 * 0.001 + 19 * 0.25 + 0.5)
    # Full blocks of 4 are found again: each resume computes at most a block and an answer.
    assert record.prefill_tokens < 9 * (8 + 19 * (4 + 4 + 4))


def test_a_resumed_rollout_finds_its_kv_unless_the_cache_was_cleared():
    kept = world(trainer=TrainerPlan(0.05, 0.0, 0.01, clear_cache=False))
    cleared = world(trainer=TrainerPlan(0.05, 0.0, 0.01, clear_cache=True))
    april = recipe("april")
    assert simulate(kept, april).prefill_tokens < 0.8 * simulate(cleared, april).prefill_tokens


def test_siblings_find_their_prompt_in_the_cache():
    long = PromptPlan(count=30, tokens_median=64.0, tokens_sigma_log=0.0)
    found = simulate(by_hand(prompts=long), recipe("sync"))
    limits = replace(by_hand().engines.limits, enable_prefix_caching=False)
    where = by_hand(prompts=long)
    none = replace(where, engines=replace(where.engines, limits=limits))
    assert simulate(none, recipe("sync")).prefill_tokens == 3 * 9 * 64
    assert found.prefill_tokens < 3 * 9 * 64


@pytest.mark.parametrize("mode", ["abort", "wait", "keep"])
def test_what_happens_to_what_runs_when_weights_change(mode):
    where = world(
        trainer=TrainerPlan(0.05, 0.0, 0.01, sync_mode=mode), lengths=LengthPlan(30.0, 0.5)
    )
    record = simulate(where, recipe("async", plan={"staleness_versions": 3}))
    mixed = sum(row.stale_tokens for row in record.counted)
    assert mixed > 0
    assert record.tokens["discarded"] == 0


def test_waiting_for_rollouts_makes_no_rollout_of_two_versions():
    where = world(trainer=TrainerPlan(0.05, 0.0, 0.01, sync_mode="wait"))
    spans = []

    from sojourn.sim.rollout.loop import RolloutSimulation

    sim = RolloutSimulation(where, recipe("async", plan={"staleness_versions": 2}), 0)
    train = sim.trainer.train

    def look(action):
        for group in action.groups:
            spans.extend(len(one.spans()) for one in group.result.rollouts)
        train(action)

    sim._carry_out[type(_train())] = look
    sim.run()
    assert set(spans) == {1}


def _train():
    from sojourn.rollout.actions import Train

    return Train(0, 0, (), 0, 0)


def test_a_lost_engine_costs_what_was_not_told_and_nothing_else():
    where = world(engines=engines(count=3, losses=(Loss(0.2, 0, 0.2), Loss(0.35, 1))))
    record = simulate(where, recipe("april"))
    assert record.complete
    assert record.tokens["late"] > 0
    ledger = record.tokens
    held = ledger["in_flight"] + ledger["carried"] + ledger["trained"] + ledger["discarded"]
    assert ledger["generated"] == held
    assert record.engine_tokens == ledger["generated"] + record.untold_tokens


def test_an_engine_that_comes_up_while_weights_are_loaded_gets_the_new_ones():
    slow = TrainerPlan(update_seconds=0.05, update_token_seconds=0.0, sync_seconds=5.0)
    first = simulate(world(engines=engines(count=1), trainer=slow), recipe("sync"))
    lost_at = first.steps[0].seconds - 4.0  # in the first load of weights
    where = world(engines=engines(count=1, losses=(Loss(lost_at, 0, 0.5),)), trainer=slow)
    record = simulate(where, recipe("sync"))
    assert record.complete
    assert [row.lag_versions_max for row in record.steps] == [0] * 6


def test_one_engine_that_is_lost_for_good_ends_the_run():
    where = world(engines=engines(count=1, losses=(Loss(0.1, 0),)))
    with pytest.raises(UserError, match="all engines are lost in step 1"):
        simulate(where, recipe("sync"))


def test_rollouts_longer_than_allowed_are_truncated_and_fail():
    where = by_hand(plan=replace(PLAN, tokens_max=12), truth=TruthPlan(logit_mean=15.0))
    record = simulate(where, recipe("sync"))
    assert record.trained_lengths == record.offered_lengths == [12] * 18
    assert all(row.mixed == 0 for row in record.steps)
    assert record.counts["rollouts.truncated"] == 27


def test_partial_rollouts_are_faster_with_a_long_tail():
    tail = LengthPlan(median_tokens=12.0, sigma_log=0.9, group_correlation=0.2)
    where = world(lengths=tail, steps=25, warmup=5, trainer=TrainerPlan(0.05, 0.0, 0.01))
    sync, april = simulate(where, recipe("sync")), simulate(where, recipe("april"))

    def rate(record):
        rows = record.counted
        return sum(row.groups for row in rows) / sum(row.seconds for row in rows)

    assert rate(april) > 1.1 * rate(sync)
    assert sum(row.stale_tokens for row in april.counted) > 0
    assert sum(row.stale_tokens for row in sync.counted) == 0


def test_the_oracle_selects_more_groups_with_a_signal():
    where = world(prompts=PromptPlan(count=200, tokens_median=12.0), steps=12)

    def ratio(record):
        return sum(row.mixed for row in record.counted) / sum(row.groups for row in record.counted)

    assert ratio(simulate(where, recipe("sync"), role="oracle")) > ratio(
        simulate(where, recipe("sync"))
    )


def test_the_same_seed_gives_the_same_record_and_another_seed_another():
    first, again, other = (simulate(world(), recipe("april"), seed) for seed in (3, 3, 4))
    assert comparable(first) == comparable(again)
    assert comparable(first)["trained_lengths"] != comparable(other)["trained_lengths"]
