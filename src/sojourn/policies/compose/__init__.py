"""Compose slot: the batch of the coming step."""

from typing import Any, Final

from sojourn.policies.compose import (
    contest,
    prefill_first,
    prompt_batches,
    stall_free,
    urgent_chunks,
)

TABLE: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "contest": (contest.Config, contest.Contest),
    "prefill_first": (prefill_first.Config, prefill_first.PrefillFirst),
    "prompt_batches": (prompt_batches.Config, prompt_batches.PromptBatches),
    "stall_free": (stall_free.Config, stall_free.StallFree),
    "urgent_chunks": (urgent_chunks.Config, urgent_chunks.UrgentChunks),
}
