"""The figures of fleets as tables show them, and the sentences that a verdict says of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sojourn.report import units
from sojourn.report.fleet_row import FETCH, HANDOVER, MIGRATION, FleetRow
from sojourn.report.metrics import Row
from sojourn.report.summary import RunSummary
from sojourn.steplog.fleet import NO_REPLICA, REPLICA_LOST

NAMED_MAX: Final = 6
"""Recipes that a sentence names at most."""


def thousand_met(fleet: FleetRow) -> float | None:
    """Return the dollars per thousand requests that met every SLO they had."""
    cost = fleet.dollars_per_met_request
    return None if cost is None else 1000 * cost


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a fleet, shown only where some run has one that is not 0.

    Attributes:
        heading: Its name; lines are separated by newlines.
        value: The number of a run.
        text: The number as people read it.
    """

    heading: str
    value: Callable[[FleetRow], float | None]
    text: Callable[[float | None], str]

    def cell(self, row: Row) -> str:
        """Return what a table shows of a run."""
        return units.NOTHING if row.fleet is None else self.text(self.value(row.fleet))

    def key(self, row: Row) -> float | None:
        """Return the number that a run is sorted by."""
        return None if row.fleet is None else self.value(row.fleet)


COST: Final = (
    Figure("replicas", lambda fleet: fleet.replicas, units.count),
    Figure("GPU\nhours", lambda fleet: fleet.gpu_hours, units.rate),
    Figure("cost", lambda fleet: fleet.dollars, units.dollars),
    Figure("per M\ntokens", lambda fleet: fleet.dollars_per_million_output_tokens, units.dollars),
    Figure("per 1k\nmet", thousand_met, units.dollars),
    Figure("im-\nbalance", lambda fleet: fleet.imbalance, units.rate),
)
MOVES: Final = (
    Figure("hand-\novers", lambda fleet: fleet.done(HANDOVER), units.count),
    Figure("prefix\nfetches", lambda fleet: fleet.done(FETCH), units.count),
    Figure("migra-\ntions", lambda fleet: fleet.done(MIGRATION), units.count),
    Figure(
        "given\nup",
        lambda fleet: sum(fleet.given_up(kind) for kind in fleet.moves),
        units.count,
    ),
    Figure("downtime\nmean", lambda fleet: fleet.migration_downtime_seconds.mean, units.seconds),
    Figure("downtime\np99", lambda fleet: fleet.migration_downtime_seconds.p99, units.seconds),
    Figure("copied", lambda fleet: sum(fleet.transfer_bytes.values()), units.size),
    Figure("lost", lambda fleet: fleet.lost_requests, units.count),
    Figure("resumed", lambda fleet: fleet.resumed, units.count),
    Figure("failed", lambda fleet: sum(fleet.failed.values()), units.count),
)
FIGURES: Final = {"Fleet": COST, "Moves and losses": MOVES}
"""The figures of each table; together they have to fit its width."""


def figures(rows: Sequence[Row], title: str) -> list[Figure]:
    """Return a table's figures that tell something of some run; none where no run has a fleet."""
    return [one for one in FIGURES[title] if any(one.key(row) for row in rows)]


def fleet_lines(ranked: Sequence[RunSummary]) -> list[str]:
    """Return what a verdict says of the fleets at a load: cost, and requests on lost replicas."""
    lines = []
    priced = [
        (cost, run.row.recipe)
        for run in ranked
        if run.row.fleet is not None and (cost := thousand_met(run.row.fleet)) is not None
    ]
    if priced:
        told = [f"{name} {units.dollars(cost)}" for cost, name in sorted(priced)[:NAMED_MAX]]
        costs = ", ".join(told)
        lines.append(f"cost of a thousand requests that met their SLOs, least first: {costs}.")
    losses = [
        (run.row.recipe, run.row.fleet)
        for run in ranked
        if run.row.fleet is not None and run.row.fleet.lost_requests
    ]
    if losses:
        told = [
            f"{name} {units.count(fleet.lost_requests)} ({units.count(fleet.resumed)} sent on, "
            f"{units.count(fleet.failed.get(REPLICA_LOST, 0))} failed)"
            for name, fleet in losses[:NAMED_MAX]
        ]
        lines.append(f"requests on replicas that were lost: {', '.join(told)}.")
    stranded = [
        f"{run.row.recipe} {units.count(run.row.fleet.failed[NO_REPLICA])}"
        for run in ranked
        if run.row.fleet is not None and NO_REPLICA in run.row.fleet.failed
    ]
    if stranded:
        lines.append(f"never served, as no replica was left: {', '.join(stranded[:NAMED_MAX])}.")
    return lines
