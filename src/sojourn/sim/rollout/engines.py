"""An engine of a training run: a replica, and the rollouts that it has.

Everything is done to a replica at its step boundaries, and where something is to be said of a
rollout (progress, the end of a turn, a cap) the run of steps in progress is cut there. So a run
gives the same record whether replicas step one by one or jump.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final, NamedTuple

from sojourn.decide.clock import Time
from sojourn.decide.limits import HORIZON_STEPS, EngineLimits
from sojourn.decide.machine import Machine
from sojourn.decide.request import Request
from sojourn.decide.services import StepTime
from sojourn.decide.slots import Services
from sojourn.decide.states import DECODE, WAITING
from sojourn.engine.replica import Replica
from sojourn.recipes.load import Recipe
from sojourn.rollout.events import STOP
from sojourn.sim.rollout.flights import REPORT, Flight

LIVE: Final = "live"
DRAINING: Final = "draining"
PAUSED: Final = "paused"
LOST: Final = "lost"


class Word(NamedTuple):
    """What an engine has to say of a rollout at a step boundary.

    Attributes:
        kind: `started`, `aborted`, a kind of stop, or why it finished.
        flight: The rollout.
    """

    kind: str
    flight: Flight


class EngineSpec(NamedTuple):
    """What an engine is.

    Attributes:
        recipe: Scheduler policies inside it.
        limits, step_time: Its limits, with as many tokens behind a prefix id as in a block.
        max_horizon: Most steps that one plan may cover; 1 steps one by one.
    """

    recipe: Recipe
    limits: EngineLimits
    step_time: StepTime
    max_horizon: int = HORIZON_STEPS


class Tally:
    """The recorder of a replica: tokens generated, time in steps, and who decodes.

    Attributes:
        generated: Tokens, counted from the steps alone.
        busy: Time in steps.
        engine: Told of rollouts that decode from now on.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.generated = 0
        self.busy: Time = 0
        self.prefilled = 0

    def begun(self, replica: Replica, prefill_tokens: int, decodes: int) -> None:  # noqa: ARG002
        """Note that a run of steps began."""
        self.prefilled += prefill_tokens

    def ended(self, replica: Replica, now: Time, decodes: int) -> None:  # noqa: ARG002
        """Count the tokens and the time of a run of steps."""
        self.generated += decodes * replica.steps
        self.busy += replica.duration

    def joined(self, request: Request, token: Time | None) -> None:
        """Note that a request decodes from now on."""
        if token is not None:
            self.generated += 1
        self.engine.joined(request)

    def left(self, request: Request) -> None:
        """Note that a request no longer decodes."""


class Engine:
    """A replica and its rollouts.

    Attributes:
        index: Its number.
        replica: The engine model.
        version: Version of its weights.
        state: `live`, `draining` until its weights are exchanged, `paused`, or `lost`.
        flights: Rollouts that it has, by request id.
        stops: Heap of (tick, seat, request id) at which something is to be said.
        chores: What is to be done at the next step boundary.
        said: What the boundary in hand has to say, in order.
        revision: Of its place in the event loop; only the latest wake counts.
        drops: Preemptions of rollouts that are gone.
    """

    def __init__(
        self, index: int, spec: EngineSpec, version: int, number: Callable[[], int]
    ) -> None:
        machine = Machine(spec.limits)
        machine.install(spec.recipe.build(Services(machine, spec.step_time, None)))
        self.index = index
        self.number = number
        self.tally = Tally(self)
        self.replica = Replica(
            index, machine, spec.step_time, self._ended, self.tally, 0, spec.max_horizon
        )
        self.version = version
        self.state = LIVE
        self.flights: dict[int, Flight] = {}
        self.stops: list[tuple[int, int, int]] = []
        self.chores: list[Callable[[Time], None]] = []
        self.said: list[Word] = []
        self.fresh: dict[int, None] = {}
        self.revision = 0
        self.drops = 0

    @property
    def limits(self) -> EngineLimits:
        """Its limits."""
        return self.replica.machine.limits

    def room(self, flight: Flight) -> int:
        """Return how many tokens a rollout may still sample here."""
        return self.limits.max_model_len - flight.prompt_tokens - flight.length - flight.context

    def submit(self, flight: Flight, now: Time) -> bool:
        """Take a rollout; return whether the run of steps in progress must end for it."""
        assert self.state in (LIVE, DRAINING), "sent to an engine that loads weights"
        request = flight.request
        flight.length += flight.context
        if request is None or flight.home != self.index:
            request = self._request(flight, now)
        else:
            request.prompt += flight.context
            request.arrival = now
            request.target = request.prompt + request.decoded
        flight.context = 0
        flight.request = request
        flight.engine = flight.home = self.index
        self.flights[request.id] = flight
        self.fresh[request.id] = None
        return self.replica.submit(request, flight.draw.tokens - flight.offset, now)

    def _request(self, flight: Flight, now: Time) -> Request:
        """Return a new request, behind everything that the rollout has so far."""
        size = self.limits.block_size
        prompt = flight.prompt_tokens + flight.length
        request = Request(self.number(), now, prompt)
        if self.limits.enable_prefix_caching:
            first = flight.prompt_id << 24
            request.prefix = tuple(range(first, first + flight.prompt_tokens // size))
        flight.offset = flight.sampled
        return request

    def forget(self, flight: Flight) -> None:
        """Let go of what a rollout might find again in a cache."""
        request = flight.request
        if request is not None and flight.engine < 0 and flight.home == self.index:
            self.replica.pool.leases.pop(request.id, None)
        flight.request = None
        flight.home = -1

    def joined(self, request: Request) -> None:
        """Note when a rollout that decodes from now on is to be spoken of."""
        flight = self.flights[request.id]
        if request.id in self.fresh:
            del self.fresh[request.id]
            self.said.append(Word("started", flight))
        self._watch(flight, request.finish_tick, flight.draw.tokens)

    def _watch(self, flight: Flight, tick: int, sampled: int) -> None:
        """Note the tick of the next stop of a rollout that has `sampled` tokens at `tick`."""
        stop = flight.next_stop()[0]
        if stop < flight.draw.tokens:
            request = flight.request
            assert request is not None
            heappush(self.stops, (tick - sampled + stop, request.seat, request.id))

    def _next_stop(self) -> int | None:
        """Return the tick of the next stop; those of rollouts that lost their seat are dropped."""
        while self.stops:
            tick, seat, id = self.stops[0]
            flight = self.flights.get(id)
            request = None if flight is None else flight.request
            if request is not None and request.seat == seat and request.state == DECODE:
                return tick
            heappop(self.stops)
        return None

    def begin(self, now: Time) -> Time:
        """Plan and begin a run of steps that ends where something is to be said; when to wake."""
        replica = self.replica
        again = replica.begin(now)
        if replica.steps > 1 and (tick := self._next_stop()) is not None:
            steps = tick - replica.machine.ticks
            assert steps > 0, "a stop was passed over"
            if steps < replica.steps:
                run = replica.step_time.run(replica.machine.decodes, replica.context, steps)
                return replica.interrupt(replica.start + run)
        return again

    def advance(self) -> None:
        """End the run of steps; `said` then holds what happened at its end."""
        self.replica.advance()
        self._speak()

    def _speak(self) -> None:
        ticks = self.replica.machine.ticks
        while (tick := self._next_stop()) is not None and tick <= ticks:
            flight = self.flights[heappop(self.stops)[2]]
            stop, kind = flight.next_stop()
            assert flight.reached(self.replica) == stop, "a stop was passed over"
            self.said.append(Word(kind, flight))
            if kind == REPORT:
                flight.reports.pop()
                flight.mark(self.replica, self.version)
                self._watch(flight, ticks, stop)

    def ring(self, now: Time) -> None:
        """Do what is to be done at this step boundary."""
        while self.chores:
            self.chores.pop(0)(now)

    def take_back(self, flight: Flight, now: Time) -> None:
        """At a step boundary: let a rollout leave; its KV can be found again until it is evicted.

        As after a preemption: its full blocks wait in the order of last use.
        """
        replica, request = self.replica, flight.request
        assert request is not None
        resident = request not in replica.inbox and request.state != WAITING
        replica.depart(request, now, keep=True)
        _, tokens = replica.exports.pop(request.id)
        if resident:
            replica.pool.release(request, tokens, again=True)
        self._gone(flight)

    def _gone(self, flight: Flight) -> None:
        request = flight.request
        assert request is not None
        del self.flights[request.id]
        self.fresh.pop(request.id, None)
        flight.engine = -1

    def _ended(self, request: Request, now: Time, reason: str) -> None:  # noqa: ARG002
        """Take note that a rollout has its last token."""
        assert not reason, f"no scheduler for rollouts sheds requests: {reason}"
        self.said.append(Word(STOP, self.flights[request.id]))

    def close(self, flight: Flight) -> None:
        """Let a rollout go that has its last token."""
        request = flight.request
        assert request is not None
        self.drops += request.drops
        self._gone(flight)
        flight.request = None
        flight.home = -1

    def clear_cache(self) -> None:
        """Forget all KV that nobody uses."""
        pool = self.replica.pool
        blocks = pool.free
        pool.take(blocks)
        pool.give(blocks)

    def halt(self, now: Time) -> tuple[list[Flight], int]:
        """Stop for good; return the rollouts that were here, and their tokens never told of."""
        replica = self.replica
        replica.halt(now)
        self.state = LOST
        lost = 0
        flights = list(self.flights.values())
        for flight in flights:
            request = flight.request
            assert request is not None
            # What the engine had counted as its last token was never delivered.
            lost += flight.reached(replica) - flight.sampled
            if request.id in replica.outputs:
                replica.lose(request, now)
            flight.untold.clear()
            self._gone(flight)
            flight.request = None
            flight.home = -1
        self.said.clear()
        return flights, lost

    def load(self) -> tuple[float, int, int, int]:
        """Return, at a step boundary, the share of KV in use, seated, waiting, and preemptions."""
        replica = self.replica
        pool, machine = replica.pool, replica.machine
        drops = sum(one.request.drops for one in self.flights.values() if one.request is not None)
        waiting = len(machine.queue) + len(replica.inbox)
        return 1.0 - pool.free / pool.total, len(machine.seated), waiting, self.drops + drops
