"""What the plugin counts, for `/metrics` and the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

KINDS_MAX: Final = 64
"""Kinds of failure told apart and logged; a text may name a request, and so never come twice."""

TEXT_MAX: Final = 500
OTHERS: Final = "(others)"


@dataclass(slots=True)
class Counters:
    """Cumulative counts since the engine started.

    Attributes:
        steps: Steps by mode.
        decision_seconds: Time that deciding added to `schedule()`.
        pauses, resumes, drops: What the recipe did to running requests.
        differences: Steps that vLLM ran otherwise than the recipe would have, or had planned.
        shed: Requests refused, by reason.
        errors: Failures of a policy, by kind.
    """

    steps: dict[str, int] = field(default_factory=dict)
    decision_seconds: float = 0.0
    pauses: int = 0
    resumes: int = 0
    drops: int = 0
    differences: int = 0
    shed: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)

    def step(self, mode: str, seconds: float) -> None:
        """Count a planned step."""
        self.steps[mode] = self.steps.get(mode, 0) + 1
        self.decision_seconds += seconds

    def failed(self, error: Exception) -> bool:
        """Count a failure; return whether it is the first of its kind."""
        try:
            kind = f"{type(error).__name__}: {error}"[:TEXT_MAX]
        except Exception:  # a policy's own exception, whose text fails in its turn
            kind = type(error).__name__
        if kind not in self.errors and len(self.errors) >= KINDS_MAX:
            kind = OTHERS
        self.errors[kind] = self.errors.get(kind, 0) + 1
        return self.errors[kind] == 1

    def numbers(self, mode: str, moment: Mapping[str, float]) -> dict[str, float]:
        """Return all counts under the names of `vllm.metrics`, with the gauges of the moment."""
        made = {
            "decisions_total": float(self.steps.get("act", 0) + self.steps.get("shadow", 0)),
            "decision_seconds_total": self.decision_seconds,
            "pauses_total": float(self.pauses),
            "resumes_total": float(self.resumes),
            "drops_total": float(self.drops),
            "differences_total": float(self.differences),
            "policy_errors_total": float(sum(self.errors.values())),
            f"mode:{mode}": 1.0,
            **moment,
        }
        made.update({f"steps_total:{name}": float(n) for name, n in self.steps.items()})
        made.update({f"shed_total:{reason}": float(n) for reason, n in self.shed.items()})
        return made


def gauges(scheduler: Any) -> dict[str, float]:
    """Return what a scheduler holds at the moment, under the names of `vllm.metrics`."""
    blocks = scheduler.kv_cache_manager.get_block_ids
    held = sum(len(group) for name in scheduler.holding for group in blocks(name))
    return {
        "paused_requests": float(len(scheduler.parked)),
        "held_requests": float(len(scheduler.holding)),
        "held_blocks": float(held),
        "waiting_requests": float(len(scheduler.waiting)),
        "identity_warnings_total": float(scheduler.callers.warnings),
    }
