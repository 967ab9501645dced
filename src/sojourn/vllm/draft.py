"""The step being composed over a live engine: the simulator's draft, and what vLLM must be told."""

from __future__ import annotations

from typing import cast

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
        adapters_max: LoRA adapters that a step may use; 0 for no limit.
    """

    def __init__(
        self, machine: Machine, blocks: LiveBlocks, phases: list[int], adapters_max: int
    ) -> None:
        self.adapters_max = adapters_max
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

    def resume(self, request: RequestView) -> Refusal | None:
        """Give a seat to a paused request, unless its adapter would be one too many."""
        if self.adapters_max and not self._adapter_fits(live(cast(Request, request))):
            return Refusal.SEAT
        return super().resume(request)

    def _adapter_fits(self, request: LiveRequest) -> bool:
        used = {live(seated).adapter for seated in self.machine.seated.values()}
        return len((used | {request.adapter}) - {0}) <= self.adapters_max

    def decode(self) -> int:
        """Grant one token to every decoding request; those that are ending take none."""
        decodes = super().decode()
        if decodes:
            self.tokens += len(self.ending)
        return decodes

    def _seat(self, request: Request) -> None:
        (self.newcomers if request.state == WAITING else self.resumed).append(live(request))
        super()._seat(request)
