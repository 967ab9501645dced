"""All that the reports need of one run, small enough to send between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sojourn.report.fairness import service
from sojourn.report.fleet_picture import FleetPicture, fleet_picture
from sojourn.report.metrics import Row, arrival_order, class_masks, measure
from sojourn.report.numbers import Spread, ratio, spread
from sojourn.report.series import Series, series
from sojourn.report.served import BoolArray, FloatArray, Served, served
from sojourn.steplog.record import IntArray, RunRecord, SloClass

CURVE_POINTS: Final = 400
TENANT_ROWS_MAX: Final = 64
"""Of more tenants, those with the most service get a row and the rest share one."""


@dataclass(frozen=True, slots=True)
class GroupRow:
    """What a tenant or an SLO class got.

    Attributes:
        name: Its name.
        requests: Requests that arrived.
        shed: Those rejected.
        attainment: Share that met every SLO they had, shed ones included.
        ttft_seconds: Arrival to first token.
        tpot_seconds: Time per output token after the first.
        e2e_seconds: Arrival to last token.
        service_tokens: Prompt tokens + 2 × output tokens received.
        bounds: The SLO bounds of a class in seconds by name; empty for a tenant.
    """

    name: str
    requests: int
    shed: int
    attainment: float | None
    ttft_seconds: Spread
    tpot_seconds: Spread
    e2e_seconds: Spread
    service_tokens: float
    bounds: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return {
            "name": self.name,
            "requests": self.requests,
            "shed": self.shed,
            "attainment": self.attainment,
            "ttft_seconds": self.ttft_seconds.to_json(),
            "tpot_seconds": self.tpot_seconds.to_json(),
            "e2e_seconds": self.e2e_seconds.to_json(),
            "service_tokens": self.service_tokens,
        }


@dataclass(frozen=True, slots=True, eq=False)
class RunSummary:
    """One run, reduced to what tables, verdict and page show; picklable.

    Attributes:
        row: The result row.
        curves: For "ttft", "tpot" and "e2e" the seconds at even probabilities 0..1 (at most
            `CURVE_POINTS` of them; empty without values).
        series: The engine over time.
        classes: A row for each SLO class.
        tenants: A row for each tenant, most service first, at most `TENANT_ROWS_MAX`.
        rest: One row for all the other tenants; None if there are none.
        met: Whether each request met its SLOs, by row of the workload; false if it never came.
        order: Rows of the requests that arrived, in order of arrival.
        policies: Policy and parameters of each slot, as the run recorded them; JSON values.
        picture: What the view of the fleet is drawn from; None of a run without one.
        late_faults: Faults of the fleet that lie after the end of the run.
    """

    row: Row
    curves: Mapping[str, FloatArray]
    series: Series
    classes: tuple[GroupRow, ...]
    tenants: tuple[GroupRow, ...]
    rest: GroupRow | None
    met: BoolArray
    order: IntArray
    policies: Mapping[str, Any]
    picture: FleetPicture | None = None
    late_faults: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the result row, then classes, tenants and policies, as JSON values."""
        return {
            **self.row.to_json(),
            "classes": [{**one.to_json(), "bounds": dict(one.bounds)} for one in self.classes],
            "tenants": [one.to_json() for one in self.tenants],
            "policies": dict(self.policies),
        }


def summarise(record: RunRecord, *, seed: int = 0) -> RunSummary:
    """Return the summary of one run; the record itself is needed no more, but for a timeline.

    Args:
        record: The run.
        seed: Seed of the bootstrap interval.
    """
    facts = served(record)
    received = service(record)
    tenants, rest = _tenants(record, facts, received)
    values = {"ttft": facts.ttft, "tpot": facts.tpot, "e2e": facts.e2e}
    return RunSummary(
        row=measure(record, facts, seed=seed),
        curves={name: _curve(durations) for name, durations in values.items()},
        series=series(record, facts),
        classes=tuple(
            _group(one.name, mine, facts, received, _asked(one))
            for one, mine in class_masks(record, facts)
        ),
        tenants=tenants,
        rest=rest,
        met=facts.met,
        order=arrival_order(record, facts),
        policies=record.notes.get("policies", {}),
        picture=fleet_picture(record, facts),
        late_faults=record.notes.get("late_faults", 0),
    )


def _curve(values: FloatArray) -> FloatArray:
    """Return the values at even probabilities, from the smallest to the largest."""
    known = values[~np.isnan(values)]
    if not known.size:
        return known
    points = min(CURVE_POINTS, known.size)
    return np.asarray(np.quantile(known, np.linspace(0.0, 1.0, points)))


def _tenants(
    record: RunRecord, facts: Served, received: FloatArray
) -> tuple[tuple[GroupRow, ...], GroupRow | None]:
    """Return the tenants' rows, most service first (ties by requests, index), and the rest's."""
    column = record.requests.tenant
    known = facts.arrived & (column >= 0)
    number = len(record.tenants)
    counts = np.bincount(column[known], minlength=number)
    totals = np.bincount(column[known], weights=received[known], minlength=number)
    ranked = np.lexsort((-counts, -totals))
    rows = tuple(
        _group(record.tenants[index], facts.arrived & (column == index), facts, received, {})
        for index in ranked[:TENANT_ROWS_MAX]
    )
    others = ranked[TENANT_ROWS_MAX:]
    if not others.size:
        return rows, None
    mine = facts.arrived & np.isin(column, others)
    return rows, _group(f"{others.size} smaller tenants", mine, facts, received, {})


def _group(
    name: str, mine: BoolArray, facts: Served, received: FloatArray, bounds: Mapping[str, float]
) -> GroupRow:
    """Return the row of the requests in a mask."""
    number = int(mine.sum())
    return GroupRow(
        name=name,
        requests=number,
        shed=int((mine & facts.shed).sum()),
        attainment=ratio(int((mine & facts.met).sum()), number),
        ttft_seconds=spread(facts.ttft[mine]),
        tpot_seconds=spread(facts.tpot[mine]),
        e2e_seconds=spread(facts.e2e[mine]),
        service_tokens=float(received[mine].sum()),
        bounds=bounds,
    )


def _asked(one: SloClass) -> dict[str, float]:
    """Return the bounds that an SLO class sets, by name, in seconds."""
    asked = {
        "ttft": one.ttft_seconds,
        "tpot": one.tpot_seconds,
        "e2e": one.e2e_seconds,
    }
    return {name: bound for name, bound in asked.items() if bound is not None}
