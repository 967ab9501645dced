"""What `sojourn rollout scenario` prints names every key that a scenario may have."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from sojourn.errors import UserError
from sojourn.policies.tables import ROLLOUT_SLOTS
from sojourn.rollout.beliefs import BeliefRules
from sojourn.rollout.plan import Plan
from sojourn.sim.rollout.engine_table import EngineTable
from sojourn.sim.rollout.example import EXAMPLE
from sojourn.sim.rollout.lengths import LengthPlan
from sojourn.sim.rollout.scenario import KEYS, TABLES, scenario_of
from sojourn.sim.rollout.tables import PUBLIC
from sojourn.sim.rollout.truth import PromptPlan, TruthPlan
from sojourn.sim.rollout.world import Loss, RewardPlan, ToolPlan, TrainerPlan

KINDS = {
    "prompts": PromptPlan,
    "truth": TruthPlan,
    "lengths": LengthPlan,
    "plan": Plan,
    "beliefs": BeliefRules,
    "engines": EngineTable,
    "losses": Loss,
    "rewards": RewardPlan,
    "tools": ToolPlan,
    "trainer": TrainerPlan,
}
NOT_GIVEN = {("plan", "seed")}
"""Refused: `seeds` says it."""


def listed():
    """Return the keys of each table of the listing, commented out or not; "" is the top."""
    found, name = {"": []}, ""
    for line in EXAMPLE.splitlines():
        if table := re.match(r"(?:# )?\[\[?(\w+)\]\]?", line):
            name = table[1]
            found[name] = []
        elif key := re.match(r"(?:# )?(\w+) = ", line):
            found[name].append(key[1])
    return found


def accepted(table):
    names = [name for one in fields(KINDS[table]) for name in PUBLIC.get(one.name, (one.name,))]
    return {name for name in names if (table, name) not in NOT_GIVEN}


def refusal(document):
    """Return why a scenario is refused; empty if it is not."""
    try:
        scenario_of(document, "example", Path())
    except UserError as error:
        return str(error)
    return ""


def test_the_tables_here_are_all_that_a_scenario_has():
    assert {*KINDS, "candidates"} == set(TABLES)
    assert set(listed()) == {"", *KINDS}


@pytest.mark.parametrize("table", KINDS)
def test_every_key_of_a_table_is_listed_once(table):
    names = listed()[table]
    assert set(names) == accepted(table)
    assert len(set(names)) == len(names)


def test_every_key_outside_of_tables_is_listed():
    assert set(listed()[""]) == set(KEYS) - set(KINDS)


def test_every_key_has_a_few_words():
    for line in EXAMPLE.splitlines():
        if re.match(r"(?:# )?\w+ = (?!\[)", line):
            assert re.search(r"  ?# \S+", line.removeprefix("# ")), line
            assert len(line) <= 100


def test_every_key_of_a_candidate_is_named():
    comment = EXAMPLE[EXAMPLE.index("# Candidates: ") : EXAMPLE.index("candidates = [")]
    for key in ("name", "preset", "plan", *ROLLOUT_SLOTS):
        assert re.search(rf"\b{key}\b", comment), key


@pytest.mark.parametrize("table", KINDS)
def test_what_is_commented_out_is_accepted_under_that_name(table):
    """A commented line may be refused for its value, or for what it excludes, never for its key."""
    part = re.split(rf"^(?:# )?\[\[?{table}\]\]?.*$", EXAMPLE, flags=re.MULTILINE)[1]
    part = re.split(r"^(?:# )?\[", part, flags=re.MULTILINE)[0]
    for line in re.findall(r"^# (\w+ = .*)$", part, re.MULTILINE):
        given = tomllib.loads(line)
        document = {table: [given] if table == "losses" else given}
        assert "unknown key" not in refusal(document), line


def test_every_default_is_the_one_that_holds():
    said = tomllib.loads(EXAMPLE)
    other = {("prompts", "domains")}
    for table, kind in KINDS.items():
        usual = {one.name: one.default for one in fields(kind)}
        for key, value in said.get(table, {}).items():
            assert (table, key) in other or usual[key] == value, (table, key)
