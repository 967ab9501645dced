"""Getting a run ready, of one replica or of many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sojourn.engine.replica import Replica
from sojourn.fleet.design import Design
from sojourn.sim.fleet.loop import FleetSimulation
from sojourn.sim.loop import Setup, Simulation
from sojourn.sim.workload import Workload


def start(
    setup: Setup | Design,
    workload: Workload,
    rate_scale: float = 1.0,
    check: Callable[[Replica], None] | None = None,
    *,
    trace_states: bool = False,
) -> Simulation:
    """Return a run that is ready to begin: of one replica, or of a fleet."""
    if isinstance(setup, Design):
        return FleetSimulation(workload, setup, rate_scale, check=check, trace_states=trace_states)
    made = replace(setup, check=check, trace_states=trace_states or setup.trace_states)
    return Simulation(workload, made, rate_scale)
