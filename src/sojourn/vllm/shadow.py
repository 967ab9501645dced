"""What a recipe would do in a step that is served in stock order: planned, then taken back.

The policies see the true state of the engine, one step at a time: the counterfactual is one step
deep, and the next step begins from what stock order did. Nothing that a policy remembers changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from functools import partial
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple, cast

from sojourn.decide.clock import Time
from sojourn.decide.machine import Machine
from sojourn.decide.queues import GroupedQueue, Key
from sojourn.decide.request import Request, RequestView
from sojourn.decide.slots import GroupedOrder, Mode, Refusal, Yield
from sojourn.decide.states import DECODE, PAUSED, PREFILL, WAITING
from sojourn.vllm.blocks import LiveBlocks


class Imagined(NamedTuple):
    """What a plan would do.

    Attributes:
        admitted, chunks: Prompt tokens of newcomers, and of prompts that have begun, by id.
        paused, dropped: Requests that would lose seat or KV, by id.
        decodes: Whether the decoding requests would get their token.
    """

    admitted: dict[int, int]
    chunks: dict[int, int]
    paused: dict[int, Request]
    dropped: dict[int, Request]
    decodes: bool


class GroupPeek:
    """The queue of a group order, read without changing it; ranks move as the draft admits."""

    def __init__(self, queue: GroupedQueue, order: GroupedOrder, now: Time) -> None:
        self.queue = queue
        self.order = order
        self.is_copy = False
        self.now = now
        self.places = dict.fromkeys(queue.lines, 0)
        self.heap = [
            (self.order.group_key(group, now), group)
            for group, line in queue.lines.items()
            if any(one.id in queue.live for one in line)
        ]
        heapify(self.heap)

    def peek(self) -> Request | None:
        """Return the first request of the best group."""
        while self.heap:
            group = self.heap[0][1]
            line = self.queue.lines[group]
            while self.places[group] < len(line):
                request = line[self.places[group]]
                if request.id in self.queue.live:
                    return request
                self.places[group] += 1
            heappop(self.heap)
        return None

    def take(self, request: Request) -> None:
        """Pass over a request that the draft admits, and let its group pay."""
        if not self.is_copy:
            # A group order's memory is by group, so that a copy is cheap.
            view = getattr(self.order, "view", None)
            self.order = deepcopy(self.order, {id(view): view})
            self.is_copy = True
        group = heappop(self.heap)[1]
        self.places[group] += 1
        self.order.moved(request, WAITING, PREFILL, self.now)
        heappush(self.heap, (self.order.group_key(group, self.now), group))


class ImaginedDraft:
    """A draft (see `decide.slots.Draft`) that leaves machine, policies and engine as they are."""

    def __init__(self, machine: Machine, blocks: LiveBlocks, phases: Sequence[int]) -> None:
        self.machine = machine
        self.blocks = blocks
        self.phases = phases
        self.undo: list[Callable[[], None]] = []

    def imagine(self, now: Time) -> Imagined:
        """Return what the recipe would do now."""
        machine = self.machine
        self.now = now
        self.tokens = machine.limits.max_num_batched_tokens
        self.yielded = 0
        self.taken_seats = 0
        self.decoding = False
        self.given: set[int] = set()
        self.growth = self.phases[machine.ticks % self.blocks.block_size]
        self.result = Imagined({}, {}, {}, {}, False)
        queue = machine.queue
        self.groups = (
            GroupPeek(queue, cast(GroupedOrder, machine.policies.order), now)
            if isinstance(queue, GroupedQueue)
            else None
        )
        machine.granted.clear()
        self.blocks.begin(len(machine.seated) + len(machine.paused))
        decodes, compose = machine.decodes, machine.policies.compose
        machine.policies.compose = copy(compose)
        try:
            machine.plan(self)
            return self.result._replace(decodes=self.decoding)
        finally:
            while self.undo:
                self.undo.pop()()
            machine.decodes = decodes
            machine.policies.compose = compose
            machine.granted.clear()

    @property
    def seats(self) -> int:
        """Free seats."""
        return self.machine.limits.max_num_seqs - len(self.machine.seated) - self.taken_seats

    def secure(self) -> None:
        """Make room for the growth of all decoding requests."""
        while self.growth > self.blocks.free and self._press(self._grower()):
            pass

    def decode(self) -> int:
        """Grant one token to every decoding request."""
        decodes = self.machine.decodes
        if not 0 < decodes <= self.tokens:
            return 0
        self.secure()
        self.decoding = True
        self.blocks.take(min(self.growth, self.blocks.free))
        self.tokens -= self.machine.decodes
        return self.machine.decodes

    def partials(self, ranked: bool = False) -> Sequence[Request]:
        """Return the seated requests in prefill, in seat order or by rank."""
        partials = [p for p in self.machine.partials.values() if not self._gone(p)]
        return sorted(partials, key=self._rank) if ranked else partials

    def _rank(self, request: Request) -> tuple[Key, Time, int]:
        key = self.machine.policies.order.key(request, self.now)
        return key, request.arrival, request.id

    def ahead(self, one: RequestView, other: RequestView) -> bool:
        """Return whether `one` ranks before `other`."""
        return self._rank(cast(Request, one)) < self._rank(cast(Request, other))

    def peek(self, parked: bool = False) -> Request | None:
        """Return the best queued request, or the best of those whose KV is on the GPU."""
        if parked:
            return self.machine.parked.peek(self.now)
        return self.groups.peek() if self.groups else self.machine.queue.peek(self.now)

    def remaining(self, request: RequestView) -> int:
        """Return the tokens to compute before its next token, less what the cache holds."""
        mine = cast(Request, request)
        found = self.blocks.find(mine)[0] if mine.state == WAITING else mine.computed
        return mine.target - found

    def grant(self, request: RequestView, tokens: int) -> Refusal | None:
        """Compute tokens of a request; the best queued one is given a seat for it."""
        mine = cast(Request, request)
        if not 0 < tokens <= min(mine.target - mine.computed, self.tokens) or mine.id in self.given:
            return Refusal.TOKENS
        if mine.state == WAITING:
            if self.seats <= 0:
                return Refusal.SEAT
            if self.blocks.admit(mine, tokens, self._reserve()) < 0:
                return Refusal.BLOCKS
            self.taken_seats += 1
            self.result.admitted[mine.id] = tokens
            self._hide(mine)
        else:
            refusal = self.resume(mine) if mine.state == PAUSED else None
            if refusal or not self._grow(mine, tokens):
                return refusal or Refusal.BLOCKS
            self.result.chunks[mine.id] = tokens
        self.given.add(mine.id)
        self.machine.granted.add(mine.id)
        self.tokens -= tokens
        return None

    def _grow(self, request: Request, tokens: int) -> bool:
        end = request.computed + tokens
        need = self.blocks.blocks_at(request, end) - self.blocks.blocks_at(
            request, request.computed
        )
        while need + self._reserve() > self.blocks.free:
            if not self._press(request) or self._gone(request):
                return False
        self.blocks.take(need)
        self.blocks.publish(request, end)
        return True

    def resume(self, request: RequestView) -> Refusal | None:
        """Give a seat to a paused request."""
        mine = cast(Request, request)
        if self.seats <= 0:
            return Refusal.SEAT
        if self._reserve() + 1 > self.blocks.free:
            return Refusal.BLOCKS
        self.taken_seats += 1
        self.machine.decodes += mine.computed >= mine.target
        self._hide(mine)
        return None

    def fetch(self, request: RequestView) -> Refusal | None:  # noqa: ARG002 - the slot's protocol
        """Refuse: nothing is swapped here."""
        return Refusal.BUSY

    def make_room(self, request: RequestView, spare: int = 0) -> bool:
        """Let the victim slot free blocks for a queued request and `spare`; say if they are."""
        mine = cast(Request, request)
        need = self.blocks.blocks_at(mine, mine.target) if mine.state == WAITING else 1
        while need + spare + self._reserve() > self.blocks.free:
            if not self._press(mine):
                return False
        return True

    def worst(self) -> Request | None:
        """Return the seated request with the worst standing."""
        return self.machine.worst_seated(self.now)

    def unseat(self, request: RequestView, mode: Mode) -> Refusal | None:
        """Take the seat of a request."""
        mine = cast(Request, request)
        if mode is not Mode.KEEP or mine.id in self.machine.granted or self._gone(mine):
            return Refusal.BUSY
        self.result.paused[mine.id] = mine
        self._unseat(mine)
        return None

    def _unseat(self, request: Request) -> None:
        """Take a request out of the seated ones, in imagination."""
        self.machine.granted.add(request.id)
        self.taken_seats -= 1
        if request.state == DECODE:
            self.machine.decodes -= 1
            at_tick = request.phase == self.machine.ticks % self.blocks.block_size
            self.growth -= at_tick and not self.decoding
            standings = self.machine.standings
            if standings is not None:
                standings.discard(request)
                self.undo.append(partial(standings.push, request, self.now))

    def _press(self, wants: Request | None) -> bool:
        """Let the victim slot name somebody; say whether anybody yields."""
        machine = self.machine
        choice = machine.allowed(machine.policies.victim.victim(machine, wants, self.now))
        if choice is None and wants is not None and wants.id in machine.seated:
            last = next(iter(machine.seated_last_first()), None)
            choice = None if last is None else Yield(last, Mode.DROP)
        if choice is None:
            return False
        victim = cast(Request, choice.request)
        self.result.dropped[victim.id] = victim
        self.yielded += 1
        computed = victim.computed
        if victim.state == DECODE:
            computed += machine.ticks - victim.joined
        self.blocks.take(-self.blocks.blocks_at(victim, computed))
        if victim.state == PAUSED:
            self._hide(victim)
        else:
            self._unseat(victim)
        return True

    def _gone(self, request: Request) -> bool:
        return request.id in self.result.dropped or request.id in self.result.paused

    def _grower(self) -> Request | None:
        tick = self.machine.ticks % self.blocks.block_size
        seated = self.machine.seated.values()
        growing = (r for r in seated if r.state == DECODE and r.phase == tick)
        return next((r for r in growing if not self._gone(r)), None)

    def _reserve(self) -> int:
        contests = self.machine.policies.compose.contests
        return 0 if self.decoding or not contests else max(self.growth, 0)

    def _hide(self, request: Request) -> None:
        """Take a queued request out of the queues until the plan is made."""
        machine: Any = self.machine
        if self.groups is not None:
            if request.state == WAITING:
                self.groups.take(request)
        else:
            machine.queue.discard(request)
            self.undo.append(partial(machine.queue.push, request, self.now))
        if request.state == PAUSED:
            for heap in (machine.paused, machine.parked):
                heap.discard(request)
                self.undo.append(partial(heap.push, request, self.now))
