"""What passes between the decide layer and the scheduler class: a step, and what may be done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sojourn.vllm.requests import LiveRequest


class Grant(NamedTuple):
    """Prompt tokens that a step computes, after `prior` earlier ones."""

    request: LiveRequest
    prior: int
    tokens: int


class Step(NamedTuple):
    """What vLLM runs in a step.

    Attributes:
        output: vLLM's own plan, by which the end of the step is told.
        grants: Prompt chunks.
        decodes: Requests that get one token.
        context: KV tokens that those read.
        lagging: Decoding requests that get none, though the decode clock ticks.
        admitted, dropped: Numbers of requests that got, or lost, their KV with it.
    """

    output: Any
    grants: list[Grant]
    decodes: int
    context: int
    lagging: list[LiveRequest]
    admitted: set[int]
    dropped: set[int]


class Body(NamedTuple):
    """What the host may do to the engine; the scheduler class gives it.

    Attributes:
        drop: Take the KV of a running request and queue it again.
        park: Take a request out of the running list, its KV kept.
        unpark: Put it back.
        free_held: Give back the KV of a finished request.
        shed: End a waiting request with an error, for a reason.
    """

    drop: Callable[[LiveRequest], None]
    park: Callable[[LiveRequest], None]
    unpark: Callable[[LiveRequest], None]
    free_held: Callable[[LiveRequest], None]
    shed: Callable[[LiveRequest, str], None]
