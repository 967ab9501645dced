"""Records of fleets for the report's tests: one by hand, others from small real runs."""

from __future__ import annotations

from dataclasses import replace

from report_records import ps, record

from sojourn.decide.clock import SECOND
from sojourn.fleet.design import CRASH, CUT, SLOW, SPOT, Fault, Link
from sojourn.sim.fleet.loop import FleetSimulation
from sojourn.steplog.fleet import REPLICA_LOST, FleetEvent, FleetRecord, MoveRow, UnitRow
from sojourn.steplog.record import SHED
from tests.fleet.fleet_runs import design, group, split
from tests.fleet.moving_placers import Chance, placers_for_tests
from tests.sim.sim_workloads import make


def unit(index, asked=0.0, up=0.0, ended=10.0, *, kind="a", dollars=0.0, **more):
    """A replica's life; times in seconds."""
    given = {"role": "mixed", "hardware": "h100", "gpus": 1, "requests": 0, "blocks": 100, **more}
    times = {"asked": ps(asked), "up": ps(up), "ended": ps(ended)}
    return UnitRow(index=index, kind=kind, dollars=dollars, **times, **given)


def move(request, source, target, began, ended, down=-1.0, **more):
    """A move; times in seconds."""
    given = {"kind": "migration", "bytes": 1000, "stages": 2, "outcome": "done", **more}
    times = {"began": ps(began), "ended": ps(ended), "down": ps(down)}
    return MoveRow(request=request, source=source, target=target, **times, **given)


def by_hand():
    """Three replicas of two groups over ten seconds; the second is lost after five.

    Requests 0 and 1 finish, 1 too late; request 2 is failed. Replica 0 is busy for 6 s of 10,
    replica 1 for 1 s of 5, and replica 2, which comes up at 4 s, for 3 s of 6.
    """
    requests = [
        {"arrival": 0, "admitted": 0.1, "first_token": 0.5, "finish": 1.4, "output_tokens": 10},
        {"arrival": 0, "admitted": 0.1, "first_token": 3.0, "finish": 9.9, "output_tokens": 90},
        {"arrival": 0, "outcome": SHED, "reason": 0, "replica": -1},
    ]
    steps = [
        {"start": 0, "duration": 6, "decodes": 2, "kv_used": 50, "replica": 0, "waiting": 4},
        {"start": 1, "duration": 1, "decodes": 1, "kv_used": 10, "replica": 1},
        {"start": 7, "duration": 3, "decodes": 1, "kv_used": 100, "replica": 2},
    ]
    made = record(requests, steps, reasons=(REPLICA_LOST,))
    made.fleet = FleetRecord(
        "by hand",
        units=[
            unit(0, dollars=0.01),
            unit(1, ended=5.0, dollars=0.005),
            unit(2, 2.0, 4.0, kind="b", gpus=2, dollars=0.02, blocks=200),
        ],
        moves=[
            move(0, 0, 1, 0.5, 0.6, 0.02),
            move(1, 1, 0, 1.0, 1.4, 0.04, bytes=3000),
            move(1, 1, 0, 1.5, 1.6, outcome="no room at the target", bytes=50),
            move(1, 0, 2, 5.0, 5.5, 0.5, kind="handover"),
        ],
        events=[
            FleetEvent(0, 0, "up"),
            FleetEvent(ps(5.0), 1, "crash"),
            FleetEvent(ps(6.0), 2, "role decode"),
        ],
        lost_requests=3,
        lost_tokens=7,
        routing_seconds=2e-5,
        routings=4,
    )
    return made


def real(kind, *, traced=True, count=60, name=None, load=None):
    """A short run of a fleet that migrates at random, or hands over; replicas are lost in it.

    The link of the one that hands over is cut for a tenth of a second.
    """
    workload = make([(i * 0.01, 60 + 7 * i % 200, 30 + i % 50, i % 3) for i in range(count)])
    more = {"dollars_per_hour": 3.0, "start_time": SECOND // 20, "hardware": "h100-sxm"}
    faults = (
        Fault(CRASH, SECOND // 5, replica=1, duration=SECOND // 20),
        Fault(SPOT, SECOND // 4, replica=2, duration=SECOND // 10, notice=SECOND // 10),
        Fault(SLOW, SECOND // 10, replica=0, duration=SECOND // 5, factor=3.0),
    )
    link = Link(bytes_per_second=1e9, latency=SECOND // 1000)
    rest = {"faults": faults, "default_link": link}
    fleets = {
        "migrating": design(group(count=4, **more), place=("restless", Chance(2**37, 1)), **rest),
        "split": design(*split(2, 2, **more), **rest),
    }
    if kind == "split":
        one, other = (group.name for group in fleets[kind].groups)
        cut = Fault(CUT, SECOND // 5, group=one, other=other, duration=SECOND // 10)
        fleets[kind] = replace(fleets[kind], faults=(*faults, cut))
    with placers_for_tests():
        made = FleetSimulation(workload, fleets[kind], trace_states=traced).run()
    return replace(made, recipe=name or kind, load=load)


def large(units=2_000, moves=30_000):
    """A record of very many replicas, with a step on each, and moves between them."""
    half = units // 2
    steps = [
        {"start": i % 9, "duration": 1, "decodes": 1 + i % 5, "kv_used": i % 100, "replica": i}
        for i in range(units)
    ]
    made = record([{"finish": 9.0, "first_token": 1.0, "output_tokens": 5}], steps)
    made.fleet = FleetRecord(
        "large",
        units=[unit(i, kind="a" if i < half else "b", dollars=0.01) for i in range(units)],
        moves=[
            move(0, i % half, half + i % half, i % 90 / 10, i % 90 / 10 + 0.1, 0.1, kind="handover")
            for i in range(moves)
        ]
        + [move(0, 1, 2, 3.0, 3.2, outcome="an end was lost") for _ in range(20)],
        events=[FleetEvent(ps(i % 10), i, "crash") for i in range(units)],
    )
    return made
