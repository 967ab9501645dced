"""The measured steps of a step log as numbers to fit; imports numpy, so no hot path imports it.

A row of a log may stand for several decode steps in a row; its terms are then summed over them,
the context growing by one token for each sequence and step, so that nothing is averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from sojourn.cost.fitted import SCALARS, dense_tokens
from sojourn.decide.clock import SECOND
from sojourn.errors import UserError
from sojourn.steplog.record import IntArray, StepColumns

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

DECODE: Final = 0
PREFILL: Final = 1
MIXED: Final = 2
KINDS: Final = ("decode only", "prefill only", "mixed")


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Rows of measured steps (arrays of length n).

    Attributes:
        terms: What each coefficient of `SCALARS` multiplies (n x 9), summed over a row's steps.
        seconds: How long the row took until the engine was ready for the next step.
        steps: Steps that the row stands for.
        tokens: Tokens of each of its steps, prompt and decode.
        sequences: Sequences of each of its steps, chunks and decodes.
        kind: Index into `KINDS`.
        between: Seconds of `seconds` that passed after the steps, before the next one began;
            negative where steps overlap.
    """

    terms: Floats
    seconds: Floats
    steps: IntArray
    tokens: IntArray
    sequences: IntArray
    kind: IntArray
    between: Floats

    def __len__(self) -> int:
        return len(self.seconds)

    def take(self, rows: IntArray | Bools) -> Samples:
        """Return some of the rows."""
        return Samples(**{one.name: getattr(self, one.name)[rows] for one in fields(self)})

    def design(self, bounds: Sequence[int] = ()) -> Floats:
        """Return the terms, and beside them the step's tokens between bounds, if any are given.

        Between bounds a prompt token has no price of its own: all prices together would otherwise
        say the same twice, since every token of a step is a prompt's or a decode.
        """
        if not bounds:
            return self.terms
        terms = self.terms.copy()
        terms[:, SCALARS.index("prefill_token")] = 0.0
        sizes, place = np.unique(self.tokens, return_inverse=True)
        parts = np.array([dense_tokens(int(size), bounds) for size in sizes], dtype=np.float64)
        return np.hstack([terms, parts[place.reshape(-1)] * self.steps[:, None]])


def joined(parts: Sequence[Samples]) -> Samples:
    """Return the rows of several logs, one log after another."""
    return Samples(
        **{
            one.name: np.concatenate([getattr(part, one.name) for part in parts])
            for one in fields(Samples)
        }
    )


def samples(steps: StepColumns, where: str, decision_seconds: float = 0.0) -> Samples:
    """Return the rows of a log, each replica's in order of time; rows without tokens are left out.

    What an engine does between two steps counts as part of the first, as a simulator begins a
    step where the one before ended. It is known where the engine cannot have been idle: the next
    step decodes, so a request was there all the time. Elsewhere the median is taken.

    Args:
        steps: The rows.
        where: What to call the log in an error.
        decision_seconds: Time of each step that is the recipe's and not the engine's.

    Raises:
        UserError: If the log does not say what the steps computed.
    """
    worked = (steps.prefill_tokens > 0) | (steps.decodes > 0)
    unknown = worked & ((steps.pairs < 0) | (steps.prior < 0) | (steps.context < 0))
    if unknown.any():
        raise UserError(
            f"{where!r} does not say what its steps read (columns pairs, prior and context): it "
            "was written by an older version; record a new one"
        )
    parts = [
        _of_replica(steps, np.flatnonzero(worked & (steps.replica == replica)))
        for replica in np.unique(steps.replica)
    ]
    made = joined(parts) if parts else _of_replica(steps, np.empty(0, dtype=np.int64))
    made = replace(made, seconds=made.seconds - made.steps * decision_seconds)
    return made.take(made.seconds > 0)


def _of_replica(steps: StepColumns, rows: IntArray) -> Samples:
    """Return the samples of one replica's rows."""
    rows = rows[np.argsort(steps.start[rows], kind="stable")]
    start, duration = steps.start[rows], steps.duration[rows]
    prefill, decodes, count = steps.prefill_tokens[rows], steps.decodes[rows], steps.steps[rows]
    between = np.full(len(rows), np.nan)
    if len(rows) > 1:
        followed = decodes[1:] > 0
        gap = (start[1:] - start[:-1] - duration[:-1]) / SECOND
        between[:-1][followed] = gap[followed]
    known = between / count
    usual = float(np.nanmedian(known)) if np.isfinite(known).any() else 0.0
    between = np.where(np.isnan(between), usual * count, between)
    return Samples(
        terms=_terms(steps, rows),
        seconds=duration / SECOND + between,
        steps=count,
        tokens=prefill + decodes,
        sequences=steps.prompts[rows] + decodes,
        kind=np.where(prefill == 0, DECODE, np.where(decodes == 0, PREFILL, MIXED)),
        between=between,
    )


def _terms(steps: StepColumns, rows: IntArray) -> Floats:
    """Return what each coefficient multiplies; only steps without prompt tokens are merged."""
    count, decodes = steps.steps[rows].astype(np.float64), steps.decodes[rows].astype(np.float64)
    tokens = steps.prefill_tokens[rows].astype(np.float64)
    first = np.where(decodes > 0, steps.context[rows], 0).astype(np.float64)
    context = count * first + decodes * (count * (count - 1) / 2)
    mixed = (tokens > 0) & (decodes > 0)
    terms = {
        "fixed": count,
        "prefill_token": tokens,
        "pair": np.where(tokens > 0, steps.pairs[rows], 0),
        "prior_token": np.where(tokens > 0, steps.prior[rows], 0),
        "prompt": np.where(tokens > 0, steps.prompts[rows], 0),
        "decode": count * decodes,
        "context_token": context,
        "mixed_context_token": np.where(mixed, context, 0.0),
        "mixed_token_decode": np.where(mixed, tokens * decodes, 0.0),
    }
    return np.column_stack([terms[name] for name in SCALARS]).astype(np.float64)
