"""A step is either whole prompts or decodes; prompts go first and stall every stream.

Source: vLLM before chunked prefill (Kwon et al., SOSP 2023; the V0 scheduler up to 0.6).
Reads: nothing beyond the draft.
Memory: none.
Needs: pause (decodes wait while prompts run); choose the prefill chunk.
Deviations: V0 refused prompts above its token budget; here such a prompt takes several successive
    prefill steps. V0's one-percent memory watermark is left out.
Fails when: prompts keep coming: streams stand still for as long as there is one to admit.
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


class PrefillFirst:
    """Prompts alone, or decodes alone."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.CHUNK, Need.PAUSE})
    contests: ClassVar[bool] = False
    alarm_step: int = NEVER

    def __init__(self, config: Config, services: Services) -> None:
        pass

    def compose(self, draft: Draft) -> None:
        """Admit whole prompts while they fit; decode only if none did."""
        budget = draft.tokens
        for partial in draft.partials():
            draft.grant(partial, min(draft.remaining(partial), draft.tokens))
        while draft.tokens > 0 and draft.seats > 0 and not draft.yielded:
            head = draft.peek()
            if head is None:
                break
            tokens = draft.remaining(head)
            if tokens > draft.tokens and draft.tokens < budget:
                break
            if draft.grant(head, min(tokens, draft.tokens)):
                break
        if draft.tokens == budget:
            draft.decode()
