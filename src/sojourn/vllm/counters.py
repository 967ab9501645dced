"""What the plugin counts, for `/metrics` and the log."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Cumulative counts since the engine started.

    Attributes:
        steps: Steps by mode.
        decision_seconds: Time that deciding added to `schedule()`.
        pauses, resumes, drops: What the recipe did to running requests.
        shed: Requests refused, by reason.
        errors: Failures of a policy, by kind.
    """

    steps: dict[str, int] = field(default_factory=dict)
    decision_seconds: float = 0.0
    pauses: int = 0
    resumes: int = 0
    drops: int = 0
    shed: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)

    def step(self, mode: str, seconds: float) -> None:
        """Count a planned step."""
        self.steps[mode] = self.steps.get(mode, 0) + 1
        self.decision_seconds += seconds

    def failed(self, error: Exception) -> bool:
        """Count a failure; return whether it is the first of its kind."""
        kind = f"{type(error).__name__}: {error}"
        self.errors[kind] = self.errors.get(kind, 0) + 1
        return self.errors[kind] == 1
