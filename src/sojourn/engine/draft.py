"""The step being composed (see `decide.slots.Draft`), over any engine's blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

from sojourn.decide.actions import Action
from sojourn.decide.clock import Time
from sojourn.decide.events import MemoryPressure
from sojourn.decide.limits import VICTIMS_PER_STEP
from sojourn.decide.machine import Machine
from sojourn.decide.queues import Key
from sojourn.decide.request import Request, RequestView
from sojourn.decide.slots import Mode, Refusal, Yield
from sojourn.decide.states import DECODE, PAUSED, PREFILL, SWAPPED, WAITING
from sojourn.engine.host_memory import HostMemory


class Blocks(Protocol):
    """What a draft asks of KV memory: `engine.blocks.BlockPool`, or a live engine's own."""

    block_size: int
    landed: dict[int, tuple[Request, int]]

    @property
    def free(self) -> int: ...
    def take(self, blocks: int) -> None: ...
    def blocks_at(self, request: Request, tokens: int) -> int: ...
    def lacking(self, request: Request) -> int: ...
    def find(self, request: Request) -> tuple[int, object, int]: ...
    def admit(self, request: Request, tokens: int, reserve: int) -> int: ...
    def publish(self, request: Request, tokens: int) -> None: ...
    def restore(self, request: Request) -> int: ...
    def unland(self, request: Request) -> None: ...


class StepDraft:
    """One draft object for each replica, begun anew for each plan.

    Attributes:
        phases: Decoding requests by the tick, modulo the block size, at which they need a block.
        grants: Prompt tokens granted, by request.
        pairs, prior: What `StepTime.step` wants to know of them.
        decoding: Whether decoding requests get a token in this step.
        grown: Ids that already got their block of this tick; None for "all of its phase".
        blocked: Whether the best queued request did not fit in memory.
        unsettled: Whether somebody yielded after that, so that another plan may do more.
    """

    carry_out: Callable[[Action], None]
    join: Callable[[Request], None]

    def __init__(self, machine: Machine, pool: Blocks, host: HostMemory, phases: list[int]) -> None:
        self.machine = machine
        self.pool = pool
        self.host = host
        self.phases = phases
        self.begin(0)

    def begin(self, now: Time) -> None:
        """Empty the draft."""
        self.now: Time = now
        self.tokens = self.machine.limits.max_num_batched_tokens
        self.yielded = 0
        self.machine.granted.clear()
        self.machine.swap_room = self.host.blocks - self.host.used
        self.grants: list[tuple[Request, int]] = []
        self.pairs = 0
        self.prior = 0
        self.decoding = False
        self.grown: set[int] | None = set()
        self.blocked = False
        self.unsettled = False

    @property
    def seats(self) -> int:
        """Free seats."""
        return self.machine.limits.max_num_seqs - len(self.machine.seated)

    def partials(self, ranked: bool = False) -> Sequence[Request]:
        """Return the seated requests in prefill, in seat order or by rank."""
        partials = list(self.machine.partials.values()) if self.machine.partials else []
        return sorted(partials, key=self._rank) if ranked and len(partials) > 1 else partials

    def _rank(self, request: Request) -> tuple[Key, Time, int]:
        return self.machine.policies.order.key(request, self.now), request.arrival, request.id

    def ahead(self, one: RequestView, other: RequestView) -> bool:
        """Return whether `one` ranks before `other`, ties broken by arrival, then id."""
        return self._rank(cast(Request, one)) < self._rank(cast(Request, other))

    def peek(self, parked: bool = False) -> Request | None:
        """Return the best queued request, or the best of those whose KV is on the GPU."""
        return (self.machine.parked if parked else self.machine.queue).peek(self.now)

    def remaining(self, request: RequestView) -> int:
        """Return the tokens to compute before its next token, less what the cache holds."""
        mine = cast(Request, request)
        found = self.pool.find(mine)[0] if mine.state == WAITING else mine.computed
        return mine.target - found

    def grant(self, request: RequestView, tokens: int) -> Refusal | None:
        """Compute tokens of a request; the best queued one is given a seat for it."""
        mine = cast(Request, request)
        left = min(mine.target - mine.computed, self.tokens)
        if not 0 < tokens <= left or mine.id in self.machine.granted:
            return Refusal.TOKENS
        if mine.state == WAITING:
            refusal = self._seat_waiting(mine, tokens)
        elif mine.state == PAUSED:
            refusal = self.resume(mine) or self._grow(mine, tokens)
        elif mine.state == PREFILL:
            refusal = self._grow(mine, tokens)
        else:
            refusal = Refusal.BUSY
        if refusal:
            return refusal
        start = mine.computed
        self.grants.append((mine, tokens))
        self.machine.granted.add(mine.id)
        self.tokens -= tokens
        self.pairs += tokens * start + tokens * (tokens + 1) // 2
        self.prior += start
        return None

    def _seat_waiting(self, request: Request, tokens: int) -> Refusal | None:
        if self.seats <= 0:
            return Refusal.SEAT
        found = self.pool.admit(request, tokens, self._reserve())
        while found < 0 and not self.machine.seated and self._give_way(request):
            found = self.pool.admit(request, tokens, self._reserve())
        if found < 0:
            return self._block()
        request.computed = found
        if request.cached < 0:
            request.cached = found
        self._seat(request)
        return None

    def _give_way(self, request: Request) -> bool:
        """While nobody runs, free what is held for later, or has come for another request."""
        if self.machine.held:
            return self._press(request)
        others = [one for one, _ in self.pool.landed.values() if one.state == WAITING]
        if not others or others[-1] is request:
            return False
        self.pool.unland(others[-1])
        return True

    def _seat(self, request: Request) -> None:
        for action in self.machine.seat(request, self.now):
            self.carry_out(action)

    def _block(self) -> Refusal:
        self.blocked = True
        return Refusal.BLOCKS

    def _grow(self, request: Request, tokens: int) -> Refusal | None:
        """Take the blocks of a seated prompt's next chunk; others, or itself, may have to yield."""
        end = request.computed + tokens
        need = self.pool.blocks_at(request, end) - self.pool.blocks_at(request, request.computed)
        while need + self._reserve() > self.pool.free:
            self._press(request)
            if request.state != PREFILL:
                return Refusal.BLOCKS
        self.pool.take(need)
        self.pool.publish(request, end)
        return None

    def resume(self, request: RequestView) -> Refusal | None:
        """Give a seat to a paused request."""
        mine = cast(Request, request)
        if mine.state != PAUSED:
            return Refusal.BUSY
        if self.seats <= 0:
            return Refusal.SEAT
        decoding = mine.computed >= mine.target
        assert not (decoding and self.decoding), "resumed a decode after the decodes were granted"
        if decoding and self._reserve() + 1 > self.pool.free:
            return self._block()
        self._seat(mine)
        if mine.state == DECODE:
            self.join(mine)
        return None

    def fetch(self, request: RequestView) -> Refusal | None:
        """Begin to copy the KV of the best queued request back from host memory."""
        mine = cast(Request, request)
        if mine.state != SWAPPED:
            return Refusal.BUSY
        need = self.pool.blocks_at(mine, mine.computed)
        if need + 1 + self._reserve() > self.pool.free:
            return self._block()
        self.machine.fetch(mine, self.now)
        self.host.copy(mine, self.pool.restore(mine), False, self.now)
        return None

    def make_room(self, request: RequestView, spare: int = 0) -> bool:
        """Let the victim slot free blocks for a queued request and `spare`; say if they are."""
        mine = cast(Request, request)
        need = self.pool.lacking(mine) if mine.state == WAITING else 1
        if mine.state == SWAPPED:
            need += self.pool.blocks_at(mine, mine.computed)
        while (short := need + spare + self._reserve() - self.pool.free) > 0:
            if short <= self.host.outgoing or not self._press(mine):
                self.blocked = True
                return False
        return True

    def worst(self) -> Request | None:
        """Return the seated request with the worst standing."""
        return self.machine.worst_seated(self.now)

    def unseat(self, request: RequestView, mode: Mode) -> Refusal | None:
        """Take the seat of a request, or swap a paused one out."""
        mine = cast(Request, request)
        choice = self.machine.allowed(Yield(mine, mode))
        seated = mine.state in (DECODE, PREFILL) and mine.id not in self.machine.granted
        if choice is None or not (seated or mode is Mode.SWAP):
            return Refusal.BUSY
        self.unsettled = self.unsettled or self.blocked
        self.carry_out(self.machine.unseat(choice, self.now))
        return None

    def secure(self) -> None:
        """Make room for the growth of all decoding requests, before anything else is granted."""
        tick, seated = self.machine.ticks % self.pool.block_size, self.machine.seated
        while self.phases[tick] > self.pool.free:
            self._press(next(r for r in seated.values() if r.state == DECODE and r.phase == tick))

    def decode(self) -> int:
        """Grant one token to every decoding request, making room if need be; return how many."""
        assert not self.decoding, "decodes were granted already"
        machine = self.machine
        if not 0 < machine.decodes <= self.tokens:
            return 0
        self.decoding = True
        growth = self.phases[machine.ticks % self.pool.block_size]
        if growth <= self.pool.free:
            self.pool.take(growth)
            self.grown = None
        else:
            self._decode_one_by_one()
        self.tokens -= machine.decodes
        return machine.decodes

    def _decode_one_by_one(self) -> None:
        """Grow each decode in seat order, as vLLM's running loop does, while others yield."""
        machine = self.machine
        assert self.grown is not None
        tick = machine.ticks % self.pool.block_size
        for request in list(machine.seated.values()):
            if request.state != DECODE or request.phase != tick:
                continue
            while request.state == DECODE and self.pool.free < 1:
                self._press(request)
            if request.state == DECODE:
                self.pool.take(1)
                self.grown.add(request.id)

    def took_growth(self, request: Request) -> bool:
        """Return whether a decoding request holds a block for the token of this very step."""
        if not self.decoding or request.phase != self.machine.ticks % self.pool.block_size:
            return False
        return self.grown is None or request.id in self.grown

    def _reserve(self) -> int:
        """Return the blocks that decodes still need in this step."""
        if self.decoding or not self.machine.policies.compose.contests:
            return 0
        return self.phases[self.machine.ticks % self.pool.block_size]

    def _press(self, request: Request) -> bool:
        """Tell the machine that blocks are short for a request, and carry out what it says."""
        actions = self.machine.handle(MemoryPressure(self.now, request))
        for action in actions:
            self.carry_out(action)
        self.yielded += len(actions)
        assert self.yielded <= VICTIMS_PER_STEP, "a victim policy that never makes room"
        return bool(actions)
