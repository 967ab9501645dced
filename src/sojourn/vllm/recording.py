"""What a real engine did, for the step log: steps as they end, and the life of every request.

It looks at vLLM's plans and outputs alone, so that stock order, shadow and our own plans are
recorded alike. Its work is per step and per request, never per token.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from sojourn.cost.fit import Measured
from sojourn.decide import states as st
from sojourn.decide.clock import Time, to_seconds
from sojourn.sim.gaps import LongestGaps
from sojourn.steplog.live import EndedRequest, LiveLog
from sojourn.steplog.record import CANCELLED, FINISHED, SHED
from sojourn.vllm import compat
from sojourn.vllm.identity import Identity

ENDS: Final = {FINISHED: st.FINISHED, SHED: st.REJECTED, CANCELLED: st.CANCELLED}
"""The state that each outcome ends in."""

SAMPLED: Final = 61
"""One step of so many is timed, to know what recording costs."""


@dataclass(slots=True, eq=False)
class Life:
    """What is remembered of a request until it ends.

    Attributes:
        number: Its number in the log.
        arrival, admitted, first_token: Moments; -1 for not yet.
        token_time: When it got its last known token.
        gap, gap_tick: As in `sim.recorder`: the longest pause so far, and the decode step after
            which pauses are still to be looked up; -1 while it does not decode.
        computed: Tokens that had been computed when it was dropped.
        recomputed, cached: Tokens.
        pauses: Times it lost its seat and kept its KV.
        shed: Why it was refused.
    """

    number: int
    arrival: Time
    caller: Identity
    program: int
    admitted: Time = -1
    first_token: Time = -1
    token_time: Time = -1
    gap: Time = 0
    gap_tick: int = -1
    computed: int = 0
    recomputed: int = 0
    cached: int = 0
    pauses: int = 0
    shed: str = ""


@dataclass(slots=True)
class Flight:
    """A step between its plan and its end.

    Attributes:
        output: vLLM's plan.
        start: When it was planned.
        chunks: Request, prior tokens and tokens of each prompt chunk.
        completed: Requests whose prompt it completes.
        decodes, context: Requests that get one token, and the KV tokens that they read.
    """

    output: Any
    start: Time
    chunks: list[tuple[compat.Request, int, int]] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    decodes: int = 0
    context: int = 0
    waiting: int = 0
    paused: int = 0
    kv_used: int = 0


class Recording:
    """The recorder of one engine.

    Attributes:
        log: Where rows go; None if no log is kept.
        learn: Called with each measured step.
        hashed_tokens: Tokens behind each hash of a prompt.
        lives: Unfinished requests, by vLLM's id.
        prompts: Those admitted whose prompt is not computed yet.
        busy_until: When the last step ended, if there was more to do then; else -1.
        seconds: CPU time of the steps that were timed.
    """

    def __init__(
        self,
        log: LiveLog | None,
        learn: Callable[[Measured], None] | None,
        hashed_tokens: int,
    ) -> None:
        self.log = log
        self.learn = learn
        self.hashed_tokens = hashed_tokens
        self.lives: dict[str, Life] = {}
        self.prompts: dict[str, compat.Request] = {}
        self.flights: deque[Flight] = deque()
        self.gaps = LongestGaps()
        self.fresh: list[Life] = []
        self.ticks = 0
        self.last_tick: Time = 0
        self.busy_until: Time = -1
        self.steps = 0
        self.timed = 0
        self.seconds = 0.0

    @property
    def own_seconds(self) -> float:
        """CPU time that steps took here so far, with the log's calls in them, from a sample."""
        return self.seconds * self.steps / max(self.timed, 1)

    def arrived(self, request: compat.Request, life: Life) -> None:
        """Note a new request."""
        self.lives[request.request_id] = life
        self._enter(life, st.WAITING, life.arrival)

    def _enter(self, life: Life, state: int, now: Time) -> None:
        if self.log is not None:
            self.log.state(now, life.number, state)

    def planned(
        self,
        output: Any,
        start: Time,
        context: int | None,
        requests: dict[str, compat.Request],
        state: tuple[int, int, int],
    ) -> None:
        """Note a step that vLLM planned; `context` if it is known.

        Args:
            output: vLLM's plan.
            start: When it was planned.
            context: KV tokens that its decodes read; None to count them.
            requests: vLLM's requests, by id.
            state: Requests waiting and paused, and KV blocks in use.
        """
        self.steps += 1
        timed = self.steps % SAMPLED == 0
        began = time.thread_time() if timed else 0.0
        scheduled: dict[str, int] = output.num_scheduled_tokens
        flight = Flight(output, start)
        flight.waiting, flight.paused, flight.kv_used = state
        for name in output.preempted_req_ids or ():
            self.left(name)
            self.prompts.pop(name, None)
            if name in self.lives:
                self._enter(self.lives[name], st.WAITING, start)
        for name in compat.admitted(output):
            self._admit(name, requests[name], scheduled[name], start)
        for name, request in list(self.prompts.items()):
            tokens = scheduled.get(name)
            if tokens:
                flight.chunks.append((request, request.num_computed_tokens - tokens, tokens))
                if not request.is_prefill_chunk:
                    flight.completed.append(name)
                    del self.prompts[name]
        flight.decodes = len(scheduled) - len(flight.chunks)
        flight.context = _context(flight, requests) if context is None else context
        self.flights.append(flight)
        if timed:
            self.seconds += time.thread_time() - began

    def _admit(self, name: str, request: compat.Request, tokens: int, start: Time) -> None:
        self.prompts[name] = request
        life = self.lives[name]
        self._enter(life, st.PREFILL, start)
        found = request.num_computed_tokens - tokens
        if life.admitted < 0:
            life.admitted = start
            life.cached = found
        else:
            life.recomputed += max(0, life.computed - found)

    def landed(self, output: Any, now: Time) -> None:
        """Note that the tokens of a step have come, before anybody ends by them."""
        if not self.flights or self.flights[0].output is not output:
            return
        flight = self.flights.popleft()
        timed = self.steps % SAMPLED == 0
        began = time.thread_time() if timed else 0.0
        start = flight.start if self.busy_until < 0 else self.busy_until
        if flight.chunks or flight.decodes:
            self._row(flight, start, max(now - start, 1))
            self._tokens(flight, now)
        self.busy_until = now if flight.chunks or flight.decodes else -1
        if timed:
            self.seconds += time.thread_time() - began
            self.timed += 1

    def rest(self, more: bool) -> None:
        """Note whether there is more to do: else the time until the next plan is no step's."""
        if not more:
            self.busy_until = -1

    def _row(self, flight: Flight, start: Time, duration: Time) -> None:
        tokens = sum(chunk for _, _, chunk in flight.chunks)
        prior = sum(earlier for _, earlier, _ in flight.chunks)
        pairs = sum(c * p + c * (c + 1) // 2 for _, p, c in flight.chunks)
        decodes = flight.decodes
        context = flight.context if decodes else 0
        prompts = len(flight.chunks)
        if self.log is not None:
            state = (flight.waiting, flight.paused, flight.kv_used)
            self.log.step(start, duration, tokens, prompts, decodes, *state, pairs, prior, context)
        if self.learn is not None:
            seconds = to_seconds(duration)
            self.learn(Measured(tokens, pairs, prior, prompts, decodes, context, seconds))

    def _tokens(self, flight: Flight, now: Time) -> None:
        """Keep the pauses of streams: of those that decode by the step, of newcomers each."""
        if flight.decodes:
            self.ticks += 1
            for life in self.fresh:
                if life.gap_tick >= 0:
                    life.gap = max(life.gap, now - life.token_time)
                    life.gap_tick = self.ticks
            self.fresh.clear()
            self.gaps.push(self.ticks, now - self.last_tick)
            self.last_tick = now
        for name in flight.completed:
            begun = self.lives.get(name)
            if begun is None:
                continue
            if begun.first_token < 0:
                begun.first_token = now
            else:
                begun.gap = max(begun.gap, now - begun.token_time)
            begun.token_time = now
            begun.gap_tick = self.ticks
            self.fresh.append(begun)
            self._enter(begun, st.DECODE, now)

    def parked(self, name: str, now: Time) -> None:
        """Note that a request lost its seat and kept its KV."""
        self.left(name)
        if name in self.lives:
            self.lives[name].pauses += 1
            self._enter(self.lives[name], st.PAUSED, now)

    def joined(self, name: str, now: Time) -> None:
        """Note that a paused request got its seat back."""
        life = self.lives.get(name)
        if life is None:
            return
        self._enter(life, st.PREFILL if name in self.prompts else st.DECODE, now)
        if name not in self.prompts and life.first_token >= 0:
            life.gap_tick = self.ticks
            self.fresh.append(life)

    def left(self, name: str) -> None:
        """Note that a request no longer decodes, for a time or for good."""
        life = self.lives.get(name)
        if life is None or life.gap_tick < 0:
            return
        if life not in self.fresh:
            life.gap = max(life.gap, self.gaps.longest_after(life.gap_tick))
            life.token_time = self.last_tick
        life.gap_tick = -1

    def dropping(self, request: compat.Request) -> None:
        """Note a drop that is about to happen."""
        life = self.lives.get(request.request_id)
        if life is not None:
            life.computed = request.num_computed_tokens

    def ended(self, request: compat.Request, now: Time) -> None:
        """Write the row of a request that ended."""
        name = request.request_id
        self.left(name)
        self.prompts.pop(name, None)
        life = self.lives.pop(name, None)
        if life is None or self.log is None:
            return
        caller = life.caller
        aborted = request.status >= compat.RequestStatus.FINISHED_ABORTED
        outcome = SHED if life.shed else CANCELLED if aborted else FINISHED
        self._enter(life, ENDS[outcome], now)
        row = EndedRequest(
            request=life.number,
            arrival=life.arrival,
            admitted=life.admitted,
            first_token=life.first_token,
            finish=-1 if outcome == SHED else now,
            prompt_tokens=request.num_prompt_tokens,
            output_tokens=request.num_output_tokens,
            outcome=outcome,
            gap=life.gap,
            preemptions=request.num_preemptions + life.pauses,
            recomputed_tokens=life.recomputed,
            cached_tokens=life.cached,
            program=life.program,
            turn=caller.turn,
            last_turn=int(caller.last_turn or caller.program is None),
            priority=caller.priority,
            reason=life.shed or (str(request.status) if outcome == CANCELLED else ""),
            tenant=caller.tenant,
            slo_class=caller.slo_class,
        )
        full = request.num_prompt_tokens // self.hashed_tokens
        self.log.request(row, request.block_hashes[:full])


def _context(flight: Flight, requests: dict[str, compat.Request]) -> int:
    """Return the KV tokens that a step's decodes read."""
    prompts = {request.request_id for request, _, _ in flight.chunks}
    return sum(
        requests[name].num_computed_tokens
        for name in flight.output.num_scheduled_tokens
        if name not in prompts
    )
