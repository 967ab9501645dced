"""Step time from coefficients, each in seconds, fitted to a step log or copied from a paper."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, fields
from math import isfinite
from pathlib import Path
from typing import Any

from sojourn.cost.floor import Floor, check_floor
from sojourn.cost.linear import LinearStep
from sojourn.errors import UserError, unknown


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

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isfinite(value) or value < 0:
                raise UserError(f"coefficient {name} is {value}; it must be zero or more seconds")
        if self.fixed <= 0 and self.decode <= 0:
            raise UserError("coefficients fixed and decode are both zero: a step must take time")

    def to_toml(self) -> str:
        """Return the coefficients as a TOML file that `load_fitted` reads."""
        lines = [f"{name} = {value:.6e}" for name, value in asdict(self).items()]
        return "# Seconds of a step by what it does.\n" + "\n".join(lines) + "\n"


class Fitted(LinearStep):
    """A `StepTime` that is linear in everything; the same exact arithmetic as the roofline's."""

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
        """Return the fixed part, whatever the number of tokens."""
        del tokens
        return self.coefficients.fixed

    def head_seconds(self, sequences: int) -> float:
        """Return nothing: prompts and decodes have their own coefficients."""
        del sequences
        return 0.0


def load_fitted(path: str | Path, floor: Floor | None = None) -> Fitted:
    """Return the step time of a TOML file of coefficients.

    Raises UserError for an unknown or missing key, a value that is no time, and, if `floor` is
    given, for coefficients that promise a step faster than the hardware can be.
    """
    try:
        row: dict[str, Any] = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {str(path)!r}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{str(path)!r} is not valid TOML: {error}") from error
    names = [field.name for field in fields(Coefficients)]
    for key, value in row.items():
        if key not in names:
            raise unknown(f"coefficient in {str(path)!r}", key, names)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{str(path)!r}: {key} must be a number of seconds, not {value!r}")
    if "fixed" not in row:
        raise UserError(f"{str(path)!r} lacks 'fixed', the seconds of a step before any token")
    fitted = Fitted(Coefficients(**{key: float(value) for key, value in row.items()}))
    if floor is not None:
        check_floor(fitted, floor, str(path))
    return fitted
