"""The file that says which policies a trainer lets decide, and a curriculum made from it.

The tables `plan`, `beliefs`, `select`, `allocate`, `subsample` and `advantage` hold the parameters
by name; the last four have `policy = "NAME"` beside them. `run` is the name of the run. Whatever
is left out has its default; the default policies do what a stock trainer does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sojourn.errors import UserError, shown, unknown
from sojourn.files import read_toml
from sojourn.policies.tables import SLOTS
from sojourn.recipes.parameters import make_config, set_fields
from sojourn.rollout.beliefs import BeliefRules
from sojourn.rollout.model import Prompt
from sojourn.rollout.plan import Plan
from sojourn.rollout.slots import Setting
from sojourn.rollout.streams import Stream
from sojourn.trainers.curriculum import Chosen, Curriculum

USUAL: Final = {
    "select": "uniform",
    "allocate": "fixed",
    "subsample": "whole_group",
    "advantage": "grpo",
}
"""The policy of each slot that a trainer may fill, where the file says nothing."""

IN_ROUNDS: Final = ("cures", "dars", "gvm", "xrpo_inspired")
"""Allocations whose first round is only a probe."""

TABLES: Final = ("plan", "beliefs", *USUAL)


def load(path: str | Path, prompts: Sequence[Prompt], rounds: bool = False) -> Curriculum:
    """Return the curriculum that a settings file describes.

    Args:
        path: The TOML file.
        prompts: The data set; the index of each is its id.
        rounds: Whether the trainer can add rollouts to a group that it has begun.

    Raises:
        UserError: If the file cannot be read or says something that is not allowed.
    """
    return make(read_toml(path), prompts, str(path), rounds)


def make(
    document: Mapping[str, Any], prompts: Sequence[Prompt], origin: str, rounds: bool = False
) -> Curriculum:
    """Return the curriculum that a document describes; `origin` names it in messages."""
    try:
        return _made(document, prompts, origin, rounds)
    except UserError as error:
        # What a plan or a policy refuses does not know which file it is from.
        text = str(error)
        raise UserError(text if origin in text else f"{origin}: {text}") from None


def _made(
    document: Mapping[str, Any], prompts: Sequence[Prompt], origin: str, rounds: bool
) -> Curriculum:
    """Return the curriculum that a document describes."""
    for key in document:
        if key not in (*TABLES, "run"):
            raise unknown(f"key in {origin}", key, (*TABLES, "run"))
    plan: Plan = set_fields("plan", Plan, _table(document, "plan", origin), origin)
    rules: BeliefRules = set_fields(
        "beliefs", BeliefRules, _table(document, "beliefs", origin), origin
    )
    if not rounds:
        plan = replace(plan, rounds_max=1)
    if len(prompts) < plan.batch_groups:
        raise UserError(
            f"the data set has {len(prompts)} prompts; a batch of {plan.batch_groups} different "
            f"ones (plan.batch_groups in {origin}) needs more"
        )
    made = {slot: _policy(document, slot, origin, plan, prompts) for slot in USUAL}
    run_name = document.get("run", "run")
    if not isinstance(run_name, str):
        raise UserError(f"run in {origin} is {shown(run_name)}; it must be a text")
    return Curriculum(plan, prompts, Chosen(**made), rules, run_name)


def _policy(
    document: Mapping[str, Any], slot: str, origin: str, plan: Plan, prompts: Sequence[Prompt]
) -> Any:
    """Return the policy of a slot, with a random stream of its own."""
    values = _table(document, slot, origin)
    name = values.pop("policy", USUAL[slot])
    if not isinstance(name, str):
        raise UserError(f"{slot}.policy in {origin} is {shown(name)}; it must be a text")
    config = make_config(slot, name, values, origin)
    if plan.rounds_max == 1 and (name in IN_ROUNDS or getattr(config, "probes", 0) > 0):
        raise UserError(
            f"{slot}.policy in {origin} is {name!r} and decides in rounds, but this trainer gives "
            f"a group all its rollouts at once: use fixed, or rollout_gdro_inspired without probes"
        )
    _, kind = SLOTS[slot][name]
    return kind(config, Setting(plan, prompts, Stream(plan.seed, f"{slot}/{name}")))


def _table(document: Mapping[str, Any], key: str, origin: str) -> dict[str, Any]:
    table = document.get(key, {})
    if not isinstance(table, dict):
        raise UserError(f"{key} in {origin} is {shown(table)}; it must be a table: [{key}]")
    return dict(table)
