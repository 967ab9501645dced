"""Recipes: a published system as one policy for each slot, with its parameters, in TOML."""

from sojourn.recipes.load import Recipe, load_recipe, recipe_names

__all__ = ["Recipe", "load_recipe", "recipe_names"]
