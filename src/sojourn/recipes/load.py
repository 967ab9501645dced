"""Reading recipes, overriding their parameters, and building their policies for a replica."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from importlib import resources
from math import isfinite
from pathlib import Path
from typing import Any, Final, TypeVar

from sojourn.decide.clock import NEVER, SECOND, to_seconds
from sojourn.decide.machine import Policies
from sojourn.decide.needs import Need
from sojourn.decide.slots import Services
from sojourn.errors import UserError, shown, unknown
from sojourn.files import read_toml
from sojourn.policies.tables import REPLICA_SLOTS, SLOTS
from sojourn.recipes.hosts import HOSTS, VLLM, check

KINDS: Final = ("baseline", "policy", "reference", "control")
DEFAULTS: Final = {
    "admit": "accept_all",
    "order": "fcfs",
    "compose": "stall_free",
    "victim": "last_in",
    "retain": "lru",
}
SECONDS_MIN: Final = to_seconds(1)
SECONDS_MAX: Final = NEVER // 2 // SECOND
"""Times beyond these bounds do not fit the clock."""
COUNT_MAX: Final = 2**31 - 1
NUMBER_MAX: Final = 1e9

Number = TypeVar("Number", int, float)

TEXTS: Final = ("title", "summary", "source", "kind")


@dataclass(frozen=True, slots=True)
class Recipe:
    """One policy for each slot of a replica.

    Attributes:
        name: Name on the command line.
        title: Name of the published system.
        summary: What it does, in a sentence or two.
        source: Where it is published.
        kind: `baseline`, `policy`, `reference` (knows what no engine knows) or `control` (bad on
            purpose).
        slots: Policy name and its configuration, by slot.
        decision_seconds: Time that deciding adds to a step beyond stock's, charged in simulation.
        max_num_seqs, max_num_batched_tokens: Limits of its own, in place of the engine's.
    """

    name: str
    title: str
    summary: str
    source: str
    kind: str
    slots: Mapping[str, tuple[str, Any]]
    decision_seconds: float = 0.0
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None

    @property
    def needs(self) -> frozenset[Need]:
        """What its policies need of a host."""
        return frozenset().union(
            *(SLOTS[slot][name][1].needs for slot, (name, _) in self.slots.items())
        )

    @property
    def deployable(self) -> bool:
        """Whether stock vLLM offers all that it needs."""
        return VLLM.issuperset(self.needs)

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
            for slot, (name, config) in self.slots.items()
        }


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes that come with Sojourn."""
    folder = resources.files("sojourn.recipes")
    names = [item.name[:-5] for item in folder.iterdir() if item.name.endswith(".toml")]
    return tuple(sorted(names))


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
    for slot, parameter, value in overrides:
        recipe = _override(recipe, slot, parameter, value)
    check(recipe.name, recipe.needs, host, _runnable(host))
    _check_together(recipe)
    if at:
        seats, tokens = _size(full, size)
        short = f"{short}@{seats}x{tokens}"
        recipe = replace(recipe, name=short, max_num_seqs=seats, max_num_batched_tokens=tokens)
    return recipe


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
        if not recipe.needs - HOSTS[host] - {Need.TRUTH}:
            found.append(name)
    return found


def _document(name: str) -> tuple[dict[str, Any], str]:
    """Return the document of a recipe by name or path, and what to call it in errors."""
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise UserError(f"recipe file {name!r} does not exist")
        return read_toml(name), name
    if name not in recipe_names():
        raise unknown("recipe", name, recipe_names())
    file = resources.files("sojourn.recipes") / f"{name}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8")), f"recipe {name}"


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
        if key not in REPLICA_SLOTS:
            raise unknown(f"key in {origin}", key, (*REPLICA_SLOTS, *TEXTS, "host", "decision"))
    slots = {}
    for slot in REPLICA_SLOTS:
        table = _table(tables, slot, origin)
        policy = table.pop("policy", DEFAULTS[slot])
        if not isinstance(policy, str):
            raise UserError(f"{origin}: {slot}.policy is {shown(policy)}; it must be a text")
        slots[slot] = (policy, make_config(slot, policy, table, origin))
    return Recipe(
        name=name,
        title=texts["title"],
        summary=texts["summary"],
        source=texts["source"],
        kind=texts["kind"],
        slots=slots,
        decision_seconds=_decision_seconds(decision.get("step_seconds", 0.0), origin),
    )


def _decision_seconds(value: Any, origin: str) -> float:
    """Return the time that deciding adds to a step."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= SECONDS_MAX:
        raise UserError(
            f"{origin}: decision.step_seconds is {shown(value)}; it must be a number of seconds, "
            f"0 or more, at most {SECONDS_MAX}"
        )
    return float(value)


def make_config(slot: str, policy: str, values: Mapping[str, Any], origin: str) -> Any:
    """Return a policy's configuration; unknown policies, keys and types are refused."""
    if policy not in SLOTS[slot]:
        raise unknown(f"{slot} policy in {origin}", policy, SLOTS[slot])
    config = SLOTS[slot][policy][0]
    known = {field.name: field for field in fields(config)}
    checked = {}
    for key, value in values.items():
        if key not in known:
            raise unknown(f"parameter {slot}.{key} in {origin}: name", key, known or ["none"])
        checked[key] = _typed(f"{slot}.{key}", known[key].type, value)
    return config(**checked)


def _override(recipe: Recipe, slot: str, parameter: str, value: str) -> Recipe:
    policy, config = recipe.slots[slot]
    names = {field.name: field for field in fields(config)}
    if parameter not in names:
        return recipe
    changed = replace(
        config, **{parameter: _typed(f"{slot}.{parameter}", names[parameter].type, value)}
    )
    return replace(recipe, slots={**recipe.slots, slot: (policy, changed)})


def parse_overrides(
    texts: Iterable[str], recipes: Iterable[Recipe]
) -> tuple[tuple[str, str, str], ...]:
    """Split `slot.parameter=value` texts; each parameter must exist in one of the recipes.

    Raises:
        UserError: For a malformed text, an unknown slot or a parameter that no recipe has.
    """
    parsed = []
    recipes = tuple(recipes)
    for text in texts:
        key, equals, value = text.partition("=")
        slot, dot, parameter = key.partition(".")
        if not equals or not dot or not parameter:
            raise UserError(
                f"--param {text!r} is malformed: write slot.parameter=value, "
                "such as order.quantum_base_seconds=0.02"
            )
        if slot not in REPLICA_SLOTS:
            raise unknown("slot in --param", slot, REPLICA_SLOTS)
        names = {f.name for recipe in recipes for f in fields(recipe.slots[slot][1])}
        if parameter not in names:
            which = ", ".join(recipe.name for recipe in recipes)
            raise unknown(f"{slot} parameter of {which}", parameter, names or ["none"])
        parsed.append((slot, parameter, value))
    return tuple(parsed)


def _typed(key: str, annotation: Any, value: Any) -> Any:
    """Return a value as the annotated simple type, or refuse it."""
    kind = str(annotation)
    try:
        if kind == "bool":
            if isinstance(value, bool):
                return value
            return {"true": True, "false": False}[str(value).lower()]
        if isinstance(value, bool):
            raise ValueError
        if kind == "int":
            if isinstance(value, float):
                raise ValueError
            return _within(key, int(value), COUNT_MAX)
        if kind == "float":
            number = float(value)
            if not isfinite(number):
                raise ValueError
            return _within(key, number, SECONDS_MAX if key.endswith("_seconds") else NUMBER_MAX)
        return str(value)
    except (ValueError, KeyError, TypeError, OverflowError):
        allowed = {"bool": "true or false", "int": "a whole number", "float": "a number"}
        raise UserError(
            f"{key} is {shown(value)}; it must be {allowed.get(kind, 'a text')}"
        ) from None


def _within(key: str, number: Number, most: float) -> Number:
    """Return a number that the clock and the counters hold, or refuse it."""
    if abs(number) > most:
        raise UserError(f"{key} is {number:g}; it must be at most {most:g}")
    if key.endswith("_seconds") and 0 < number < SECONDS_MIN:
        raise UserError(
            f"{key} is {number:g}; it must be at least {SECONDS_MIN:g}, the clock's resolution"
        )
    return number
