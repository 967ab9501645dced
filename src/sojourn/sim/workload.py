"""A workload ready to run: the trace's rows as plain lists, with SLO classes and times assigned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sojourn.decide.clock import NEVER, SECOND
from sojourn.errors import UserError
from sojourn.steplog.record import SloClass
from sojourn.trace.model import Trace
from sojourn.trace.streams import stream

LONGEST: Final = NEVER // 2
"""Latest moment, in picoseconds, that leaves room on the clock for what follows it."""
LONGEST_SECONDS: Final = LONGEST // SECOND


@dataclass(slots=True)
class Workload:
    """Rows of requests; times in picoseconds.

    Attributes:
        name: Name of the trace.
        arrival: When a row is sent by itself; -1 for a turn that follows another one.
        prompt, output: Tokens.
        tenant, slo_class: Indices into `tenants` and `classes`.
        program: Index of the session; -1 for none.
        turn: Place in the session.
        gap: Pause of the client before a row that follows another one.
        following: Row of the next turn that waits for this one; -1 for none.
        prefix: Ids of the full prompt blocks of each row; empty without ids.
        block_tokens: Tokens behind an id; 0 without ids.
        span: Time from the first to the last arrival of its own.
    """

    name: str
    arrival: list[int]
    prompt: list[int]
    output: list[int]
    tenant: list[int]
    slo_class: list[int]
    program: list[int]
    turn: list[int]
    gap: list[int]
    following: list[int]
    prefix: list[tuple[int, ...]]
    tenants: tuple[str, ...]
    classes: tuple[SloClass, ...]
    block_tokens: int
    span: int

    def __len__(self) -> int:
        return len(self.prompt)

    def starts(self, rate_scale: float) -> list[tuple[int, int]]:
        """Return (time, row) of the rows that are sent by themselves, scaled, in order of time.

        Raises:
            UserError: If the last would come after all that can be simulated.
        """
        latest = max(self.arrival, default=0)
        if latest >= LONGEST * rate_scale:
            days = latest / SECOND / 86400
            raise UserError(
                f"the trace lasts {days:.3g} days, at {rate_scale:.3g} times its rate "
                f"{days / rate_scale:.3g}; at most {LONGEST_SECONDS / 86400:.0f} can be simulated: "
                "raise the rate (--rate-scale, --load) or take fewer requests (--limit)"
            )
        rows = [
            (round(time / rate_scale), row) for row, time in enumerate(self.arrival) if time >= 0
        ]
        rows.sort()
        return rows


def make_workload(
    trace: Trace, classes: Sequence[SloClass] = (), seed: int = 0, open_loop: bool = False
) -> Workload:
    """Return the workload of a trace.

    Turns of a session follow one another (closed loop) where the trace says how long the client
    paused; with `open_loop`, and where it does not say, they are sent at the trace's own times.

    Raises:
        UserError: If the trace has no arrival times.
    """
    count = len(trace)
    times = trace.arrival_seconds
    for name, column in (("arrival", times), ("tool pause", trace.tool_seconds)):
        known = column[~np.isnan(column)]
        if len(known) and known.max() * SECOND >= LONGEST:
            raise UserError(
                f"trace {trace.name!r} has an {name} of {known.max():.6g} s; at most "
                f"{LONGEST / SECOND:.6g} s can be simulated, counted from the trace's start "
                "(not from 1970): shift the times, or take fewer requests with --limit"
            )
    followers = np.zeros(count, dtype=bool) if open_loop else _followers(trace)
    missing = np.isnan(times) & ~followers
    if missing.any():
        raise UserError(
            f"trace {trace.name!r} has no arrival time for {int(missing.sum())} of {count} "
            "requests; make one with `sojourn trace generate --lengths-from`"
        )
    arrival = np.where(followers, -1, np.rint(np.nan_to_num(times) * SECOND)).astype(np.int64)
    following = np.full(count, -1, dtype=np.int64)
    rows = np.flatnonzero(followers)
    following[_turn_before(trace)[rows]] = rows
    gap = np.where(followers, np.rint(np.nan_to_num(trace.tool_seconds) * SECOND), 0)
    own = arrival[arrival >= 0]
    slo_class, named = assign_classes(trace, classes, seed)
    return Workload(
        name=trace.name,
        arrival=arrival.tolist(),
        prompt=trace.prompt_tokens.tolist(),
        output=trace.output_tokens.tolist(),
        tenant=trace.tenant.tolist(),
        slo_class=slo_class,
        program=trace.session.tolist(),
        turn=trace.turn.tolist(),
        gap=gap.astype(np.int64).tolist(),
        following=following.tolist(),
        prefix=_prefixes(trace),
        tenants=trace.tenants,
        classes=named,
        block_tokens=trace.block_tokens,
        span=int(own.max() - own.min()) if len(own) else 0,
    )


def _followers(trace: Trace) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return which rows wait for the turn before them."""
    return (trace.session >= 0) & (_turn_before(trace) >= 0) & ~np.isnan(trace.tool_seconds)


def _turn_before(trace: Trace) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the row of the turn before each row in its session; -1 for none."""
    order = np.lexsort((np.arange(len(trace)), trace.turn, trace.session))
    before = np.full(len(trace), -1, dtype=np.int64)
    same = (trace.session[order[1:]] == trace.session[order[:-1]]) & (trace.session[order[1:]] >= 0)
    before[order[1:][same]] = order[:-1][same]
    return before


def _prefixes(trace: Trace) -> list[tuple[int, ...]]:
    """Return the ids of full blocks only: a partial last block is never shared."""
    if trace.prefix_ids is None or trace.prefix_offsets is None or trace.block_tokens < 1:
        return []
    ids = trace.prefix_ids.tolist()
    offsets = trace.prefix_offsets.tolist()
    full = (trace.prompt_tokens // trace.block_tokens).tolist()
    return [
        tuple(ids[offsets[row] : min(offsets[row + 1], offsets[row] + full[row])])
        for row in range(len(trace))
    ]


def assign_classes(
    trace: Trace, classes: Sequence[SloClass], seed: int
) -> tuple[list[int], tuple[SloClass, ...]]:
    """Give each request an SLO class, by the trace's own column or by the classes' shares.

    All turns of a session belong to one class.

    Raises:
        UserError: If the shares do not add up to 1, or the trace names a class that is not given.
    """
    if not classes:
        return [0] * len(trace), (SloClass("all"),)
    if trace.slo_class is not None:
        names = {c.name: index for index, c in enumerate(classes)}
        for name in trace.slo_classes:
            if name not in names:
                raise UserError(
                    f"the trace has SLO class {name!r}, which no --slo-class describes; "
                    f"given: {', '.join(names)}"
                )
        lookup = [names[name] for name in trace.slo_classes]
        return [lookup[index] for index in trace.slo_class.tolist()], tuple(classes)
    total = sum(c.share for c in classes)
    if abs(total - 1.0) > 1e-6:
        raise UserError(f"the shares of the SLO classes add up to {total:g}; they must add up to 1")
    edges = np.cumsum([c.share for c in classes])
    units = np.where(trace.session >= 0, trace.session, len(trace.sessions) + np.arange(len(trace)))
    draws = stream(seed, "slo-classes").random(len(trace.sessions) + len(trace))
    picks = np.searchsorted(edges, draws[units], side="right")
    return np.minimum(picks, len(classes) - 1).tolist(), tuple(classes)
