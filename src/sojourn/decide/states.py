"""The states of a request and what each one means.

A request holds KV on the GPU in prefill, decode, paused, swapping-out, swapping-in and held; it
holds a seat (one of max_num_seqs) in prefill and decode only.
"""

from __future__ import annotations

from typing import Final

NEW: Final = 0  # not yet, or no longer, seen by the machine of this replica
DELAYED: Final = 1  # the admit slot put it off until a moment; it is in no queue
WAITING: Final = 2  # queued without KV: new, or dropped and to be computed again
PREFILL: Final = 3  # seated; its prompt (after a drop its output too) is being computed
DECODE: Final = 4  # seated; it gets one token in each decode step
PAUSED: Final = 5  # queued for a seat with its KV kept on the GPU
SWAPPING_OUT: Final = 6  # its KV is being copied to host memory; it is in no queue
SWAPPED: Final = 7  # queued with its KV in host memory
SWAPPING_IN: Final = 8  # its KV is being copied back; blocks are reserved; it is in no queue
HELD: Final = 9  # finished for its client; its KV is held for a later turn, for a time
FINISHED: Final = 10  # all tokens delivered, KV given back
REJECTED: Final = 11  # shed with a counted reason before it ever ran
CANCELLED: Final = 12  # its client went away, or its replica was lost

NAMES: Final = tuple(
    "new delayed waiting prefill decode paused swapping-out swapped swapping-in held finished "
    "rejected cancelled".split()
)

ENDED: Final = frozenset({FINISHED, REJECTED, CANCELLED})
GONE: Final = ENDED | {HELD, NEW}
"""States of which an order need remember nothing."""

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
    **{(state, NEW): "to another replica" for state in range(DELAYED, HELD)},
    **{(state, CANCELLED): "client gone" for state in range(NEW, HELD)},
}
"""Every legal move and its reason; the diagram in the docs is drawn from this table."""
