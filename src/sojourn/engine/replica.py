"""One engine instance in virtual time: it plans, runs as many identical steps as it may, advances.

Between two events the batch is constant, so a run of decode steps is one closed formula: a decode
clock instead of a counter per request, a histogram of when blocks are needed, a heap of finishes.
Truncating a run at any step boundary and planning again gives the same states (docs: invariants).
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol

from sojourn.decide.actions import Action, DelayUntil, Drop, HoldUntil, Pause, Reject, Release, Swap
from sojourn.decide.clock import NEVER, Time
from sojourn.decide.events import Arrival, Cancel, Depart, Finish, StepEnd, SwapDone, Timer
from sojourn.decide.limits import HORIZON_STEPS
from sojourn.decide.machine import Machine
from sojourn.decide.request import Request
from sojourn.decide.services import StepTime
from sojourn.decide.states import DECODE, SWAPPING_OUT
from sojourn.engine.blocks import BlockPool
from sojourn.engine.draft import StepDraft
from sojourn.engine.host_memory import HostMemory


class Recorder(Protocol):
    """Takes note of what a replica does; nothing in the engine reads it back."""

    def begun(self, replica: Replica, prefill_tokens: int, decodes: int) -> None:
        """Note that a run of steps began."""

    def ended(self, replica: Replica, now: Time, decodes: int) -> None:
        """Note that the run ended; the machine still stands at its beginning."""

    def joined(self, request: Request, token: Time | None) -> None:
        """Note that a request decodes from now on, and when its prompt gave a token, if so."""

    def left(self, request: Request) -> None:
        """Note that a request no longer decodes."""


class Replica:
    """A machine, its blocks and the run of steps in progress.

    Attributes:
        outputs: True output lengths by request id; nothing above the engine reads them.
        inbox: Arrivals during a run that the order wants to see at its next boundary.
        context: KV tokens that the next decode step reads, over all decoding requests.
        phases: Decoding requests by the tick, modulo the block size, at which they need a block.
        finishes: Heap of (tick, seat, request); an entry is live while seat and tick still match.
        start, steps, duration: The run in progress; `steps` is 0 when idle.
        ended: Called with each request that got its last token, was shed or was cancelled.
        chores: What is to be done at the next step boundary, before the plan.
        exports: Requests that left and tokens of theirs whose KV is still read from here, by id.
        hand_over: Called with each request whose prompt gave its first token, unless it was its
            last; None where prompts and decodes run together.
    """

    def __init__(
        self,
        index: int,
        machine: Machine,
        step_time: StepTime,
        ended: Callable[[Request, Time, str], None],
        recorder: Recorder,
        swap_block_time: Time = 0,
        max_horizon: int = HORIZON_STEPS,
    ) -> None:
        self.index = index
        self.machine = machine
        machine.seatings = index << 40  # a seat's number says whose it is: requests move
        self.step_time = step_time
        self.ended = ended
        self.recorder = recorder
        self.max_horizon = max_horizon
        self.pool = BlockPool(machine.limits)
        self.host = HostMemory(machine.limits.swap_blocks, swap_block_time)
        self.phases = [0] * machine.limits.block_size
        self.draft = StepDraft(machine, self.pool, self.host, self.phases)
        self.draft.carry_out = self._carry_out
        self.draft.join = self._join
        self.outputs: dict[int, int] = {}
        self.inbox: list[Request] = []
        self.chores: list[Callable[[Time], None]] = []
        self.exports: dict[int, tuple[Request, int]] = {}
        self.hand_over: Callable[[Request, Time], None] | None = None
        self.context = 0
        self.finishes: list[tuple[int, int, Request]] = []
        self.start: Time = 0
        self.steps = 0
        self.duration: Time = 0
        self.head: Request | None = None

    @property
    def awaits(self) -> bool:
        """Whether KV is on its way from here or to here, whose arrival will change what fits."""
        return bool(self.exports or self.pool.landed)

    def submit(self, request: Request, output: int, now: Time) -> bool:
        """Take an arrival; return whether the run in progress (or idleness) must end for it."""
        assert output > 0, "a request generates at least one token"
        self.outputs[request.id] = output
        if self.steps and self.machine.policies.order.minds_arrivals:
            self.inbox.append(request)
            return True
        delayed = self._let_in(request, now)
        idle = self.steps == 0 or delayed or self.head is None
        return idle or self.machine.queue.peek(now) is not self.head

    def _let_in(self, request: Request, now: Time) -> bool:
        """Tell the machine of an arrival; return whether it was put off."""
        actions = self.machine.handle(Arrival(now, request))
        for action in actions:
            if isinstance(action, Reject):
                self.ended(request, now, action.reason)
        return bool(actions) and isinstance(actions[0], DelayUntil)

    def cancel(self, request: Request, now: Time) -> None:
        """Take a cancellation, at a step boundary only."""
        assert self.steps == 0, "cancelled inside a step"
        if request in self.inbox:
            self.inbox.remove(request)
        self.host.forget(request, self.pool.blocks_at(request, request.computed))
        self.pool.unland(request)
        for action in self.machine.handle(Cancel(now, request)):
            self._carry_out(action)
            self.ended(request, now, "client gone")
        self.outputs.pop(request.id, None)

    def depart(self, request: Request, now: Time, keep: bool = False) -> int:
        """Let a request go to another replica, at a step boundary; return its tokens of KV.

        With `keep` the KV stays, to be read from elsewhere, until `release_export`.
        """
        assert self.steps == 0, "left inside a step"
        if request in self.inbox:
            self.inbox.remove(request)
        self.host.forget(request, self.pool.blocks_at(request, request.computed))
        self.pool.unland(request)
        (action,) = (a for a in self.machine.handle(Depart(now, request)) if isinstance(a, Release))
        del self.outputs[request.id]
        if keep:
            if request.finish_tick >= 0:
                self._leave(request, action.tokens)
            self.exports[request.id] = (request, action.tokens)
        else:
            self._carry_out(action)
        return action.tokens

    def release_export(self, id: int) -> None:
        """Give back the blocks of KV that has been read, or will not be."""
        request, tokens = self.exports.pop(id)
        self.pool.release(request, tokens, again=False)

    def at_boundary(self, chore: Callable[[Time], None], now: Time) -> Time:
        """Have something done at the next step boundary, before the plan; return when that is."""
        self.chores.append(chore)
        return self.interrupt(now) if self.steps else now

    def progress(self, now: Time) -> int:
        """Return how many steps of the run in progress ended before `now`."""
        if self.steps <= 1:
            return 0
        steps = self.step_time.steps_until(self.machine.decodes, self.context, now - self.start)
        return min(steps, self.steps) - 1

    def halt(self, now: Time) -> None:
        """Stop for good: of the run in progress only the steps that ended before `now` count."""
        if done := self.progress(now):
            self.steps = done
            self.duration = self.step_time.run(self.machine.decodes, self.context, done)
            self.advance()
        self.steps = 0
        self.draft.decoding = False

    def lose(self, request: Request, now: Time) -> None:
        """After `halt`: let a request go with its tokens; its KV is lost with everything here."""
        if request in self.inbox:
            self.inbox.remove(request)
        else:
            self.machine.handle(Depart(now, request))
        if request.finish_tick >= 0:
            request.finish_tick = -1
            self.recorder.left(request)

    def interrupt(self, now: Time) -> Time:
        """End the run in progress at its first step boundary at or after `now`; return that."""
        if self.steps > 1 and now < self.start + self.duration:
            decodes = self.machine.decodes
            steps = self.step_time.steps_until(decodes, self.context, now - self.start)
            if steps < self.steps:
                self.steps = steps
                self.duration = self.step_time.run(decodes, self.context, steps)
        return self.start + self.duration

    def begin(self, now: Time) -> Time:
        """Plan at a step boundary and begin the run; return when to call again, or NEVER."""
        assert self.steps == 0, "planned inside a run"
        machine, draft = self.machine, self.draft
        self._ring(now)
        draft.begin(now)
        self.pool.lasting = self.pool.total
        self._prepare(now)
        machine.plan(draft)
        decodes = machine.decodes if draft.decoding else 0
        tokens = machine.limits.max_num_batched_tokens - draft.tokens - decodes
        alarm = min(machine.next_alarm(), self.host.next_end())
        self.start = now
        self.head = machine.queue.peek(now)
        if not tokens and not decodes:
            stuck = alarm == NEVER and len(machine.queue) and not self.awaits
            assert not stuck, "requests wait and nothing can run"
            return alarm
        context = self.context if decodes else 0
        if tokens:
            self.steps = 1
            prefill = (tokens, draft.pairs, draft.prior, len(draft.grants))
            self.duration = self.step_time.step(*prefill, decodes, context)
        else:
            self.steps, until = self._horizon(decodes)
            self.duration = self.step_time.run(decodes, context, self.steps)
            self.interrupt(min(alarm, until))
        self.recorder.begun(self, tokens, decodes)
        return now + self.duration

    def _ring(self, now: Time) -> None:
        """Take the arrivals, the copies that have ended and the timers that are due."""
        self.machine.returned.clear()
        while self.chores:
            self.chores.pop(0)(now)
        while self.inbox:
            self._let_in(self.inbox.pop(0), now)
        while (request := self.host.ended(now)) is not None:
            if request.state == SWAPPING_OUT:
                self.pool.release(request, request.computed, again=False)
            self.machine.handle(SwapDone(now, request))
        if self.machine.delayed or self.machine.expiries:
            for action in self.machine.handle(Timer(now)):
                if isinstance(action, Reject):
                    self.ended(action.request, now, action.reason)
                self._carry_out(action)

    def _prepare(self, now: Time) -> None:
        """Let the victim slot make room ahead of need."""
        machine, prepare = self.machine, self.machine.policies.victim.prepare
        while choice := machine.allowed(prepare(machine, self.pool.free + self.host.outgoing)):
            self._carry_out(machine.unseat(choice, now))

    def _horizon(self, decodes: int) -> tuple[int, Time]:
        """Return for how many steps, and until when, the same decodes may run without a plan."""
        machine, draft, order = self.machine, self.draft, self.machine.policies.order
        free = self.pool.free
        lasting = min(free, self.pool.lasting)
        copying = machine.returned or (draft.blocked and self.host.outgoing)
        if draft.yielded or draft.unsettled or copying or lasting < 0:
            return 1, NEVER
        while True:
            tick, seat, request = self.finishes[0]
            if request.seat == seat and request.finish_tick == tick:
                break
            heappop(self.finishes)
        alarm_step = min(order.alarm_step, machine.policies.compose.alarm_step)
        steps = min(tick - machine.ticks, alarm_step - machine.steps, self.max_horizon)
        until = NEVER
        if draft.blocked and self.head is not None:
            hold_steps, until = order.holds(self.head, self.start)
            steps = min(steps, max(hold_steps, 1))
        if decodes * (steps // self.pool.block_size + 1) > lasting:
            steps = min(steps, self._steps_that_fit(decodes, lasting))
        spare = free + self.host.outgoing - machine.policies.victim.keep_free
        if len(machine.paused) and spare < free:
            steps = min(steps, self._steps_that_fit(decodes, spare) + 1 if spare >= 0 else 1)
        assert steps >= 1
        return steps, until

    def _steps_that_fit(self, decodes: int, blocks: int) -> int:
        """Return how many steps `blocks` free blocks last; those of the first are taken already."""
        size = self.pool.block_size
        cycles, left = divmod(blocks, decodes)
        steps = 1 + cycles * size
        while (growth := self.phases[(self.machine.ticks + steps) % size]) <= left:
            left -= growth
            steps += 1
        return steps

    def advance(self) -> Time:
        """End the run in progress: deliver its tokens, see who finished; return the time."""
        machine, draft = self.machine, self.draft
        now = self.start + self.duration
        steps = self.steps
        decodes = machine.decodes if draft.decoding else 0
        self.recorder.ended(self, now, decodes)
        self.context += decodes * steps
        if decodes and steps > 1:
            self._take_growth(decodes, steps)
        self.steps = 0
        draft.decoding = False
        machine.handle(StepEnd(now, steps, decodes > 0, tuple(draft.grants)))
        for request, _ in draft.grants:
            if request.state == DECODE:
                self._join(request, now)
                if self.hand_over is not None and request.finish_tick > machine.ticks:
                    self.hand_over(request, now)
        while self.finishes and self.finishes[0][0] <= machine.ticks:
            tick, seat, request = heappop(self.finishes)
            if request.seat == seat and request.finish_tick == tick:
                self._finish(request, now)
        return now

    def _take_growth(self, decodes: int, steps: int) -> None:
        """Take the blocks of all steps of the run but the first, which has them."""
        self.pool.take(self.growth(decodes, steps - 1))

    def growth(self, decodes: int, steps: int) -> int:
        """Return the blocks that the `steps` steps after the first of the run take."""
        size, at = self.pool.block_size, self.machine.ticks + 1
        cycles, rest = divmod(steps, size)
        return cycles * decodes + sum(self.phases[(at + step) % size] for step in range(rest))

    def _join(self, request: Request, token: Time | None = None) -> None:
        """Add a request in decode to the clock, the histogram and the finishes."""
        request.phase = self.pool.phase(request)
        self.phases[request.phase] += 1
        self.context += request.computed + 1
        request.finish_tick = self.machine.ticks + self.outputs[request.id] - request.decoded
        heappush(self.finishes, (request.finish_tick, request.seat, request))
        self.recorder.joined(request, token)

    def _leave(self, request: Request, tokens: int) -> None:
        """Take a request out of the decodes."""
        self.phases[request.phase] -= 1
        self.context -= tokens + 1
        request.finish_tick = -1
        if self.draft.took_growth(request):
            self.pool.give(1)
        self.recorder.left(request)

    def _finish(self, request: Request, now: Time) -> None:
        request.finish = now
        for action in self.machine.handle(Finish(now, request)):
            self._carry_out(action)
        del self.outputs[request.id]
        self.ended(request, now, "")

    def _carry_out(self, action: Action) -> None:
        """Do the mechanics of what the machine decided."""
        if isinstance(action, Release | Drop):
            if action.request.finish_tick >= 0:
                self._leave(action.request, action.tokens)
            self.pool.release(action.request, action.tokens, again=isinstance(action, Drop))
        elif isinstance(action, Pause | HoldUntil):
            if action.request.finish_tick >= 0:
                self._leave(action.request, action.request.computed)
        elif isinstance(action, Swap):
            blocks = self.pool.blocks_at(action.request, action.request.computed)
            self.host.copy(action.request, blocks, True, self.draft.now)
            self.machine.swap_room = self.host.blocks - self.host.used
