"""What engines held over time, averaged in even bins: of all replicas together, and of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from sojourn.decide.clock import SECOND
from sojourn.report.metrics import kv_blocks
from sojourn.report.served import FloatArray, Served, replicas
from sojourn.steplog.record import IntArray, RunRecord, StepColumns

SERIES_BINS: Final = 600


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """What an engine held over time, averaged in even bins.

    Attributes:
        bin_seconds: Width of a bin; the first begins at the first arrival.
        kv_use: Share of KV blocks in use, over all replicas.
        waiting: Requests queued, summed over replicas.
        running: Requests in the steps, summed over replicas.
        paused: Requests without a seat whose KV is kept, summed over replicas.
    """

    bin_seconds: float
    kv_use: FloatArray
    waiting: FloatArray
    running: FloatArray
    paused: FloatArray


def series(record: RunRecord, facts: Served) -> Series:
    """Return the binned series; between steps an engine counts as empty.

    Of a fleet, the KV blocks in use are a share of those of the replicas that were up.
    """
    steps = record.steps
    edges = even_edges(facts, SERIES_BINS)
    columns = {
        "kv_use": steps.kv_used,
        "waiting": steps.waiting,
        "running": steps.decodes + steps.prompts,
        "paused": steps.paused,
    }
    sums = {name: np.zeros(SERIES_BINS) for name in columns}
    for _, mine in rows_by_replica(steps, replicas(record)):
        for name, column in columns.items():
            sums[name] += binned(steps, facts.begin, mine, column, edges)
    blocks = kv_blocks(record).astype(float)
    whole = np.full(SERIES_BINS, blocks.sum())
    if record.fleet is not None:
        whole = np.zeros(SERIES_BINS)
        for unit in record.fleet.units:
            whole += blocks[unit.index] * up_shares(unit.up, unit.ended, facts.begin, edges)
    sums["kv_use"] = np.divide(sums["kv_use"], whole, out=sums["kv_use"] * 0, where=whole > 0)
    return Series(bin_seconds=float(edges[1]), **sums)


def even_edges(facts: Served, bins: int) -> FloatArray:
    """Return the edges of even bins over the run, in seconds since the first arrival."""
    return np.linspace(0.0, max(facts.end - facts.begin, 1) / SECOND, bins + 1)


def rows_by_replica(steps: StepColumns, number: int) -> Iterator[tuple[int, IntArray]]:
    """Yield each replica and the rows of its steps in order of time."""
    order = np.lexsort((steps.start, steps.replica))
    bounds = np.searchsorted(steps.replica[order], np.arange(number + 1))
    for index in range(number):
        yield index, order[bounds[index] : bounds[index + 1]]


def binned(
    steps: StepColumns, begin: int, mine: IntArray, column: IntArray, edges: FloatArray
) -> FloatArray:
    """Return the time average of a step column in each bin, for one replica's rows in order."""
    if not mine.size:
        return np.zeros(edges.size - 1)
    start = (steps.start[mine] - begin) / SECOND
    long = steps.duration[mine] / SECOND
    area = np.cumsum(column[mine] * long)
    # The integral is piecewise linear with knots where rows begin and end; interpolating it at
    # the edges gives exact averages at a cost that does not depend on the rows' lengths.
    knots = np.column_stack((start, start + long)).ravel()
    heights = np.column_stack((area - column[mine] * long, area)).ravel()
    return np.asarray(np.diff(np.interp(edges, knots, heights)) / np.diff(edges))


def up_shares(up: int, ended: int, begin: int, edges: FloatArray) -> FloatArray:
    """Return the share of each bin in which a replica was there; -1 stands for never."""
    if up < 0:
        return np.zeros(edges.size - 1)
    low, high = (up - begin) / SECOND, (ended - begin) / SECOND
    return np.asarray(np.diff(np.clip(edges, low, max(low, high))) / np.diff(edges))
