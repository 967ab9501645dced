"""Seats go to the best-ranked requests at every step; whoever loses one keeps its KV if it can.

Source: FastServe (arXiv 2305.05920), iteration-level preemption; the batch rule of its code.
Reads: ranks and states, through the draft.
Memory: how many seats may be taken from others, if that is limited.
Needs: pause; choose the prefill chunk.
Deviations: prompts are computed in chunks under the engine's token budget; FastServe computes
    whole prompts. The limit of exchanges is ours.
Fails when: ranks cross often: every crossing pauses a stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import NEVER
from sojourn.decide.needs import Need
from sojourn.decide.request import RequestView
from sojourn.decide.slots import Draft, Mode, Services
from sojourn.decide.states import PAUSED, PREFILL, SWAPPED, WAITING
from sojourn.errors import UserError


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the contest; seats and tokens are the engine's limits.

    Attributes:
        watermark: Share of the KV blocks left free when a request without KV is let in, so that
            those that run can grow (vLLM's `watermark`, which is 0 by default).
        exchanges_burst: Seats that queued requests may take from others in one step, if few were
            taken before it; 0 for no limit. Each costs the engine a pause and an admission, and
            the stream that pauses a gap.
        exchange_steps: Steps that earn one more of them, as a token bucket does.
    """

    watermark: float = 0.0
    exchanges_burst: int = 0
    exchange_steps: int = 1

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0 <= self.watermark < 1:
            raise UserError(f"compose.watermark is {self.watermark}; it must be in [0, 1)")
        if self.exchanges_burst < 0:
            raise UserError(
                f"compose.exchanges_burst is {self.exchanges_burst}; it must be at least 0, "
                "which is no limit"
            )
        if self.exchange_steps < 1:
            raise UserError(
                f"compose.exchange_steps is {self.exchange_steps}; it must be at least 1"
            )


class Contest:
    """The best of queued and seated get the seats."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.CHUNK, Need.PAUSE, Need.DROP})
    contests: ClassVar[bool] = True
    alarm_step: int = NEVER

    def __init__(self, config: Config, services: Services) -> None:
        self.view = services.view
        self.config = config
        self.earned = config.exchanges_burst * config.exchange_steps
        self.earned_at = 0
        self.watermark_blocks = int(config.watermark * self.view.limits.num_gpu_blocks)

    def compose(self, draft: Draft) -> None:
        """Settle the seats and share the tokens by rank, then decode.

        Once the best queued request does not fit in memory, only paused ones, which have their KV,
        are tried: they must not wait for one that cannot run.
        """
        self._earn()
        draft.secure()
        begun = list(draft.partials(ranked=True))
        parked = False
        while True:
            head = draft.peek(parked)
            if begun and (head is None or not draft.ahead(head, begun[0])):
                self._continue(draft, begun.pop(0))
            elif self._sated(draft):
                self.alarm_step = self.view.steps + self.config.exchange_steps - self.earned
                break
            elif head is None or not self._seat(draft, head):
                if parked or head is None or draft.tokens <= self.view.decodes:
                    break
                parked = True
        for partial in begun:
            self._continue(draft, partial)
        draft.decode()

    def _earn(self) -> None:
        """Count the steps since the last plan towards exchanges, up to a full burst."""
        self.alarm_step = NEVER
        steps = self.view.steps
        full = self.config.exchanges_burst * self.config.exchange_steps
        self.earned = min(self.earned + steps - self.earned_at, full)
        self.earned_at = steps

    def _sated(self, draft: Draft) -> bool:
        """Return whether nobody may take another's seat in this step, and none is free."""
        config = self.config
        limited = config.exchanges_burst and self.earned < config.exchange_steps
        return bool(limited) and draft.seats == 0

    def _spare(self, draft: Draft) -> int:
        """Return the tokens left if every decoding request gets one."""
        return draft.tokens - self.view.decodes

    def _continue(self, draft: Draft, partial: RequestView) -> None:
        if partial.state == PREFILL:
            tokens = min(draft.remaining(partial), self._spare(draft))
            if tokens > 0:
                draft.grant(partial, tokens)

    def _seat(self, draft: Draft, head: RequestView) -> bool:
        """Try to seat the best queued request; say whether the next one may be tried."""
        if head.state == SWAPPED:
            return draft.make_room(head) and draft.fetch(head) is None
        parked = head.state == PAUSED and head.computed >= head.target
        if self._spare(draft) <= 0:
            return False
        spare = self.watermark_blocks if head.state == WAITING and self.view.decodes else 0
        if draft.seats == 0:
            worst = draft.worst()
            if worst is None or not draft.ahead(head, worst):
                return False
            if not draft.make_room(head, spare):
                return False
            draft.unseat(worst, Mode.KEEP)
            self.earned -= self.config.exchange_steps
        elif not draft.make_room(head, spare):
            return False
        if parked:
            return draft.resume(head) is None
        return draft.grant(head, min(draft.remaining(head), self._spare(draft))) is None
