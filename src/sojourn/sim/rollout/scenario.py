"""Reading a scenario: the world of a training run, and the candidates to compare in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from sojourn.errors import UserError, shown, unknown
from sojourn.files import read_toml
from sojourn.recipes.rollouts import RolloutRecipe, rollout_recipe
from sojourn.rollout.beliefs import BeliefRules
from sojourn.rollout.plan import Plan
from sojourn.sim.rollout.engine_table import engines_of
from sojourn.sim.rollout.measured import Measured
from sojourn.sim.rollout.offered import LAW, lengths_of, prompts_of, truth_of
from sojourn.sim.rollout.tables import made, table, typed
from sojourn.sim.rollout.truth import Truth
from sojourn.sim.rollout.world import (
    SYNC_MODES,
    RewardPlan,
    ToolPlan,
    TrainerPlan,
    World,
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
BATCH_ROLLOUTS_MAX: Final = 1_000_000


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
    engines, resolved = engines_of(document, origin, folder)
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
    _check_policies(world, candidates, seeds[0], origin)
    settings = {
        "steps": steps,
        "warmup_steps": warmup,
        "seeds": list(seeds),
        "baseline": baseline,
        "engines": resolved,
        **{
            key: _plain(getattr(world, key), prompts.measured)
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


def _plain(plan: Any, measured: Measured | None = None) -> dict[str, Any]:
    """Return a plan as JSON values, without the laws that measured values take the place of."""
    gone = set() if measured is None else {"logit_mean", "logit_sd", "domain_sd"}
    if measured is not None and measured.has_tokens:
        gone |= {"tokens_median", "tokens_sigma_log"}
    if measured is not None and measured.has_lengths:
        gone.add("difficulty_correlation")
    found = {one.name: getattr(plan, one.name) for one in fields(plan) if one.name not in gone}
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


def _check_policies(
    world: World, candidates: Sequence[RolloutRecipe], seed: int, origin: str
) -> None:
    """Refuse policies that want of prompts or plan what these do not have.

    Said before anything runs, for a run that fails takes those of the other candidates with it.
    """
    truth = Truth(world.prompts, world.truth, world.lengths, world.tools.turns_mean, seed)
    for one in candidates:
        try:
            one.build(one.plan_of(world.plan, origin), truth.prompts, seed)
        except UserError as error:
            raise UserError(f"candidate {one.name!r} in {origin}: {error}") from None


def with_select(recipe: RolloutRecipe, name: str, policy: str) -> RolloutRecipe:
    """Return a recipe under another name with another selector at its defaults."""
    from sojourn.recipes.parameters import make_config

    select = (policy, make_config("select", policy, {}, name))
    return replace(recipe, name=name, slots={**recipe.slots, "select": select})
