"""A request's life as slices: one for each stay in a state, from the changes of state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from sojourn.report.served import BoolArray
from sojourn.steplog.record import IntArray, RunRecord

ENDS: Final = ("finished", "rejected", "cancelled")
"""States that a request does not leave; they end its last slice and have none themselves."""
QUEUED: Final = ("waiting", "held")
"""States in which a request holds neither a seat nor the engine."""


@dataclass(frozen=True, slots=True, eq=False)
class Slices:
    """Stays of requests in states, by request and then by time (arrays of one length).

    Attributes:
        request: Row of the request.
        state: Index into the record's states.
        process: 1 + replica, or 0 where no replica is known.
        begin: When the state was entered, in picoseconds.
        end: When it was left; the end of the record if it was not.
        queued: Whether the state is one of `QUEUED`.
    """

    request: IntArray
    state: IntArray
    process: IntArray
    begin: IntArray
    end: IntArray
    queued: BoolArray


def request_slices(record: RunRecord, end: int) -> Slices:
    """Return the slices of a traced run; stays of no length are left out.

    A change that names no replica takes the one that served the request in the end.

    Args:
        record: A run with transitions.
        end: The record's last moment, in picoseconds.
    """
    changes = record.transitions
    assert changes is not None, "slices need a traced run"
    order = np.lexsort((changes.time, changes.request))
    request, state = changes.request[order], changes.state[order]
    begin, replica = changes.time[order], changes.replica[order]
    until = np.full(order.size, end, dtype=np.int64)
    same = request[1:] == request[:-1]
    until[:-1][same] = begin[1:][same]
    replica = np.where(replica >= 0, replica, record.requests.replica[request])
    terminal = [place for place, name in enumerate(record.states) if name in ENDS]
    queued = [place for place, name in enumerate(record.states) if name in QUEUED]
    keep = ~np.isin(state, terminal) & (until > begin)
    return Slices(
        request=request[keep],
        state=state[keep],
        process=np.maximum(replica[keep], -1) + 1,
        begin=begin[keep],
        end=until[keep],
        queued=np.isin(state[keep], queued),
    )
