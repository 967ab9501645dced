"""How the rollouts of a run are sampled."""

from __future__ import annotations

from dataclasses import dataclass

from sojourn.errors import UserError


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are sampled.

    Attributes:
        temperature, top_p, top_k: As vLLM has them; 0 for no top_k.
        stop_ids: Tokens that end a rollout beside the model's own end.
        ignores_end: Whether that end is a token like any other.
        seed: Of each request; None for vLLM's own stream.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop_ids: tuple[int, ...] = ()
    ignores_end: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.temperature < 0.0:
            raise UserError(f"sampling.temperature is {self.temperature}; it must be at least 0")
        if not 0.0 < self.top_p <= 1.0:
            raise UserError(f"sampling.top_p is {self.top_p}; it must be above 0 and at most 1")
        if self.top_k < 0:
            raise UserError(f"sampling.top_k is {self.top_k}; it must be at least 0")

    @property
    def is_plain(self) -> bool:
        """Whether tokens are sampled from the model's own distribution, as it is."""
        return (self.temperature, self.top_p, self.top_k) == (1.0, 1.0, 0)
