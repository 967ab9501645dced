"""Remaining service seconds of a request whose true length is known: prefill, then decode, alone.

Shared by the clairvoyant references; not a policy itself.
"""

from __future__ import annotations

from sojourn.decide.clock import Time
from sojourn.decide.request import RequestView
from sojourn.decide.slots import Services


def remaining_tokens(request: RequestView, services: Services) -> int:
    """Return the tokens that a request has still to generate."""
    assert services.truth is not None, "a clairvoyant policy needs the true lengths"
    return services.truth.output_tokens(request) - request.decoded


def remaining_time(request: RequestView, services: Services) -> Time:
    """Return how long a request would still take if it had the engine to itself."""
    tokens = remaining_tokens(request, services)
    left = request.target - request.computed
    time = 0
    context = request.computed + 1
    if left > 0:
        pairs = left * request.computed + left * (left + 1) // 2
        time = services.step_time.step(left, pairs, request.computed, 1, 0, 0)
        context = request.target + 1
        tokens -= 1
    return time + services.step_time.run(1, context, tokens) if tokens > 0 else time
