"""Decodes first; then the chunk budget goes to prompts by rank, begun or not.

Source: FlowPrefill (arXiv 2602.16603), at chunk granularity: a more urgent prompt overtakes one
    that has begun, which keeps its KV and its seat until its rank comes up again.
Reads: ranks, through the draft.
Memory: none.
Needs: choose the prefill chunk.
Deviations: FlowPrefill runs on prefill-only instances and batches at most 2,048 tokens while the
    remaining slack allows; here decodes share the step and the engine's token budget is the limit.
Fails when: many prompts are begun and overtaken: they hold memory without progress.
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


class UrgentChunks:
    """Decodes, then prompts by rank."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.CHUNK})
    contests: ClassVar[bool] = False
    alarm_step: int = NEVER

    def __init__(self, config: Config, services: Services) -> None:
        pass

    def compose(self, draft: Draft) -> None:
        """Fill the draft; nobody is admitted in a step in which somebody had to yield."""
        draft.decode()
        begun = list(draft.partials(ranked=True))
        open_to_new = not draft.yielded
        while draft.tokens > 0:
            head = draft.peek() if open_to_new and draft.seats > 0 else None
            if begun and (head is None or not draft.ahead(head, begun[0])):
                best = begun.pop(0)
                draft.grant(best, min(draft.remaining(best), draft.tokens))
                open_to_new = open_to_new and not draft.yielded
            elif head is None:
                return
            elif draft.grant(head, min(draft.remaining(head), draft.tokens)):
                open_to_new = False
