"""What a simulated replica did: a row for each run of steps, and the pauses inside streams."""

from __future__ import annotations

from array import array
from typing import Final

from sojourn.decide.clock import NEVER, Time
from sojourn.decide.request import Request
from sojourn.decide.states import DECODE
from sojourn.engine.replica import Replica
from sojourn.sim.gaps import LongestGaps

ROW_FIELDS: Final = 12
"""Those of `steplog.record.StepColumns` in their order, without the replica."""


class RunRecorder:
    """The recorder of one replica (see `engine.replica.Recorder`).

    Attributes:
        rows: Finished runs of steps, `ROW_FIELDS` numbers for each, one after another.
        open: The row of the run in progress, without its duration and steps.
        gaps: Longest times between decode steps.
        fresh: Requests that joined the decodes since the last decode step: the time since the step
            before is not theirs.
        last_tick: When the last decode step ended.
    """

    def __init__(self) -> None:
        self.rows = array("q")
        self.open: tuple[int, int, int, int, int, int, int, int, int] = (0,) * 9
        self.gaps = LongestGaps()
        self.fresh: list[Request] = []
        self.last_tick: Time = 0

    def begun(self, replica: Replica, prefill_tokens: int, decodes: int) -> None:
        """Note the state at the beginning of a run."""
        machine, pool, draft = replica.machine, replica.pool, replica.draft
        paused = len(machine.paused)
        self.open = (
            prefill_tokens,
            len(draft.grants),
            decodes,
            len(machine.queue) - paused,
            paused,
            pool.total - pool.free,
            draft.pairs,
            draft.prior,
            replica.context if decodes else 0,
        )

    def ended(self, replica: Replica, now: Time, decodes: int) -> None:
        """Add the row, and the pauses before the first step of the run and inside it."""
        start, steps, duration = replica.start, replica.steps, replica.duration
        self.rows.extend((start, duration, steps, *self.open))
        if not decodes:
            return
        ticks = replica.machine.ticks
        step_time, context = replica.step_time, replica.context
        first = step_time.run(decodes, context, 1) if steps > 1 else duration
        if self.fresh:
            for request in self.fresh:
                if request.state == DECODE:
                    request.gap = max(request.gap, start + first - request.token_time)
                    request.gap_tick = ticks + 1
            self.fresh.clear()
        self.gaps.push(ticks + 1, start + first - self.last_tick)
        if steps > 1:
            last = duration - step_time.run(decodes, context, steps - 1)
            self.gaps.push(ticks + steps, last)
        self.last_tick = now

    def joined(self, request: Request, token: Time | None) -> None:
        """Note a token that a prompt gave; the stream's pauses count from here."""
        if token is not None:
            if request.first_token < 0:
                request.first_token = token
            else:
                request.gap = max(request.gap, token - request.token_time)
            request.token_time = token
        self.fresh.append(request)
        request.gap_tick = NEVER

    def left(self, request: Request) -> None:
        """Look up the longest pause of the time that it decoded."""
        if request.gap_tick != NEVER:
            request.gap = max(request.gap, self.gaps.longest_after(request.gap_tick))
            request.token_time = self.last_tick
        elif request in self.fresh:  # it goes on elsewhere: this replica's next step is not its own
            self.fresh.remove(request)
