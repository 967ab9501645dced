"""The state machine of one replica: the only code that changes the state of a request.

`handle` takes an event and returns actions; `plan` lets the compose slot fill a draft. The machine
knows nothing of blocks, clocks or networks: a host (the simulator's engine model, or the adapter
over vLLM's scheduler) carries the actions out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any, cast

from sojourn.decide import events, slots
from sojourn.decide import states as st
from sojourn.decide.actions import Action, DelayUntil, Drop, HoldUntil, Pause, Release, Swap
from sojourn.decide.clock import NEVER, Time
from sojourn.decide.limits import STORY_LENGTH, EngineLimits
from sojourn.decide.queues import GroupedQueue, Key, Queue, RankedQueue
from sojourn.decide.request import Request, RequestView
from sojourn.decide.slots import ContestedOrder, GroupedOrder, Mode, Yield


class IllegalMove(AssertionError):
    """A bug of ours: a state change that the table does not have; carries the request's story."""


@dataclass(slots=True)
class Policies:
    """One policy for each slot of a replica."""

    admit: slots.Admit
    order: slots.Order
    compose: slots.Compose
    victim: slots.Victim
    retain: slots.Retain


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
        swap_room: Blocks that host memory has room for; the host keeps it current.
        returned: Ids whose KV came back at this very plan; the host empties it before the next.
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
        self.swap_room = 0
        self.returned: set[int] = set()
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
        self.paused = RankedQueue(_worst_first(order.key))
        self.parked = RankedQueue(order.key, order.changes == "worsens")
        if policies.compose.contests:
            self.standings = RankedQueue(_worst_first(cast(ContestedOrder, order).standing))

    def subscribe(self, kind: type, listener: Callable[[Any], Iterable[Action]]) -> None:
        """Let a policy see every event of a kind; the actions it returns go to the host."""
        self.listeners.setdefault(kind, []).append(listener)

    def handle(self, event: events.Event) -> Sequence[Action]:
        """Take an event, change state, return what the host must do."""
        act = _HANDLERS.get(type(event))
        actions: Sequence[Action] = act(self, event) if act is not None else ()
        if self.listeners:
            heard = self.listeners.get(type(event), ())
            return [*actions, *(action for listen in heard for action in listen(event))]
        return actions

    def _arrival(self, event: events.Arrival) -> Sequence[Action]:
        request = event.request
        accepted = request.admitted >= 0  # it had a seat, on a replica that it came from
        verdict = (
            None if accepted else self.policies.admit.admit(request, len(self.queue), event.time)
        )
        if verdict is None:
            self._move(request, st.WAITING, event.time)
            return ()
        if isinstance(verdict, DelayUntil):
            assert verdict.until > event.time, "a delay must end later"
            self._move(request, st.DELAYED, event.time)
            heappush(self.delayed, (verdict.until, request.id, request))
        else:
            self._move(request, st.REJECTED, event.time)
        return (verdict,)

    def _step_end(self, event: events.StepEnd) -> Sequence[Action]:
        actions: list[Action] = []
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
                self._move(request, st.DECODE, event.time)
                if request.decoded == 1 and self.listeners:
                    actions.extend(self.handle(events.FirstToken(event.time, request)))
        return actions

    def _finish(self, event: events.Finish) -> Sequence[Action]:
        request = event.request
        until = self.policies.retain.until(request, event.time)
        if until > event.time:
            self._move(request, st.HELD, event.time)
            self.held[request.id] = (request, until)
            heappush(self.expiries, (until, request.id))
            return (HoldUntil(request, until),)
        self._move(request, st.FINISHED, event.time)
        return (Release(request, request.computed),)

    def _cancel(self, event: events.Cancel) -> Sequence[Action]:
        request = event.request
        if request.state in st.ENDED or request.state == st.HELD:
            return ()
        resident = request.state not in (st.WAITING, st.DELAYED, st.SWAPPED)
        self._move(request, st.CANCELLED, event.time)
        return (Release(request, request.computed if resident else 0),)

    def _depart(self, event: events.Depart) -> Sequence[Action]:
        request = event.request
        resident = request.state not in (st.WAITING, st.DELAYED, st.SWAPPED)
        if request.state == st.DELAYED:  # it may be put off elsewhere: that is no concern of ours
            self.delayed = [entry for entry in self.delayed if entry[2] is not request]
            heapify(self.delayed)
        self._move(request, st.NEW, event.time)
        tokens, request.computed = request.computed, 0
        request.peak = max(request.peak, tokens)
        request.target = request.prompt + request.decoded
        return (Release(request, tokens if resident else 0),)

    def _swap_done(self, event: events.SwapDone) -> Sequence[Action]:
        request = event.request
        if request.state == st.SWAPPING_OUT:
            self._move(request, st.SWAPPED, event.time)
        elif request.state == st.SWAPPING_IN:
            self._move(request, st.PAUSED, event.time)
            self.returned.add(request.id)
        return ()

    def _timer(self, event: events.Timer) -> Sequence[Action]:
        actions: list[Action] = []
        while self.delayed and self.delayed[0][0] <= event.time:
            request = heappop(self.delayed)[2]
            if request.state == st.DELAYED:
                actions.extend(self._arrival(events.Arrival(event.time, request)))
        while self.expiries and self.expiries[0][0] <= event.time:
            until, held = heappop(self.expiries)
            if held in self.held and self.held[held][1] == until:
                actions.append(self._let_go(held, event.time))
        return actions

    def _memory_pressure(self, event: events.MemoryPressure) -> Sequence[Action]:
        """Held KV goes first, then whom the victim slot names.

        If the policy names nobody, the last seated request is dropped for a seated one, and where
        nobody is seated the worst paused one for a paused one: growth must never deadlock.
        """
        if self.held:
            return (self._let_go(next(iter(self.held)), event.time),)
        wants, victim = event.request, self.policies.victim
        choice = self.allowed(victim.victim(self, wants, event.time))
        if choice is None and wants is not None and wants.id in self.seated:
            choice = Yield(next(iter(self.seated_last_first())), Mode.DROP)
        elif choice is None and wants is not None and wants.state == st.PAUSED and not self.seated:
            worst = self.worst_paused()
            choice = Yield(worst, Mode.DROP) if worst is not None and worst is not wants else None
        return () if choice is None else (self.unseat(choice, event.time),)

    def allowed(self, choice: Yield | None) -> Yield | None:
        """Return a proposal, or None for a swap of what is not parked, just back or too large."""
        if choice is None or choice.mode is not Mode.SWAP:
            return choice
        fits = -(-choice.request.computed // self.limits.block_size) <= self.swap_room
        parked = choice.request.state == st.PAUSED and choice.request.id not in self.returned
        return choice if fits and parked else None

    def plan(self, draft: slots.Draft) -> None:
        """Ring due alarms, then let the compose slot fill the draft."""
        order = self.policies.order
        if order.alarm_time <= draft.now or order.alarm_step <= self.steps:
            for view in order.ring(draft.now):
                self._rekey(cast(Request, view), draft.now)
        self.policies.compose.compose(draft)

    def seat(self, request: Request, now: Time) -> Sequence[Action]:
        """Give a queued request whose KV, if any, is on the GPU a seat; a held turn lets go."""
        decoding = request.state == st.PAUSED and request.computed >= request.target
        self._check(request, st.DECODE if decoding else st.PREFILL)
        if request.admitted < 0:
            request.admitted = now
        self._move(request, st.DECODE if decoding else st.PREFILL, now)
        if not self.held or request.program < 0:
            return ()
        old = [held for held, (r, _) in self.held.items() if r.program == request.program]
        return [self._let_go(held, now) for held in old]

    def unseat(self, choice: Yield, now: Time) -> Action:
        """Let a seated or paused request yield, and return what the host must do with its KV."""
        request = cast(Request, choice.request)
        if choice.mode is Mode.KEEP:
            self._move(request, st.PAUSED, now)
            return Pause(request)
        if choice.mode is Mode.SWAP:
            self._move(request, st.SWAPPING_OUT, now)
            return Swap(request)
        self._check(request, st.WAITING)
        if request.state == st.DECODE:
            self.settle(request)
        tokens = request.computed
        request.peak = max(request.peak, tokens)
        request.drops += 1
        request.computed = 0
        request.target = request.prompt + request.decoded
        self._move(request, st.WAITING, now)
        return Drop(request, tokens)

    def fetch(self, request: Request, now: Time) -> None:
        """Begin to bring a swapped request's KV back."""
        self._move(request, st.SWAPPING_IN, now)

    def settle(self, request: Request) -> None:
        """Bring a decoding request's token counts up to the present tick."""
        tokens = self.ticks - request.joined
        request.joined = self.ticks
        request.computed += tokens
        request.decoded += tokens

    def next_alarm(self) -> Time:
        """Return when `handle(Timer)` or a new plan is due although nothing else happened."""
        delayed = self.delayed[0][0] if self.delayed else NEVER
        expiry = self.expiries[0][0] if self.expiries else NEVER
        return min(self.policies.order.alarm_time, delayed, expiry)

    def seated_last_first(self) -> Iterable[Request]:
        """Return the seated requests that may yield, last seated first."""
        return (r for r in reversed(self.seated.values()) if r.id not in self.granted)

    def worst_paused(self) -> Request | None:
        """Return the paused request with the worst rank."""
        return self.paused.peek(0)

    def worst_seated(self, now: Time) -> Request | None:
        """Return the seated request with the worst standing; only where seats are contested."""
        assert self.standings is not None, "seats are not contested"
        standing = cast(ContestedOrder, self.policies.order).standing
        candidates = [r for r in self.partials.values() if r.id not in self.granted]
        if (decode := self.standings.peek(now)) is not None:
            candidates.append(decode)
        worst = max(candidates, key=lambda r: (standing(r, now), r.arrival, r.id), default=None)
        if worst is not None and worst.state == st.DECODE:
            self.settle(worst)
        return worst

    def _move(self, request: Request, finish: int, now: Time) -> None:
        """Change the state of a request: leave, tell the order, enter."""
        self._check(request, finish)
        start = request.state
        self.story.append((now, request.id, start, finish))
        if self.log is not None:
            self.log.append((now, request.id, finish))
        if start == st.DECODE:
            self.settle(request)
            self.decodes -= 1
            if self.standings is not None:
                self.standings.discard(request)
            del self.seated[request.id]
        elif start == st.PREFILL:
            del self.partials[request.id]
            if finish != st.DECODE:
                del self.seated[request.id]
        elif start in (st.WAITING, st.PAUSED, st.SWAPPED):
            self.queue.discard(request)
            if start == st.PAUSED:
                self.paused.discard(request)
                self.parked.discard(request)
        request.state = finish
        request.since = now
        self.policies.order.moved(request, start, finish, now)
        self._enter(request, start, now)

    def _enter(self, request: Request, start: int, now: Time) -> None:
        state = request.state
        if state == st.DECODE:
            self.decodes += 1
            request.joined = self.ticks
            if start == st.PAUSED:
                self._take_seat(request)
            self._rekey(request, now)
        elif state == st.PREFILL:
            self._take_seat(request)
            self.partials[request.id] = request
        elif state in (st.WAITING, st.PAUSED, st.SWAPPED):
            request.pauses += state == st.PAUSED and start in (st.PREFILL, st.DECODE)
            self._rekey(request, now)

    def _take_seat(self, request: Request) -> None:
        assert len(self.seated) < self.limits.max_num_seqs, "more requests than seats"
        self.seatings += 1
        request.seat = self.seatings
        self.seated[request.id] = request

    def _rekey(self, request: Request, now: Time) -> None:
        """Ask the order for a request's key, anew if need be, wherever it is ranked."""
        if request.state in (st.WAITING, st.PAUSED, st.SWAPPED):
            self.queue.push(request, now)
            if request.state == st.PAUSED:
                self.paused.push(request, now)
                self.parked.push(request, now)
        elif request.state == st.DECODE and self.standings is not None:
            self.settle(request)
            self.standings.push(request, now)

    def _let_go(self, held: int, now: Time) -> Release:
        request = self.held.pop(held)[0]
        self._move(request, st.FINISHED, now)
        return Release(request, request.computed)

    def _check(self, request: Request, finish: int) -> None:
        """Refuse a move that the table does not have, with the request's story."""
        if (start := request.state, finish) in st.TRANSITIONS:
            return
        names = st.NAMES
        past = [f"{names[s]} -> {names[f]} at {t}" for t, i, s, f in self.story if i == request.id]
        raise IllegalMove(f"request {request.id}: {names[start]} -> {names[finish]} after {past}")


def _worst_first(key: Callable[[RequestView, Time], Key]) -> Callable[[Request, Time], Key]:
    return lambda request, now: tuple(-part for part in key(request, now))


_HANDLERS: dict[type, Callable[[Machine, Any], Sequence[Action]]] = {
    events.Arrival: Machine._arrival,
    events.Cancel: Machine._cancel,
    events.Depart: Machine._depart,
    events.StepEnd: Machine._step_end,
    events.Finish: Machine._finish,
    events.SwapDone: Machine._swap_done,
    events.Timer: Machine._timer,
    events.MemoryPressure: Machine._memory_pressure,
}
