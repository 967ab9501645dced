"""Fitting coefficients to the measured steps of a real machine, and judging them on held-out time.

Real steps are not drawn from a clean distribution: a machine stands still for a second, a first
step compiles. Rows far from what their kind usually takes are set aside and counted. The rest is
fitted with weights of one over the predicted time, so that the predicted total equals the measured
one: a makespan depends on it. Plain relative errors would promise too little wherever steps are
noisy, because a step that took twice as long counts for less than one that took half.

Every fifth stretch of time is held out in turn. Steps that follow one another are alike, so single
steps drawn at random would be told by their neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sojourn.cost.fit import named, weighted
from sojourn.cost.fitted import SCALARS, Coefficients
from sojourn.cost.identified import Estimate, estimates, warnings_of
from sojourn.cost.samples import DECODE, KINDS, PREFILL, Bools, Floats, Samples
from sojourn.decide.clock import SECOND
from sojourn.errors import UserError
from sojourn.steplog.record import IntArray

ROWS_MIN: Final = 100
BATCHES_MIN: Final = 3
BLOCKS: Final = 50
FOLDS: Final = 5
ROUNDS_MAX: Final = 60
ASIDE_SPREADS: Final = 6.0
ASIDE_FACTOR_MIN: Final = 1.5
"""A row is set aside when it is further from the middle of its kind than six spreads (1.4826 times
the median distance, the standard deviation of a normal distribution), and by more than half."""
BETTER_SHARE: Final = 0.99
"""What a price of tokens by step size must do to the squared held-out error to be worth its terms.
Logs of an engine without such prices, with noise of 20 to 60 %, stay above 0.995. To ask also that
the difference be clear of its own noise would turn such prices down on just the noisiest machines.
"""
ASIDE_STEPS_MAX: Final = 0.05
DRIFT_FACTOR: Final = 1.5
"""How much longer the same work may take in the slow tenth of the time than in the fast one."""
SEGMENT_ROWS_MIN: Final = 30
SEGMENT_SIZES_MIN: Final = 3
SEGMENTS_MAX: Final = 6


@dataclass(frozen=True, slots=True)
class Errors:
    """How far predictions are from some measured steps; a row counts once for each of its steps.

    Attributes:
        steps: How many steps.
        seconds: How long they took.
        median, mean, p90: Of the absolute relative error.
        bias: Predicted over measured total time, less one.
    """

    steps: int
    seconds: float
    median: float
    mean: float
    p90: float
    bias: float


@dataclass(frozen=True, slots=True)
class Judged:
    """Some of the steps with their errors.

    Attributes:
        name: Which steps.
        in_sample: Errors of the coefficients on the steps that they were fitted to.
        held_out: Errors on stretches of time that the fit did not see.
    """

    name: str
    in_sample: Errors
    held_out: Errors


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Coefficients fitted to measured steps, and how far they can be trusted.

    Attributes:
        coefficients: The coefficients, in whole picoseconds.
        samples: The rows.
        kept: Which rows were fitted.
        predicted: Seconds that the coefficients give for each row.
        held_out: Seconds that a fit without the row's stretch of time gives.
        overall: Errors of the rows that were kept.
        kinds: The same by kind of step, of those that occur.
        batches: The same by the number of sequences in a step, in tenths of the steps.
        bias_of_all: Predicted over measured time less one, the rows set aside included.
        estimates: What is known of each coefficient.
        warnings: Sentences on what the log does not tell.
    """

    coefficients: Coefficients
    samples: Samples
    kept: Bools
    predicted: Floats
    held_out: Floats
    overall: Judged
    kinds: tuple[Judged, ...]
    batches: tuple[Judged, ...]
    bias_of_all: float
    estimates: tuple[Estimate, ...]
    warnings: tuple[str, ...]

    @property
    def aside_steps(self) -> int:
        """Steps that were set aside."""
        return int(self.samples.steps[~self.kept].sum())

    @property
    def aside_share(self) -> float:
        """Share of the measured time that they took."""
        seconds = self.samples.seconds
        return float(seconds[~self.kept].sum() / seconds.sum())

    @property
    def covered(self) -> dict[str, int]:
        """The largest step that was fitted, by what it did."""
        rows = self.samples.take(self.kept)
        named = dict(zip(SCALARS, rows.terms.T, strict=True))
        return {
            "sequences": int(rows.sequences.max()),
            "tokens": int(rows.tokens.max()),
            "context": int((named["context_token"] / rows.steps).max()),
        }

    @property
    def between_share(self) -> float:
        """Share of the measured time that passed between steps."""
        return float(self.samples.between.sum() / self.samples.seconds.sum())


def calibrate(samples: Samples) -> Calibration:
    """Return the coefficients that fit the samples.

    Raises:
        UserError: If there are too few steps, or a kind of work is missing.
    """
    check_coverage(samples)
    fold = _folds(samples)
    linear = _cross_validated(samples, fold, ())
    bounds = _bounds(samples)
    chosen: tuple[int, ...] = ()
    held_out = linear
    values, kept = _robust(samples.design(), samples)
    if bounds:
        stepped = _cross_validated(samples, fold, bounds)
        if _is_better(samples, stepped[0], linear[0], kept):
            chosen, held_out = bounds, stepped
            values, kept = _robust(samples.design(chosen), samples)
    design = samples.design(chosen)
    values = np.rint(values * SECOND) / SECOND
    predicted = design @ values
    found = estimates(design, values, held_out[1], samples, kept, chosen)

    def judged(name: str, rows: Bools) -> Judged:
        mine = rows & kept
        return Judged(name, _errors(samples, predicted, mine), _errors(samples, held_out[0], mine))

    everything = np.ones(len(samples), dtype=bool)
    return Calibration(
        coefficients=named(values, chosen),
        samples=samples,
        kept=kept,
        predicted=predicted,
        held_out=held_out[0],
        overall=judged("all", everything),
        kinds=tuple(
            judged(name, samples.kind == kind)
            for kind, name in enumerate(KINDS)
            if (kept & (samples.kind == kind)).any()
        ),
        batches=tuple(judged(name, rows) for name, rows in _tenths(samples, kept)),
        bias_of_all=_errors(samples, predicted, everything).bias,
        estimates=found,
        warnings=(*_drift(samples, predicted, kept), *warnings_of(found, samples, kept)),
    )


def check_coverage(samples: Samples) -> None:
    """Refuse a log that does not hold what a fit needs."""
    if len(samples) < ROWS_MIN:
        raise UserError(
            f"the log holds {len(samples)} rows of steps with tokens; at least {ROWS_MIN} are "
            "needed: record more traffic"
        )
    for kind, name, other in ((DECODE, "decoded only", 1), (PREFILL, "computed prompt tokens", 0)):
        here = samples.kind == kind if kind == DECODE else samples.kind != DECODE
        if not here.any():
            raise UserError(
                f"no step of the log {name}, so that the cost of "
                f"{'prompts' if other == 0 else 'decodes'} cannot be told: record traffic that "
                "has both"
            )
    sizes = np.unique(samples.sequences[samples.kind == DECODE])
    if len(sizes) < BATCHES_MIN:
        listed = " and ".join(str(size) for size in sizes)
        raise UserError(
            f"decode steps of the log had only {listed} sequences; at least {BATCHES_MIN} "
            "different numbers are needed to tell a sequence's cost from a step's: record "
            "traffic at several rates"
        )


def _folds(samples: Samples) -> IntArray:
    """Return the part that each row belongs to: stretches of equal measured time, in turn."""
    return _stretches(samples) % FOLDS


def _stretches(samples: Samples) -> IntArray:
    """Return which of the stretches of equal measured time each row is in."""
    passed = np.cumsum(samples.seconds) - samples.seconds / 2
    place: IntArray = (passed * (BLOCKS / samples.seconds.sum())).astype(np.int64)
    return np.minimum(place, BLOCKS - 1)


def _drift(samples: Samples, predicted: Floats, kept: Bools) -> list[str]:
    """Return sentences if the same work took much longer at some times than at others."""
    sentences = []
    aside = float(samples.steps[~kept].sum() / samples.steps.sum())
    if aside > ASIDE_STEPS_MAX:
        sentences.append(
            f"{aside:.0%} of the steps were set aside, too many for accidents: the coefficients "
            "are those of the other steps"
        )
    place = _stretches(samples)[kept]
    measured = np.bincount(place, samples.seconds[kept], BLOCKS)
    expected = np.bincount(place, predicted[kept], BLOCKS)
    there = expected > 0
    low, high = np.quantile(measured[there] / expected[there], (0.1, 0.9))
    if high > DRIFT_FACTOR * low:
        sentences.append(
            "the engine's own speed changed during the log: in a tenth of the time the same work "
            f"took {high / low:.2g} times as long as in another; something else ran on the "
            "machine, or its clock changed: record on a quiet one"
        )
    return sentences


def _cross_validated(
    samples: Samples, fold: IntArray, bounds: tuple[int, ...]
) -> tuple[Floats, Floats]:
    """Return each row's time as told by the other parts, and the values of each part's fit."""
    design = samples.design(bounds)
    predicted = np.zeros(len(samples))
    values = []
    for part in range(FOLDS):
        out = fold == part
        values.append(_robust(design[~out], samples.take(~out))[0])
        predicted[out] = design[out] @ values[-1]
    return predicted, np.array(values)


def _is_better(samples: Samples, told: Floats, before: Floats, rows: Bools) -> bool:
    """Return whether the squared error of some predictions is that of others x `BETTER_SHARE`."""
    # Weighed as the fit weighs them.
    weight = rows / np.maximum(before, 1e-3 * samples.seconds)
    errors = [float((weight * (one - samples.seconds) ** 2).sum()) for one in (told, before)]
    return errors[0] < BETTER_SHARE * errors[1]


def _robust(design: Floats, samples: Samples) -> tuple[Floats, Bools]:
    """Return the values fitted to the rows that are not set aside, and which those are."""
    seconds, steps = samples.seconds, samples.steps
    # The first guess weighs by one over the measured time squared, so that no slow row counts
    # for much; a floor keeps rows of nearly no time from counting for everything.
    usual = np.median(seconds / steps)
    guard = np.maximum(seconds, 0.2 * usual * steps)
    values = weighted(design, seconds, steps / guard**2)
    kept = np.ones(len(samples), dtype=bool)
    before = np.zeros(len(samples))
    for _ in range(ROUNDS_MAX):
        predicted = np.maximum(design @ values, 1e-3 * guard)
        kept = ~_far(np.log(seconds / predicted), samples)
        values = weighted(design[kept], seconds[kept], 1.0 / predicted[kept])
        if np.allclose(predicted, before, rtol=1e-9, atol=0.0):
            break
        before = predicted
    return values, kept


def _far(ratio: Floats, samples: Samples) -> Bools:
    """Return the rows whose ratio of measured to predicted time is not that of their kind."""
    far = np.zeros(len(samples), dtype=bool)
    for kind in range(len(KINDS)):
        mine = np.flatnonzero(samples.kind == kind)
        if not mine.size:
            continue
        distance = np.abs(ratio[mine] - np.median(ratio[mine]))
        spread = 1.4826 * float(np.median(distance))
        far[mine] = distance > max(ASIDE_SPREADS * spread, np.log(ASIDE_FACTOR_MIN))
    return far


def _bounds(samples: Samples) -> tuple[int, ...]:
    """Return powers of two between which there are enough rows and sizes of steps to fit."""
    bounds: list[int] = []
    last = 0
    largest = int(samples.tokens.max())
    bound = 4
    while bound < largest and len(bounds) < SEGMENTS_MAX - 1:
        inside = samples.tokens[(samples.tokens > last) & (samples.tokens <= bound)]
        above = samples.tokens[samples.tokens > bound]
        enough = all(
            len(part) >= SEGMENT_ROWS_MIN and len(np.unique(part)) >= SEGMENT_SIZES_MIN
            for part in (inside, above)
        )
        if enough:
            bounds.append(bound)
            last = bound
        bound *= 4
    return tuple(bounds)


def _tenths(samples: Samples, kept: Bools) -> Sequence[tuple[str, Bools]]:
    """Return ranges of the number of sequences that hold a tenth of the steps each, or more."""
    sizes, steps = samples.sequences[kept], samples.steps[kept]
    edges = np.unique([quantile(sizes, steps, tenth / 10) for tenth in range(1, 11)])
    low = int(sizes.min())
    ranges = []
    for edge in edges.astype(np.int64).tolist():
        name = f"{low}" if low == edge else f"{low} to {edge}"
        ranges.append((name, (samples.sequences >= low) & (samples.sequences <= edge)))
        low = edge + 1
    return [(name, rows) for name, rows in ranges if (rows & kept).any()]


def quantile(values: Floats | IntArray, weights: IntArray, share: float) -> float:
    """Return the smallest value at or below which `share` of the weight lies."""
    order = np.argsort(values, kind="stable")
    passed = np.cumsum(weights[order])
    at = int(np.searchsorted(passed, share * passed[-1], side="left"))
    return float(values[order[min(at, len(order) - 1)]])


def _errors(samples: Samples, predicted: Floats, rows: Bools) -> Errors:
    """Return the errors of some rows."""
    seconds, steps = samples.seconds[rows], samples.steps[rows]
    off = np.abs(predicted[rows] / seconds - 1.0)
    return Errors(
        steps=int(steps.sum()),
        seconds=float(seconds.sum()),
        median=quantile(off, steps, 0.5),
        mean=float((off * steps).sum() / steps.sum()),
        p90=quantile(off, steps, 0.9),
        bias=float(predicted[rows].sum() / seconds.sum() - 1.0),
    )
