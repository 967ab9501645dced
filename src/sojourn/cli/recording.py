"""What a step log says of the run in it: its recipe, its SLO classes and its engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sojourn.cli.calibrate import decision_seconds, percent
from sojourn.cli.slo import parse_slo_classes
from sojourn.errors import UserError, unknown

if TYPE_CHECKING:
    from sojourn.cost import Fitted, MeasuredEngine
    from sojourn.decide.limits import EngineLimits
    from sojourn.recipes import Recipe
    from sojourn.sim.study import Fleet
    from sojourn.steplog.record import RunRecord, SloClass
    from sojourn.steplog.write import Source


def recorded_recipe_of(record: RunRecord, given: str | None) -> tuple[Recipe, list[str]]:
    """Return the recipe that acted in a recording, with its parameters, and what to say about it.

    Raises:
        UserError: If it does not come with Sojourn and is not given.
    """
    from sojourn.recipes import load_recipe, recipe_names

    notes = []
    name = given or record.recipe
    if record.differences is not None:
        name, notes = "vllm", [f"{record.recipe} ran in shadow mode: what acted was stock (vllm)"]
    elif given is None and name.partition("@")[0] not in recipe_names():
        raise UserError(
            f"the log was recorded with recipe {name!r}, which does not come with Sojourn: give "
            "its file with --recorded-recipe"
        )
    recipe = load_recipe(name, "vllm")
    wanted: Mapping[str, Any] = {} if notes else record.notes.get("policies") or {}
    here = recipe.parameters()
    changed = [
        (slot, key, str(value))
        for slot, values in wanted.items()
        if values.get("policy") == here.get(slot, {}).get("policy")
        for key, value in values.items()
        if key in here[slot] and here[slot][key] != value
    ]
    other = [
        slot for slot in wanted if wanted[slot].get("policy") != here.get(slot, {}).get("policy")
    ]
    if other:
        notes.append(
            f"the recording filled {', '.join(other)} otherwise than recipe {recipe.name} does "
            "here: the check is of this recipe, not of what ran"
        )
    return load_recipe(name, "vllm", changed) if changed else recipe, notes


def classes_of(record: RunRecord, texts: Sequence[str]) -> tuple[SloClass, ...]:
    """Return the classes of a log with the bounds given in place of its own.

    Classes without any bound get the default ones if no bounds are given at all.

    Raises:
        UserError: For a class that the log does not have.
    """
    from sojourn.cli.slo import default_classes
    from sojourn.steplog.record import SloClass

    own = record.classes or (SloClass("default"),)
    names = [one.name for one in own]
    if not texts:
        bare = all(
            bound is None
            for one in own
            for bound in (one.ttft_seconds, one.tpot_seconds, one.e2e_seconds)
        )
        return default_classes(names) if bare else tuple(own)
    # Shares say nothing here, so those of the classes that are given need not add up.
    given = {one.name: one for text in texts for one in parse_slo_classes([text])}
    for name in given:
        if name not in names:
            raise unknown("SLO class of the step log in --slo-class", name, names)
    return tuple(
        replace(given[one.name], share=one.share) if one.name in given else one for one in own
    )


def engine_of(
    record: RunRecord, source: Source, cost: Path | None, logs: Sequence[Path], recipe: Recipe
) -> tuple[MeasuredEngine, Fleet, str]:
    """Return the recorded engine, a fleet of it, and where its step times come from.

    Raises:
        UserError: If the log lacks a limit, or steps to fit and no file is given.
    """
    from sojourn.cost import load_fitted
    from sojourn.cost.recorded import recorded_engine
    from sojourn.sim.study import Fleet

    engine = recorded_engine(record, source)
    limits = _limits(engine, record, str(logs[0]))
    replicas = source.limits.get("replicas") or 1
    route = source.limits.get("route") or "round_robin"
    if cost is not None:
        return engine, Fleet(limits, load_fitted(cost), replicas, route), f"fitted: {cost.name}"
    fitted, error = _fitted(record, str(logs[0]), recipe)
    where = f"fitted to the log itself, held-out median error {percent(error)}"
    return engine, Fleet(limits, fitted, replicas, route), where


def _limits(engine: MeasuredEngine, record: RunRecord, where: str) -> EngineLimits:
    """Return the limits of the recorded engine.

    Raises:
        UserError: If the log lacks one, or its engine swapped.
    """
    from sojourn.decide.limits import EngineLimits

    known = engine.limits()
    wanted = (
        "num_gpu_blocks",
        "block_size",
        "max_num_seqs",
        "max_num_batched_tokens",
        "max_model_len",
    )
    missing = [name for name in wanted if name not in known]
    if missing:
        raise UserError(
            f"{where!r} does not say what {', '.join(missing)} its engine had: without them the "
            "run cannot be repeated; record a new log"
        )
    known.pop("tensor_parallel_size", None)
    known["num_gpu_blocks"] = record.kv_blocks if record.kv_blocks > 0 else known[wanted[0]] - 1
    return EngineLimits(**known, block_tokens=record.block_tokens if record.prefix else 0)


def _fitted(record: RunRecord, where: str, recipe: Recipe) -> tuple[Fitted, float]:
    """Return step times fitted to the log itself, and their held-out median error."""
    from sojourn.cost import Fitted
    from sojourn.cost.calibration import calibrate
    from sojourn.cost.samples import samples

    seconds = recipe.decision_seconds or decision_seconds(record.recipe)[0]
    try:
        found = calibrate(samples(record.steps, where, seconds))
    except UserError as error:
        raise UserError(
            f"step times cannot be fitted to {where!r} itself, so give --cost: {error}"
        ) from error
    return Fitted(found.coefficients), found.overall.held_out.median
