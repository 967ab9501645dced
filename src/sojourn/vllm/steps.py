"""What passes between the decide layer and the scheduler class: a step, and what may be done."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, NamedTuple

from sojourn.decide.machine import Machine
from sojourn.decide.states import DECODE
from sojourn.vllm import compat
from sojourn.vllm.requests import LiveRequest, live


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


def only_decodes(output: Any, machine: Machine) -> bool:
    """Return whether a step runs all that decode and nobody else, told without a look at each.

    Nobody came, so whoever runs had a seat; and whoever has a seat decodes.
    """
    return (
        len(output.num_scheduled_tokens) == machine.decodes
        and not machine.partials
        and not machine.paused
        and not output.preempted_req_ids
        and not any(compat.admitted(output))
    )


def lagging_of(scheduled: Container[str], machine: Machine) -> list[LiveRequest]:
    """Return the decoding requests that a step leaves out."""
    decoding = (live(one) for one in machine.seated.values() if one.state == DECODE)
    return [one for one in decoding if one.vllm.request_id not in scheduled]
