"""`sojourn policies`: what can fill each slot, where it comes from, and when it fails."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields
from inspect import cleandoc
from textwrap import fill
from typing import Annotated, Any, Final

import typer

from sojourn.cli import completion
from sojourn.cli.streams import console

LINES: Final = ("Source", "Reads", "Memory", "Needs", "Deviations", "Fails when")
"""What the docstring of a policy's module says, each from a line of its own."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a policy: its type, its default and what it means."""

    name: str
    type: str
    default: Any
    meaning: str


@dataclass(frozen=True, slots=True)
class PolicyPage:
    """What a policy's own file says about it.

    Attributes:
        name: Its name in recipes.
        slot: The slot it fills.
        summary: What it is, in one sentence.
        lines: The texts of `LINES`, by lower-case name with underscores.
        deployable: Whether stock vLLM offers all that it needs.
        parameters: Its parameters.
    """

    name: str
    slot: str
    summary: str
    lines: dict[str, str]
    deployable: bool
    parameters: tuple[Parameter, ...]

    @property
    def runs_as(self) -> str:
        """Where it can run, in a few words."""
        from sojourn.policies.tables import FLEET_SLOTS, ROLLOUT_SLOTS

        if not self.deployable:
            return "simulator only"
        if self.slot in ROLLOUT_SLOTS:
            return "deployable in a trainer"
        return "deployable in a router" if self.slot in FLEET_SLOTS else "deployable"

    def to_json(self) -> dict[str, Any]:
        """Return the page as JSON values."""
        return {
            "name": self.name,
            "slot": self.slot,
            "summary": self.summary,
            **self.lines,
            "deployable": self.deployable,
            "runs_as": self.runs_as,
            "parameters": [
                {
                    "name": one.name,
                    "type": one.type,
                    "default": one.default,
                    "meaning": one.meaning,
                }
                for one in self.parameters
            ],
        }


EXAMPLES: Final = """\
\b
Try:
  sojourn policies
  sojourn policies skip_join_mlfq
  sojourn policies --slot order --json
  sojourn policies --slot route
"""


def policies(
    name: Annotated[
        str | None,
        typer.Argument(help="A policy, or slot.policy, for its full page.", show_default=False),
    ] = None,
    slot: Annotated[
        str | None,
        typer.Option(
            "--slot",
            help="Only those of a slot: inside an engine, of a fleet, or of RL rollouts.",
            autocompletion=completion.slots,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the policies, or all that one says of itself."""
    pages = list(all_pages())
    if slot is not None:
        pages = _of_slot(pages, slot)
    if name is not None:
        pages = _named(pages, name)
    if as_json:
        shown = [page.to_json() for page in pages]
        typer.echo(json.dumps(shown[0] if name else shown, indent=2, ensure_ascii=False))
    elif name is not None:
        _print_page(pages[0])
    else:
        _print_table(pages)


def all_pages() -> Iterator[PolicyPage]:
    """Yield the page of every policy, by slot."""
    from sojourn.policies.tables import SLOTS
    from sojourn.recipes.hosts import deployable

    for slot, table in SLOTS.items():
        for name, (config, policy) in table.items():
            summary, lines = parse_header(sys.modules[policy.__module__].__doc__ or "")
            meanings = parse_attributes(config.__doc__ or "")
            yield PolicyPage(
                name=name,
                slot=slot,
                summary=summary,
                lines=lines,
                deployable=deployable(policy.needs),
                parameters=tuple(
                    Parameter(field.name, str(field.type), _default(field), meanings[field.name])
                    if field.name in meanings
                    else Parameter(field.name, str(field.type), _default(field), "")
                    for field in fields(config)
                ),
            )


def parse_header(docstring: str) -> tuple[str, dict[str, str]]:
    """Return the summary of a policy's docstring and the texts of `LINES` in it."""
    paragraphs: list[tuple[str, list[str]]] = [("", [])]
    for line in cleandoc(docstring).splitlines():
        key, colon, rest = line.partition(":")
        if colon and key in LINES:
            paragraphs.append((key, [rest.strip()]))
        elif line.strip():
            paragraphs[-1][1].append(line.strip())
        elif paragraphs[-1][0]:
            paragraphs.append(("", []))
    texts = {key.lower().replace(" ", "_"): " ".join(words) for key, words in paragraphs if key}
    return " ".join(paragraphs[0][1]), texts


def parse_attributes(docstring: str) -> dict[str, str]:
    """Return the meanings that the `Attributes:` section of a docstring gives, by name.

    A line may be about several names, separated by commas.
    """
    found: dict[str, str] = {}
    latest: list[str] = []
    for line in cleandoc(docstring).partition("Attributes:")[2].splitlines():
        if line.startswith("        "):
            found |= {name: f"{found[name]} {line.strip()}" for name in latest}
        elif line.startswith("    "):
            names, _, meaning = line.strip().partition(":")
            latest = names.split(", ")
            found |= dict.fromkeys(latest, meaning.strip())
    return found


def _default(field: Field[Any]) -> Any:
    return None if field.default is MISSING else field.default


def _of_slot(pages: list[PolicyPage], slot: str) -> list[PolicyPage]:
    from sojourn.errors import unknown

    found = [page for page in pages if page.slot == slot]
    if not found:
        raise unknown("slot", slot, dict.fromkeys(page.slot for page in pages))
    return found


def _named(pages: list[PolicyPage], name: str) -> list[PolicyPage]:
    from sojourn.errors import unknown

    short = name.replace("-", "_")
    found = [page for page in pages if short in (page.name, f"{page.slot}.{page.name}")]
    if not found:
        raise unknown("policy", name, dict.fromkeys(page.name for page in pages))
    return found


def _print_page(page: PolicyPage) -> None:
    runs = page.runs_as if page.runs_as != "deployable" else "deployable on stock vLLM"
    typer.echo(f"{page.slot}.{page.name} ({runs})")
    typer.echo(fill(page.summary, 96))
    for line in LINES:
        text = page.lines.get(line.lower().replace(" ", "_"))
        if text:
            typer.echo()
            typer.echo(fill(f"{line}: {text}", 96, subsequent_indent="  "))
    if not page.parameters:
        typer.echo("\nIt has no parameters.")
        return
    from sojourn.policies.tables import ROLLOUT_SLOTS

    flag = "" if page.slot in ROLLOUT_SLOTS else f" (--param {page.slot}.NAME=VALUE)"
    typer.echo(f"\nParameters{flag}:")
    for one in page.parameters:
        typer.echo(f"  {one.name} = {one.default}  ({one.type})")
        if one.meaning:
            typer.echo(fill(one.meaning, 96, initial_indent="    ", subsequent_indent="    "))


def _print_table(pages: list[PolicyPage]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("slot", "policy", "runs as", "what it is"):
        table.add_column(heading, overflow="fold", no_wrap=heading != "what it is")
    latest = ""
    for page in pages:
        if latest and page.slot != latest:
            table.add_section()
        cells = (
            "" if page.slot == latest else page.slot,
            page.name,
            page.runs_as,
            page.summary,
        )
        table.add_row(*(Text(cell) for cell in cells), style=None if page.deployable else "dim")
        latest = page.slot
    console().print(table)
    typer.echo(
        "\n`sojourn policies NAME` prints a policy's source, memory, needs, deviations, when it "
        "fails, and its parameters."
    )
