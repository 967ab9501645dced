from __future__ import annotations

import pytest

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.limits import EngineLimits
from sojourn.recipes import load_recipe
from sojourn.sim.study import Fleet, Task, run_task
from sojourn.sim.workload import make_workload
from sojourn.trace import read_trace


@pytest.fixture(scope="session")
def sample_record():
    """Return the traced record of a short run on two replicas."""
    workload = make_workload(read_trace("sample", limit=80), (), 3)
    cost = Fitted(Coefficients(fixed=0.01, prefill_token=2e-5, context_token=1e-8))
    limits = EngineLimits(num_gpu_blocks=500, max_num_seqs=4, max_model_len=8000)
    fleet = Fleet(limits, cost, replicas=2)
    return run_task(workload, fleet, Task(load_recipe("vllm"), 50.0, 0.9), trace_states=True)
