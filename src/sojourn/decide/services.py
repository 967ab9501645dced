"""Services that a host injects: what the layers below ask of the world outside."""

from __future__ import annotations

from typing import Protocol

from sojourn.decide.clock import Time


class StepTime(Protocol):
    """How long a step (one forward pass) takes; whole picoseconds, never negative.

    `tokens` are the prompt tokens computed in the step, over all chunks. `pairs` are the
    query-key pairs of those chunks: for a chunk of c tokens after p earlier ones,
    c * p + c * (c + 1) // 2. `prior` is the sum of p over the chunks (KV tokens they re-read).
    `decodes` is the number of sequences that generate one token each and `context` the sum of the
    KV tokens that they read. `prompts` is the number of chunks.
    """

    def step(
        self, tokens: int, pairs: int, prior: int, prompts: int, decodes: int, context: int
    ) -> Time:
        """Return the duration of one step."""

    def run(self, decodes: int, context: int, steps: int) -> Time:
        """Return the duration of `steps` successive steps of the same decodes and no prompt.

        `context` is that of the first step; it grows by `decodes` each step. Exactly the sum of
        `step(0, 0, 0, 0, decodes, context + i * decodes)` for i in range(steps).
        """

    def steps_until(self, decodes: int, context: int, duration: Time) -> int:
        """Return the smallest n >= 1 with `run(decodes, context, n) >= duration`."""
