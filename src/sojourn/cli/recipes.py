"""`sojourn recipes`: the published systems that can be compared, and what they are made of."""

from __future__ import annotations

import json
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sojourn.cli import completion
from sojourn.cli.streams import console

if TYPE_CHECKING:
    from sojourn.recipes import Recipe


EXAMPLES: Final = """\
\b
Try:
  sojourn recipes
  sojourn recipes fastserve
  sojourn recipes fastserve --host ideal --json
  sojourn recipes distserve
"""


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A recipe, or a TOML file, to show in full.",
            show_default=False,
            autocompletion=completion.recipe,
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="What it would run on: vllm or ideal.",
            autocompletion=completion.hosts,
        ),
    ] = "vllm",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the recipes, or all parameters of one.

    Recipes for fleets also decide which replica gets a request, whether requests move between
    replicas, and how many there are; they take --replicas or --fleet. Inside each replica the
    slots that they do not name are those of vllm.
    """
    from sojourn.recipes import load_recipe

    found = _all(host) if name is None else [load_recipe(name, host)]
    if as_json:
        shown = [describe(recipe) for recipe in found]
        typer.echo(json.dumps(shown if name is None else shown[0], indent=2, ensure_ascii=False))
    elif name is None:
        _print_table(found)
    else:
        _print_page(found[0], host)


def _all(host: str) -> list[Recipe]:
    """Return every recipe that comes with Sojourn; those beyond the host as the ideal one runs."""
    from sojourn.errors import UserError, unknown
    from sojourn.recipes import fleet_recipe_names, load_recipe, recipe_names
    from sojourn.recipes.hosts import HOSTS

    if host not in HOSTS:
        raise unknown("host", host, HOSTS)
    found = []
    for name in (*recipe_names(), *fleet_recipe_names()):
        try:
            found.append(load_recipe(name, host))
        except UserError:
            found.append(load_recipe(name, "ideal"))
    return found


def describe(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as JSON values."""
    return {
        "name": recipe.name,
        "title": recipe.title,
        "kind": recipe.kind,
        "deployable": recipe.deployable,
        "runs_as": recipe.runs_as,
        "summary": recipe.summary,
        "source": recipe.source,
        "needs": sorted(need.value for need in recipe.needs),
        "decision_seconds": recipe.decision_seconds,
        "slots": recipe.parameters(),
    }


def _print_page(recipe: Recipe, host: str) -> None:
    typer.echo(f"{recipe.name}: {recipe.title} ({recipe.kind}, {_runs(recipe)})")
    if recipe.fleet and recipe.deployable:
        typer.echo(
            "Each replica is stock vLLM; the router in front of them is not part of Sojourn yet."
        )
    typer.echo(fill(recipe.summary, 96))
    typer.echo(fill(f"Source: {recipe.source}", 96, subsequent_indent="  "))
    needs = sorted(need.value for need in recipe.needs)
    text = "; ".join(needs) if needs else "nothing beyond what every host offers"
    typer.echo(fill(f"Needs: {text}", 96, subsequent_indent="  "))
    if recipe.decision_seconds:
        typer.echo(f"Deciding adds {recipe.decision_seconds * 1e6:g} us to each step")
    typer.echo(f"\nSlots on host {host}:")
    parameters = recipe.parameters()
    _print_slots({slot: parameters[slot] for slot in recipe.slots})
    if recipe.fleet:
        typer.echo("\nAbove the replicas:")
        _print_slots({slot: parameters[slot] for slot in recipe.fleet})


def _runs(recipe: Recipe) -> str:
    """Return where a recipe runs, in full."""
    return "deployable on stock vLLM" if recipe.runs_as == "deployable" else recipe.runs_as


def _print_slots(slots: dict[str, dict[str, Any]]) -> None:
    for slot, parameters in slots.items():
        typer.echo(f"  {slot} = {parameters['policy']}")
        for name, value in parameters.items():
            if name != "policy":
                typer.echo(f"    {slot}.{name} = {value}")


def _print_table(found: list[Recipe]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("recipe", "kind", "runs as", "title and source", "slots"):
        wide = heading in ("runs as", "title and source", "slots")
        table.add_column(heading, overflow="fold", no_wrap=not wide)
    above = False
    for recipe in found:
        if recipe.fleet and not above:
            table.add_section()
        above = bool(recipe.fleet)
        # Of a recipe for fleets, what it decides about fleets.
        slots = recipe.fleet or recipe.slots
        cells = (
            recipe.name,
            recipe.kind,
            recipe.runs_as,
            f"{recipe.title}: {recipe.source}",
            ", ".join(f"{slot} {policy}" for slot, (policy, _) in slots.items()),
        )
        table.add_row(*(Text(cell) for cell in cells), style=None if recipe.deployable else "dim")
    console().print(table)
    typer.echo(
        "\nThe second part is for fleets (--replicas or --fleet). `sojourn recipes NAME` prints a "
        "recipe's parameters and what it needs."
    )
