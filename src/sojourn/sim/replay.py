"""A recorded run as a workload to run again.

What a log cannot tell is decided here, in one place:

- A request that was shed is offered again, since another recipe might take it. Nobody knows how
  long its answer would have been: it gets that of the finished request of its tenant that arrived
  nearest to it. One that was never sent, because an earlier turn of its program was shed, is left
  out.
- A request that its user cancelled, or that still ran when the log ended, is replayed with the
  tokens that it had got; without any it is left out.
- Every request arrives when it was recorded to arrive; in a closed loop a turn instead follows the
  one before it after the recorded pause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sojourn.errors import UserError
from sojourn.sim.loop import TURN_LOST
from sojourn.sim.workload import Workload
from sojourn.steplog.record import (
    FINISHED,
    OUTCOMES,
    SHED,
    UNFINISHED,
    IntArray,
    RunRecord,
    SloClass,
)

Mask = NDArray[np.bool_]

UNNAMED: Final = "default"


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """The requests of a recorded run, ready to run again.

    Attributes:
        workload: The workload.
        rows: Row in the record of each of its requests.
        notices: What was left out or assumed, one sentence each.
    """

    workload: Workload
    rows: IntArray
    notices: tuple[str, ...]


def make_replay(
    record: RunRecord, name: str, classes: Sequence[SloClass], closed_loop: bool = False
) -> Replay:
    """Return the workload of a recorded run.

    Args:
        record: The run.
        name: What to call it.
        classes: SLO classes that its requests' classes index.
        closed_loop: Whether a turn of a program waits for the one before it.

    Raises:
        UserError: If no request finished.
    """
    mine = record.requests
    arrived = mine.arrival >= 0
    lost = np.isin(mine.reason, [at for at, why in enumerate(record.reasons) if why == TURN_LOST])
    begun = mine.output_tokens > 0
    shed = arrived & (mine.outcome == SHED) & ~lost
    finished = arrived & (mine.outcome == FINISHED) & begun
    cut = arrived & (mine.outcome >= 0) & (mine.outcome != SHED) & ~finished
    if not finished.any():
        raise UserError(f"no request of {name!r} finished: there is nothing to replay")
    rows = np.flatnonzero(shed | finished | (cut & begun))
    rows = rows[np.argsort(mine.arrival[rows], kind="stable")]
    output = mine.output_tokens.copy()
    output[shed] = _nearest_answers(record, shed, finished)
    workload = _workload(record, name, classes, rows, output)
    if closed_loop:
        _close_loop(record, workload, rows)
    return Replay(workload, rows, _notices(record, shed, cut, begun, closed_loop))


def _workload(
    record: RunRecord, name: str, classes: Sequence[SloClass], rows: IntArray, output: IntArray
) -> Workload:
    """Return the requests of some rows, each sent at its recorded time."""
    mine, count = record.requests, len(rows)
    arrival = mine.arrival[rows]
    prefix: list[tuple[int, ...]] = []
    if record.prefix is not None and record.block_tokens > 0:
        full = (mine.prompt_tokens // record.block_tokens).tolist()
        # Numbered anew: a real engine's ids are hashes, some below 0, which no trace's id is.
        known: dict[int, int] = {}
        ids = (record.prefix[row][: full[row]] for row in rows.tolist())
        prefix = [tuple(known.setdefault(id, len(known)) for id in row) for row in ids]
    return Workload(
        name=name,
        arrival=arrival.tolist(),
        prompt=mine.prompt_tokens[rows].tolist(),
        output=output[rows].tolist(),
        tenant=np.maximum(mine.tenant[rows], 0).tolist(),
        slo_class=np.maximum(mine.slo_class[rows], 0).tolist(),
        program=mine.program[rows].tolist(),
        turn=np.maximum(mine.turn[rows], 0).tolist(),
        gap=[0] * count,
        following=[-1] * count,
        prefix=prefix,
        tenants=record.tenants or (UNNAMED,),
        classes=tuple(classes),
        block_tokens=record.block_tokens if prefix else 0,
        span=int(arrival.max() - arrival.min()),
    )


def _nearest_answers(record: RunRecord, shed: Mask, finished: Mask) -> IntArray:
    """Return for each shed request the answer of the finished one nearest to it in its tenant."""
    mine = record.requests
    answers = np.zeros(int(shed.sum()), dtype=np.int64)
    tenants = mine.tenant[shed]
    for tenant in np.unique(tenants):
        known = np.flatnonzero(finished & (mine.tenant == tenant))
        known = known if known.size else np.flatnonzero(finished)
        known = known[np.argsort(mine.arrival[known], kind="stable")]
        times = mine.arrival[known]
        asked = mine.arrival[shed][tenants == tenant]
        after = np.minimum(np.searchsorted(times, asked), known.size - 1)
        before = np.maximum(after - 1, 0)
        nearer = np.where(asked - times[before] <= times[after] - asked, before, after)
        answers[tenants == tenant] = mine.output_tokens[known[nearer]]
    return answers


def _close_loop(record: RunRecord, workload: Workload, rows: IntArray) -> None:
    """Let turns follow the turn before them, after the pause that was recorded."""
    mine = record.requests
    last: dict[int, int] = {}
    for place in sorted(range(len(rows)), key=lambda at: (workload.turn[at], at)):
        program = workload.program[place]
        if program < 0:
            continue
        before = last.get(program)
        last[program] = place
        if before is None or mine.finish[rows[before]] < 0:
            continue
        workload.following[before] = place
        pause = int(mine.arrival[rows[place]] - mine.finish[rows[before]])
        workload.gap[place] = max(pause, 0)
        workload.arrival[place] = -1


def _notices(
    record: RunRecord, shed: Mask, cut: Mask, begun: Mask, closed_loop: bool
) -> tuple[str, ...]:
    """Return what to say about the requests that cannot be replayed as they were."""
    mine = record.requests
    notices = []
    if shed.any():
        notices.append(
            f"{int(shed.sum())} requests were shed in the recording and are offered again, each "
            "with the length of the nearest answer of its tenant, since its own is unknown"
        )
    for outcome in range(len(OUTCOMES)):
        here = cut & (mine.outcome == outcome)
        if not here.any():
            continue
        kept, left = int((here & begun).sum()), int((here & ~begun).sum())
        what = "were cut off by the log's end" if outcome == UNFINISHED else "were cancelled"
        what = "ended without a token" if outcome == FINISHED else what
        parts = [f"{kept} are replayed with the tokens that they had got"] if kept else []
        parts += [f"{left} that had none are left out"] if left else []
        notices.append(f"{int(here.sum())} requests {what}: {', '.join(parts)}")
    if (mine.program >= 0).any() and (mine.turn > 0).any():
        notices.append(
            "turns of a program follow the turn before them after the recorded pause"
            if closed_loop
            else "turns of a program arrive when they were recorded to arrive, whenever the turn "
            "before them ends; --closed-loop lets them wait for it"
        )
    if len(record.steps.start) and int(record.steps.decodes[np.argmin(record.steps.start)]) > 0:
        notices.append(
            "the log begins while requests were running: those that ended in it are replayed from "
            "their arrival, others are unknown"
        )
    return tuple(notices)
