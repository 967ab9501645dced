"""Step time that is linear in the KV read: the exact integer arithmetic that costs share.

A step of `tokens` prompt tokens in `prompts` chunks, with `pairs` and `prior` as `StepTime` has
them, beside `decodes` sequences that read `context` KV tokens, takes

    dense(tokens + decodes) + head(prompts + decodes)
    + [tokens > 0] * (prefill_launch + tokens * token + pairs * pair + prior * earlier
                      + prompts * prompt)
    + [decodes > 0] * (decode_launch + decodes * sequence + context * kv)
    + [both] * (context * mixed_kv + tokens * decodes * mixed_tile)

in whole picoseconds. Each coefficient is rounded once, when the object is made, so that n steps
of the same decodes sum to a quadratic in n without any rounding: `run` is that closed form and
`steps_until` its inverse by an integer square root.
"""

from __future__ import annotations

from math import isqrt

from sojourn.decide.clock import Time, from_seconds


class LinearStep:
    """A `StepTime` whose `dense` and `head` parts are any non-decreasing functions, memoised.

    A subclass gives `dense_seconds` and `head_seconds`; the coefficients are in seconds. A step
    with neither prompt tokens nor decodes takes no time.
    """

    __slots__ = (
        "_decode_launch",
        "_dense",
        "_earlier",
        "_head",
        "_kv",
        "_mixed_kv",
        "_mixed_tile",
        "_pair",
        "_prefill_launch",
        "_prompt",
        "_sequence",
        "_token",
    )

    def __init__(
        self,
        *,
        prefill_launch: float = 0.0,
        token: float = 0.0,
        pair: float = 0.0,
        earlier: float = 0.0,
        prompt: float = 0.0,
        decode_launch: float = 0.0,
        sequence: float = 0.0,
        kv: float = 0.0,
        mixed_kv: float = 0.0,
        mixed_tile: float = 0.0,
    ) -> None:
        self._prefill_launch: Time = from_seconds(prefill_launch)
        self._token: Time = from_seconds(token)
        self._pair: Time = from_seconds(pair)
        self._earlier: Time = from_seconds(earlier)
        self._prompt: Time = from_seconds(prompt)
        self._decode_launch: Time = from_seconds(decode_launch)
        self._sequence: Time = from_seconds(sequence)
        self._kv: Time = from_seconds(kv)
        self._mixed_kv: Time = from_seconds(mixed_kv)
        self._mixed_tile: Time = from_seconds(mixed_tile)
        # Filled as sizes are met: at most max_num_batched_tokens and max_num_seqs entries.
        self._dense: dict[int, Time] = {}
        self._head: dict[int, Time] = {}

    def dense_seconds(self, tokens: int) -> float:
        """Return the time of everything that depends on the step's tokens alone, in seconds."""
        raise NotImplementedError

    def head_seconds(self, sequences: int) -> float:
        """Return the time of the output head and the sampler for `sequences`, in seconds."""
        raise NotImplementedError

    def step(
        self, tokens: int, pairs: int, prior: int, prompts: int, decodes: int, context: int
    ) -> Time:
        """Return the duration of one step in picoseconds; arguments as `StepTime.step` has them."""
        total = tokens + decodes
        if not total:
            return 0
        time = self._dense.get(total)
        if time is None:
            time = self._dense[total] = from_seconds(self.dense_seconds(total))
        sampled = prompts + decodes
        head = self._head.get(sampled)
        if head is None:
            head = self._head[sampled] = from_seconds(self.head_seconds(sampled))
        time += head
        if decodes:
            time += self._decode_launch + decodes * self._sequence + context * self._kv
            if tokens:
                time += context * self._mixed_kv + tokens * decodes * self._mixed_tile
        if tokens:
            time += self._prefill_launch + tokens * self._token + pairs * self._pair
            time += prior * self._earlier + prompts * self._prompt
        return time

    def run(self, decodes: int, context: int, steps: int) -> Time:
        """Return the duration of `steps` decode steps; exactly the sum of the single steps."""
        if not decodes or not steps:
            return 0
        grown = decodes * (steps * (steps - 1) // 2)
        return steps * self.step(0, 0, 0, 0, decodes, context) + grown * self._kv

    def steps_until(self, decodes: int, context: int, duration: Time) -> int:
        """Return the smallest n >= 1 with `run(decodes, context, n) >= duration`; in O(1)."""
        assert decodes > 0, "no decode ever fills a duration"
        first = self.step(0, 0, 0, 0, decodes, context)
        assert first > 0, "steps that take no time never fill a duration"
        if duration <= first:
            return 1
        # run(n) = n * first + growth * n * (n - 1) / 2 >= duration, a quadratic in n.
        growth = decodes * self._kv
        if not growth:
            return -(-duration // first)
        linear = 2 * first - growth
        root = isqrt(linear * linear + 8 * growth * duration)
        steps = max((root - linear) // (2 * growth), 1)
        # The integer root rounds down: the answer is this value or the next one.
        while steps > 1 and self.run(decodes, context, steps - 1) >= duration:
            steps -= 1
        while self.run(decodes, context, steps) < duration:
            steps += 1
        return steps
