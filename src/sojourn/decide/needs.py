"""What a policy may need of its host; what hosts offer is in `recipes.hosts`."""

from __future__ import annotations

from enum import Enum


class Need(Enum):
    """An ability of a host."""

    PAUSE = "pause a request and keep its KV on the GPU"
    DROP = "drop a request's KV and compute it again"
    SWAP = "swap KV to host memory and back"
    CHUNK = "choose the prefill chunk of each request"
    INTERRUPT = "interrupt a prefill inside a forward pass"
    HOLD = "hold the KV of finished requests until a moment"
    EVICT = "choose which cached block is evicted"
    DELAY = "delay a dispatch on purpose"
    REJECT = "reject a request"
    STEP_TIME = "predict step times"
    LENGTH = "predict output lengths"
    TOOL_TIME = "predict tool times"
    MIGRATE = "migrate a live request"
    TRANSFER = "transfer KV from prefill to decode"
    FETCH = "fetch cached prefixes from other replicas"
    SCALE = "add and remove replicas"
    TRUTH = "know the true output length"
