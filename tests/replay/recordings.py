"""Step logs of simulated runs of many kinds, as a real engine's would be read."""

from __future__ import annotations

from pathlib import Path

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.limits import EngineLimits
from sojourn.recipes import Recipe, load_recipe
from sojourn.sim.replay import make_replay
from sojourn.sim.study import Fleet, Task, run_task
from sojourn.sim.workload import Workload, make_workload
from sojourn.steplog.record import RunRecord, SloClass
from sojourn.steplog.write import Source, write_steplog
from sojourn.trace import GenerateSpec, SessionSpec, TenantSpec, generate_trace, read_trace
from sojourn.trace.lengths import Constant

COST = Coefficients(
    fixed=6e-3, prefill_token=5e-5, pair=2e-9, decode=2e-4, context_token=1e-7, prior_token=1e-7
)
CLASSES = (SloClass("chat", 0.6, 2.0, 0.05), SloClass("batch", 0.4, None, None, 60.0))
SESSIONS = GenerateSpec(
    tenants=(
        TenantSpec("a", 3.0, prompt=Constant(300), output=Constant(60), sessions=SessionSpec()),
        TenantSpec("b", 6.0, prompt=Constant(500), output=Constant(40)),
    ),
    requests=250,
    name="sessions",
)


def sample(requests: int = 300) -> Workload:
    """Return a stretch of the bundled trace with two classes."""
    return make_workload(read_trace("sample", limit=requests), CLASSES, 1)


def sessions(*, open_loop: bool) -> Workload:
    """Return conversations that share prefixes, beside single requests.

    In an open loop their turns are sent when a run of the closed loop sent them.
    """
    workload = make_workload(generate_trace(SESSIONS), CLASSES, 1)
    if not open_loop:
        return workload
    return make_replay(recorded(workload)[0], "sessions", CLASSES).workload


def recorded(
    workload: Workload,
    recipe: str | Recipe = "vllm",
    rate: float = 2.0,
    *,
    blocks: int = 800,
    seats: int = 16,
    replicas: int = 1,
) -> tuple[RunRecord, Source]:
    """Return the record of a run on an engine of few seats and little memory."""
    limits = EngineLimits(
        num_gpu_blocks=blocks,
        max_num_seqs=seats,
        max_num_batched_tokens=512,
        max_model_len=8192,
        block_tokens=workload.block_tokens,
    )
    fleet = Fleet(limits, Fitted(COST), replicas, "least_load")
    chosen = load_recipe(recipe) if isinstance(recipe, str) else recipe
    about = {
        "num_gpu_blocks": blocks + 1,
        "block_size": 16,
        "max_num_seqs": seats,
        "max_num_batched_tokens": 512,
        "max_model_len": 8192,
        "enable_prefix_caching": True,
        "tensor_parallel_size": 1,
        "replicas": replicas,
        "route": "least_load",
    }
    source = Source(workload.name, "tiny", "cpu", 0, about)
    return run_task(workload, fleet, Task(chosen, rate)), source


def saved(folder: Path, record: RunRecord, source: Source) -> tuple[Path, Path]:
    """Return the files of a step log and of its engine's coefficients."""
    log, cost = folder / "steps.parquet", folder / "engine.toml"
    write_steplog(log, record, source)
    cost.write_text(COST.to_toml(), encoding="utf-8")
    return log, cost
