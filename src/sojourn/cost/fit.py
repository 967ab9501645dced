"""Least-squares coefficients from measured steps; imports numpy, so no hot path imports it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from sojourn.cost.fitted import SCALARS, Coefficients, Fitted
from sojourn.decide.clock import to_seconds
from sojourn.errors import UserError

Matrix = npt.NDArray[np.float64]

_ROUNDS_MAX: Final = 200


class Measured(NamedTuple):
    """One measured step: its arguments as `StepTime.step` has them, and its seconds."""

    tokens: int
    pairs: int
    prior: int
    prompts: int
    decodes: int
    context: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients and how well they hold on the rows they were fitted to.

    `residuals` are (predicted - measured) / measured, one a row, in the order of the rows.
    """

    coefficients: Coefficients
    residuals: tuple[float, ...]

    @property
    def median_error(self) -> float:
        """The median absolute relative residual."""
        return float(np.median(np.abs(self.residuals)))


def fit(rows: Sequence[Measured]) -> Fit:
    """Return the non-negative coefficients that minimise the sum of squared *relative* errors.

    Relative, because a step log holds far more short steps than long ones and both must hold.
    Fit on one part of a log and judge on another: these residuals are in-sample.

    Raises:
        UserError: no rows, or a row that took no time.
    """
    if not rows:
        raise UserError("no measured steps to fit: the step log holds none with a duration")
    for index, row in enumerate(rows):
        if not row.seconds > 0:
            raise UserError(f"measured step {index} took {row.seconds} s; it must be above zero")
    seconds = np.array([row.seconds for row in rows], dtype=np.float64)
    terms = np.array([_terms(row) for row in rows], dtype=np.float64)
    values = non_negative(terms / seconds[:, None], np.ones(len(rows)))
    coefficients = named(values)
    cost = Fitted(coefficients)
    residuals = tuple(to_seconds(cost.step(*row[:6])) / row.seconds - 1.0 for row in rows)
    return Fit(coefficients, residuals)


def _terms(row: Measured) -> tuple[float, ...]:
    """Return what each coefficient multiplies, in the order of `SCALARS`."""
    mixed = row.tokens > 0 and row.decodes > 0
    return (
        1.0,
        row.tokens,
        row.pairs,
        row.prior,
        row.prompts,
        row.decodes,
        row.context,
        row.context if mixed else 0.0,
        row.tokens * row.decodes if mixed else 0.0,
    )


def named(values: Matrix, bounds: tuple[int, ...] = ()) -> Coefficients:
    """Return coefficients from their values: those of `SCALARS`, then the prices of tokens."""
    numbers: list[Any] = values.tolist()
    scalars = dict(zip(SCALARS, numbers[: len(SCALARS)], strict=True))
    prices = tuple(numbers[len(SCALARS) :])
    return Coefficients(**scalars, dense_until=bounds, dense_token=prices)


def weighted(terms: Matrix, target: Matrix, weights: Matrix) -> Matrix:
    """Return x >= 0 that minimises the weighted sum of squares of terms @ x - target.

    The rows are first folded into a triangle of as many rows as columns, which has the same
    solutions, so that the search costs the same for a million rows as for ten.
    """
    root = np.sqrt(weights)
    both = np.column_stack([terms, target]) * root[:, None]
    height = float(np.linalg.norm(both[:, -1]))
    if not height:
        return np.zeros(terms.shape[1])
    triangle: Matrix = np.asarray(np.linalg.qr(both / height, mode="r"))
    return non_negative(triangle[:, :-1], triangle[:, -1])


def non_negative(terms: Matrix, target: Matrix) -> Matrix:
    """Return x >= 0 that minimises |terms @ x - target|.

    Lawson and Hanson, "Solving Least Squares Problems", 1974, chapter 23: grow the set of free
    coefficients by the steepest descent, shrink it whenever one would turn negative.
    """
    scale = np.linalg.norm(terms, axis=0)
    scale[scale == 0] = 1.0
    scaled = terms / scale
    count = terms.shape[1]
    found: Matrix = np.zeros(count)
    free = np.zeros(count, dtype=bool)
    for _ in range(_ROUNDS_MAX):
        descent = scaled.T @ (target - scaled @ found)
        descent[free] = -np.inf
        best = int(np.argmax(descent))
        if descent[best] <= 1e-10 * len(target):
            break
        free[best] = True
        for _ in range(count):
            trial: Matrix = np.zeros(count)
            trial[free] = np.linalg.lstsq(scaled[:, free], target, rcond=None)[0]
            negative = free & (trial <= 0)
            if not negative.any():
                found = trial
                break
            steps = found[negative] / (found[negative] - trial[negative])
            found = found + float(steps.min()) * (trial - found)
            free &= found > 1e-14
            found[~free] = 0.0
    result: Matrix = found / scale
    return result
