"""How close the simulation of a recorded run comes to the recording."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sojourn.decide.clock import SECOND
from sojourn.sim.replay import Replay
from sojourn.steplog.record import FINISHED, RunRecord

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of a run, as recorded and as simulated.

    Attributes:
        name: What it is.
        unit: Its unit: "s", "tok/s" or "" for a count.
        recorded, simulated: The numbers; None where no request has one.
        median_error: Median over requests of the absolute relative error; None where the number
            is not one of requests.
    """

    name: str
    unit: str
    recorded: float | None
    simulated: float | None
    median_error: float | None = None

    @property
    def ratio(self) -> float | None:
        """Simulated over recorded; None without both, or if nothing was recorded."""
        if not self.recorded or self.simulated is None:
            return None
        return self.simulated / self.recorded


@dataclass(frozen=True, slots=True)
class Check:
    """A recorded run beside the simulation of it.

    Attributes:
        measures: The numbers.
        requests: Requests that finished in both, which the times are of.
        exact: Whether each of them got its first and last token at the recorded moment.
    """

    measures: tuple[Measure, ...]
    requests: int
    exact: bool

    @property
    def worst(self) -> Measure | None:
        """The measure of time or throughput that is furthest off; None if there is none."""
        known = [one for one in self.measures if one.unit and one.ratio is not None]
        return max(known, key=lambda one: abs(one.ratio - 1.0) if one.ratio else 1.0, default=None)

    @property
    def error(self) -> float:
        """How far the worst measure is off, relative to what was recorded."""
        worst = self.worst
        return 0.0 if worst is None or worst.ratio is None else abs(worst.ratio - 1.0)


def check_replay(record: RunRecord, replay: Replay, simulated: RunRecord) -> Check:
    """Return how close a simulation comes, over the requests that finished in both runs."""
    ours, theirs = simulated.requests, record.requests
    both = np.flatnonzero(
        (ours.outcome == FINISHED) & (theirs.outcome[replay.rows] == FINISHED) & (ours.finish >= 0)
    )
    pairs = ((theirs, replay.rows[both]), (ours, both))
    begin = int(theirs.arrival[replay.rows].min())
    waits, paces, totals, ends = [], [], [], []
    for table, rows in pairs:
        tokens = table.output_tokens[rows]
        stream = np.where(tokens > 1, table.finish[rows] - table.first_token[rows], -1)
        waits.append((table.first_token[rows] - table.arrival[rows]) / SECOND)
        paces.append(np.where(stream < 0, np.nan, stream / SECOND / np.maximum(tokens - 1, 1)))
        totals.append((table.finish[rows] - table.arrival[rows]) / SECOND)
        ends.append((int(table.finish[rows].max()) - begin) / SECOND if rows.size else None)
    done = float(theirs.output_tokens[replay.rows[both]].sum())
    rates = [done / end if end else None for end in ends]
    lost = [float(theirs.preemptions[replay.rows].sum()), float(ours.preemptions.sum())]
    return Check(
        measures=(
            _mean("mean TTFT", waits[0], waits[1]),
            _mean("mean TPOT", paces[0], paces[1]),
            _mean("mean E2E", totals[0], totals[1]),
            Measure("makespan", "s", ends[0], ends[1]),
            Measure("throughput", "tok/s", rates[0], rates[1]),
            Measure("preemptions", "", lost[0], lost[1]),
        ),
        requests=int(both.size),
        exact=all(
            np.array_equal(getattr(theirs, name)[replay.rows[both]], getattr(ours, name)[both])
            for name in ("first_token", "finish")
        ),
    )


def _mean(
    name: str,
    recorded: FloatArray,
    simulated: FloatArray,
) -> Measure:
    """Return a measure of requests from its values, NaN where a request has none."""
    known = ~np.isnan(recorded) & ~np.isnan(simulated)
    if not known.any():
        return Measure(name, "s", None, None)
    ours, theirs = simulated[known], recorded[known]
    apart = np.abs(ours - theirs) / np.maximum(theirs, 1e-12)
    return Measure(name, "s", float(theirs.mean()), float(ours.mean()), float(np.median(apart)))
