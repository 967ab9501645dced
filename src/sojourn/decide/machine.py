"""The state machine of one replica: the only code that changes the state of a request.

`handle` takes an event and returns actions; `plan` lets the compose slot fill a draft. The machine
knows nothing of blocks, clocks or networks: a host (the simulator's engine model, or the adapter
over vLLM's scheduler) carries the actions out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, cast

from sojourn.decide.actions import Action, DelayUntil, Drop, HoldUntil, Pause, Reject, Release, Swap
from sojourn.decide.clock import NEVER, Time
from sojourn.decide.events import (
    Arrival,
    Cancel,
    Event,
    Finish,
    MemoryPressure,
    StepEnd,
    SwapDone,
    Timer,
)
from sojourn.decide.limits import STORY_LENGTH, EngineLimits
from sojourn.decide.queues import GroupedQueue, Key, Queue, RankedQueue
from sojourn.decide.request import Request, RequestView
from sojourn.decide.slots import (
    Admit,
    Compose,
    ContestedOrder,
    Draft,
    GroupedOrder,
    Mode,
    Order,
    Retain,
    Victim,
    Yield,
)
from sojourn.decide.states import (
    CANCELLED,
    DECODE,
    DELAYED,
    ENDED,
    FINISHED,
    HELD,
    NAMES,
    PAUSED,
    PREFILL,
    REJECTED,
    SWAPPED,
    SWAPPING_IN,
    SWAPPING_OUT,
    TRANSITIONS,
    WAITING,
)


class IllegalMove(AssertionError):
    """A bug of ours: a state change that the table does not have; carries the request's story."""


@dataclass(slots=True)
class Policies:
    """One policy for each slot of a replica."""

    admit: Admit
    order: Order
    compose: Compose
    victim: Victim
    retain: Retain


class Machine:
    """The requests of one replica and the policies that decide about them.

    Attributes:
        limits: Engine limits; never change.
        policies: Set once by `install`, before the first event.
        queue: Holds exactly the requests that are waiting, paused or swapped.
        seated: Holds exactly those in prefill or decode, in the order in which they got a seat.
        partials: Holds exactly those in prefill, in that order too.
        paused, parked: Hold exactly the paused ones, worst rank first and best rank first.
        standings: Where seats are contested, exactly the decoding ones, worst standing first.
        granted: Ids granted prompt tokens by the draft in progress; they cannot yield in it.
        held: Holds exactly the held ones, by id, with their expiry.
        decodes: Number of requests in decode.
        steps: Steps ended.
        ticks: Decode steps ended; a decoding request has had `ticks - joined` since it was settled.
        story: The last state changes: time, request, start, finish.
        log: Where every state change is recorded, or None when tracing is off.
    """

    def __init__(self, limits: EngineLimits) -> None:
        self.limits = limits
        self.policies: Policies
        self.queue: Queue
        self.paused: RankedQueue
        self.parked: RankedQueue
        self.standings: RankedQueue | None = None
        self.seated: dict[int, Request] = {}
        self.partials: dict[int, Request] = {}
        self.granted: set[int] = set()
        self.held: dict[int, tuple[Request, Time]] = {}
        self.expiries: list[tuple[Time, int]] = []
        self.delayed: list[tuple[Time, int, Request]] = []
        self.decodes = 0
        self.steps = 0
        self.ticks = 0
        self.seatings = 0
        self.story: deque[tuple[Time, int, int, int]] = deque(maxlen=STORY_LENGTH)
        self.log: list[tuple[Time, int, int]] | None = None
        self.listeners: dict[type, list[Callable[[Any], Iterable[Action]]]] = {}

    def install(self, policies: Policies) -> None:
        """Set the policies and make the queues that the order asks for."""
        self.policies = policies
        order = policies.order
        if hasattr(order, "group_key"):
            grouped = cast(GroupedOrder, order)
            self.queue = GroupedQueue(grouped.group, grouped.group_key)
        else:
            self.queue = RankedQueue(order.key, order.changes == "worsens")

        def worst_first(request: Request, now: Time) -> Key:
            return tuple(-part for part in order.key(request, now))

        self.paused = RankedQueue(worst_first)
        self.parked = RankedQueue(order.key, order.changes == "worsens")
        if policies.compose.contests:
            contested = cast(ContestedOrder, order)

            def worst_standing(request: Request, now: Time) -> Key:
                return tuple(-part for part in contested.standing(request, now))

            self.standings = RankedQueue(worst_standing)

    def subscribe(self, kind: type, listener: Callable[[Any], Iterable[Action]]) -> None:
        """Let a policy see every event of a kind; the actions it returns go to the host."""
        self.listeners.setdefault(kind, []).append(listener)

    # Events

    def handle(self, event: Event) -> Sequence[Action]:
        """Take an event, change state, return what the host must do."""
        act = _HANDLERS.get(type(event))
        actions: Sequence[Action] = act(self, event) if act is not None else ()
        if self.listeners:
            heard = self.listeners.get(type(event), ())
            return [*actions, *(action for listen in heard for action in listen(event))]
        return actions

    def _arrival(self, event: Arrival) -> Sequence[Action]:
        request = event.request
        verdict = self.policies.admit.admit(request, len(self.queue), event.time)
        if verdict is None:
            self._move(request, WAITING, event.time)
            return ()
        if isinstance(verdict, DelayUntil):
            assert verdict.until > event.time, "a delay must end later"
            self._move(request, DELAYED, event.time)
            heappush(self.delayed, (verdict.until, request.id, request))
        else:
            self._move(request, REJECTED, event.time)
        return (verdict,)

    def _step_end(self, event: StepEnd) -> Sequence[Action]:
        self.steps += event.steps
        if event.decodes:
            self.ticks += event.steps
        for request, tokens in event.grants:
            start = request.computed
            request.computed = start + tokens
            if start < request.peak:
                request.recomputed += min(request.peak, request.computed) - start
            if request.computed >= request.target:
                assert request.computed == request.target, "computed more than there is"
                request.decoded += 1
                self._move(request, DECODE, event.time)
        return ()

    def _finish(self, event: Finish) -> Sequence[Action]:
        request = event.request
        until = self.policies.retain.until(request, event.time)
        if until > event.time:
            self._move(request, HELD, event.time)
            self.held[request.id] = (request, until)
            heappush(self.expiries, (until, request.id))
            return (HoldUntil(request, until),)
        self._move(request, FINISHED, event.time)
        return (Release(request, request.computed),)

    def _cancel(self, event: Cancel) -> Sequence[Action]:
        request = event.request
        if request.state in ENDED or request.state == HELD:
            return ()
        resident = request.state not in (WAITING, DELAYED, SWAPPED)
        self._move(request, CANCELLED, event.time)
        return (Release(request, request.computed if resident else 0),)

    def _swap_done(self, event: SwapDone) -> Sequence[Action]:
        request = event.request
        if request.state == SWAPPING_OUT:
            self._move(request, SWAPPED, event.time)
        elif request.state == SWAPPING_IN:
            self._move(request, PAUSED, event.time)
        return ()

    def _timer(self, event: Timer) -> Sequence[Action]:
        actions: list[Action] = []
        while self.delayed and self.delayed[0][0] <= event.time:
            request = heappop(self.delayed)[2]
            if request.state == DELAYED:
                actions.extend(self._arrival(Arrival(event.time, request)))
        while self.expiries and self.expiries[0][0] <= event.time:
            until, held = heappop(self.expiries)
            if held in self.held and self.held[held][1] == until:
                actions.append(self._let_go(held, event.time))
        return actions

    def _memory_pressure(self, event: MemoryPressure) -> Sequence[Action]:
        """Held KV goes first, then whom the victim slot names.

        If the policy names nobody, the last seated request is dropped for a seated one, and where
        nobody is seated the worst paused one is: growth must never deadlock.
        """
        if self.held:
            return (self._let_go(next(iter(self.held)), event.time),)
        wants = event.request
        choice = self.policies.victim.victim(self, wants, event.time)
        if choice is None and self.seated:
            if wants is not None and wants.id in self.seated:
                choice = Yield(next(iter(self.seated_last_first())), Mode.DROP)
        elif choice is None and (worst := self.worst_paused()) is not None and worst is not wants:
            choice = Yield(worst, Mode.DROP)
        return () if choice is None else (self.unseat(choice, event.time),)

    # What a draft asks for

    def plan(self, draft: Draft) -> None:
        """Ring due alarms, then let the compose slot fill the draft."""
        order = self.policies.order
        if order.alarm_time <= draft.now or order.alarm_step <= self.steps:
            for view in order.ring(draft.now):
                self._rekey(cast(Request, view), draft.now)
        self.policies.compose.compose(draft)

    def seat(self, request: Request, now: Time) -> Sequence[Action]:
        """Give a queued request whose KV, if any, is on the GPU a seat; a held turn lets go."""
        decoding = request.state == PAUSED and request.computed >= request.target
        if request.admitted < 0:
            request.admitted = now
        self._move(request, DECODE if decoding else PREFILL, now)
        if not self.held or request.program < 0:
            return ()
        old = [held for held, (r, _) in self.held.items() if r.program == request.program]
        return [self._let_go(held, now) for held in old]

    def unseat(self, choice: Yield, now: Time) -> Action:
        """Let a seated or paused request yield, and return what the host must do with its KV."""
        request = cast(Request, choice.request)
        if choice.mode is Mode.KEEP:
            self._move(request, PAUSED, now)
            return Pause(request)
        if choice.mode is Mode.SWAP:
            if request.state != PAUSED:
                self._move(request, PAUSED, now)
            self._move(request, SWAPPING_OUT, now)
            return Swap(request)
        if request.state == DECODE:
            self.settle(request)
        tokens = request.computed
        request.peak = max(request.peak, tokens)
        request.drops += 1
        request.computed = 0
        request.target = request.prompt + request.decoded
        self._move(request, WAITING, now)
        return Drop(request, tokens)

    def fetch(self, request: Request, now: Time) -> None:
        """Begin to bring a swapped request's KV back."""
        self._move(request, SWAPPING_IN, now)

    def settle(self, request: Request) -> None:
        """Bring a decoding request's token counts up to the present tick."""
        tokens = self.ticks - request.joined
        request.joined = self.ticks
        request.computed += tokens
        request.decoded += tokens

    def next_alarm(self) -> Time:
        """Return when `handle(Timer)` or a new plan is due although nothing else happened."""
        alarm = self.policies.order.alarm_time
        if self.delayed:
            alarm = min(alarm, self.delayed[0][0])
        if self.expiries:
            alarm = min(alarm, self.expiries[0][0])
        return alarm

    # What a victim policy may choose from

    def seated_last_first(self) -> Iterable[Request]:
        """Return the seated requests that may yield, last seated first."""
        return (r for r in reversed(self.seated.values()) if r.id not in self.granted)

    def worst_paused(self) -> Request | None:
        """Return the paused request with the worst rank."""
        return self.paused.peek(0)

    def worst_seated(self, now: Time) -> Request | None:
        """Return the seated request with the worst standing; only where seats are contested."""
        assert self.standings is not None, "seats are not contested"
        worst = self.standings.peek(now)
        if self.partials:
            standing = cast(ContestedOrder, self.policies.order).standing
            for request in self.partials.values():
                if request.id in self.granted:
                    continue
                if worst is None or (standing(request, now), request.arrival, request.id) > (
                    standing(worst, now),
                    worst.arrival,
                    worst.id,
                ):
                    worst = request
        if worst is not None and worst.state == DECODE:
            self.settle(worst)
        return worst

    # The mutator

    def _move(self, request: Request, finish: int, now: Time) -> None:
        """Change the state of a request: leave, tell the order, enter."""
        start = request.state
        if (start, finish) not in TRANSITIONS:
            raise IllegalMove(self.tell(request, finish))
        self.story.append((now, request.id, start, finish))
        if self.log is not None:
            self.log.append((now, request.id, finish))
        if start == DECODE:
            self.settle(request)
            self.decodes -= 1
            if self.standings is not None:
                self.standings.discard(request)
            del self.seated[request.id]
        elif start == PREFILL:
            del self.partials[request.id]
            if finish != DECODE:
                del self.seated[request.id]
        elif start in (WAITING, PAUSED, SWAPPED):
            self.queue.discard(request)
            if start == PAUSED:
                self.paused.discard(request)
                self.parked.discard(request)
        request.state = finish
        request.since = now
        self.policies.order.moved(request, start, finish, now)
        self._enter(request, start, now)

    def _enter(self, request: Request, start: int, now: Time) -> None:
        state = request.state
        if state == DECODE:
            self.decodes += 1
            request.joined = self.ticks
            if start == PAUSED:
                self._take_seat(request)
            if self.standings is not None:
                self.standings.push(request, now)
        elif state == PREFILL:
            self._take_seat(request)
            self.partials[request.id] = request
        elif state in (WAITING, PAUSED, SWAPPED):
            if state == PAUSED:
                self.paused.push(request, now)
                self.parked.push(request, now)
                request.pauses += start in (PREFILL, DECODE)
            self.queue.push(request, now)

    def _take_seat(self, request: Request) -> None:
        assert len(self.seated) < self.limits.max_num_seqs, "more requests than seats"
        self.seatings += 1
        request.seat = self.seatings
        self.seated[request.id] = request

    def _rekey(self, request: Request, now: Time) -> None:
        """Ask the order for a request's key again, wherever it is ranked."""
        if request.state in (WAITING, PAUSED, SWAPPED):
            self.queue.push(request, now)
            if request.state == PAUSED:
                self.paused.push(request, now)
                self.parked.push(request, now)
        elif request.state == DECODE and self.standings is not None:
            self.settle(request)
            self.standings.push(request, now)

    def _let_go(self, held: int, now: Time) -> Release:
        request = self.held.pop(held)[0]
        self._move(request, FINISHED, now)
        return Release(request, request.computed)

    def tell(self, request: Request, finish: int) -> str:
        """Return the story of a request that ends in an illegal move."""
        past = [f"{NAMES[s]} -> {NAMES[f]} at {t}" for t, i, s, f in self.story if i == request.id]
        return f"request {request.id}: {NAMES[request.state]} -> {NAMES[finish]} after {past}"


_HANDLERS: dict[type, Callable[[Machine, Any], Sequence[Action]]] = {
    Arrival: Machine._arrival,
    Cancel: Machine._cancel,
    StepEnd: Machine._step_end,
    Finish: Machine._finish,
    SwapDone: Machine._swap_done,
    Timer: Machine._timer,
    MemoryPressure: Machine._memory_pressure,
}
