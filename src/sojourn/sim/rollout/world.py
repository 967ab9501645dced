"""What a training run is simulated in: engines, trainer, rewards, tools and what goes wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sojourn.decide.limits import EngineLimits
from sojourn.decide.services import StepTime
from sojourn.errors import UserError
from sojourn.recipes.load import Recipe
from sojourn.rollout.beliefs import BeliefRules
from sojourn.rollout.plan import Plan
from sojourn.sim.rollout.lengths import LengthPlan
from sojourn.sim.rollout.truth import PromptPlan, TruthPlan

ABORT: Final = "abort"
WAIT: Final = "wait"
KEEP: Final = "keep"
SYNC_MODES: Final = (ABORT, WAIT, KEEP)
"""Those of vLLM's `pause_generation`."""

SECONDS_MAX: Final = 1e6


def check_ranges(plan: object, table: str, ranges: dict[str, tuple[float, float]]) -> None:
    """Refuse a field of a plan that is out of range.

    Raises:
        UserError: Naming the table, the key and what is allowed.
    """
    for name, (least, most) in ranges.items():
        value = getattr(plan, name)
        if not least <= value <= most:
            raise UserError(f"{table}.{name} is {value:g}; it must be from {least:g} to {most:g}")


@dataclass(frozen=True, slots=True)
class RewardPlan:
    """How long it takes until a rollout has its reward: log-normal.

    Attributes:
        seconds_median, seconds_sigma_log: Of that time; 0 for at once.
    """

    seconds_median: float = 1.0
    seconds_sigma_log: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        ranges = {"seconds_median": (0.0, SECONDS_MAX), "seconds_sigma_log": (0.0, 3.0)}
        check_ranges(self, "rewards", ranges)


@dataclass(frozen=True, slots=True)
class ToolPlan:
    """Environments of agents; with one turn there are none.

    Attributes:
        turns_mean: Mean number of turns of a rollout; its tokens are spread over them evenly.
        observation_tokens: What a tool or environment says after a turn but the last.
        seconds_median, seconds_sigma_log: Log-normal time that it takes to say it.
        failure_share: Share of these calls that end the rollout as failed.
    """

    turns_mean: float = 1.0
    observation_tokens: int = 200
    seconds_median: float = 2.0
    seconds_sigma_log: float = 0.8
    failure_share: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        ranges = {
            "turns_mean": (1.0, 500.0),
            "observation_tokens": (0.0, 1e6),
            "seconds_median": (0.0, SECONDS_MAX),
            "seconds_sigma_log": (0.0, 3.0),
            "failure_share": (0.0, 0.5),
        }
        check_ranges(self, "tools", ranges)


@dataclass(frozen=True, slots=True)
class TrainerPlan:
    """How long training takes, and how new weights get to the engines.

    Attributes:
        update_seconds: Fixed time of the training on a batch.
        update_token_seconds: Further time for each trained token.
        sync_seconds: Time to load new weights into the engines.
        sync_mode: What becomes of what runs then: `abort` (kept and submitted again), `wait` until
            it is through, or `keep` (frozen, and continued with the new weights).
        clear_cache: Whether the engines forget all cached KV then, made by older weights as it is.
        shares_gpus: Whether training runs on the engines' own GPUs, so that nothing is generated
            from the batch until the new weights are live.
    """

    update_seconds: float = 5.0
    update_token_seconds: float = 2e-6
    sync_seconds: float = 2.0
    sync_mode: str = ABORT
    clear_cache: bool = True
    shares_gpus: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        ranges = {
            "update_seconds": (0.0, SECONDS_MAX),
            "update_token_seconds": (0.0, 1.0),
            "sync_seconds": (0.0, SECONDS_MAX),
        }
        check_ranges(self, "trainer", ranges)


@dataclass(frozen=True, slots=True)
class Loss:
    """An engine that is lost, with all that it holds.

    Attributes:
        at_seconds: When.
        engine: Number of the engine.
        for_seconds: Until another one comes up in its place; 0 for never.
    """

    at_seconds: float
    engine: int = 0
    for_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class EnginesPlan:
    """The engines; all alike.

    Attributes:
        recipe: Scheduler policies inside each.
        limits, step_time: Its limits and step times.
        count: How many there are.
        load_period_seconds: Time between an engine's own reports of its load; 0 for none.
        losses: Engines that are lost.
        gpus: GPUs of each.
    """

    recipe: Recipe
    limits: EngineLimits
    step_time: StepTime
    count: int = 1
    load_period_seconds: float = 1.0
    losses: tuple[Loss, ...] = ()
    gpus: int = 1


@dataclass(frozen=True, slots=True)
class World:
    """Everything of a training run but the policies.

    Attributes:
        steps, warmup: Training steps, and those at the beginning that no number counts.
    """

    engines: EnginesPlan
    prompts: PromptPlan = field(default_factory=PromptPlan)
    truth: TruthPlan = field(default_factory=TruthPlan)
    lengths: LengthPlan = field(default_factory=LengthPlan)
    plan: Plan = field(default_factory=Plan)
    beliefs: BeliefRules = field(default_factory=BeliefRules)
    rewards: RewardPlan = field(default_factory=RewardPlan)
    tools: ToolPlan = field(default_factory=ToolPlan)
    trainer: TrainerPlan = field(default_factory=TrainerPlan)
    steps: int = 20
    warmup: int = 5
