"""Hypothesis strategies for small hostile workloads, and a way to run them."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.clock import SECOND
from sojourn.decide.limits import HORIZON_STEPS, EngineLimits
from sojourn.fleet.design import Design, Group
from sojourn.policies.tables import SLOTS
from sojourn.recipes import load_recipe
from sojourn.sim.check import Invariants
from sojourn.sim.fleet.loop import FleetSimulation
from sojourn.sim.loop import Setup, Simulation
from sojourn.sim.workload import Workload
from sojourn.steplog.record import RunRecord, SloClass

COST = Fitted(
    Coefficients(
        fixed=0.004,
        prefill_token=2.3e-5,
        pair=1.1e-9,
        prior_token=3e-8,
        decode=3.1e-5,
        context_token=4.1e-8,
    )
)

WHOLE = Fitted(Coefficients(fixed=0.001))
"""Every step takes a millisecond, so that the replicas' steps and the arrivals fall together."""
MILLISECOND = SECOND // 1000


@dataclass
class Case:
    workload: Workload
    limits: EngineLimits
    replicas: int = 1
    router: str = "rr"


def make(rows, *, tenants=3, classes=None, block_tokens=0, prefix=(), following=None, gap=None):
    """Build a workload from (arrival seconds, prompt, output, tenant) rows."""
    count = len(rows)
    classes = classes or (SloClass("a", 0.5, 0.3, 0.05), SloClass("b", 0.5, None, None, 5.0))
    arrival = [round(r[0] * SECOND) for r in rows]
    following = following or [-1] * count
    for row in following:
        if row >= 0:
            arrival[row] = -1
    own = [a for a in arrival if a >= 0]
    program = [-1] * count
    for row in range(count):
        if following[row] >= 0:
            program[row] = program[row] if program[row] >= 0 else row
            program[following[row]] = program[row]
    return Workload(
        name="case",
        arrival=arrival,
        prompt=[r[1] for r in rows],
        output=[r[2] for r in rows],
        tenant=[r[3] for r in rows],
        slo_class=[i % len(classes) for i in range(count)],
        program=program,
        turn=[0] * count,
        gap=gap or [0] * count,
        following=following,
        prefix=list(prefix),
        tenants=tuple(f"t{i}" for i in range(tenants)),
        classes=tuple(classes),
        block_tokens=block_tokens,
        span=max(own) - min(own),
    )


@st.composite
def cases(draw, prefixes=True, sessions=True):
    """Draw a workload and limits, tight more often than not; every limit varies."""
    count = draw(st.integers(1, 28))
    pace = draw(st.sampled_from([0.0, 0.002, 0.02, 0.2]))
    block_size = draw(st.sampled_from([1, 3, 4, 16]))
    longest = draw(st.sampled_from([8, 40, 120]))
    rows = []
    time = 0.0
    for _ in range(count):
        time += draw(st.floats(0, 2)) * pace
        prompt = draw(st.integers(1, longest))
        rows.append((time, prompt, draw(st.integers(1, longest)), draw(st.integers(0, 2))))
    blocks = draw(st.integers(-(-2 * longest // block_size), -(-8 * longest // block_size)))
    seats = draw(st.sampled_from([1, 2, 3, 5, 8, 32]))
    block_tokens = 0
    prefix: list[tuple[int, ...]] = []
    if prefixes and draw(st.booleans()):
        block_tokens = max(1, draw(st.sampled_from([block_size, 2 * block_size, block_size + 1])))
        families = draw(st.integers(1, 4))
        for row in rows:
            family = draw(st.integers(0, families - 1))
            shared = draw(st.integers(0, 6))
            full = row[1] // block_tokens
            own = 1000 * (len(prefix) + 1)
            prefix.append(tuple(family * 100 + i if i < shared else own + i for i in range(full)))
    following = [-1] * count
    gap = [0] * count
    if sessions and draw(st.booleans()):
        for row in range(count - 1):
            if draw(st.booleans()):
                following[row] = row + 1
                gap[row + 1] = round(draw(st.floats(0, 0.5)) * SECOND)
    limits = EngineLimits(
        num_gpu_blocks=blocks,
        block_size=block_size,
        max_num_seqs=seats,
        max_num_batched_tokens=max(seats, draw(st.sampled_from([1, 7, 32, 64, 2048]))),
        max_model_len=blocks * block_size,
        enable_prefix_caching=draw(st.booleans()) or block_tokens > 0,
        swap_blocks=draw(st.sampled_from([0, 10, 1000])),
        block_tokens=block_tokens,
    )
    workload = make(rows, block_tokens=block_tokens, prefix=prefix, following=following, gap=gap)
    return Case(
        workload, limits, draw(st.sampled_from([1, 1, 1, 3])), draw(st.sampled_from(["rr", "ll"]))
    )


@st.composite
def ties(draw):
    """Draw sessions on several replicas in which everything happens at whole milliseconds."""
    count = draw(st.integers(2, 16))
    rows = []
    for _ in range(count):
        lengths = draw(st.integers(1, 12)), draw(st.integers(1, 12))
        rows.append((draw(st.integers(0, 8)) / 1000, *lengths, draw(st.integers(0, 2))))
    rows.sort()
    following = [-1] * count
    gap = [0] * count
    for row in range(count - 1):
        if draw(st.booleans()):
            following[row] = row + 1
            gap[row + 1] = draw(st.sampled_from([0, 0, 1, 3])) * MILLISECOND
    limits = EngineLimits(
        num_gpu_blocks=draw(st.sampled_from([8, 12, 100])),
        block_size=4,
        max_num_seqs=draw(st.sampled_from([1, 2, 8])),
        max_num_batched_tokens=draw(st.sampled_from([8, 64])),
        max_model_len=32,
    )
    workload = make(rows, following=following, gap=gap)
    return Case(workload, limits, draw(st.integers(2, 3)), draw(st.sampled_from(["rr", "ll"])))


ROUTERS = {"rr": "round_robin", "ll": "least_load"}


def policy(slot, name, **parameters):
    """Return the name and the configuration of a fleet policy."""
    return name, SLOTS[slot][name][0](**parameters)


def like(setup, replicas, router="round_robin", **more):
    """Return a fleet of replicas that are each like a setup."""
    group = Group(
        name="replica",
        count=replicas,
        recipe=setup.recipe,
        limits=setup.limits,
        step_time=setup.step_time,
        swap_block_seconds=setup.swap_block_seconds,
    )
    given = {
        "route": policy("route", router),
        "place": policy("place", "least_loaded"),
        "scale": policy("scale", "fixed"),
        **more,
    }
    return Design("like", (group,), **given)


@st.composite
def copies(draw):
    """Draw a cache with an idle and a leased copy of one id, and prompts that begin with it.

    A prompt that ends where its id does computes the id again: its last token is never looked up.
    Most of the other blocks are cached too, so that the idle copy is evicted before long.
    """
    block_size = draw(st.sampled_from([1, 1, 2, 3]))
    block_tokens = draw(st.integers(1, 6)) * block_size + draw(st.sampled_from([0, 0, 1]))
    id_blocks = -(-block_tokens // block_size)
    rest, bare = draw(st.integers(1, 12)), draw(st.integers(0, 4))
    blocks = 2 * id_blocks + rest + bare
    rows = [(0.0, block_tokens, 1, 0), (0.001, block_tokens, draw(st.integers(1, 20)), 0)]
    rows.append((0.001, rest * block_size, 1, 0))
    prefix = [(7,), (7,), ()]
    for row in range(draw(st.integers(1, 4))):
        less = draw(st.integers(0, 3 * id_blocks)) if row == 0 else draw(st.integers(0, blocks))
        prompt = max(1, (blocks - less) * block_size - draw(st.integers(0, 1)))
        rows.append((0.002 + row * 0.001, prompt, draw(st.sampled_from([1, 1, 4])), 0))
        own = range(100 * (row + 1), 100 * (row + 1) + prompt)
        prefix.append((7, *own)[: prompt // block_tokens])
    limits = EngineLimits(
        num_gpu_blocks=blocks,
        block_size=block_size,
        max_num_seqs=8,
        max_model_len=blocks * block_size,
        block_tokens=block_tokens,
    )
    return Case(make(rows, block_tokens=block_tokens, prefix=prefix), limits)


def run(
    case,
    recipe="vllm",
    *,
    host="vllm",
    max_horizon=HORIZON_STEPS,
    check=True,
    trace=True,
    cost=COST,
    overrides=(),
) -> RunRecord:
    """Run a case with invariants asserted after every step."""
    checks = {}

    def every_step(replica):
        checks.setdefault(replica.index, Invariants())(replica)

    loaded = recipe if not isinstance(recipe, str) else load_recipe(recipe, host, overrides)
    setup = Setup(
        recipe=loaded,
        limits=case.limits,
        step_time=cost,
        swap_block_seconds=0.0005,
        trace_states=trace,
        max_horizon=max_horizon,
        check=every_step if check else None,
    )
    if case.replicas == 1:
        simulation = Simulation(case.workload, setup)
    else:
        simulation = FleetSimulation(
            case.workload,
            like(setup, case.replicas, ROUTERS[case.router]),
            max_horizon=max_horizon,
            trace_states=trace,
            check=setup.check,
        )
    record = simulation.run()
    for replica in simulation.replicas:
        pool = replica.pool
        assert pool.free == pool.total or replica.machine.held, "blocks left over at the end"
        assert not replica.machine.seated
        assert not len(replica.machine.queue)
    return record
