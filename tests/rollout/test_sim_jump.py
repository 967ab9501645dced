"""Training runs give the same record whether engines step one by one or jump."""

from dataclasses import replace

import pytest
from sim_worlds import LIMITS, PLAN, WHOLE, engines, recipe, same_in_jumps_and_in_steps, world

from sojourn.sim.rollout.truth import TruthPlan
from sojourn.sim.rollout.world import Loss, RewardPlan, ToolPlan, TrainerPlan

LOOSE = {"staleness_versions": 2}
CANDIDATES = {
    "sync": recipe("sync"),
    "april": recipe("april", control={"policy": "april", "ratio": 1.7}),
    "async": recipe("async", plan=LOOSE),
    "windowed": recipe("windowed", control={"policy": "windowed", "window_tokens": 10}),
    "dapo": recipe("dapo"),
}
WORLDS = {
    "plain": world(),
    "ties": world(
        engines=engines(step_time=WHOLE, load_period_seconds=0.01),
        rewards=RewardPlan(seconds_median=0.002),
        tools=ToolPlan(seconds_median=0.003, seconds_sigma_log=0.0),
        trainer=TrainerPlan(0.004, 0.0, 0.001),
    ),
    "turns": world(tools=ToolPlan(2.5, 6, 0.02, 0.5, 0.1)),
    "losses": world(
        engines=engines(losses=(Loss(0.2, 0, 0.1), Loss(0.4, 1), Loss(0.9, 2, 0.3)), count=3)
    ),
    "scarce": world(
        engines=engines(limits=replace(LIMITS, num_gpu_blocks=24, max_model_len=96)),
        plan=replace(PLAN, tokens_max=50),
    ),
    "features": world(truth=TruthPlan(feature_auc=0.8, jump_share=0.1, reward_noise=0.1)),
}
MODES = ("abort", "wait", "keep")


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("candidate", CANDIDATES)
@pytest.mark.parametrize("name", WORLDS)
def test_jump_equals_steps(name, candidate, seed):
    same_in_jumps_and_in_steps(WORLDS[name], CANDIDATES[candidate], seed)


@pytest.mark.parametrize("clear", [True, False])
@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["ties", "turns", "losses"])
def test_jump_equals_steps_in_every_way_to_bring_weights(name, mode, shares, clear):
    trainer = replace(WORLDS[name].trainer, sync_mode=mode, shares_gpus=shares, clear_cache=clear)
    same_in_jumps_and_in_steps(replace(WORLDS[name], trainer=trainer), CANDIDATES["async"])
