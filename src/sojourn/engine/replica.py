"""One engine instance in virtual time: it plans, runs as many identical steps as it may, advances.

Between two events the batch is constant, so a run of decode steps is one closed formula: a decode
clock instead of a counter per request, a histogram of when blocks are needed, a heap of finishes.
Truncating a run at any step boundary and planning again gives the same states (docs: invariants).
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from sojourn.decide.actions import Action, DelayUntil, Drop, HoldUntil, Pause, Reject, Release, Swap
from sojourn.decide.clock import NEVER, Time
from sojourn.decide.events import Arrival, Cancel, Finish, StepEnd, SwapDone, Timer
from sojourn.decide.limits import HORIZON_STEPS
from sojourn.decide.machine import Machine
from sojourn.decide.request import Request
from sojourn.decide.services import StepTime
from sojourn.decide.slots import Mode
from sojourn.decide.states import DECODE, SWAPPING_IN, SWAPPING_OUT
from sojourn.engine.blocks import BlockPool
from sojourn.engine.draft import StepDraft
from sojourn.engine.gaps import LongestGaps

Row = tuple[Time, Time, int, int, int, int, int, int, int]
"""start, duration, steps, prefill tokens, prompts, decodes, waiting, paused, blocks in use."""


class Replica:
    """A machine, its blocks and the run of steps in progress.

    Attributes:
        outputs: True output lengths by request id; nothing above the engine reads them.
        context: KV tokens that the next decode step reads, over all decoding requests.
        phases: Decoding requests by the tick, modulo the block size, at which they need a block.
        finishes: Heap of (tick, seat, request); an entry is live while seat and tick still match.
        fresh: Requests that joined the decodes since the last decode step.
        start, steps, duration: The run in progress; `steps` is 0 when idle.
        ended: Called with each request that got its last token, was shed or was cancelled.
    """

    def __init__(
        self,
        index: int,
        machine: Machine,
        step_time: StepTime,
        ended: Callable[[Request, Time, str], None],
        swap_block_time: Time = 0,
        max_horizon: int = HORIZON_STEPS,
    ) -> None:
        self.index = index
        self.machine = machine
        self.step_time = step_time
        self.ended = ended
        self.swap_block_time = swap_block_time
        self.max_horizon = max_horizon
        self.pool = BlockPool(machine.limits)
        self.phases = [0] * machine.limits.block_size
        self.draft = StepDraft(machine, self.pool, self.phases, self._carry_out)
        self.draft.on_fetch = self._copy
        self.draft.join = self._join
        self.outputs: dict[int, int] = {}
        self.context = 0
        self.finishes: list[tuple[int, int, Request]] = []
        self.fresh: list[Request] = []
        self.gaps = LongestGaps()
        self.last_tick: Time = 0
        self.swaps: list[tuple[Time, int, Request]] = []
        self.link_free: Time = 0
        self.swap_used = 0
        self.outgoing = 0
        self.start: Time = 0
        self.steps = 0
        self.duration: Time = 0
        self.head: Request | None = None
        self.rows: list[Row] = []

    # What a router may read

    @property
    def waiting(self) -> int:
        """Requests queued for a seat."""
        return len(self.machine.queue)

    @property
    def seated(self) -> int:
        """Requests with a seat."""
        return len(self.machine.seated)

    @property
    def end(self) -> Time:
        """When the run in progress ends; NEVER when idle."""
        return self.start + self.duration if self.steps else NEVER

    # Events from the host

    def submit(self, request: Request, output: int, now: Time) -> bool:
        """Take an arrival; return whether the run in progress (or idleness) must end for it."""
        assert output > 0, "a request generates at least one token"
        self.outputs[request.id] = output
        order = self.machine.policies.order
        if order.minds_arrivals and self.steps > 1:
            self._catch_up(now)
        for action in self.machine.handle(Arrival(now, request)):
            if isinstance(action, Reject):
                self.ended(request, now, action.reason)
            elif isinstance(action, DelayUntil):
                return True
        if self.steps == 0:
            return True
        return (
            self.head is None
            or order.minds_arrivals
            or self.machine.queue.peek(now) is not self.head
        )

    def cancel(self, request: Request, now: Time) -> None:
        """Take a cancellation, at a step boundary only."""
        assert self.steps == 0, "cancelled inside a step"
        for action in self.machine.handle(Cancel(now, request)):
            self._carry_out(action)
            self.ended(request, now, "client gone")

    def interrupt(self, now: Time) -> Time:
        """End the run in progress at its first step boundary at or after `now`; return that."""
        if self.steps > 1 and now < self.start + self.duration:
            decodes = self.machine.decodes
            steps = self.step_time.steps_until(decodes, self.context, now - self.start)
            if steps < self.steps:
                self.steps = steps
                self.duration = self.step_time.run(decodes, self.context, steps)
        return self.end

    # Planning

    def begin(self, now: Time) -> Time:
        """Plan at a step boundary and begin the run; return when to call again, or NEVER."""
        assert self.steps == 0, "planned inside a run"
        machine, draft = self.machine, self.draft
        alarm = self._ring(now)
        draft.begin(now)
        self._prepare(now)
        machine.plan(draft)
        decodes = machine.decodes if draft.decoding else 0
        self.start = now
        grants = draft.grants
        self.head = machine.queue.peek(now)
        if grants:
            prefill = machine.limits.max_num_batched_tokens - draft.tokens - decodes
            self.steps = 1
            self.duration = self.step_time.step(
                prefill,
                draft.pairs,
                draft.prior,
                len(grants),
                decodes,
                self.context if decodes else 0,
            )
        elif decodes:
            prefill = 0
            self.steps = self._horizon(decodes)
            self.duration = self.step_time.run(decodes, self.context, self.steps)
            alarm = min(alarm, machine.next_alarm(), self._next_swap())
            if now + self.duration > alarm and self.steps > 1:
                self.interrupt(alarm)
        else:
            alarm = min(alarm, machine.next_alarm(), self._next_swap())
            assert alarm < NEVER or not len(machine.queue), "requests wait and nothing can run"
            return alarm
        paused = len(machine.paused)
        self.rows.append(
            (
                now,
                0,
                0,
                prefill,
                len(grants),
                decodes,
                len(machine.queue) - paused,
                paused,
                self.pool.total - self.pool.free,
            )
        )
        return now + self.duration

    def _ring(self, now: Time) -> Time:
        """Take the timers and finished copies that are due; return the next one's time."""
        while self.swaps and self.swaps[0][0] <= now:
            request = heappop(self.swaps)[2]
            blocks = -(-request.computed // self.pool.block_size)
            if request.state == SWAPPING_OUT:
                self.pool.release(request, request.computed, again=False)
                self.outgoing -= blocks
            elif request.state == SWAPPING_IN:
                self.swap_used -= blocks
            self.machine.handle(SwapDone(now, request))
        if self.machine.delayed or self.machine.expiries:
            for action in self.machine.handle(Timer(now)):
                if isinstance(action, Reject):
                    self.ended(action.request, now, action.reason)
                else:
                    self._carry_out(action)
        return NEVER

    def _prepare(self, now: Time) -> None:
        """Let the victim slot make room ahead of need."""
        victim = self.machine.policies.victim
        while True:
            choice = victim.prepare(self.machine, self.pool.free + self.outgoing)
            if choice is None:
                return
            room = self.machine.limits.swap_blocks - self.swap_used
            if choice.mode is Mode.SWAP and -(-choice.request.computed // 16) > room:
                return
            self._carry_out(self.machine.unseat(choice, now))

    def _next_swap(self) -> Time:
        return self.swaps[0][0] if self.swaps else NEVER

    def _horizon(self, decodes: int) -> int:
        """Return for how many steps the same decodes may run without a new plan."""
        machine = self.machine
        if self.draft.yielded or self.draft.unsettled:
            return 1
        while True:
            tick, seat, request = self.finishes[0]
            if request.seat == seat and request.finish_tick == tick:
                break
            heappop(self.finishes)
        steps = min(tick - machine.ticks, self.max_horizon)
        order = machine.policies.order
        steps = min(steps, order.alarm_step - machine.steps)
        if self.draft.blocked and self.head is not None:
            hold_steps, until = order.holds(self.head, self.start)
            steps = min(steps, max(hold_steps, 1))
            if until < NEVER:
                steps = min(
                    steps,
                    self.step_time.steps_until(decodes, self.context, max(until - self.start, 1)),
                )
        free = self.pool.free
        if decodes * (steps // self.pool.block_size + 1) > free:
            steps = min(steps, self._steps_that_fit(decodes, free))
        spare = free + self.outgoing - machine.policies.victim.keep_free
        if len(machine.paused) and spare < free:
            steps = min(steps, self._steps_that_fit(decodes, spare) + 1 if spare >= 0 else 1)
        assert steps >= 1
        return steps

    def _steps_that_fit(self, decodes: int, blocks: int) -> int:
        """Return how many steps `blocks` free blocks last; those of the first are taken already."""
        size = self.pool.block_size
        cycles, left = divmod(blocks, decodes)
        steps = 1 + cycles * size
        while (growth := self.phases[(self.machine.ticks + steps) % size]) <= left:
            left -= growth
            steps += 1
        return steps

    # Advancing

    def advance(self) -> Time:
        """End the run in progress: deliver its tokens, see who finished; return the time."""
        machine, draft = self.machine, self.draft
        now = self.start + self.duration
        steps, row = self.steps, self.rows[-1]
        decodes = row[5]
        self.rows[-1] = (row[0], self.duration, steps, *row[3:])
        if decodes:
            self._gaps_of_run(now, steps, decodes)
            self.context += decodes * steps
            if steps > 1:
                self._take_growth(decodes, steps)
        self.steps = 0
        draft.decoding = False
        machine.handle(StepEnd(now, steps, decodes > 0, tuple(draft.grants)))
        if decodes:
            self.last_tick = now
        for request, _ in draft.grants:
            if request.state == DECODE:
                self._first_or_next_token(request, now)
        finishes, ticks = self.finishes, machine.ticks
        while finishes and finishes[0][0] <= ticks:
            tick, seat, request = heappop(finishes)
            if request.seat == seat and request.finish_tick == tick:
                self._finish(request, now)
        return now

    def _catch_up(self, now: Time) -> None:
        """Split the run in progress at its last step boundary before `now`."""
        left, decodes = self.steps, self.machine.decodes
        done = self.step_time.steps_until(decodes, self.context, now - self.start) - 1
        if done < 1:
            return
        self.steps = done
        self.duration = self.step_time.run(decodes, self.context, done)
        self.start = self.advance()
        self.steps = left - done
        self.duration = self.step_time.run(decodes, self.context, self.steps)
        self.draft.decoding = True
        self.pool.take(self.phases[self.machine.ticks % self.pool.block_size])
        used = self.pool.total - self.pool.free
        self.rows.append((self.start, *self.rows[-1][1:8], used))

    def _gaps_of_run(self, now: Time, steps: int, decodes: int) -> None:
        """Note how long streams paused: before the first step of the run, and inside it."""
        first = self.step_time.run(decodes, self.context, 1) if steps > 1 else self.duration
        ended = self.start + first
        ticks = self.machine.ticks
        if self.fresh:
            for request in self.fresh:
                if request.state == DECODE:
                    request.gap = max(request.gap, ended - request.token_time)
                    request.gap_tick = ticks + 1
            self.fresh.clear()
        self.gaps.push(ticks + 1, ended - self.last_tick)
        if steps > 1:
            before = self.step_time.run(decodes, self.context, steps - 1)
            self.gaps.push(ticks + steps, self.duration - before)

    def _take_growth(self, decodes: int, steps: int) -> None:
        """Take the blocks of all steps of the run but the first, which has them."""
        size = self.pool.block_size
        cycles, rest = divmod(steps - 1, size)
        growth = cycles * decodes
        at = self.machine.ticks + 1
        for step in range(rest):
            growth += self.phases[(at + step) % size]
        self.pool.take(growth)

    def _first_or_next_token(self, request: Request, now: Time) -> None:
        """Note the token that a completed prompt gives, and let the request decode."""
        if request.first_token < 0:
            request.first_token = now
        else:
            request.gap = max(request.gap, now - request.token_time)
        request.token_time = now
        self._join(request)

    def _join(self, request: Request) -> None:
        """Add a request in decode to the clock, the histogram and the finishes."""
        request.phase = self.pool.phase(request)
        self.phases[request.phase] += 1
        self.context += request.computed + 1
        request.finish_tick = (
            self.machine.ticks + self.outputs[request.id] - request.decoded
        )
        heappush(self.finishes, (request.finish_tick, request.seat, request))
        self.fresh.append(request)
        request.gap_tick = NEVER

    def _leave(self, request: Request, tokens: int) -> None:
        """Take a request out of the decodes."""
        self.phases[request.phase] -= 1
        self.context -= tokens + 1
        request.finish_tick = -1
        if self.draft.took_growth(request):
            self.pool.give(1)
        if request.gap_tick != NEVER:
            request.gap = max(request.gap, self.gaps.longest_after(request.gap_tick))
            request.token_time = self.last_tick

    def _finish(self, request: Request, now: Time) -> None:
        actions = self.machine.handle(Finish(now, request))
        request.finish = now
        for action in actions:
            self._carry_out(action)
        del self.outputs[request.id]
        self.ended(request, now, "")

    def _carry_out(self, action: Action) -> None:
        """Do the mechanics of what the machine decided."""
        if isinstance(action, Release):
            if action.request.finish_tick >= 0:
                self._leave(action.request, action.tokens)
            self.pool.release(action.request, action.tokens, again=False)
        elif isinstance(action, Drop):
            if action.request.finish_tick >= 0:
                self._leave(action.request, action.tokens)
            self.pool.release(action.request, action.tokens, again=True)
        elif isinstance(action, Pause | HoldUntil | Swap):
            request = action.request
            if request.finish_tick >= 0:
                self._leave(request, request.computed)
            if isinstance(action, Swap):
                blocks = -(-request.computed // self.pool.block_size)
                self.outgoing += blocks
                self.swap_used += blocks
                self._copy(request, blocks)

    def _copy(self, request: Request, blocks: int) -> None:
        """Queue a copy over the link to host memory; copies follow one another."""
        begin = max(self.link_free, self.draft.now)
        self.link_free = begin + blocks * self.swap_block_time
        heappush(self.swaps, (self.link_free, request.id, request))
