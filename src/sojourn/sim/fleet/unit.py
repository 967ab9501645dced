"""A replica as the fleet sees it: an engine, its account at the router, and its life."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from sojourn.decide.clock import NEVER, Time
from sojourn.decide.request import Request, RequestView
from sojourn.decide.services import StepTime
from sojourn.decide.states import DECODE, NEW, WAITING
from sojourn.engine.replica import Replica
from sojourn.fleet.design import Group
from sojourn.fleet.views import STARTING, Load, RoutedView
from sojourn.sim.fleet.landed import put_first
from sojourn.sim.recorder import RunRecorder


class Handed(NamedTuple):
    """A prefilled request that waits for a decode replica to fetch its KV."""

    request: Request
    source: int
    tokens: int


class Clock:
    """The moment at which the fleet is."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now: Time = 0


class Unit:
    """A replica (see `fleet.views.ReplicaView`); a new one is made whenever one starts.

    Attributes:
        group: What it is one of.
        replica: Its engine.
        asked: When it was asked for: from then on it costs.
        up_at, ended_at: When it came up and went for good; NEVER if it did not.
        open, open_tokens, sent: Requests sent here that have not ended or left, their prompt
            tokens, and all that were ever sent.
        urgent: Those whose client gave a priority below 0.
        prompt_tokens, prefilling: Prompt tokens still to be computed, in all and by request id.
        bridge: Prefilled requests that it will decode, whose KV it has not begun to fetch.
        leaving: Whether it goes for good once it has nothing to do.
        said: Its last report, where reports are not exact and current.
        departing, arriving: Migrations under way from here and to here.
        clock: Tells the time; only exact and current loads need it.
        reads_demand: Whether any policy reads what waiting requests need.
        slowness: By what factors its steps take longer at present.
    """

    def __init__(self, index: int, group: Group, replica: Replica, now: Time, clock: Clock) -> None:
        self.index = index
        self.group = group
        self.kind = group.name
        self.role = group.role
        self.status = STARTING
        self.replica = replica
        self.asked = now
        self.up_at: Time = NEVER
        self.ended_at: Time = NEVER
        self.open = 0
        self.prompt_tokens = 0
        self.open_tokens = 0
        self.urgent = 0
        self.sent = 0
        self.bridge: deque[Handed] = deque()
        self.leaving = False
        self.departing = 0
        self.arriving = 0
        self.said: Load | None = None
        self.clock = clock
        self.reads_demand = False
        self.slowness: list[float] = []
        self.prefilling: dict[int, int] = {}

    def got(self, request: Request) -> None:
        """Take account of a request that is sent here."""
        self.open += 1
        self.open_tokens += request.prompt
        self.urgent += request.priority < 0
        self.sent += 1
        if request.id in self.replica.pool.landed:
            put_first(self.replica, self.clock.now)
        else:
            self.prefilling[request.id] = request.target
            self.prompt_tokens += request.target

    def gave(self, request: Request) -> None:
        """Take account of a request that ended or left."""
        self.open -= 1
        self.open_tokens -= request.prompt
        self.urgent -= request.priority < 0
        self.prefilled(request)

    def prefilled(self, request: Request) -> None:
        """Take account of a prompt that has been computed."""
        self.prompt_tokens -= self.prefilling.pop(request.id, 0)

    @property
    def blocks(self) -> int:
        """KV blocks."""
        return self.replica.pool.total

    @property
    def block_size(self) -> int:
        """Tokens in a block."""
        return self.replica.pool.block_size

    @property
    def seats(self) -> int:
        """Seats."""
        return self.replica.machine.limits.max_num_seqs

    @property
    def step_time(self) -> StepTime:
        """Predicts its steps."""
        return self.group.step_time

    @property
    def dollars_per_hour(self) -> float:
        """Price."""
        return self.group.dollars_per_hour

    @property
    def room(self) -> tuple[int, int]:
        """What decides whether it can fetch KV; never more while it only decodes."""
        pool = self.replica.pool
        return -len(pool.landed), pool.free

    @property
    def load(self) -> Load:
        """Its last report; made now where reports are exact and current."""
        return self.said if self.said is not None else self.measure(self.clock.now)

    def measure(self, now: Time) -> Load:
        """Return the load at a moment, the same whether the engine steps one by one or jumps.

        A step that ends at this very moment counts as ended, even if its replica has not been
        woken yet, and the growth of one that begins at it is not taken.
        """
        replica, machine = self.replica, self.replica.machine
        pool = replica.pool
        before, ended = self.progress(now) if replica.steps else (0, 0)
        decodes = machine.decodes if replica.draft.decoding else 0
        free = pool.free - (replica.growth(decodes, before) if before else 0)
        if decodes and replica.start == now and replica.draft.grown is None:
            free += replica.phases[machine.ticks % self.block_size]
        demand = head = dropped = 0
        if self.reads_demand and len(machine.queue):
            lacking = replica.pool.lacking
            waiting = [one for one in machine.queue.requests() if one.state == WAITING]
            demand = sum(map(lacking, waiting))
            dropped = sum(one.drops > 0 for one in waiting)
            first = machine.queue.peek(now)
            head = lacking(first) if first is not None and first.state == WAITING else 0
        return Load(
            time=now,
            waiting=len(machine.queue) + len(replica.inbox) + len(self.bridge),
            seated=len(machine.seated),
            context=replica.context + decodes * ended,
            free_blocks=free,
            demand_blocks=demand,
            head_blocks=head,
            landed_blocks=sum(pool.blocks_at(*one) for one in pool.landed.values())
            if pool.landed
            else 0,
            dropped=dropped,
        )

    def cached_tokens(self, request: RoutedView) -> int:
        """Return the prompt tokens that its prefix cache holds now."""
        assert isinstance(request, Request)
        return self.replica.pool.find(request)[0]

    @property
    def backlog(self) -> int:
        """Requests that wait for a seat."""
        return len(self.replica.machine.queue) + len(self.replica.inbox)

    def has_room(self, request: RoutedView) -> bool:
        """Return whether it would take the request up at its next step, after who waits already."""
        machine, lacking = self.replica.machine, self.replica.pool.lacking
        if len(machine.seated) + self.backlog >= self.seats:
            return False
        ahead = [*machine.queue.requests(), *self.replica.inbox]
        if any(one.state not in (NEW, WAITING) for one in ahead):
            return False
        if sum(one.target for one in ahead) >= machine.limits.max_num_batched_tokens:
            return False
        assert isinstance(request, Request)
        free = self.measure(self.clock.now).free_blocks
        return lacking(request) + sum(map(lacking, ahead)) <= free

    def running(self) -> Sequence[RequestView]:
        """Return its decoding requests, with token counts of the last step that ended."""
        machine = self.replica.machine
        ended = self.progress(self.clock.now)[1] if self.replica.draft.decoding else 0
        found = [one for one in machine.seated.values() if one.state == DECODE]
        for one in found:  # settled ahead of the engine's own count, which will get there
            tokens = machine.ticks + ended - one.joined
            one.joined += tokens
            one.computed += tokens
            one.decoded += tokens
        return found

    def progress(self, now: Time) -> tuple[int, int]:
        """Return how many steps of the run in progress ended before a moment, and by it."""
        replica = self.replica
        if not replica.steps:
            return 0, 0
        before, end = replica.progress(now), replica.start + replica.duration
        if replica.steps > 1:
            machine = replica.machine
            end = replica.start + replica.step_time.run(
                machine.decodes, replica.context, before + 1
            )
        return before, before + (end <= now)

    def tokens_of(self, request: Request, now: Time) -> int:
        """Return the tokens of KV that a decoding request has here at a moment."""
        machine = self.replica.machine
        ended = self.progress(now)[1] if self.replica.draft.decoding else 0
        return request.computed + machine.ticks - request.joined + ended


class FleetRecorder(RunRecorder):
    """The recorder of a replica in a fleet: it also keeps the router's account current."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self.unit = unit

    def joined(self, request: Request, token: Time | None) -> None:
        """Note a token that a prompt gave."""
        super().joined(request, token)
        if token is not None:
            self.unit.prefilled(request)
