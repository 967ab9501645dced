"""Reading a scenario: the world of a training run, and the candidates to compare in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from sojourn.catalog import load_gpu, load_model
from sojourn.cost import Fitted, Roofline, kv_blocks, load_fitted
from sojourn.decide.limits import EngineLimits
from sojourn.errors import UserError, shown, unknown
from sojourn.files import read_toml
from sojourn.recipes.load import DEFAULTS, Recipe, load_recipe
from sojourn.recipes.rollouts import RolloutRecipe, rollout_recipe
from sojourn.rollout.beliefs import BeliefRules
from sojourn.rollout.plan import Plan
from sojourn.sim.engines import check_step_time
from sojourn.sim.limits import check_limits
from sojourn.sim.rollout.offered import LAW, lengths_of, prompts_of, truth_of
from sojourn.sim.rollout.tables import made, table, tables, typed
from sojourn.sim.rollout.world import (
    SYNC_MODES,
    EnginesPlan,
    Loss,
    RewardPlan,
    ToolPlan,
    TrainerPlan,
    World,
    check_ranges,
)

TABLES: Final = (
    *("prompts", "truth", "lengths", "plan", "beliefs", "engines", "losses", "rewards"),
    *("tools", "trainer", "candidates"),
)
KEYS: Final = (
    *("name", "steps", "warmup_steps", "seeds", "baseline", "bounds", "lag_versions_max"),
    *TABLES,
)
SEEDS_MAX: Final = 1000
STEPS_MAX: Final = 100_000
LOAD_PERIOD_MIN: Final = 0.001
BATCH_ROLLOUTS_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class EngineTable:
    """What `[engines]` may say; names are those of `sojourn compare`.

    Attributes:
        model, gpu: Of the catalogue, or paths.
        cost: A file of fitted step times; it needs `kv_cache_tokens`.
        recipe: Scheduler recipe inside each engine.
        count: Engines, all alike.
        kv_cache_tokens: Tokens that the KV cache of each holds; 0 computes it from the GPU.
        max_model_len: Tokens of a prompt and its rollout; 0 for what the KV cache holds.
        load_period_seconds: Time between the engines' reports of their load; 0 for none.
    """

    model: str = "llama-3.1-8b"
    gpu: str = "h100-sxm"
    cost: str = ""
    recipe: str = "vllm"
    count: int = 1
    tensor_parallel_size: int = 1
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    max_model_len: int = 0
    block_size: int = 16
    gpu_memory_utilization: float = 0.9
    kv_cache_tokens: int = 0
    enable_prefix_caching: bool = True
    load_period_seconds: float = 5.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        ranges = {
            "count": (1, 1024),
            "max_num_seqs": (1, 65536),
            "max_num_batched_tokens": (1, 1 << 20),
            "max_model_len": (0, 10**7),
            "block_size": (1, 4096),
            "kv_cache_tokens": (0, 10**9),
            "load_period_seconds": (0.0, 1e6),
        }
        check_ranges(self, "engines", ranges)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario, read and checked.

    Attributes:
        name: What to call it.
        origin: The file.
        world: Everything but the policies.
        candidates: What is compared.
        baseline: Name of the candidate that the others are held against.
        seeds: One run of each candidate for each.
        lag_versions_max: Mean age in versions of a trained token up to which the verdict goes.
        bounds: Whether uniform selection and selection by the truth run too.
        settings: Every resolved number, as JSON values.
    """

    name: str
    origin: str
    world: World
    candidates: tuple[RolloutRecipe, ...]
    baseline: str
    seeds: tuple[int, ...]
    lag_versions_max: float
    bounds: bool
    settings: Mapping[str, Any]

    @property
    def stock(self) -> RolloutRecipe:
        """The baseline."""
        return next(one for one in self.candidates if one.name == self.baseline)


def load_scenario(path: str | Path) -> Scenario:
    """Read a scenario.

    Raises:
        UserError: If it cannot be read, or for any key, type or value that is wrong.
    """
    return scenario_of(read_toml(path), str(path), Path(path).parent)


def scenario_of(document: Mapping[str, Any], origin: str, folder: Path) -> Scenario:
    """Return the scenario that a document describes; its paths are relative to `folder`."""
    for key in document:
        if key not in KEYS:
            raise unknown(f"key in {origin}: name", key, KEYS)
    name = typed("name", "str", document.get("name", Path(origin).stem), origin)
    steps = _whole(document, "steps", 20, 1, STEPS_MAX, origin)
    warmup = _whole(document, "warmup_steps", min(5, steps // 4), 0, STEPS_MAX, origin)
    if warmup >= steps:
        raise UserError(
            f"{origin}: warmup_steps is {warmup}; it must be below steps, which is {steps}"
        )
    numbers = table(document, "plan", origin)
    if "seed" in numbers:
        raise unknown(f"key plan.seed in {origin}: name", "seed", ("seeds",))
    plan = made(Plan, numbers, "plan", origin)
    engines, resolved = _engines(document, origin, folder)
    prompts = prompts_of(document, origin, folder, plan)
    world = World(
        engines=engines,
        prompts=prompts,
        truth=truth_of(document, origin, prompts.measured),
        lengths=lengths_of(document, origin, folder, prompts.measured),
        plan=plan,
        beliefs=made(BeliefRules, table(document, "beliefs", origin), "beliefs", origin),
        rewards=made(RewardPlan, table(document, "rewards", origin), "rewards", origin),
        tools=made(ToolPlan, table(document, "tools", origin), "tools", origin),
        trainer=_trainer(document, origin),
        steps=steps,
        warmup=warmup,
    )
    candidates = _candidates(document, origin)
    for one in candidates:
        _check_fit(world, one, origin)
    names = [one.name for one in candidates]
    baseline = typed("baseline", "str", document.get("baseline", names[0]), origin)
    if baseline not in names:
        raise unknown(f"baseline in {origin}: candidate", baseline, names)
    seeds = _seeds(document, origin)
    settings = {
        "steps": steps,
        "warmup_steps": warmup,
        "seeds": list(seeds),
        "baseline": baseline,
        "engines": resolved,
        **{
            key: _plain(getattr(world, key))
            for key in ("prompts", "truth", "lengths", "plan", "beliefs")
        },
        **{key: _plain(getattr(world, key)) for key in ("rewards", "tools", "trainer")},
    }
    bounds = typed("bounds", "bool", document.get("bounds", True), origin)
    lag = typed("lag_versions_max", "float", document.get("lag_versions_max", 1.0), origin)
    if lag < 0.0:
        raise UserError(f"{origin}: lag_versions_max is {lag:g}; it must be at least 0")
    settings["lag_versions_max"] = lag
    return Scenario(name, origin, world, candidates, baseline, seeds, lag, bounds, settings)


def _plain(plan: Any) -> dict[str, Any]:
    """Return a plan as JSON values, without the laws that measured values take the place of."""
    found = {one.name: getattr(plan, one.name) for one in fields(plan)}
    if "domains" in found:
        found["domains"] = dict(found["domains"])
    if found.get("recorded"):
        found = {name: value for name, value in found.items() if name not in LAW}
    if "recorded" in found:
        found["recorded"] = len(found["recorded"])
    if found.get("measured") is not None:
        found["measured"] = found["measured"].summary()
    return found


def _whole(
    document: Mapping[str, Any], key: str, usual: int, least: int, most: int, origin: str
) -> int:
    value = typed(key, "int", document.get(key, usual), origin)
    if not least <= value <= most:
        raise UserError(f"{origin}: {key} is {value}; it must be from {least} to {most}")
    return int(value)


def _seeds(document: Mapping[str, Any], origin: str) -> tuple[int, ...]:
    """Return the seeds: as many as a number says, from 0 on, or those of a list."""
    given = document.get("seeds", 5)
    listed = list(range(given)) if type(given) is int and 0 < given <= SEEDS_MAX else given
    fits = isinstance(listed, list) and 0 < len(listed) <= SEEDS_MAX
    if not fits or any(type(one) is not int or not 0 <= one < 1 << 63 for one in listed):
        raise UserError(
            f"{origin}: seeds is {shown(given)}; it must be a number of seeds from 1 to "
            f"{SEEDS_MAX}, or a list of them, such as [0, 1, 2]"
        )
    if len(set(listed)) < len(listed):
        raise UserError(f"{origin}: seeds names a seed twice")
    return tuple(listed)


def _trainer(document: Mapping[str, Any], origin: str) -> TrainerPlan:
    plan = made(TrainerPlan, table(document, "trainer", origin), "trainer", origin)
    if plan.sync_mode not in SYNC_MODES:
        raise unknown(f"trainer.sync_mode in {origin}: mode", plan.sync_mode, SYNC_MODES)
    return plan


def _engines(
    document: Mapping[str, Any], origin: str, folder: Path
) -> tuple[EnginesPlan, dict[str, Any]]:
    """Return the engines, and every number of theirs as JSON values."""
    given = made(EngineTable, table(document, "engines", origin), "engines", origin)
    where = f"{origin}: engines"
    try:
        if 0.0 < given.load_period_seconds < LOAD_PERIOD_MIN:
            raise UserError(
                f"load_period_seconds is {given.load_period_seconds:g}; it must be 0, or at least "
                f"{LOAD_PERIOD_MIN:g}"
            )
        cost: Roofline | Fitted
        if given.cost:
            if not given.kv_cache_tokens:
                raise UserError("with cost, give kv_cache_tokens: the KV cache's size is unknown")
            cost = load_fitted(folder / given.cost)
        else:
            cost = Roofline(
                load_model(given.model), load_gpu(given.gpu), given.tensor_parallel_size
            )
        limits = check_limits(_limits(given))
        check_step_time(cost, limits)
        recipe = _scheduler(given.recipe)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    losses = []
    for one in tables(document, "losses", origin):
        loss = made(Loss, one, "losses", origin)
        ranges = {"at_seconds": (0.0, 1e7), "engine": (0, 10**6), "for_seconds": (0.0, 1e7)}
        try:
            check_ranges(loss, "losses", ranges)
        except UserError as error:
            raise UserError(f"{origin}: {error}") from None
        losses.append(loss)
    for loss in losses:
        earlier = sum(one.at_seconds < loss.at_seconds for one in losses)
        if loss.engine >= given.count + earlier:  # each loss may bring one more
            raise UserError(
                f"{origin}: losses.engine is {loss.engine}, but engines.count is {given.count}; "
                "they are counted from 0"
            )
    plan = EnginesPlan(
        recipe=recipe,
        limits=limits,
        step_time=cost,
        count=given.count,
        load_period_seconds=given.load_period_seconds,
        losses=tuple(losses),
        gpus=given.tensor_parallel_size,
    )
    resolved = asdict(given) | {
        "max_model_len": limits.max_model_len,
        "kv_cache_tokens": limits.num_gpu_blocks * limits.block_size,
        "losses": [asdict(one) for one in losses],
    }
    if given.cost:
        resolved["model"] = resolved["gpu"] = None
    return plan, resolved


def _limits(given: EngineTable) -> EngineLimits:
    blocks = given.kv_cache_tokens // given.block_size
    if given.kv_cache_tokens and not blocks:
        raise UserError(
            f"kv_cache_tokens is {given.kv_cache_tokens}; it must be at least block_size, which "
            f"is {given.block_size}"
        )
    if not given.kv_cache_tokens:
        blocks = kv_blocks(
            load_model(given.model),
            load_gpu(given.gpu),
            given.tensor_parallel_size,
            gpu_memory_utilization=given.gpu_memory_utilization,
            block_size=given.block_size,
            max_num_batched_tokens=given.max_num_batched_tokens,
            max_num_seqs=given.max_num_seqs,
        )
        blocks = max(blocks - 1, 1)  # vLLM keeps one block for padding, which no request can use
    return EngineLimits(
        num_gpu_blocks=blocks,
        block_size=given.block_size,
        max_num_seqs=given.max_num_seqs,
        max_num_batched_tokens=given.max_num_batched_tokens,
        max_model_len=given.max_model_len or blocks * given.block_size,
        enable_prefix_caching=given.enable_prefix_caching,
        block_tokens=given.block_size,
    )


def _scheduler(name: str) -> Recipe:
    """Return the recipe inside the engines: one that sheds nothing and holds no KV."""
    recipe = load_recipe(name)
    for slot in ("admit", "retain"):
        if recipe.slots[slot][0] != DEFAULTS[slot]:
            raise UserError(
                f"recipe {recipe.name!r} has {slot} {recipe.slots[slot][0]!r}; engines of a "
                f"training run need {DEFAULTS[slot]!r}"
            )
    if recipe.fleet:
        raise UserError(f"recipe {recipe.name!r} decides about fleets; name one for an engine")
    return recipe


def _candidates(document: Mapping[str, Any], origin: str) -> tuple[RolloutRecipe, ...]:
    """Return the candidates: a list of presets' names and tables."""
    given = document.get("candidates", ["sync", "april"])
    if not isinstance(given, list) or not given:
        raise UserError(
            f"{origin}: candidates is {shown(given)}; it must be presets, such as "
            '["sync", "april"], or tables, each [[candidates]]'
        )
    made_of = []
    for one in given:
        values = {"preset": one} if isinstance(one, str) else one
        if not isinstance(values, dict):
            raise UserError(
                f"{origin}: a candidate is {shown(one)}; it must be a preset or a table"
            )
        made_of.append(rollout_recipe(values, origin))
    names = [one.name for one in made_of]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise UserError(f"{origin}: two candidates are called {name!r}; give one another name")
    return tuple(made_of)


def _check_fit(world: World, recipe: RolloutRecipe, origin: str) -> None:
    """Refuse a plan that no engine or prompt set can serve."""
    plan = recipe.plan_of(world.plan, origin)
    longest = world.engines.limits.max_model_len
    if plan.tokens_max >= longest:
        raise UserError(
            f"{origin}: plan.tokens_max is {plan.tokens_max}, but an engine holds {longest} "
            "tokens of a prompt and its rollout; give less, or more KV cache"
        )
    rollouts = plan.batch_groups * plan.rollouts_per_group
    if rollouts > BATCH_ROLLOUTS_MAX:
        raise UserError(
            f"{origin}: plan.batch_groups × plan.rollouts_per_group is {rollouts}; it must be at "
            f"most {BATCH_ROLLOUTS_MAX}"
        )
    if plan.batch_groups > world.prompts.count:
        raise UserError(
            f"{origin}: plan.batch_groups is {plan.batch_groups}, but prompts.count is only "
            f"{world.prompts.count}"
        )


def with_select(recipe: RolloutRecipe, name: str, policy: str) -> RolloutRecipe:
    """Return a recipe under another name with another selector at its defaults."""
    from sojourn.recipes.parameters import make_config

    select = (policy, make_config("select", policy, {}, name))
    return replace(recipe, name=name, slots={**recipe.slots, "select": select})
