"""What each host offers, and the check of a recipe against it at start-up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sojourn.decide.needs import Need
from sojourn.errors import UserError
from sojourn.rollout.needs import VLLM_ROLLOUTS, RolloutNeed

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

FLEET: Final = frozenset({Need.MIGRATE, Need.TRANSFER, Need.FETCH, Need.SCALE})
"""What every simulated fleet offers, whatever engines are in it; of one engine it asks nothing."""

HOSTS: Final[Mapping[str, frozenset[Need]]] = {"vllm": VLLM, "ideal": IDEAL}


def deployable(needs: Iterable[Need | RolloutNeed]) -> bool:
    """Return whether stock vLLM offers everything in `needs`."""
    return (VLLM | VLLM_ROLLOUTS).issuperset(needs)


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
