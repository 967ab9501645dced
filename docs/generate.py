"""Writes the parts of the docs that follow from the code: `python -m docs.generate [--check]`.

A page marks where each part goes with two comments, `<!-- generated: NAME -->` and
`<!-- end of NAME -->`; what stands between them is replaced.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Final

from docs.cli_reference import cli_reference
from docs.state_diagram import draw
from sojourn.cli.policies import parse_attributes
from sojourn.decide import states
from sojourn.decide.needs import Need
from sojourn.policies.tables import FLEET_SLOTS, REPLICA_SLOTS, ROLLOUT_SLOTS, SLOTS
from sojourn.recipes import fleet_recipe_names, load_recipe, recipe_names
from sojourn.recipes.hosts import FLEET, HOSTS, deployable
from sojourn.sim.check import RESIDENT

DOCS: Final = Path(__file__).resolve().parent
REFERENCE: Final = DOCS / "reference"
HEADER: Final = re.compile(r"^(Source|Reads|Memory|Needs|Deviations|Fails when): ", re.MULTILINE)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    cells = [head, tuple("---" for _ in head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells
    )


def state_meanings() -> dict[str, str]:
    """Return the comment beside each state constant, by state name."""
    found = re.findall(r"^[A-Z_]+: Final = (\d+)  # (.+)$", inspect.getsource(states), re.MULTILINE)
    meanings = {states.NAMES[int(number)]: text for number, text in found}
    assert tuple(meanings) == states.NAMES, "every state says what it means"
    return {name: f"{text[0].upper()}{text[1:]}." for name, text in meanings.items()}


def state_list() -> str:
    """Return each state and what it means."""
    rows = [(f"`{name}`", text) for name, text in state_meanings().items()]
    return table(("state", "meaning"), rows)


def move_list() -> str:
    """Return each legal move and its reason."""
    names = states.NAMES
    rows = [
        (f"`{names[start]}`", f"`{names[finish]}`", reason)
        for (start, finish), reason in states.TRANSITIONS.items()
    ]
    return table(("from", "to", "reason"), rows)


def diagram() -> str:
    """Return the SVG of the state machine."""
    names = states.NAMES
    return draw(
        names,
        {(names[a], names[b]): reason for (a, b), reason in states.TRANSITIONS.items()},
        frozenset(names[state] for state in RESIDENT),
        frozenset(names[state] for state in states.ENDED),
    )


def policy_list() -> str:
    """Return every policy of every slot: header, parameters and where it runs."""
    parts = []
    for slot, policies in SLOTS.items():
        parts.append(f"## {slot}\n\n{slot_sentence(slot)}\n")
        parts += [policy_entry(slot, name, *pair) for name, pair in policies.items()]
    return "\n".join(parts).rstrip()


def slot_sentence(slot: str) -> str:
    """Return what a slot decides, from its package's docstring."""
    doc = inspect.getdoc(sys.modules[f"sojourn.policies.{slot}"]) or ""
    text = doc.partition(": ")[2] or doc
    return text[0].upper() + text[1:]


def policy_entry(slot: str, name: str, config: type[Any], policy: type[Any]) -> str:
    """Return one policy's section."""
    doc = inspect.getdoc(sys.modules[policy.__module__]) or ""
    sentence, _, header = doc.partition("\n\n")
    bullets = []
    for part in re.split(r"^(?=[A-Z][a-z ]+: )", header, flags=re.MULTILINE):
        if HEADER.match(part):
            key, _, text = part.partition(": ")
            bullets.append(f"- **{key}:** {' '.join(text.split())}")
    runs = "deployable" if deployable(policy.needs) else "simulator only"
    if runs == "deployable" and slot in FLEET_SLOTS:
        runs = "deployable in a router"
    elif runs == "deployable" and slot in ROLLOUT_SLOTS:
        runs = "deployable in a trainer"
    lines = [f"### `{name}`\n", f"{sentence} *{runs.capitalize()}.*\n", *bullets]
    parameters = parameter_rows(config)
    if parameters:
        lines += ["", table(("parameter", "default", "meaning"), parameters)]
    return "\n".join(lines) + "\n"


def parameter_rows(config: type[Any]) -> list[tuple[str, ...]]:
    """Return the fields of a configuration with their defaults and descriptions."""
    meanings = parse_attributes(config.__doc__ or "")
    rows = []
    for field in fields(config):
        assert field.default is not MISSING, f"{field.name} has no default"
        assert meanings.get(field.name), f"{field.name} is not described"
        rows.append((f"`{field.name}`", f"`{field.default}`", meanings[field.name]))
    return rows


def recipe_list() -> str:
    """Return every recipe with its slots and the hosts that run it."""
    parts = []
    for name in (*recipe_names(), *fleet_recipe_names()):
        recipe = load_recipe(name)
        hosts = [host for host in HOSTS if recipe.needs - {Need.TRUTH} - FLEET <= HOSTS[host]]
        rows = [
            (slot, *(f"`{load_recipe(name, host).slots[slot][0]}`" for host in hosts))
            for slot in REPLICA_SLOTS
        ]
        rows += [
            (slot, *(f"`{policy}`" for _ in hosts)) for slot, (policy, _) in recipe.fleet.items()
        ]
        parts.append(
            f"## `{name}`\n\n{recipe.title}; {recipe.kind}, {recipe.runs_as}. {recipe.summary}\n\n"
            f"Source: {recipe.source}.\n\n"
            + table(("slot", *(f"host `{host}`" for host in hosts)), rows)
            + "\n"
        )
    return "\n".join(parts).rstrip()


PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "states": state_list,
    "moves": move_list,
    "policies": policy_list,
    "recipes": recipe_list,
    "cli": cli_reference,
}
"""What can stand between the comments of a page, by name."""


def filled(page: str) -> str:
    """Return the text of a page with every generated part made anew."""
    for name in re.findall(r"<!-- generated: (\w+) -->", page):
        begin, end = f"<!-- generated: {name} -->", f"<!-- end of {name} -->"
        assert page.count(begin) == page.count(end) == 1, f"{name} must begin and end once"
        before, _, rest = page.partition(begin)
        after = rest.partition(end)[2]
        page = f"{before}{begin}\n\n{PARTS[name]()}\n\n{end}{after}"
    return page


def expected() -> dict[Path, str]:
    """Return what every file with a generated part should hold."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(REFERENCE.glob("*.md"))}
    files = {path: filled(text) for path, text in texts.items() if "<!-- generated: " in text}
    return {**files, REFERENCE / "state-machine.svg": diagram()}


def main(arguments: list[str]) -> int:
    """Write the files; with `--check` only say which ones are out of date."""
    stale = [
        path
        for path, text in expected().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        print(path.relative_to(DOCS.parent))
        if "--check" not in arguments:
            path.write_text(expected()[path], encoding="utf-8")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
