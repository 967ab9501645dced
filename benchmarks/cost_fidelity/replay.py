"""A first-come first-served engine in forty lines, to set a step time against served requests.

It stands in for the project's simulator so that an error shown here is the cost model's: chunked
prefill under a token budget, decodes first, no KV limit, no prefix cache.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

from sojourn.decide.clock import Time
from sojourn.decide.services import StepTime


@dataclass(slots=True)
class Served:
    """One request: what it asked for, and when its tokens came (picoseconds)."""

    arrival: Time
    prompt: int
    output: int
    computed: int = 0
    made: int = 0
    first: Time = 0
    last: Time = 0

    @property
    def ttft(self) -> float:
        """Time to first token in seconds."""
        return (self.first - self.arrival) / 1e12

    @property
    def tpot(self) -> float:
        """Time per output token after the first, in seconds."""
        return (self.last - self.first) / max(self.output - 1, 1) / 1e12


def serve(cost: StepTime, requests: list[Served], seats: int, budget: int) -> list[Served]:
    """Serve `requests` in order of arrival; return them with their times filled in."""
    waiting = deque(sorted(requests, key=lambda request: request.arrival))
    running: list[Served] = []
    now: Time = 0
    while waiting or running:
        if not running:
            now = max(now, waiting[0].arrival)
        while waiting and len(running) < seats and waiting[0].arrival <= now:
            running.append(waiting.popleft())
        now += _step(cost, running, budget, now)
        running = [request for request in running if request.made < request.output]
    return requests


def _step(cost: StepTime, running: list[Served], budget: int, now: Time) -> Time:
    decodes = [request for request in running if request.computed == request.prompt]
    left = budget - len(decodes)
    tokens = pairs = prior = 0
    chunks: list[tuple[Served, int]] = []
    for request in running:
        if left <= 0:
            break
        if request.computed < request.prompt:
            size = min(left, request.prompt - request.computed)
            left -= size
            tokens += size
            pairs += size * request.computed + size * (size + 1) // 2
            prior += request.computed
            chunks.append((request, size))
    context = sum(request.computed + request.made for request in decodes)
    time = cost.step(tokens, pairs, prior, len(chunks), len(decodes), context)
    for request in decodes:
        request.made += 1
        request.last = now + time
    for request, size in chunks:
        request.computed += size
        if request.computed == request.prompt:
            request.made = 1
            request.first = request.last = now + time
    return time


def closed_loop(
    cost: StepTime, users: int, prompt: int, output: int, spread: float, budget: int
) -> tuple[float, float]:
    """Return mean (TTFT, TPOT) in seconds of `users` who each send one request after another.

    Ten requests a user, all users starting at once, lengths uniform in [spread * nominal,
    nominal]: the procedure of InferenceX (then InferenceMAX) with vLLM's `benchmark_serving.py`.
    """
    lengths = random.Random(1)
    left = 10 * users
    now: Time = 0
    running: list[Served] = []
    done: list[Served] = []
    while len(done) < 10 * users:
        while left and len(running) < users:
            left -= 1
            asked = lengths.randint(int(spread * prompt), prompt)
            running.append(Served(now, asked, lengths.randint(int(spread * output), output)))
        now += _step(cost, running, budget, now)
        done += [request for request in running if request.made >= request.output]
        running = [request for request in running if request.made < request.output]
    ttft = sum(request.ttft for request in done) / len(done)
    return ttft, sum(request.tpot for request in done) / len(done)
