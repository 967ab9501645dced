"""The same policies inside real, unpatched vLLM, as a scheduler class.

`--scheduler-cls sojourn.vllm.Scheduler`; importing this package does not import vllm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sojourn.vllm.scheduler import Scheduler

__all__ = ["Scheduler"]


def __getattr__(name: str) -> Any:
    """Return the scheduler class, which imports vllm, when it is asked for."""
    if name == "Scheduler":
        from sojourn.vllm.scheduler import Scheduler

        return Scheduler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
