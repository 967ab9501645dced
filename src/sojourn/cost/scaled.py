"""Step times that are a factor longer, exactly: for replicas slower than they should be."""

from __future__ import annotations

from sojourn.cost.linear import LinearStep


class Scaled(LinearStep):
    """A `StepTime` whose every coefficient is a multiple of another's, rounded to a picosecond.

    The coefficients stay whole picoseconds, so `run` stays the exact sum of `step`; a step is the
    factor times as long up to half a picosecond for each thing that it counts.
    """

    __slots__ = ("_base", "_factor")

    def __init__(self, base: LinearStep, factor: float) -> None:
        super().__init__()
        self._base = base
        self._factor = factor
        for name in LinearStep.__slots__:
            value = getattr(base, name)
            if not isinstance(value, dict):  # a coefficient; what is memoised is made anew
                setattr(self, name, round(value * factor))

    def dense_seconds(self, tokens: int) -> float:
        """Return the time of everything that depends on the step's tokens alone, in seconds."""
        return self._factor * self._base.dense_seconds(tokens)

    def head_seconds(self, sequences: int) -> float:
        """Return the time of the output head and the sampler for `sequences`, in seconds."""
        return self._factor * self._base.head_seconds(sequences)
