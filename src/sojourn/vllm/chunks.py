"""How many prompt tokens vLLM's step may give each request, where the plan says so.

vLLM's `schedule()` asks `_reserve_prefill_lookahead()` about every request of every step, 256 times
with full seats. Most steps cut no chunk: then vLLM's own method is left where it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from sojourn.vllm import compat
from sojourn.vllm.draft import LiveDraft
from sojourn.vllm.host import Host

ASKED: Final = "_reserve_prefill_lookahead"
"""The method that `schedule()` asks."""

NO_LIMIT: Final = 1 << 40
"""More tokens than any chunk has."""

Reserve: TypeAlias = Callable[[compat.Request, int, int], int]
"""That method: a request, its computed tokens, the chunk's tokens; returns what it may have."""


class ChunkLimits(NamedTuple):
    """Most prompt tokens of a request in a step.

    Attributes:
        named: By vLLM's id.
        others: Of all that are not named; None for no limit.
    """

    named: dict[str, int]
    others: int | None

    def around(self, stock: Reserve) -> Reserve:
        """Return vLLM's method with its answers cut to these limits."""

        def cut(request: compat.Request, num_computed_tokens: int, num_new_tokens: int) -> int:
            tokens = int(stock(request, num_computed_tokens, num_new_tokens))
            most = self.named.get(request.request_id, self.others)
            return tokens if most is None else min(tokens, most)

        return cut


def chunk_limits(host: Host, draft: LiveDraft) -> ChunkLimits | None:
    """Return the limits that make vLLM's step the plan's; None where it needs none.

    A newcomer's chunk that was not chosen short is vLLM's to size: only when it looks does it know
    what the prefix cache holds.
    """
    others = 0 if host.machine.decodes and not draft.decoding else None
    named = {r.vllm.request_id: 0 for r in host.partials()}
    named.update((host.name(granted), tokens) for granted, tokens in draft.grants)
    for newcomer in draft.newcomers:
        if newcomer.id in draft.chosen:
            continue
        if others is None:
            del named[newcomer.vllm.request_id]
        else:
            named[newcomer.vllm.request_id] = NO_LIMIT
    return None if others is None and not named else ChunkLimits(named, others)
