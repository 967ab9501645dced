"""The states of a request and what each one means.

A request holds KV on the GPU in prefill, decode, paused, swapping-out, swapping-in and held; it
holds a seat (one of max_num_seqs) in prefill and decode only.
"""

from __future__ import annotations

from typing import Final

NEW: Final = 0
"""Not yet seen by the machine."""
DELAYED: Final = 1
"""The admit slot put it off until a moment; it is in no queue."""
WAITING: Final = 2
"""Queued without KV: new, or dropped and to be computed again."""
PREFILL: Final = 3
"""Seated; its prompt (after a drop also its own output) is being computed in chunks."""
DECODE: Final = 4
"""Seated; it gets one token in each decode step."""
PAUSED: Final = 5
"""Queued for a seat with its KV kept on the GPU."""
SWAPPING_OUT: Final = 6
"""Its KV is being copied to host memory; it is in no queue."""
SWAPPED: Final = 7
"""Queued with its KV in host memory."""
SWAPPING_IN: Final = 8
"""Its KV is being copied back; blocks are reserved; it is in no queue."""
HELD: Final = 9
"""Finished for its client; its KV is held for a later turn until it expires or is released."""
FINISHED: Final = 10
"""All tokens delivered, KV given back."""
REJECTED: Final = 11
"""Shed with a counted reason before it ever ran."""
CANCELLED: Final = 12
"""Its client went away, or its replica was lost."""

NAMES: Final = (
    "new",
    "delayed",
    "waiting",
    "prefill",
    "decode",
    "paused",
    "swapping-out",
    "swapped",
    "swapping-in",
    "held",
    "finished",
    "rejected",
    "cancelled",
)

ENDED: Final = frozenset({FINISHED, REJECTED, CANCELLED})

TRANSITIONS: Final = {
    (NEW, WAITING): "arrival accepted",
    (NEW, DELAYED): "arrival put off",
    (NEW, REJECTED): "shed",
    (DELAYED, WAITING): "accepted later",
    (DELAYED, DELAYED): "put off again",
    (DELAYED, REJECTED): "shed later",
    (WAITING, PREFILL): "seat granted",
    (PREFILL, DECODE): "prompt computed",
    (PREFILL, PAUSED): "pause",
    (PREFILL, WAITING): "drop",
    (DECODE, PAUSED): "pause",
    (DECODE, WAITING): "drop",
    (DECODE, FINISHED): "last token",
    (DECODE, HELD): "last token, hold",
    (PAUSED, PREFILL): "resume prompt",
    (PAUSED, DECODE): "resume",
    (PAUSED, WAITING): "drop",
    (PAUSED, SWAPPING_OUT): "swap out",
    (SWAPPING_OUT, SWAPPED): "copy done",
    (SWAPPED, SWAPPING_IN): "swap in",
    (SWAPPING_IN, PAUSED): "copy done",
    (HELD, FINISHED): "expired or released",
    **{
        (state, CANCELLED): "client gone"
        for state in (NEW, DELAYED, WAITING, PREFILL, DECODE, PAUSED)
    },
    (SWAPPING_OUT, CANCELLED): "client gone",
    (SWAPPED, CANCELLED): "client gone",
    (SWAPPING_IN, CANCELLED): "client gone",
}
"""Every legal move and its reason; the diagram in the docs is drawn from this table."""
