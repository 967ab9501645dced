"""Random streams that are part of a policy's state: the same numbers after saving and restoring."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from math import cos, exp, log, pi, sqrt
from typing import Any, Final, TypeVar

MASK: Final = (1 << 64) - 1
GOLDEN: Final = 0x9E3779B97F4A7C15
UNIT: Final = 1.0 / (1 << 53)

Item = TypeVar("Item")


class Stream:
    """The random numbers of one purpose: SplitMix64 of a key and a counter.

    Source: Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
    Adding a purpose leaves the numbers of all others as they were.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        name = f"{seed}/{purpose}".encode()
        self.key = int.from_bytes(blake2b(name, digest_size=8).digest(), "little")
        self.count = 0

    def bits(self) -> int:
        """Return 64 random bits."""
        self.count += 1
        mixed = (self.key + self.count * GOLDEN) & MASK
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
        return mixed ^ (mixed >> 31)

    def uniform(self) -> float:
        """Return a number in [0, 1)."""
        return (self.bits() >> 11) * UNIT

    def below(self, bound: int) -> int:
        """Return a whole number in [0, bound)."""
        assert 0 < bound <= MASK
        limit = (1 << 64) - (1 << 64) % bound
        while (drawn := self.bits()) >= limit:
            pass
        return drawn % bound

    def normal(self) -> float:
        """Return a number of the standard normal distribution."""
        radius = sqrt(-2.0 * log(1.0 - self.uniform()))
        return radius * cos(2.0 * pi * self.uniform())

    def exponential(self) -> float:
        """Return a number of the exponential distribution with mean 1."""
        return -log(1.0 - self.uniform())

    def gamma(self, shape: float) -> float:
        """Return a number of the gamma distribution with scale 1.

        Source: Marsaglia and Tsang, A Simple Method for Generating Gamma Variables, TOMS 2000.
        """
        assert shape > 0.0
        if shape < 1.0:
            boost = exp(log(1.0 - self.uniform()) / shape)
            return self.gamma(shape + 1.0) * boost
        centre = shape - 1.0 / 3.0
        slope = 1.0 / sqrt(9.0 * centre)
        while True:
            deviate = self.normal()
            cube = (1.0 + slope * deviate) ** 3
            if cube <= 0.0:
                continue
            accept = 1.0 - self.uniform()
            if log(accept) < 0.5 * deviate**2 + centre * (1.0 - cube + log(cube)):
                return centre * cube

    def beta(self, alpha: float, beta: float) -> float:
        """Return a number of the beta distribution."""
        first = self.gamma(alpha)
        total = first + self.gamma(beta)
        return first / total if total > 0.0 else 0.5  # both shapes tiny: underflow

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """Return the items in random order."""
        mixed = list(items)
        for at in range(len(mixed) - 1, 0, -1):
            other = self.below(at + 1)
            mixed[at], mixed[other] = mixed[other], mixed[at]
        return mixed

    def sample(self, items: Sequence[Item], count: int) -> list[Item]:
        """Return `count` different items in random order, all of them if there are fewer."""
        pool = list(items)
        count = min(count, len(pool))
        for at in range(count):
            other = at + self.below(len(pool) - at)
            pool[at], pool[other] = pool[other], pool[at]
        return pool[:count]

    def weighted(self, weights: Sequence[float]) -> int:
        """Return an index, each with a probability in proportion to its weight."""
        total = sum(weights)
        assert total > 0.0, "some weight is above 0"
        left = self.uniform() * total
        last = 0
        for at, weight in enumerate(weights):
            if weight > 0.0:
                last = at
                left -= weight
                if left < 0.0:
                    return at
        return last  # the sum of the parts fell short of the total by rounding

    def state_dict(self) -> dict[str, Any]:
        """Return where the stream stands, as JSON values."""
        return {"key": self.key, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another stream stood."""
        self.key, self.count = state["key"], state["count"]
