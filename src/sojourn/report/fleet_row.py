"""What a fleet cost, moved and lost in a run: the part of a result row that only fleets have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sojourn.decide.clock import SECOND
from sojourn.report.numbers import Spread, ratio, spread
from sojourn.report.served import FloatArray, Served
from sojourn.steplog.fleet import FAILED, REPLICA_LOST, FleetRecord
from sojourn.steplog.record import RunRecord

HOUR: Final = 3600 * SECOND
BURST_SHARE: Final = 0.1
"""Arrivals within a smaller share of the run came at once: then all of it is paid for."""
DONE: Final = "done"
MIGRATION: Final = "migration"
HANDOVER: Final = "handover"
FETCH: Final = "fetch"


@dataclass(frozen=True, slots=True)
class FleetRow:
    """The fleet's numbers of one run; a number that does not exist is None, never NaN.

    Attributes:
        design: Name of the fleet.
        replicas: Replicas that there ever were.
        gpu_hours: GPUs times hours, from being asked for to the end of each replica.
        dollars: What they cost; None if no price was given.
        dollars_per_million_output_tokens: Of finished requests' tokens.
        dollars_per_met_request: What they cost until the last arrival, per request that met every
            SLO it had: as in goodput, the time in which the last ones drain does not count.
        moves: Moves by kind (`handover`, `migration`, `fetch`) and outcome.
        migration_downtime_seconds: Of completed live migrations, from losing the seat at the
            source to the KV being complete at the target.
        handover_seconds: Of completed hand-overs, from the copy's begin to its end.
        fetch_seconds: Of completed prefix fetches, from the router's word until the prompt queues.
        transfer_bytes: Bytes of KV copied, by kind of move, moves that came to nothing included.
        lost_requests: Times that a request was on a replica when that was lost.
        resumed: Those after which it was sent on.
        failed: Requests that the fleet itself failed, by reason.
        lost_tokens: Tokens that had been streamed and were generated again.
        events: What happened to replicas, and how often; not that they came up.
        imbalance: How unevenly like replicas worked: the standard deviation of their busy shares
            around their group's mean, over the mean of all, weighted by the time they were up; 0
            is even. None if nothing ran.
        routings: Decisions of the router.
        routing_microseconds_mean: CPU time of one of them; not reproducible.
    """

    design: str
    replicas: int
    gpu_hours: float
    dollars: float | None
    dollars_per_million_output_tokens: float | None
    dollars_per_met_request: float | None
    moves: Mapping[str, Mapping[str, int]]
    migration_downtime_seconds: Spread
    handover_seconds: Spread
    fetch_seconds: Spread
    transfer_bytes: Mapping[str, int]
    lost_requests: int
    resumed: int
    failed: Mapping[str, int]
    lost_tokens: int
    events: Mapping[str, int]
    imbalance: float | None
    routings: int
    routing_microseconds_mean: float | None

    def done(self, kind: str) -> int:
        """Return how many moves of a kind were completed."""
        return self.moves.get(kind, {}).get(DONE, 0)

    def given_up(self, kind: str) -> int:
        """Return how many moves of a kind came to nothing."""
        return sum(self.moves.get(kind, {}).values()) - self.done(kind)

    def timing(self) -> dict[str, float | None]:
        """Return the measurements of the machine."""
        return {"routing_microseconds_mean": self.routing_microseconds_mean}

    def to_json(self) -> dict[str, Any]:
        """Return all but the measurements of the machine as JSON values."""
        return {
            "design": self.design,
            "replicas": self.replicas,
            "gpu_hours": self.gpu_hours,
            "dollars": self.dollars,
            "dollars_per_million_output_tokens": self.dollars_per_million_output_tokens,
            "dollars_per_met_request": self.dollars_per_met_request,
            "moves": {kind: dict(outcomes) for kind, outcomes in self.moves.items()},
            "migration_downtime_seconds": self.migration_downtime_seconds.to_json(),
            "handover_seconds": self.handover_seconds.to_json(),
            "fetch_seconds": self.fetch_seconds.to_json(),
            "transfer_bytes": dict(self.transfer_bytes),
            "lost_requests": self.lost_requests,
            "resumed": self.resumed,
            "failed": dict(self.failed),
            "lost_tokens": self.lost_tokens,
            "events": dict(self.events),
            "imbalance": self.imbalance,
            "routings": self.routings,
        }


def fleet_row(record: RunRecord, facts: Served) -> FleetRow | None:
    """Return the fleet's numbers of a run; None of a run without one."""
    fleet = record.fleet
    if fleet is None:
        return None
    tokens = int(record.requests.output_tokens[facts.finished].sum())
    dollars = fleet.dollars or None
    failed = _failed(record, facts)
    kinds = list(dict.fromkeys(one.kind for one in fleet.moves))
    return FleetRow(
        design=fleet.design,
        replicas=len(fleet.units),
        gpu_hours=sum(unit.gpus * (unit.ended - unit.asked) for unit in fleet.units) / HOUR,
        dollars=dollars,
        dollars_per_million_output_tokens=None if dollars is None else ratio(1e6 * dollars, tokens),
        dollars_per_met_request=None
        if dollars is None
        else ratio(_billed(record, facts), int(facts.met.sum())),
        moves={
            kind: dict(sorted(Counter(m.outcome for m in fleet.moves if m.kind == kind).items()))
            for kind in kinds
        },
        migration_downtime_seconds=spread(_downtimes(fleet, MIGRATION)),
        handover_seconds=spread(_downtimes(fleet, HANDOVER)),
        fetch_seconds=spread(_downtimes(fleet, FETCH)),
        transfer_bytes={
            kind: sum(one.bytes for one in fleet.moves if one.kind == kind) for kind in kinds
        },
        lost_requests=fleet.lost_requests,
        resumed=fleet.lost_requests - failed.get(REPLICA_LOST, 0),
        failed=failed,
        lost_tokens=fleet.lost_tokens,
        events=dict(Counter(one.what for one in fleet.events if one.what != "up")),
        imbalance=imbalance(record),
        routings=fleet.routings,
        routing_microseconds_mean=ratio(1e6 * fleet.routing_seconds, fleet.routings),
    )


def _billed(record: RunRecord, facts: Served) -> float:
    """Return the dollars of all replicas until the last arrival."""
    assert record.fleet is not None, "a fleet"
    arrivals = record.requests.arrival[facts.arrived]
    last = int(arrivals.max()) if arrivals.size else facts.end
    until = last if last - facts.begin >= BURST_SHARE * (facts.end - facts.begin) else facts.end
    return sum(
        unit.dollars * max(min(unit.ended, until) - unit.asked, 0) / (unit.ended - unit.asked)
        for unit in record.fleet.units
        if unit.ended > unit.asked
    )


def up_times(record: RunRecord, begin: int, end: int) -> FloatArray:
    """Return for how many seconds each replica of a fleet was up between two moments."""
    assert record.fleet is not None, "a fleet"
    return np.array(
        [
            max(0, min(unit.ended, end) - max(unit.up, begin)) / SECOND if unit.up >= 0 else 0.0
            for unit in record.fleet.units
        ]
    )


def imbalance(record: RunRecord) -> float | None:
    """Return how unevenly like replicas worked; see `FleetRow.imbalance`."""
    fleet, steps = record.fleet, record.steps
    assert fleet is not None, "a fleet"
    busy = np.bincount(steps.replica, weights=steps.duration / SECOND, minlength=len(fleet.units))
    until = max((unit.ended for unit in fleet.units), default=0)
    up = up_times(record, 0, until)
    there = up > 0
    if not there.any() or not busy[there].sum():
        return None
    share, weight = busy[there] / up[there], up[there] / up[there].sum()
    names = [unit.kind for unit, is_there in zip(fleet.units, there, strict=True) if is_there]
    squares = 0.0
    for name in dict.fromkeys(names):
        mine = np.array([one == name for one in names])
        mean = float(np.average(share[mine], weights=weight[mine]))
        squares += float((weight[mine] * (share[mine] - mean) ** 2).sum())
    return float(np.sqrt(squares)) / float((share * weight).sum())


def _downtimes(fleet: FleetRecord, kind: str) -> FloatArray:
    """Return the downtimes of the completed moves of a kind, in seconds."""
    return np.array(
        [
            one.down / SECOND
            for one in fleet.moves
            if one.kind == kind and one.outcome == DONE and one.down >= 0
        ]
    )


def _failed(record: RunRecord, facts: Served) -> dict[str, int]:
    """Return the requests that the fleet failed, by reason."""
    given = record.requests.reason[facts.shed]
    counts = {
        text: int((given == place).sum())
        for place, text in enumerate(record.reasons)
        if text in FAILED
    }
    return {text: number for text, number in counts.items() if number}
