"""The prompt tokens that replicas still have to compute, as far as their router can tell."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from sojourn.decide.clock import Time
from sojourn.decide.states import NEW, PREFILL, WAITING
from sojourn.fleet.views import ReplicaView, RoutedView

AHEAD = (NEW, WAITING, PREFILL)


def prefill_time(replica: ReplicaView, tokens: int, prior: int) -> Time:
    """Return how long a replica takes for prompt tokens after `prior` cached ones, in one step."""
    pairs = tokens * prior + tokens * (tokens + 1) // 2
    return replica.step_time.step(tokens, pairs, prior, 1, 0, 0)


class Sent(NamedTuple):
    """A request that was sent somewhere, and the tokens thought to be in no cache there."""

    request: RoutedView
    tokens: int
    decoded: int


class PromptQueue:
    """Uncached prompt tokens in flight: from when a request is sent until its first token.

    Prompts are taken to be computed in the order in which they were sent, so one that overtakes
    another counts until the other has its first token too.

    Attributes:
        sent: By replica, the requests that are thought to have no token from it yet.
        tokens: By replica, the sum of their tokens.
    """

    def __init__(self) -> None:
        self.sent: dict[int, deque[Sent]] = {}
        self.tokens: dict[int, int] = {}

    def add(self, request: RoutedView, replica: int, tokens: int) -> None:
        """Note that a request is sent with so many tokens that are in no cache there."""
        self.sent.setdefault(replica, deque()).append(Sent(request, tokens, request.decoded))
        self.tokens[replica] = self.tokens.get(replica, 0) + tokens

    def settle(self, replica: int) -> int:
        """Return the tokens that a replica has to compute, less those that have given a token."""
        line = self.sent.get(replica)
        while line:
            request, tokens, decoded = line[0]
            if request.state in AHEAD and request.decoded <= decoded:
                break
            line.popleft()
            self.tokens[replica] -= tokens
        return self.tokens.get(replica, 0)

    def remove(self, replica: int) -> None:
        """Forget a replica that is gone."""
        self.sent.pop(replica, None)
        self.tokens.pop(replica, None)
