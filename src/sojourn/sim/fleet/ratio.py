"""P/D-Serve's ratio: how many of a group's replicas prefill, by throughput per device.

Source: P/D-Serve (Jin et al., 2024, arXiv 2408.08147); the formula from memory of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sojourn.errors import UserError


@dataclass(frozen=True, slots=True)
class PhaseTimes:
    """What one replica of each phase does.

    Attributes:
        prefill_batch, decode_batch: Requests that it serves at once.
        prefill_seconds: Time of a prefill batch.
        decode_seconds: Time of a request in decode, transfer included: about TPOT times output.
    """

    prefill_batch: float
    prefill_seconds: float
    decode_batch: float
    decode_seconds: float

    def __post_init__(self) -> None:
        """Refuse times and batches of nothing."""
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise UserError(f"{name} is {getattr(self, name)}; it must be above 0")

    def throughput(self, prefills: int, decodes: int) -> float:
        """Return requests per second and device: of the slower phase, over all replicas."""
        prefill = prefills * self.prefill_batch / self.prefill_seconds
        decode = decodes * self.decode_batch / self.decode_seconds
        return min(prefill, decode) / (prefills + decodes)

    def best(self, replicas: int) -> tuple[int, int]:
        """Return the split of so many replicas with the highest throughput.

        Raises:
            UserError: For fewer than two replicas.
        """
        if replicas < 2:
            raise UserError(f"{replicas} replica cannot serve two phases; there must be at least 2")
        prefills = max(range(1, replicas), key=lambda n: self.throughput(n, replicas - n))
        return prefills, replicas - prefills
