"""The step being composed over a live engine: the simulator's draft, and what vLLM must be told."""

from __future__ import annotations

from sojourn.decide.clock import Time
from sojourn.decide.machine import Machine
from sojourn.decide.request import Request, RequestView
from sojourn.decide.slots import Refusal
from sojourn.decide.states import WAITING
from sojourn.engine.draft import StepDraft
from sojourn.engine.host_memory import HostMemory
from sojourn.vllm.blocks import LiveBlocks
from sojourn.vllm.requests import LiveRequest, live


class LiveDraft(StepDraft):
    """A draft that notes who got a seat and which chunks were chosen shorter than they might be.

    Attributes:
        newcomers: Waiting requests that got a seat, in order.
        resumed: Paused requests that got their seat back.
        chosen: Tokens of newcomers whose chunk is shorter than what is left of prompt and step.
        ending: Decodes whose last token is on its way: vLLM will not run them.
    """

    def __init__(self, machine: Machine, blocks: LiveBlocks, phases: list[int]) -> None:
        self.newcomers: list[LiveRequest] = []
        self.resumed: list[LiveRequest] = []
        self.chosen: dict[int, int] = {}
        self.ending: list[LiveRequest] = []
        super().__init__(machine, blocks, HostMemory(0, 0), phases)

    def begin(self, now: Time) -> None:
        """Empty the draft."""
        super().begin(now)
        self.newcomers = []
        self.resumed = []
        self.chosen = {}
        self.ending = []

    def grant(self, request: RequestView, tokens: int) -> Refusal | None:
        """Compute tokens of a request; note a newcomer's chunk that was chosen short."""
        waiting = request.state == WAITING
        natural = min(self.remaining(request), self.tokens)
        refusal = super().grant(request, tokens)
        if waiting and refusal is None and tokens < natural:
            self.chosen[request.id] = tokens
        return refusal

    def decode(self) -> int:
        """Grant one token to every decoding request; those that are ending take none."""
        decodes = super().decode()
        if decodes:
            self.tokens += len(self.ending)
        return decodes

    def _seat(self, request: Request) -> None:
        (self.newcomers if request.state == WAITING else self.resumed).append(live(request))
        super()._seat(request)
