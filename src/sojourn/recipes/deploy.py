"""Recipes for real engines: which of them stock vLLM runs, and what stands in the way of others."""

from __future__ import annotations

from collections.abc import Iterable

from sojourn.errors import UserError
from sojourn.recipes.hosts import VLLM
from sojourn.recipes.load import Recipe, load_recipe, parse_overrides, recipe_names


def load_deployable(name: str, params: Iterable[str] = ()) -> Recipe:
    """Return a recipe that stock vLLM runs, `slot.parameter=value` texts applied.

    Raises:
        UserError: Naming what it needs beyond that, and the nearest recipe that runs.
    """
    try:
        recipe = load_recipe(name)
    except UserError as error:
        try:
            recipe = load_recipe(name, "ideal")
        except UserError:
            raise error from None
    if recipe.fleet:
        raise UserError(
            f"recipe {recipe.name!r} cannot be served by one engine: it decides between engines "
            f"({', '.join(recipe.fleet)}), above all of them; inside each it is as "
            f"{_nearest(recipe)!r}, which can be served"
        )
    if not recipe.deployable:
        missing = " and to ".join(sorted(need.value for need in recipe.needs - VLLM))
        raise UserError(
            f"recipe {recipe.name!r} cannot be served: it needs to {missing}, which stock vLLM "
            f"does not let a scheduler do; the nearest that can is {_nearest(recipe)!r}, of: "
            f"{', '.join(deployable_names())}"
        )
    return load_recipe(name, overrides=parse_overrides(params, (recipe,)))


def deployable_names() -> list[str]:
    """Return the recipes that come with Sojourn and that stock vLLM runs."""
    found = []
    for name in recipe_names():
        try:
            recipe = load_recipe(name)
        except UserError:
            continue  # it needs more than vLLM offers
        if recipe.deployable:
            found.append(name)
    return found


def _nearest(recipe: Recipe) -> str:
    """Return the deployable recipe that shares most policies; no control, stock where none does."""

    def shared(name: str) -> int:
        other = load_recipe(name)
        return sum(other.slots[slot][0] == policy for slot, (policy, _) in recipe.slots.items())

    names = [name for name in deployable_names() if load_recipe(name).kind != "control"]
    return max(names, key=lambda name: (shared(name), name == "vllm"))
