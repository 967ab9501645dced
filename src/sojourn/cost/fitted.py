"""Step time from coefficients, each in seconds, fitted to a step log or copied from a paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import isfinite
from typing import Final

from sojourn.cost.linear import LinearStep
from sojourn.decide.clock import SECOND, from_seconds, to_seconds
from sojourn.errors import UserError

FIXED_SECONDS_MAX: Final = 3600.0
EACH_SECONDS_MAX: Final = 1.0
"""Largest coefficient of one token, pair or sequence: far above any machine, far below what would
take a run beyond the clock."""

SCALARS: Final = (
    "fixed",
    "prefill_token",
    "pair",
    "prior_token",
    "prompt",
    "decode",
    "context_token",
    "mixed_context_token",
    "mixed_token_decode",
)
"""The coefficients that are one number, in the order of what they multiply in a fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """Seconds of a step by what it does; names as in `StepTime`. All zero or more."""

    fixed: float
    """Of any step that computes at least one token."""
    prefill_token: float = 0.0
    pair: float = 0.0
    """Of a query-key pair of a prompt chunk: what makes prefill quadratic."""
    prior_token: float = 0.0
    prompt: float = 0.0
    """Of a chunk, however short."""
    decode: float = 0.0
    context_token: float = 0.0
    mixed_context_token: float = 0.0
    """Of a KV token that decodes read beside at least one prompt token, added."""
    mixed_token_decode: float = 0.0
    """Of each (prompt token x decode) of a mixed step, added."""
    dense_until: tuple[int, ...] = ()
    """Numbers of tokens in a step, prompt and decode, at which the price of a token changes."""
    dense_token: tuple[float, ...] = ()
    """Of a token of the step below the first of `dense_until`, up to the second, and so on; one
    more than there are bounds, or none. Added to `prefill_token` and `decode`."""

    def __post_init__(self) -> None:
        for name in SCALARS:
            _check(name, getattr(self, name))
        for price in self.dense_token:
            _check("dense_token", price)
        if len(self.dense_token) != (len(self.dense_until) + 1 if self.dense_until else 0):
            raise UserError(
                f"coefficient dense_token has {len(self.dense_token)} values for "
                f"{len(self.dense_until)} bounds in dense_until; it must have one more, or both "
                "must be left out"
            )
        if any(upper <= lower for lower, upper in pairwise((0, *self.dense_until))):
            raise UserError(
                f"coefficient dense_until is {list(self.dense_until)}; it must be whole numbers "
                "that rise from above zero"
            )
        # A step of a single token, in the whole picoseconds of the clock.
        least = from_seconds(self.fixed) + from_seconds(sum(self.dense_token[:1]))
        if not least + from_seconds(self.decode):
            raise UserError(
                "coefficients fixed and decode are both zero, to the picosecond: a step must "
                "take time"
            )

    def to_toml(self) -> str:
        """Return the coefficients as a TOML file that `load_fitted` reads.

        They are rounded to whole picoseconds, as step times are.
        """
        lines = [f"{name} = {_text(getattr(self, name))}" for name in SCALARS]
        if self.dense_until:
            lines.append(f"dense_until = {list(self.dense_until)}")
            lines.append(f"dense_token = [{', '.join(map(_text, self.dense_token))}]")
        return "# Seconds of a step by what it does.\n" + "\n".join(lines) + "\n"

    def to_json(self) -> dict[str, float | list[float]]:
        """Return the coefficients by name, as JSON values."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


def _check(name: str, value: float) -> None:
    most = FIXED_SECONDS_MAX if name == "fixed" else EACH_SECONDS_MAX
    if not isfinite(value) or value < 0:
        raise UserError(f"coefficient {name} is {value}; it must be zero or more seconds")
    if value > most:
        raise UserError(f"coefficient {name} is {value:g}; it must be at most {most:g} seconds")


def _text(seconds: float) -> str:
    """Return a time in whole picoseconds, as a TOML float of seconds."""
    return repr(to_seconds(from_seconds(seconds)))


def dense_tokens(tokens: int, bounds: Sequence[int]) -> list[int]:
    """Return how many of a step's tokens fall between each bound and the next."""
    edges = (0, *bounds)
    return [
        max(0, min(tokens, end) - begin)
        for begin, end in zip(edges, (*bounds, tokens), strict=True)
    ]


class Fitted(LinearStep):
    """A `StepTime` that is linear in everything but, where asked for, the number of tokens.

    The same exact arithmetic as the roofline's.
    """

    __slots__ = ("coefficients",)

    def __init__(self, coefficients: Coefficients) -> None:
        self.coefficients = coefficients
        super().__init__(
            token=coefficients.prefill_token,
            pair=coefficients.pair,
            earlier=coefficients.prior_token,
            prompt=coefficients.prompt,
            sequence=coefficients.decode,
            kv=coefficients.context_token,
            mixed_kv=coefficients.mixed_context_token,
            mixed_tile=coefficients.mixed_token_decode,
        )

    def dense_seconds(self, tokens: int) -> float:
        """Return the fixed part, and what the tokens of a step cost by their number."""
        mine = self.coefficients
        if not mine.dense_until:
            return mine.fixed
        parts = dense_tokens(tokens, mine.dense_until)
        # Whole picoseconds a token, like every other price, so that a fit can be exact.
        whole = sum(
            part * from_seconds(price) for part, price in zip(parts, mine.dense_token, strict=True)
        )
        return mine.fixed + whole / SECOND

    def head_seconds(self, sequences: int) -> float:
        """Return nothing: prompts and decodes have their own coefficients."""
        del sequences
        return 0.0
