"""What can be asked for: everything that the decide layer asks of a host.

The machine has already made the state change when it returns an action; the host carries out the
mechanics (blocks, copies, messages). Fleet and rollout policies propose the last group.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from sojourn.decide.clock import Time
from sojourn.decide.request import Request, RequestView

Grant = NamedTuple("Grant", [("request", Request), ("tokens", int)])
"""Compute `tokens` prompt tokens of a request in the coming step."""
Pause = NamedTuple("Pause", [("request", Request)])
"""Take the seat, keep the KV on the GPU."""
Swap = NamedTuple("Swap", [("request", Request)])
"""Copy the KV of a paused request to host memory."""
Drop = NamedTuple("Drop", [("request", Request), ("tokens", int)])
"""Give the KV of a request's `tokens` back; they will be computed again."""
Resume = NamedTuple("Resume", [("request", Request)])
"""Copy a request's KV back from host memory, or take it up from its tokens."""
HoldUntil = NamedTuple("HoldUntil", [("request", Request), ("until", Time)])
"""Keep the KV of a finished request until a moment."""
Release = NamedTuple("Release", [("request", Request), ("tokens", int)])
"""Give the KV of an ended request's `tokens` back; the prefix cache may keep it."""
Reject = NamedTuple("Reject", [("request", Request), ("reason", str)])
"""Shed a request, for a reason that is counted."""
DelayUntil = NamedTuple("DelayUntil", [("request", Request), ("until", Time)])
"""Ask again about an arrival at a moment."""
Submit = NamedTuple("Submit", [("request", Request), ("replica", int), ("prefix_tokens", int)])
"""Send a request, with a prefix of tokens already generated, to a replica."""
Abort = NamedTuple("Abort", [("request", Request), ("keep", bool)])
"""Stop a request; its partial output is kept or discarded."""
Fork = NamedTuple("Fork", [("request", Request), ("token", int)])
"""Begin a second continuation of a request at one of its tokens."""
Migrate = NamedTuple("Migrate", [("request", RequestView), ("target", int)])
"""Move a live request, with its KV, to another replica while it decodes."""
Transfer = NamedTuple("Transfer", [("request", Request), ("target", int)])
"""Send a prefilled request's KV to the replica that will decode it."""
SetRole = NamedTuple("SetRole", [("replica", int), ("role", str)])
"""Let a replica serve another phase: mixed, prefill or decode."""
Scale = NamedTuple("Scale", [("kind", str), ("replicas", int)])
"""Add replicas of a kind (positive) or drain some (negative)."""

Mine: TypeAlias = Pause | Swap | Drop | Resume | HoldUntil | Release | Reject | DelayUntil
Action: TypeAlias = Grant | Mine | Submit | Abort | Fork | Migrate | Transfer | SetRole | Scale
