"""What a policy needs of its host, what each host offers, and the check at start-up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

from sojourn.errors import UserError


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
    SCALE = "add and remove replicas"
    TRUTH = "know the true output length"


VLLM: Final = frozenset(
    {
        Need.PAUSE,
        Need.DROP,
        Need.CHUNK,
        Need.HOLD,
        Need.DELAY,
        Need.REJECT,
        Need.STEP_TIME,
    }
)
"""What stock vLLM 0.32 lets a scheduler class do."""

IDEAL: Final = VLLM | {Need.SWAP}
"""An engine that also swaps KV to host memory, asynchronously."""

HOSTS: Final[Mapping[str, frozenset[Need]]] = {"vllm": VLLM, "ideal": IDEAL}


def deployable(needs: Iterable[Need]) -> bool:
    """Return whether stock vLLM offers everything in `needs`."""
    return VLLM.issuperset(needs)


def check(recipe: str, needs: frozenset[Need], host: str, runnable: Iterable[str]) -> None:
    """Refuse a recipe whose needs the simulated host does not offer.

    References that know the true length run in any simulated host; they are never deployable.

    Raises:
        UserError: Naming the missing abilities, the host, and recipes that do run there.
    """
    missing = sorted(need.value for need in needs - HOSTS[host] - {Need.TRUTH})
    if missing:
        raise UserError(
            f"recipe {recipe!r} needs to {' and to '.join(missing)}, which host {host!r} does "
            f"not offer; use --host ideal, or one of: {', '.join(sorted(runnable))}"
        )
