"""What can happen: everything that any host tells the decide layer.

Each event is an immutable tuple that begins with its time. A replica's machine acts on the first
group; all events reach the policies that subscribe to them (fleet and rollout policies).
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from sojourn.decide.clock import Time
from sojourn.decide.request import Request

Arrival = NamedTuple("Arrival", [("time", Time), ("request", Request)])
"""A request reached the host."""
Cancel = NamedTuple("Cancel", [("time", Time), ("request", Request)])
"""A client went away; what was generated is kept or discarded by its owner."""
Grants: TypeAlias = tuple[tuple[Request, int], ...]
StepEnd = NamedTuple(
    "StepEnd", [("time", Time), ("steps", int), ("decodes", bool), ("grants", Grants)]
)
"""`steps` identical steps ended.

`grants` are the prompt tokens computed, by request; `decodes` says whether each decoding
request got one token in each step."""
Depart = NamedTuple("Depart", [("time", Time), ("request", Request)])
"""A request leaves for another replica, with its tokens and perhaps its KV."""
Finish = NamedTuple("Finish", [("time", Time), ("request", Request)])
"""A request got its last token."""
SwapDone = NamedTuple("SwapDone", [("time", Time), ("request", Request)])
"""The copy of a request's KV to host memory, or back, is complete."""
Timer = NamedTuple("Timer", [("time", Time)])
"""A moment that was asked for has come."""
MemoryPressure = NamedTuple("MemoryPressure", [("time", Time), ("request", Request | None)])
"""The engine needs KV blocks that are not free, on behalf of a request or of nobody."""
FirstToken = NamedTuple("FirstToken", [("time", Time), ("request", Request)])
"""A request's first token was delivered."""
ToolReturn = NamedTuple("ToolReturn", [("time", Time), ("program", int)])
"""A tool call of a program ended; its next request follows."""
TransferDone = NamedTuple(
    "TransferDone",
    [("time", Time), ("request", Request), ("source", int), ("target", int)],
)
"""A request's KV has reached another replica."""
ReplicaUp = NamedTuple("ReplicaUp", [("time", Time), ("replica", int), ("role", str)])
"""A replica is ready to serve."""
ReplicaDown = NamedTuple("ReplicaDown", [("time", Time), ("replica", int), ("notice", Time)])
"""A replica is lost, with all KV on it; `notice` is how long before it was announced."""
RoleChanged = NamedTuple("RoleChanged", [("time", Time), ("replica", int), ("role", str)])
"""A replica serves another phase from now on: mixed, prefill or decode."""
LoadReport = NamedTuple(
    "LoadReport",
    [
        ("time", Time),
        ("measured", Time),
        ("replica", int),
        ("waiting", int),
        ("seated", int),
        ("tokens", int),
        ("free_blocks", int),
    ],
)
"""A replica's load as it was at `measured`, which may be earlier than `time`."""
WeightsPending = NamedTuple("WeightsPending", [("time", Time), ("version", int)])
"""New weights are about to be loaded."""
WeightsLive = NamedTuple("WeightsLive", [("time", Time), ("version", int)])
"""New weights serve from now on."""
GroupClosed = NamedTuple("GroupClosed", [("time", Time), ("group", int)])
"""A group of rollouts needs no more samples."""

Mine: TypeAlias = Arrival | Cancel | StepEnd | Depart | Finish | SwapDone | Timer | MemoryPressure
Fleet: TypeAlias = ToolReturn | TransferDone | ReplicaUp | ReplicaDown | RoleChanged | LoadReport
Event: TypeAlias = Mine | FirstToken | Fleet | WeightsPending | WeightsLive | GroupClosed
