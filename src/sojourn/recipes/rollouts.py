"""Presets of rollout policies: one for each slot of a training run, and the plan that they need.

A candidate of a scenario is a preset, or a table that names one and changes some of it:

    [[candidates]]
    name = "april, 1.25"
    preset = "april"
    control = { policy = "april", ratio = 1.25 }
    plan = { staleness_versions = 4 }

A slot is a policy's name, or a table with its name and parameters; `control` may be a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from sojourn.errors import UserError, shown, unknown
from sojourn.policies.tables import ROLLOUT_SLOTS, SLOTS
from sojourn.recipes.parameters import make_config
from sojourn.rollout.model import Prompt
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.plan import Plan
from sojourn.rollout.slots import Policies, Setting
from sojourn.rollout.streams import Stream

Named = tuple[str, Any]
"""A policy's name and its configuration."""

CONTROL: Final = "control"
RESERVED: Final = ("(oracle)", "(uniform)")
"""How tables name the bounds on selection."""
DEFAULTS: Final[Mapping[str, Any]] = {
    "select": "uniform",
    "allocate": "fixed",
    "control": ["synchronous"],
    "dispatch": "least_in_flight",
    "replay": "no_replay",
    "subsample": "whole_group",
    "advantage": "grpo",
}
PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "sync": {},
    "april": {
        "control": [{"policy": "april", "ratio": 2.0}],
        "plan": {"staleness_versions": 4},
    },
    "april-1.25": {
        "control": [{"policy": "april", "ratio": 1.25}],
        "plan": {"staleness_versions": 4},
    },
    "async": {
        "control": ["asynchronous"],
        "plan": {"staleness_versions": 1},
    },
    "windowed": {
        "control": ["windowed"],
        "plan": {"staleness_versions": 8},
    },
    "dapo": {"select": "dapo_filter"},
    "mopps": {"select": "mopps"},
    "dots": {"select": "dots", "replay": "dots"},
}
"""What each changes of `DEFAULTS`, by slot, and of the plan."""

SUMMARIES: Final[Mapping[str, str]] = {
    "sync": "every rollout of a batch to its end, then the update",
    "april": "twice the groups; the rest is stopped, kept and resumed (APRIL, as in slime)",
    "april-1.25": "the same with a quarter more groups",
    "async": "generation goes on while training does, one version ahead at most (AReaL)",
    "windowed": "a window of tokens for each step; unfinished rollouts go on in the next (T-PPO)",
    "dapo": "groups without signal are dropped and replaced (DAPO)",
    "mopps": "prompts by Thompson sampling near a success rate of one half (MoPPS)",
    "dots": "prompts by predicted difficulty, half of the batch replayed (DOTS)",
}


@dataclass(frozen=True, slots=True)
class RolloutRecipe:
    """One policy for each slot of a training run.

    Attributes:
        name: What to call it.
        slots: Policy and configuration by slot, but for `control`.
        controls: Those of the control slot, in order.
        plan: What it changes of the scenario's plan.
    """

    name: str
    slots: Mapping[str, Named]
    controls: tuple[Named, ...]
    plan: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs(self) -> frozenset[RolloutNeed]:
        """What its policies need of engines, environment and trainer."""
        found: frozenset[RolloutNeed] = frozenset()
        for slot, name, _ in self._named():
            found |= SLOTS[slot][name][1].needs
        return found

    def _named(self) -> list[tuple[str, str, Any]]:
        alone = [(slot, *self.slots[slot]) for slot in ROLLOUT_SLOTS if slot != CONTROL]
        return [*alone, *((CONTROL, name, config) for name, config in self.controls)]

    def plan_of(self, plan: Plan, origin: str) -> Plan:
        """Return a plan with what the recipe changes of it.

        Raises:
            UserError: For unknown keys and values out of range.
        """
        kinds = {one.name: str(one.type) for one in fields(Plan) if one.name != "seed"}
        where = f"candidate {self.name!r} in {origin}"
        for key, value in self.plan.items():
            if key not in kinds:
                raise unknown(f"key in the plan of {where}: name", key, kinds)
            wanted = {"int": (int,), "float": (int, float)}.get(kinds[key], (str,))
            if isinstance(value, bool) or not isinstance(value, wanted):
                what = {"int": "a whole number", "float": "a number"}.get(kinds[key], "a text")
                raise UserError(f"{where}: plan.{key} is {shown(value)}; it must be {what}")
        try:
            return replace(plan, **self.plan)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None

    def build(self, plan: Plan, prompts: Sequence[Prompt], seed: int) -> Policies:
        """Make the policies of a run, each with a random stream of its own."""

        def made(slot: str, at: int, name: str, config: Any) -> Any:
            stream = Stream(seed, f"{slot}/{at}" if at else slot)
            return SLOTS[slot][name][1](config, Setting(plan, prompts, stream))

        alone = {slot: made(slot, 0, *named) for slot, named in self.slots.items()}
        controls = tuple(made(CONTROL, at, *named) for at, named in enumerate(self.controls))
        return Policies(controls=controls, **alone)

    def parameters(self) -> dict[str, Any]:
        """Return the resolved policy and parameters of each slot, and the changes of the plan."""

        def plain(name: str, config: Any) -> dict[str, Any]:
            return {
                "policy": name,
                **{one.name: getattr(config, one.name) for one in fields(config)},
            }

        found: dict[str, Any] = {slot: plain(*named) for slot, named in self.slots.items()}
        found[CONTROL] = [plain(*named) for named in self.controls]
        found["plan"] = dict(self.plan)
        return found


def rollout_recipe(values: Mapping[str, Any], origin: str) -> RolloutRecipe:
    """Return the recipe that a table of a scenario describes.

    Args:
        values: `name`, `preset`, slots and `plan`; whatever is absent is the preset's.
        origin: What to call the scenario in errors.

    Raises:
        UserError: For unknown presets, slots, policies, parameters and values.
    """
    allowed = ("name", "preset", "plan", *ROLLOUT_SLOTS)
    for key in values:
        if key not in allowed:
            raise unknown(f"key of a candidate in {origin}: name", str(key), allowed)
    preset = values.get("preset", "sync")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise unknown(f"preset in {origin}: name", str(preset), PRESETS)
    name = _text(values, "name", preset, origin)
    if name in RESERVED:
        raise UserError(
            f"{origin}: a candidate is called {name!r}, as the bounds on selection are; give it "
            "another name"
        )
    plan = {**PRESETS[preset].get("plan", {}), **_table(values, "plan", name, origin)}
    chosen = {**DEFAULTS, **PRESETS[preset], **values}
    slots = {
        slot: _named(slot, chosen[slot], name, origin) for slot in ROLLOUT_SLOTS if slot != CONTROL
    }
    listed = chosen[CONTROL]
    several = listed if isinstance(listed, list) else [listed]
    if not several:
        raise UserError(f"{origin}: candidate {name!r} has no control; give at least one")
    controls = tuple(_named(CONTROL, one, name, origin) for one in several)
    return RolloutRecipe(name, slots, controls, plan)


def _text(values: Mapping[str, Any], key: str, usual: str, origin: str) -> str:
    found = values.get(key, usual)
    if not isinstance(found, str) or not found.strip() or not found.isprintable():
        raise UserError(
            f"{origin}: {key} of a candidate is {shown(found)}; it must be a text that is not empty"
        )
    return found


def _table(values: Mapping[str, Any], key: str, name: str, origin: str) -> Mapping[str, Any]:
    found = values.get(key, {})
    if not isinstance(found, dict):
        raise UserError(f"{origin}: {key} of candidate {name!r} is {shown(found)}; give a table")
    return found


def _named(slot: str, value: Any, name: str, origin: str) -> Named:
    """Return a policy and its configuration: a name, or a table with `policy` and parameters."""
    where = f"candidate {name!r} in {origin}"
    given = {"policy": value} if isinstance(value, str) else value
    if not isinstance(given, dict) or not isinstance(given.get("policy"), str):
        raise UserError(
            f"{slot} of {where} is {shown(value)}; it must be a policy's name, or a table such as "
            f'{{ policy = "{next(iter(SLOTS[slot]))}" }}'
        )
    parameters = {key: one for key, one in given.items() if key != "policy"}
    try:
        return given["policy"], make_config(slot, given["policy"], parameters, where)
    except UserError as error:
        text = str(error)
        raise UserError(text if where in text else f"{where}: {text}") from None
