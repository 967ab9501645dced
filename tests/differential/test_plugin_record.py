"""The step log of our scheduler class says of a run what the simulator's own record says."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
from plan_families import make_case
from plan_rows import Recorder  # noqa: F401 - the module must import without vllm

from sojourn.recipes import load_recipe, recipe_names
from sojourn.sim.loop import Setup, Simulation
from sojourn.steplog.read import read_steplog

pytestmark = [
    pytest.mark.skipif(
        find_spec("vllm") is None,
        reason="vllm is not installed here; its CPU build is enough to drive its scheduler",
    ),
    pytest.mark.filterwarnings("ignore"),  # vLLM's and PyTorch's own, not ours
]

FAMILIES = ("prefill-heavy", "decode-heavy", "mixed", "preempting", "chains", "bursts")
RECIPES = [name for name in recipe_names() if load_recipe(name).deployable]
REQUESTS = (
    *("arrival", "admitted", "first_token", "finish", "prompt_tokens", "output_tokens"),
    *("outcome", "gap", "preemptions", "cached_tokens"),
)
STEPS = ("prefill_tokens", "prompts", "decodes", "pairs", "prior")


def simulated(case, recipe):
    setup = Setup(
        recipe=load_recipe(recipe),
        limits=case.limits,
        step_time=case.cost,
        max_horizon=1,
    )
    return Simulation(case.workload, setup).run()


def recorded(case, recipe, folder):
    stub = import_module("plugin_stub")
    engine = stub.PluginEngine(case, {"recipe": recipe, "step_log": str(folder)})
    sent = {row: start for start, row in case.workload.starts(1.0)}
    engine.ours.callers.sent = lambda request, _: sent[int(request.request_id)]
    engine.run()
    engine.ours.recording.log.close()
    return read_steplog(folder)


def by_step(steps):
    """Return rows of single steps: runs of equal ones, told apart by how much context they read."""
    return [
        (
            *(int(getattr(steps, name)[row]) for name in STEPS),
            int(steps.context[row]) + one * int(steps.decodes[row]),
        )
        for row in range(len(steps.start))
        for one in range(int(steps.steps[row]))
    ]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("recipe", RECIPES)
def test_log_equals_simulators_record(recipe, family, tmp_path):
    if recipe == "fastserve" and family == "chains":
        pytest.skip("evicts other blocks than the simulator: see test_plugin_plans")
    case = make_case(family, 1, (16, 8, 64), "tight", True)
    theirs = simulated(case, recipe)
    ours = recorded(case, recipe, tmp_path)
    order = np.argsort(ours.requests.arrival, kind="stable")
    place = np.argsort(theirs.requests.arrival, kind="stable")
    for name in REQUESTS:
        mine = getattr(ours.requests, name)[order].tolist()
        other = getattr(theirs.requests, name)[place].tolist()
        assert mine == other, name
    assert by_step(ours.steps) == by_step(theirs.steps)
    assert int(ours.steps.duration.sum()) == int(theirs.steps.duration.sum())
    assert ours.kv_blocks == case.limits.num_gpu_blocks
