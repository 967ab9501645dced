"""What a fit knows of each coefficient: its spread between parts of the log, and what it hides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sojourn.cost.fitted import SCALARS
from sojourn.cost.samples import DECODE, Bools, Floats, Samples

COLLINEAR: Final = 1e6
"""How many times the spread of a term shrinks when the others explain what they can of it."""
UNSURE_SHARE: Final = 0.5
MATTERS_SHARE: Final = 0.02
"""A coefficient that differs by half of itself between parts of the log is not identified; it is
worth a warning if it stands for more than a fiftieth of the time."""

ABSENT: Final = "never occurred"
"""The remark on a coefficient whose term was zero in every step."""

WHAT: Final = {
    "fixed": "a step",
    "prefill_token": "a prompt token",
    "pair": "a query-key pair",
    "prior_token": "an earlier token that a chunk reads again",
    "prompt": "a chunk",
    "decode": "a decode",
    "context_token": "a KV token that a decode reads",
    "mixed_context_token": "the same beside a chunk, added",
    "mixed_token_decode": "a prompt token beside a decode, added",
}
"""What each coefficient is the time of."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is known of a coefficient.

    Attributes:
        name: Its name.
        what: What it is the time of.
        seconds: Its value.
        low, high: The least and the largest value that parts of the log give.
        share: Share of the time of the steps that were fitted which it stands for.
        remark: Why it is not identified; empty if it is.
        like: The name of the coefficient that it cannot be told from, if that is the reason.
    """

    name: str
    what: str
    seconds: float
    low: float
    high: float
    share: float
    remark: str
    like: str = ""


def estimates(
    design: Floats,
    values: Floats,
    parts: Floats,
    samples: Samples,
    kept: Bools,
    bounds: Sequence[int],
) -> tuple[Estimate, ...]:
    """Return what is known of each column of a design.

    Args:
        design: The terms, a column for each coefficient.
        values: The coefficients.
        parts: Their values in fits that each leave a part of the log out.
        samples: The rows.
        kept: Which rows were fitted.
        bounds: Tokens at which the price of a token changes.
    """
    fitted = design[kept] / np.sqrt(samples.seconds[kept])[:, None]
    total = float(samples.seconds[kept].sum())
    alike = collinear(fitted)
    names = [*SCALARS, *(f"dense_token[{place}]" for place in range(design.shape[1] - 9))]
    found = []
    for at, name in enumerate(names):
        value = float(values[at])
        low, high = float(parts[:, at].min()), float(parts[:, at].max())
        share = float(design[kept][:, at].sum() * value / total)
        like = names[alike[at]] if at in alike else ""
        if not fitted[:, at].any():
            remark = "part of dense_token" if bounds and name == "prefill_token" else ABSENT
        elif like:
            remark = f"cannot be told from {like}"
        elif high - low > UNSURE_SHARE * max(value, low):
            remark = "differs between parts of the log"
        else:
            remark = ""
        what = WHAT.get(name) or _segment(at - len(SCALARS), bounds)
        found.append(Estimate(name, what, value, low, high, share, remark, like))
    return tuple(found)


def _segment(place: int, bounds: Sequence[int]) -> str:
    """Return which tokens of a step a price is for."""
    low = bounds[place - 1] + 1 if place else 1
    if place == len(bounds):
        return f"a token of a step, from the {low}th on"
    return (
        f"a token of a step, up to the {bounds[place]}th"
        if not place
        else (f"a token of a step, the {low}th to the {bounds[place]}th")
    )


def collinear(terms: Floats) -> dict[int, int]:
    """Return the columns that the others explain nearly whole, each with the one most like it."""
    height = np.linalg.norm(terms, axis=0)
    live = np.flatnonzero(height > 0)
    scaled = terms[:, live] / height[live]
    alike = np.abs(scaled.T @ scaled)
    np.fill_diagonal(alike, 0.0)
    triangle: Floats = np.asarray(np.linalg.qr(scaled, mode="r"))
    found: dict[int, int] = {}
    for at in range(len(live)):
        others = np.delete(triangle, at, axis=1)
        if not others.size:
            continue
        guess = np.linalg.lstsq(others, triangle[:, at], rcond=None)[0]
        left = float(np.sum((triangle[:, at] - others @ guess) ** 2))
        if left * COLLINEAR < 1.0:
            found[int(live[at])] = int(live[int(np.argmax(alike[at]))])
    return found


def warnings_of(found: Sequence[Estimate], samples: Samples, kept: Bools) -> tuple[str, ...]:
    """Return sentences on the coefficients that the log does not tell, and why it matters."""
    sentences = []
    by_name = {one.name: one for one in found}
    absent = [one.name for one in found if one.remark == ABSENT]
    reasons = {
        "prior_token": "no prompt was computed in several chunks",
        "mixed_context_token": "no step computed prompts beside decodes",
        "mixed_token_decode": "no step computed prompts beside decodes",
    }
    for reason in dict.fromkeys(reasons.get(name, "") for name in absent):
        names = [name for name in absent if reasons.get(name, "") == reason]
        why = f" ({reason})" if reason else ""
        sentences.append(
            f"{_listed(names)} never occurred{why} and "
            f"{'is' if len(names) == 1 else 'are'} left at zero: such steps will be predicted "
            "too short"
        )
    pairs = {tuple(sorted((one.name, one.like))) for one in found if one.like}
    for left, right in sorted(pairs):
        if by_name[left].share + by_name[right].share > MATTERS_SHARE:
            sentences.append(
                f"{left} and {right} rose and fell together in this log: their sum is known, "
                "their shares are not"
            )
    unsure = [
        one.name
        for one in found
        if one.remark.startswith("differs") and max(one.share, _most(one)) > MATTERS_SHARE
    ]
    if unsure:
        sentences.append(
            f"{_listed(unsure)} {'differs' if len(unsure) == 1 else 'differ'} between parts of "
            "the log: predictions hold for traffic like this one's, less so elsewhere"
        )
    mixed = float(samples.seconds[kept & (samples.kind != DECODE)].sum())
    if mixed < MATTERS_SHARE * samples.seconds[kept].sum():
        sentences.append(
            f"steps with prompt tokens took only {mixed:.3g} s of the log: what prompts cost is "
            "known poorly"
        )
    return tuple(sentences)


def _most(one: Estimate) -> float:
    """Return the share of the time at the largest value that a part of the log gave."""
    return one.share * one.high / one.seconds if one.seconds else 0.0


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
