"""Recipes: a published system as one policy for each slot, with its parameters, in TOML."""

from sojourn.recipes.load import Recipe, fleet_recipe_names, load_recipe, recipe_names

__all__ = ["Recipe", "fleet_recipe_names", "load_recipe", "recipe_names"]
