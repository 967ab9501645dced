"""Whole prompts together until the GPU is saturated; a longer prompt runs alone.

Source: DistServe (Zhong et al., OSDI 2024), section 3.1 and 4.3: prompts are batched so that their
    tokens come near the length from which a step takes time in proportion to its tokens.
Reads: nothing beyond the draft.
Memory: none.
Needs: pause (decodes wait while prompts run); choose the prefill chunk.
Deviations: a prompt longer than the engine's `max_num_batched_tokens` takes several successive
    steps, where DistServe refuses it. Decodes, which a prefill replica has only after a change of
    role, run when there is no prompt.
Fails when: prompts of very different lengths come: a long one at the head holds up short ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import NEVER
from sojourn.decide.needs import Need
from sojourn.decide.slots import Draft, Services
from sojourn.errors import UserError


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the batch.

    Attributes:
        saturation_tokens: Prompt tokens from which a step is bound by compute: 512 for 13B weights
            on an A100.
    """

    saturation_tokens: int = 512

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.saturation_tokens < 1:
            raise UserError(
                f"compose.saturation_tokens is {self.saturation_tokens}; it must be at least 1"
            )


class PromptBatches:
    """Whole prompts in order, up to the saturation length."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.CHUNK, Need.PAUSE})
    contests: ClassVar[bool] = False
    alarm_step: int = NEVER

    def __init__(self, config: Config, services: Services) -> None:
        self.saturation = config.saturation_tokens

    def compose(self, draft: Draft) -> None:
        """Admit whole prompts until the next would exceed the saturation length."""
        granted = 0
        for partial in draft.partials():
            tokens = min(draft.remaining(partial), draft.tokens)
            if tokens and not draft.grant(partial, tokens):
                granted += tokens
        while draft.tokens > 0 and draft.seats > 0 and not draft.yielded:
            head = draft.peek()
            if head is None:
                break
            tokens = draft.remaining(head)
            if granted and (granted + tokens > self.saturation or tokens > draft.tokens):
                break
            tokens = min(tokens, draft.tokens)
            if draft.grant(head, tokens):
                break
            granted += tokens
        if not granted:
            draft.decode()
