"""Small fleets, a way to run them, and what must hold after every step and at the end."""

from __future__ import annotations

from sojourn.decide.limits import EngineLimits
from sojourn.decide.request import Request
from sojourn.fleet.design import Design, Group
from sojourn.policies.tables import SLOTS
from sojourn.recipes import load_recipe
from sojourn.sim.check import Invariants
from sojourn.sim.fleet.loop import FleetSimulation
from sojourn.steplog.fleet import NO_REPLICA
from sojourn.steplog.record import FINISHED, SHED
from tests.sim.sim_workloads import COST

LIMITS = EngineLimits(
    num_gpu_blocks=200, max_num_seqs=8, max_num_batched_tokens=256, max_model_len=2000
)


def policy(slot, name, **parameters):
    """Return the name and the configuration of a fleet policy."""
    return name, SLOTS[slot][name][0](**parameters)


def group(name="replica", count=2, *, recipe="vllm", host="vllm", **more):
    """Return a group of like replicas with a small engine."""
    given = {"limits": LIMITS, "step_time": COST, "kv_token_bytes": 100_000, **more}
    return Group(name=name, count=count, recipe=load_recipe(recipe, host), **given)


def design(*groups, route="round_robin", place="least_loaded", scale="fixed", **more):
    """Return a fleet; slots are names of policies or (name, configuration)."""
    named = {"route": route, "place": place, "scale": scale}
    slots = {s: policy(s, n) if isinstance(n, str) else n for s, n in named.items()}
    return Design("fleet", groups or (group(),), **slots, **more)


def split(prefills=1, decodes=1, **more):
    """Return groups of prefill and decode replicas."""
    return (
        group("prefill", prefills, role="prefill", **more),
        group("decode", decodes, role="decode", **more),
    )


def run(workload, fleet, *, max_horizon=None, rate_scale=1.0, trace_states=True):
    """Run with every replica's invariants after each of its steps; check the end; return both."""
    checks = {}

    def every_step(replica):
        checks.setdefault(replica.index, Invariants())(replica)

    more = {} if max_horizon is None else {"max_horizon": max_horizon}
    sim = FleetSimulation(
        workload, fleet, rate_scale, check=every_step, trace_states=trace_states, **more
    )
    record = sim.run()
    check_end(sim, record)
    return sim, record


def check_end(sim, record):
    """Assert that every request ended exactly once and that nothing is left anywhere."""
    workload = sim.workload
    outcome = record.requests.outcome.tolist()
    assert set(outcome) <= {FINISHED, SHED}, "a request did not end"
    for row, ended in enumerate(outcome):
        tokens = record.requests.output_tokens[row]
        if ended == FINISHED:
            room = sim._room(_asked(workload, row)) - workload.prompt[row]
            assert tokens == min(workload.output[row], room), "tokens lost or invented"
        else:
            assert record.requests.reason[row] >= 0, "shed without a reason"
    assert not sim.open
    assert not sim.truth
    assert not sim.kept
    assert not sim.unplaced
    assert not sim.moves.live
    if NO_REPLICA in record.reasons:
        return  # whoever was never served may still lie where nothing happens any more
    for unit in sim.units:
        if unit.status == "down":
            continue
        pool, machine = unit.replica.pool, unit.replica.machine
        assert (unit.open, unit.open_tokens, unit.prompt_tokens) == (0, 0, 0), "account"
        assert not unit.bridge
        assert not machine.seated
        assert not len(machine.queue)
        assert all(id < 0 for id in pool.landed), "KV came for nobody"  # below 0: to be given back
        assert not unit.replica.exports or unit.replica.chores, "KV kept for nobody"
        held = pool.total - pool.free
        later = machine.held or unit.replica.chores or pool.landed
        assert held == 0 or later, "blocks left over"


def _asked(workload, row):
    prefix = workload.prefix[row] if workload.prefix else ()
    return Request(row, 0, workload.prompt[row], prefix=prefix)


def columns(record):
    """Return all that a run recorded of its requests, moves and replicas, for comparison."""
    rows = {name: getattr(record.requests, name).tolist() for name in record.requests.__slots__}
    fleet = record.fleet
    return rows, fleet.moves, fleet.events, fleet.units
