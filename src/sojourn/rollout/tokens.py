"""The token ledger: every token that was generated is somewhere, and only once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from sojourn.rollout.states import ENDED, FAILED, FLYING, PRUNED

IN_FLIGHT: Final = "in_flight"
CARRIED: Final = "carried"
TRAINED: Final = "trained"
DISCARDED: Final = "discarded"


def place_of(status: str) -> str:
    """Return where the tokens of a rollout stand while it is in a state and its group is not over.

    Those of a rollout that has ended by itself are carried until its group is trained.
    """
    if status in FLYING:
        return IN_FLIGHT
    if status in (PRUNED, FAILED):
        return DISCARDED
    return CARRIED


@dataclass(slots=True)
class TokenLedger:
    """Sampled tokens by where they are; those given by prompts, hints and tools do not count.

    Attributes:
        generated: All that were ever told of.
        in_flight: Of rollouts that are pending, running or acting.
        carried: Of those that are parked, or ended and not yet trained.
        trained: Of those that were trained, each once.
        discarded: Of those that were pruned, failed, filtered, not chosen or told too late.
        replayed: Of those that were trained again; not part of the sum.
        carried_over: Sum over batches of what was carried by live rollouts when each was made; a
            host that tells progress only when a rollout ends or is aborted leaves it near 0.
        stale: Of those trained, what older weights had made.
        late: Of those discarded, what was told after the machine had given the rollout up.
    """

    generated: int = 0
    in_flight: int = 0
    carried: int = 0
    trained: int = 0
    discarded: int = 0
    replayed: int = 0
    carried_over: int = 0
    stale: int = 0
    late: int = 0

    def produce(self, tokens: int) -> None:
        """Count new tokens of a running rollout."""
        self.generated += tokens
        self.in_flight += tokens

    def produce_late(self, tokens: int) -> None:
        """Count tokens of a rollout that nobody waits for any more."""
        self.generated += tokens
        self.discarded += tokens
        self.late += tokens

    def move(self, source: str, target: str, tokens: int) -> None:
        """Move tokens from one place to another."""
        if source != target:
            setattr(self, source, getattr(self, source) - tokens)
            setattr(self, target, getattr(self, target) + tokens)

    def enter(self, start: str, finish: str, tokens: int) -> None:
        """Follow a rollout from one state to another."""
        if start in ENDED:
            raise AssertionError("tokens of an ended rollout move with its group")
        self.move(place_of(start), place_of(finish), tokens)

    def check(self) -> None:
        """Refuse a ledger that does not add up."""
        held = self.in_flight + self.carried + self.trained + self.discarded
        assert self.generated == held, f"tokens generated {self.generated}, accounted {held}"
        assert min(self.in_flight, self.carried, self.trained, self.discarded) >= 0

    def state_dict(self) -> dict[str, Any]:
        """Return the counts by name."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over counts that were saved."""
        for name, count in state.items():
            setattr(self, name, count)
