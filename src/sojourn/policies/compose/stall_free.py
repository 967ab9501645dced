"""Decodes first, then chunks of prompts under one token budget: a prefill never stalls a stream.

Source: Sarathi-Serve (Agrawal et al., OSDI 2024, algorithm 3); vLLM 0.32 `Scheduler.schedule`.
Reads: nothing beyond the draft.
Memory: none.
Needs: choose the prefill chunk.
Deviations: vLLM walks its running list in order of seating, where a partial prompt stands behind
    all decodes as long as `long_prefill_token_threshold` is off; so decodes first is the same.
Fails when: the budget is too small (prefill starves) or too large (every mixed step is long).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import NEVER
from sojourn.decide.needs import Need
from sojourn.decide.slots import Draft, Services


@dataclass(frozen=True, slots=True)
class Config:
    """No parameters; the token budget is the engine's `max_num_batched_tokens`."""


class StallFree:
    """Decodes, partial prompts, newcomers."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.CHUNK})
    contests: ClassVar[bool] = False
    alarm_step: int = NEVER

    def __init__(self, config: Config, services: Services) -> None:
        pass

    def compose(self, draft: Draft) -> None:
        """Fill the draft; nobody is admitted in a step in which somebody had to yield."""
        draft.decode()
        for partial in draft.partials():
            draft.grant(partial, min(draft.remaining(partial), draft.tokens))
        if draft.yielded:
            return
        while draft.tokens > 0 and draft.seats > 0:
            head = draft.peek()
            if head is None or draft.grant(head, min(draft.remaining(head), draft.tokens)):
                return
