"""The task: adding two numbers digit by digit; more digits are harder and longer.

Numbers stand lowest digit first. For `37+85=` the prompt is `73+58=`; the answer writes each column
as first digit, second digit, digit of the sum, carry, then `#` and the sum: `7521 3821 #221.`
without the blanks, `.` ending it. Only the sum behind `#` is graded.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

SYMBOLS = "0123456789+=#."
PAD = len(SYMBOLS)
VOCABULARY = len(SYMBOLS) + 1
END = SYMBOLS.index(".")
MARK = SYMBOLS.index("#")


@dataclass(frozen=True, slots=True)
class Problem:
    """Two numbers of equally many digits."""

    first: int
    second: int
    digits: int

    @property
    def prompt(self) -> tuple[int, ...]:
        """Its ids."""
        return encode(
            f"{backwards(self.first, self.digits)}+{backwards(self.second, self.digits)}="
        )

    @property
    def solution(self) -> tuple[int, ...]:
        """Ids of scratchpad, sum and end."""
        return self.written([0] * self.digits)

    def written(self, slips: Sequence[int]) -> tuple[int, ...]:
        """Return ids of a solution in which each column's digit is off by so much; 0 is right."""
        text, answer, carry = "", "", 0
        columns = zip(
            backwards(self.first, self.digits),
            backwards(self.second, self.digits),
            slips,
            strict=True,
        )
        for one, other, slip in columns:
            carry, digit = divmod(int(one) + int(other) + carry, 10)
            digit = (digit + slip) % 10
            text += f"{one}{other}{digit}{carry}"
            answer += str(digit)
        return encode(f"{text}#{answer}{carry or ''}.")

    def reward(self, ids: Sequence[int]) -> float:
        """Return 1 for the right sum, with leading zeros, between the first mark and the end."""
        text = "".join(SYMBOLS[one] for one in ids if one != PAD)
        right = "".join(SYMBOLS[one] for one in self.solution)
        return float(text.partition("#")[2] == right.partition("#")[2])


def backwards(number: int, digits: int) -> str:
    """Return a number with leading zeros, lowest digit first."""
    return f"{number:0{digits}d}"[::-1]


def encode(text: str) -> tuple[int, ...]:
    """Return the ids of a text."""
    return tuple(SYMBOLS.index(one) for one in text)


def answer_tokens(digits: int) -> int:
    """Return the longest solution of so many digits."""
    return 5 * digits + 3


def problem(source: random.Random, digits: int) -> Problem:
    """Return a random problem."""
    return Problem(source.randrange(10**digits), source.randrange(10**digits), digits)


def problems(count: int, digits_max: int, seed: int) -> list[Problem]:
    """Return different problems, as many of each number of digits as there can be."""
    source = random.Random(seed)
    found: dict[Problem, None] = {}
    while len(found) < count:
        for digits in range(1, digits_max + 1):
            if len(found) < count:
                found[problem(source, digits)] = None
    return list(found)


def split(train: int, test: int, digits_max: int, seed: int) -> tuple[list[Problem], list[Problem]]:
    """Return problems to train on and others to test on, none in both."""
    mixed = problems(train + test, digits_max, seed)
    random.Random(seed + 1).shuffle(mixed)
    return mixed[:train], mixed[train:]
