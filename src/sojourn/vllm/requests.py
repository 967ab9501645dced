"""A request of the decide layer that stands for one of vLLM's."""

from __future__ import annotations

from typing import cast

from sojourn.decide.clock import Time
from sojourn.decide.request import Request
from sojourn.vllm import compat


class LiveRequest(Request):
    """A request and vLLM's own object behind it, which holds what is true.

    Attributes:
        vllm: vLLM's request.
        refusals: Times in a row that vLLM did not admit it though the plan did.
        counted: Whether it is counted among the decodes (block phases and context).
    """

    __slots__ = ("counted", "refusals", "vllm")

    @property
    def adapter(self) -> int:
        """Number of its LoRA adapter; 0 for none."""
        return compat.adapter(self.vllm)

    def __init__(self, number: int, arrival: Time, vllm: compat.Request) -> None:
        super().__init__(number, arrival, vllm.num_tokens)
        self.vllm = vllm
        self.counted = False
        self.refusals = 0


def live(request: Request) -> LiveRequest:
    """Return a request of this host as what it is."""
    return cast(LiveRequest, request)
