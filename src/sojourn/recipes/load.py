"""Reading recipes, overriding their parameters, and building their policies for a replica."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from sojourn.decide.machine import Policies
from sojourn.decide.needs import Need
from sojourn.decide.slots import Services
from sojourn.errors import UserError, shown, unknown
from sojourn.files import read_toml
from sojourn.policies.tables import FLEET_SLOTS, REPLICA_SLOTS, SLOTS
from sojourn.recipes.hosts import FLEET, HOSTS, VLLM, check
from sojourn.recipes.parameters import (
    COUNT_MAX,
    SECONDS_MAX,
    Filled,
    make_config,
    overridden,
    parse_parameters,
    set_fields,
)

KINDS: Final = ("baseline", "policy", "reference", "control")
DEFAULTS: Final = {
    "admit": "accept_all",
    "order": "fcfs",
    "compose": "stall_free",
    "victim": "last_in",
    "retain": "lru",
}
FLEET_DEFAULTS: Final = {"route": "round_robin", "place": "least_loaded", "scale": "fixed"}
"""What fills the slots above the replicas where nobody says otherwise."""
ROLES: Final = "roles"
"""The table of a recipe that splits the replicas of a fleet by role."""

TEXTS: Final = ("title", "summary", "source", "kind")


@dataclass(frozen=True, slots=True)
class Roles:
    """How a recipe splits a fleet of like replicas.

    Attributes:
        prefill_share: Part of the replicas that compute prompts only; the others decode only.
        prefill_recipe: Recipe inside those that compute prompts; empty for this one.
    """

    prefill_share: float = 0.5
    prefill_recipe: str = ""

    def __post_init__(self) -> None:
        """Refuse a split that leaves nothing of one kind."""
        if not 0 < self.prefill_share < 1:
            raise UserError(
                f"roles.prefill_share is {self.prefill_share:g}; it must be between 0 and 1"
            )


@dataclass(frozen=True, slots=True)
class Recipe:
    """One policy for each slot of a replica, and for those above the replicas that it fills.

    Attributes:
        name: Name on the command line.
        title: Name of the published system.
        summary: What it does, in a sentence or two.
        source: Where it is published.
        kind: `baseline`, `policy`, `reference` (knows what no engine knows) or `control` (bad on
            purpose).
        slots: Policy name and its configuration, by slot of a replica.
        fleet: The same of the slots above the replicas that it fills itself; `roles` among them
            if it splits the replicas.
        prefill: Recipe of the replicas that compute prompts only; None for this one.
        decision_seconds: Time that deciding adds to a step beyond stock's, charged in simulation.
        max_num_seqs, max_num_batched_tokens: Limits of its own, in place of the engine's.
    """

    name: str
    title: str
    summary: str
    source: str
    kind: str
    slots: Filled
    fleet: Filled = field(default_factory=dict)
    prefill: Recipe | None = None
    decision_seconds: float = 0.0
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None

    @property
    def needs(self) -> frozenset[Need]:
        """What its policies need of a host, and of a fleet."""
        filled = {**self.slots, **self.fleet}
        return (self.prefill.needs if self.prefill else frozenset()).union(
            *(
                SLOTS[slot][name][1].needs | getattr(config, "needs", frozenset())
                for slot, (name, config) in filled.items()
                if slot in SLOTS
            )
        )

    @property
    def deployable(self) -> bool:
        """Whether stock vLLM offers all that it needs."""
        return VLLM.issuperset(self.needs) and ROLES not in self.fleet

    @property
    def runs_as(self) -> str:
        """Where it can run, in a few words."""
        if not self.deployable:
            return "simulator only"
        return "deployable behind a router" if self.fleet else "deployable"

    @property
    def filled(self) -> Filled:
        """All slots that it fills, those of a replica first."""
        return {**self.slots, **self.fleet}

    def fleet_slot(self, slot: str) -> tuple[str, Any]:
        """Return what fills a slot above the replicas: its own policy, or the usual one."""
        usual = FLEET_DEFAULTS[slot]
        return self.fleet.get(slot) or (usual, SLOTS[slot][usual][0]())

    def routed(self, name: str) -> Recipe:
        """Return the recipe with another router, its parameters at their defaults.

        Raises:
            UserError: For an unknown router.
        """
        route = (name, make_config("route", name, {}, "--route"))
        return replace(self, fleet={**self.fleet, "route": route})

    def build(self, services: Services) -> Policies:
        """Make the policies of one replica.

        Raises:
            UserError: If parameters that are each in range exceed all numbers together.
        """
        try:
            made = {
                slot: SLOTS[slot][name][1](config, services)
                for slot, (name, config) in self.slots.items()
            }
        except OverflowError:
            raise UserError(
                f"recipe {self.name!r}: its parameters are too large together; give smaller ones"
            ) from None
        return Policies(**made)

    def parameters(self) -> dict[str, dict[str, Any]]:
        """Return the resolved policy and parameters of each slot."""
        return {
            slot: {"policy": name, **{f.name: getattr(config, f.name) for f in fields(config)}}
            for slot, (name, config) in self.filled.items()
        }


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes for one engine that come with Sojourn."""
    return _names()[0]


def fleet_recipe_names() -> tuple[str, ...]:
    """Return the names of those that decide about fleets too."""
    return _names()[1]


@cache
def _names() -> tuple[tuple[str, ...], tuple[str, ...]]:
    folder = resources.files("sojourn.recipes")
    names = sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".toml"))
    above = [name for name in names if {*FLEET_SLOTS, ROLES} & _shipped(name).keys()]
    return tuple(name for name in names if name not in above), tuple(above)


def load_recipe(
    name: str, host: str = "vllm", overrides: Iterable[tuple[str, str, str]] = ()
) -> Recipe:
    """Read a recipe by name or path, for a host.

    Args:
        name: Name of a recipe that comes with Sojourn, or path of a TOML file; `NAME@1024x8192`
            gives it 1,024 seats and 8,192 tokens per step in place of the engine's limits.
        host: `vllm` or `ideal`; a recipe may fill a slot differently for a host.
        overrides: (slot, parameter, value as text); those that the recipe does not have are left
            to `parse_overrides` to refuse.

    Raises:
        UserError: For an unknown name, key, policy, parameter or value.
    """
    if host not in HOSTS:
        raise unknown("host", host, HOSTS)
    full = name
    name, at, size = _split(name)
    document, origin = _document(name)
    short = Path(name).stem if name.endswith(".toml") else name
    if "@" in short:
        raise UserError(
            f"recipe file {name!r}: {short!r} cannot be the name of a recipe, since what follows "
            "an @ says its limits; rename the file"
        )
    recipe = _recipe(short, document, host, origin)
    overrides = tuple(overrides)
    recipe = replace(
        recipe,
        slots=overridden(recipe.slots, overrides),
        fleet=overridden(recipe.fleet, overrides),
    )
    if ROLES in recipe.fleet and recipe.fleet[ROLES][1].prefill_recipe:
        recipe = replace(recipe, prefill=_of_prefill(recipe, host, overrides))
    check(recipe.name, recipe.needs - FLEET, host, _runnable(host))
    _check_together(recipe)
    if at:
        seats, tokens = _size(full, size)
        short = f"{short}@{seats}x{tokens}"
        recipe = replace(recipe, name=short, max_num_seqs=seats, max_num_batched_tokens=tokens)
    return recipe


def _of_prefill(recipe: Recipe, host: str, overrides: tuple[tuple[str, str, str], ...]) -> Recipe:
    """Return the recipe of the replicas that compute prompts."""
    found = load_recipe(recipe.fleet[ROLES][1].prefill_recipe, host, overrides)
    if found.fleet:
        raise UserError(
            f"recipe {recipe.name!r}: roles.prefill_recipe is {found.name!r}, which decides about "
            "fleets; name a recipe for one engine"
        )
    return found


def _check_together(recipe: Recipe) -> None:
    """Refuse policies that cannot work side by side."""
    made = {slot: SLOTS[slot][name][1] for slot, (name, _) in recipe.slots.items()}
    contests = made["compose"].contests
    order, victim = recipe.slots["order"][0], recipe.slots["victim"][0]
    ranked = victim in ("lowest_rank", "proactive_swap")
    if contests and not hasattr(made["order"], "standing"):
        raise UserError(
            f"recipe {recipe.name!r}: compose contests seats by rank, for which order {order!r} "
            "has no standing; use skip_join_mlfq, srpt_clairvoyant or longest_clairvoyant"
        )
    if contests != ranked:
        raise UserError(
            f"recipe {recipe.name!r}: victim {victim!r} does "
            f"{'not go' if contests else 'only go'} with a compose that contests seats; use "
            f"{'lowest_rank or proactive_swap' if contests else 'last_in'}"
        )


def _split(name: str) -> tuple[str, str, str]:
    """Return the name or path, the @ if limits follow it, and those; a path may have its own @."""
    if "@" not in name or name.endswith(".toml"):
        return name, "", ""
    return name.rpartition("@")


def _size(name: str, text: str) -> tuple[int, int]:
    """Return the seats and the tokens of `SEATSxTOKENS`."""
    seats, times, tokens = text.partition("x")
    digits = times and len(text) <= 20 and seats.isdecimal() and tokens.isdecimal()
    if not digits or not 0 < int(seats) <= int(tokens) <= COUNT_MAX:
        raise UserError(
            f"recipe {shown(name)} is malformed: after @ write SEATSxTOKENS, at least one seat and "
            f"as many tokens per step as seats, at most {COUNT_MAX}, such as vllm@1024x8192"
        )
    return int(seats), int(tokens)


def _runnable(host: str) -> list[str]:
    found = []
    for name in recipe_names():
        recipe = _recipe(name, _document(name)[0], host, name)
        if not recipe.needs - HOSTS[host] - FLEET - {Need.TRUTH}:
            found.append(name)
    return found


def _document(name: str) -> tuple[dict[str, Any], str]:
    """Return the document of a recipe by name or path, and what to call it in errors."""
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise UserError(f"recipe file {name!r} does not exist")
        return read_toml(name), name
    names = (*recipe_names(), *fleet_recipe_names())
    if name not in names:
        raise unknown("recipe", name, names)
    return _shipped(name), f"recipe {name}"


def _shipped(name: str) -> dict[str, Any]:
    """Return the document of a recipe that comes with Sojourn."""
    file = resources.files("sojourn.recipes") / f"{name}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _table(tables: Mapping[str, Any], key: str, origin: str) -> dict[str, Any]:
    """Return a table of a document; an absent one is empty."""
    found = tables.get(key, {})
    if not isinstance(found, dict):
        raise UserError(f"{origin}: {key} is {shown(found)}; it must be a table, [{key}]")
    return dict(found)


def _recipe(name: str, document: dict[str, Any], host: str, origin: str) -> Recipe:
    hosts = _table(document, "host", origin)
    for other in hosts:
        if other not in HOSTS:
            raise unknown(f"host in {origin}", other, HOSTS)
        _table(hosts, other, origin)
    decision = _table(document, "decision", origin)
    for key in decision:
        if key != "step_seconds":
            raise unknown(f"key decision in {origin}", key, ["step_seconds"])
    tables = {**document, **hosts.get(host, {})}
    for key in ("host", "decision"):
        tables.pop(key, None)
    texts = {key: tables.pop(key, "") for key in TEXTS}
    for key, text in texts.items():
        if not isinstance(text, str):
            raise UserError(f"{origin}: {key} is {shown(text)}; it must be a text")
    texts["kind"] = texts["kind"] or "policy"
    if texts["kind"] not in KINDS:
        raise unknown(f"kind in {origin}", texts["kind"], KINDS)
    for key in tables:
        if key not in (*REPLICA_SLOTS, *FLEET_SLOTS, ROLES):
            known = (*REPLICA_SLOTS, *FLEET_SLOTS, ROLES, *TEXTS, "host", "decision")
            raise unknown(f"key in {origin}", key, known)
    return Recipe(
        name=name,
        title=texts["title"],
        summary=texts["summary"],
        source=texts["source"],
        kind=texts["kind"],
        slots={slot: _slot(tables, slot, DEFAULTS[slot], origin) for slot in REPLICA_SLOTS},
        fleet=fleet_slots(tables, origin),
        decision_seconds=_decision_seconds(decision.get("step_seconds", 0.0), origin),
    )


def fleet_slots(tables: Mapping[str, Any], origin: str) -> Filled:
    """Return what the tables of a document put into the slots above the replicas."""
    filled = {
        slot: _slot(tables, slot, FLEET_DEFAULTS[slot], origin)
        for slot in FLEET_SLOTS
        if slot in tables
    }
    if ROLES in tables:
        filled[ROLES] = ("split", set_fields(ROLES, Roles, _table(tables, ROLES, origin), origin))
    return filled


def _slot(tables: Mapping[str, Any], slot: str, usual: str, origin: str) -> tuple[str, Any]:
    """Return the policy of a slot and its configuration."""
    table = _table(tables, slot, origin)
    policy = table.pop("policy", usual)
    if not isinstance(policy, str):
        raise UserError(f"{origin}: {slot}.policy is {shown(policy)}; it must be a text")
    return policy, make_config(slot, policy, table, origin)


def _decision_seconds(value: Any, origin: str) -> float:
    """Return the time that deciding adds to a step."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= SECONDS_MAX:
        raise UserError(
            f"{origin}: decision.step_seconds is {shown(value)}; it must be a number of seconds, "
            f"0 or more, at most {SECONDS_MAX}"
        )
    return float(value)


def parse_overrides(
    texts: Iterable[str], recipes: Iterable[Recipe]
) -> tuple[tuple[str, str, str], ...]:
    """Split `slot.parameter=value` texts; each parameter must exist in one of the recipes.

    Raises:
        UserError: For a malformed text, an unknown slot or a parameter that no recipe has.
    """
    return parse_parameters(texts, all_filled(recipes))


def all_filled(recipes: Iterable[Recipe]) -> list[tuple[str, Filled]]:
    """Return the slots of recipes, those of their prefill replicas too, each with a name."""
    both = [one for recipe in recipes for one in (recipe, recipe.prefill) if one is not None]
    return [(one.name, one.filled) for one in both]
