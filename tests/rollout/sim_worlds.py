"""Small worlds for simulated training runs, and what their records must agree on."""

from __future__ import annotations

from dataclasses import asdict, replace

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.limits import HORIZON_STEPS, EngineLimits
from sojourn.recipes import load_recipe
from sojourn.recipes.rollouts import rollout_recipe
from sojourn.rollout.plan import Plan
from sojourn.sim.rollout.lengths import LengthPlan
from sojourn.sim.rollout.loop import RolloutSimulation
from sojourn.sim.rollout.truth import PromptPlan, TruthPlan
from sojourn.sim.rollout.world import EnginesPlan, RewardPlan, ToolPlan, TrainerPlan, World

COST = Fitted(
    Coefficients(fixed=0.004, prefill_token=2.3e-5, pair=1.1e-9, decode=3.1e-5, context_token=4e-8)
)
WHOLE = Fitted(Coefficients(fixed=0.001))
"""Every step takes a millisecond, so that engines' steps, rewards and tools fall together."""

LIMITS = EngineLimits(
    num_gpu_blocks=60,
    block_size=4,
    max_num_seqs=6,
    max_num_batched_tokens=32,
    max_model_len=160,
    enable_prefix_caching=True,
    block_tokens=4,
)
PLAN = Plan(batch_groups=3, rollouts_per_group=3, tokens_max=60, groups_max=30)


def engines(**changes) -> EnginesPlan:
    given = {"count": 2, "step_time": COST, "limits": LIMITS, "load_period_seconds": 0.05}
    return EnginesPlan(recipe=load_recipe("vllm"), **(given | changes))


def world(**changes) -> World:
    given = {
        "engines": engines(),
        "prompts": PromptPlan(count=30, tokens_median=12.0),
        "truth": TruthPlan(logit_sd=1.5),
        "lengths": LengthPlan(median_tokens=15.0, sigma_log=0.8),
        "plan": PLAN,
        "rewards": RewardPlan(seconds_median=0.02, seconds_sigma_log=0.3),
        "tools": ToolPlan(observation_tokens=5, seconds_median=0.03),
        "trainer": TrainerPlan(update_seconds=0.05, update_token_seconds=0.0, sync_seconds=0.01),
        "steps": 6,
        "warmup": 1,
    }
    return World(**(given | changes))


def recipe(preset="sync", **values):
    return rollout_recipe({"preset": preset, **values}, "a test")


def simulate(where: World, which, seed=0, **more):
    """Return the record of a run; it asserts itself that no token went missing."""
    return RolloutSimulation(where, which, seed, **more).run()


def comparable(record):
    """Return a record as values, less what the clock of this machine says."""
    return asdict(replace(record, wall_seconds=0.0))


def same_in_jumps_and_in_steps(where: World, which, seed=0, **more):
    jumped = comparable(simulate(where, which, seed, max_horizon=HORIZON_STEPS, **more))
    stepped = comparable(simulate(where, which, seed, max_horizon=1, **more))
    for name, value in jumped.items():
        assert value == stepped[name], name
    return jumped
