"""Our scheduler class, on vLLM's own mechanics, makes the plans of vLLM and of our simulator."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from itertools import chain

import pytest
from plan_families import FAMILIES, cases, odd_cases
from plan_rows import first_difference, simulate

from sojourn.policies.compose.stall_free import StallFree
from sojourn.recipes import load_recipe, recipe_names

pytestmark = [
    pytest.mark.skipif(
        find_spec("vllm") is None,
        reason="vllm is not installed here; its CPU build is enough to compare plans",
    ),
    pytest.mark.filterwarnings("ignore"),  # vLLM's and PyTorch's own, not ours
]

RECIPES = [name for name in recipe_names() if load_recipe(name).deployable]
IN_ORDER = ("vllm", "vtc", "vllm-queue-limit")
"""Recipes whose batch has vLLM's own order; the others' has the same requests in another one."""

EVERY = 211


def some_cases(family, every=EVERY):
    return chain(cases(family, range(2), every), odd_cases(family, range(1)))


def as_sets(rows):
    """Return rows without what says only in which order vLLM's loop came to them."""
    return [
        replace(row, scheduled=sorted(row.scheduled), finished=sorted(row.finished), preempted=[])
        for row in rows
    ]


def plugin_rows(case, recipe):
    stub = import_module("plugin_stub")
    engine = stub.PluginEngine(case, {"recipe": recipe})
    engine.run()
    assert not engine.ours.counters.errors
    assert engine.pool.get_num_free_blocks() == case.limits.num_gpu_blocks, "a block was lost"
    return engine.rows


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "fastserve"])
def test_plugin_equals_simulator(recipe, family):
    for case in some_cases(family):
        theirs = plugin_rows(case, recipe)
        ours, _ = simulate(case.workload, case.limits, case.cost, recipe)
        if recipe not in IN_ORDER:
            ours, theirs = as_sets(ours), as_sets(theirs)
        told = first_difference(ours, theirs)
        assert told is None, f"{recipe}, {case.name}: {told}"


def test_fastserve_differs_only_by_evictions():
    """It admits before it decodes, vLLM decodes before it admits: another block may be evicted."""
    same = differ = 0
    for family in FAMILIES:
        for case in some_cases(family):
            theirs = as_sets(plugin_rows(case, "fastserve"))
            ours = as_sets(simulate(case.workload, case.limits, case.cost, "fastserve")[0])
            equal = first_difference(ours, theirs) is None
            shares = bool(case.workload.prefix) and case.limits.enable_prefix_caching
            assert equal or shares, case.name
            same += equal
            differ += not equal
    assert same > 8 * differ


def test_chunks_that_a_policy_chooses_short_are_what_vllm_computes(monkeypatch):
    """Of a newcomer, and of a prompt that has begun."""

    def in_threes(policy, draft):
        draft.decode()
        for partial in draft.partials():
            draft.grant(partial, min(draft.remaining(partial), draft.tokens, 3))
        while draft.tokens > 0 and draft.seats > 0:
            head = draft.peek()
            if head is None or draft.grant(head, min(draft.remaining(head), draft.tokens, 3)):
                return

    monkeypatch.setattr(StallFree, "compose", in_threes)
    first = later = 0
    for case in some_cases("prefill-heavy", 29):
        for row in plugin_rows(case, "vllm"):
            chunks = [one for one in row.scheduled if one[1] < case.workload.prompt[one[0]]]
            assert all(tokens <= 3 for _, _, tokens in chunks), case.name
            first += sum(begin == 0 for _, begin, _ in chunks)
            later += sum(begin > 0 for _, begin, _ in chunks)
    assert first > 100
    assert later > 1000


@pytest.mark.parametrize("family", FAMILIES)
def test_plugin_equals_asynchronous_vllm(family):
    stub = import_module("plugin_stub")
    for case in some_cases(family, 97):
        stock = stub.stock_async(case)
        ours = stub.LagEngine(case, stub.make_ours(case, {"recipe": "vllm"}))
        ours.run()
        told = first_difference(ours.rows, stock.rows)
        assert told is None, f"{case.name}: {told}"
        assert ours.finish == stock.finish
        assert ours.pool.get_num_free_blocks() == case.limits.num_gpu_blocks
