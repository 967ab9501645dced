"""Training runs in numbers: what each candidate gives, its intervals over seeds, and the verdict.

All numbers are of the steps after the warm-up. Intervals are Student's t over seeds, 95 %; gains
over the baseline are paired: the ratio is taken seed by seed, for seeds share prompts and draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any, Final

from sojourn.report import units
from sojourn.report.numbers import ratio
from sojourn.report.seeds import Estimate, distance, estimate, paired_ratio, quantiles
from sojourn.steplog.rollouts import RolloutRecord

CANDIDATE: Final = "candidate"
ORACLE: Final = "oracle"
UNIFORM: Final = "uniform"

GAIN_MIN: Final = 1.02
"""Less than two per cent is nothing to change a training loop for."""
DISTANCE_MAX: Final = 0.1
"""A trained-length distribution further from the offered one than the baseline's by more than this
is a different training set."""
SEEDS_MIN: Final = 3
"""With fewer, an interval rests on a spread that is itself hardly known."""
LAG_MAX: Final = 1.0
"""Mean age in versions of the weights that made a trained token, beyond which nothing is
recommended unless the scenario allows it: one step off is what trainers are reported to bear."""


@dataclass(frozen=True, slots=True)
class SeedRow:
    """The numbers of one run; None where there is nothing to count.

    Attributes:
        step_seconds: Time of a training step.
        waiting_share: Share of the time that the trainer waited for batches.
        groups_per_second: Newly generated groups trained.
        effective_per_second: Those of them whose rewards differ.
        effective_ratio: Those as a share of all groups that were generated.
        rollouts_per_effective: Rollouts made for each of them.
        tokens_per_second: Tokens generated.
        generated, trained, discarded, carried: Tokens of the whole run, the warm-up included;
            `carried` is what its end left in flight, parked or waiting. They add up.
        stale_share: Share of the trained tokens that older weights had made.
        lag_versions: Mean age of the weights that made a trained token; `lag_max` the oldest.
        length_distance: Kolmogorov-Smirnov distance of trained from offered lengths.
        length_ratio: Mean trained length over mean offered length.
        busy_share: Share of the engines' time in steps.
        success: Mean success probability at the end.
    """

    seed: int
    step_seconds: float
    waiting_share: float
    groups_per_second: float
    effective_per_second: float
    effective_ratio: float
    rollouts_per_effective: float | None
    tokens_per_second: float
    generated: float
    trained: float
    discarded: float
    carried: float
    stale_share: float
    lag_versions: float
    lag_max: float
    length_distance: float
    length_ratio: float
    busy_share: float
    success: float


MEASURES: Final = tuple(name for name in SeedRow.__dataclass_fields__ if name != "seed")


@dataclass(frozen=True, slots=True)
class RolloutRow:
    """A candidate over all seeds.

    Attributes:
        name, role: What it is.
        seeds: One row for each.
        estimates: By the names of `MEASURES`; None where no seed has a number.
        gain: Effective groups per second over the baseline's; None for the baseline itself.
        gap_share: Share of the way from uniform selection to the oracle's, in the ratio of
            effective groups; None without bounds.
        steps: Mean seconds, effective groups and stale share of each step, for charts.
        policies: Policy and parameters of each slot.
    """

    name: str
    role: str
    seeds: tuple[SeedRow, ...]
    estimates: Mapping[str, Estimate | None]
    gain: Estimate | None
    gap_share: Estimate | None
    steps: Mapping[str, tuple[float, ...]]
    lengths: Mapping[str, tuple[float, ...]]
    policies: Mapping[str, Any]

    def value(self, measure: str) -> float:
        """Return the mean of a measure; 0 where there is none."""
        found = self.estimates[measure]
        return 0.0 if found is None else found.mean

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return {
            "name": self.name,
            "role": self.role,
            "gain": None if self.gain is None else self.gain.to_json(),
            "gap_share": None if self.gap_share is None else self.gap_share.to_json(),
            **{
                name: None if one is None else one.to_json() for name, one in self.estimates.items()
            },
            "seeds": [asdict(one) for one in self.seeds],
            "steps": {name: list(values) for name, values in self.steps.items()},
            "policies": dict(self.policies),
        }


@dataclass(frozen=True, slots=True)
class RolloutVerdict:
    """The outcome.

    Attributes:
        overall: In a sentence.
        recommended: The candidate to use: the baseline if nothing beats it.
        reasons: Sentences on it and on the others.
    """

    overall: str
    recommended: str
    reasons: tuple[str, ...]

    @property
    def text(self) -> str:
        """The verdict in several lines."""
        return "\n".join([f"Verdict: {self.overall}", *(f"  {one}" for one in self.reasons)])


def seed_row(record: RolloutRecord) -> SeedRow:
    """Return the numbers of one run."""
    steps = record.counted
    seconds = sum(one.seconds for one in steps)
    groups = sum(one.groups for one in steps)
    mixed = sum(one.mixed for one in steps)
    tokens = sum(one.tokens for one in steps)
    over = groups + sum(one.filtered + one.discarded for one in steps)
    before = record.steps[record.warmup - 1] if record.warmup else None
    last, ledger = steps[-1], record.tokens
    generated = last.generated - (before.generated if before else 0)
    trained, offered = record.trained_lengths, record.offered_lengths
    return SeedRow(
        seed=record.seed,
        step_seconds=seconds / len(steps),
        waiting_share=ratio(sum(one.waiting_seconds for one in steps), seconds) or 0.0,
        groups_per_second=ratio(groups, seconds) or 0.0,
        effective_per_second=ratio(mixed, seconds) or 0.0,
        effective_ratio=ratio(mixed, over) or 0.0,
        rollouts_per_effective=ratio(sum(one.submitted for one in steps), mixed),
        tokens_per_second=ratio(generated, seconds) or 0.0,
        generated=ledger["generated"],
        trained=ledger["trained"],
        discarded=ledger["discarded"],
        carried=ledger["carried"] + ledger["in_flight"],
        stale_share=ratio(sum(one.stale_tokens for one in steps), tokens) or 0.0,
        lag_versions=ratio(sum(one.lag_tokens for one in steps), tokens) or 0.0,
        lag_max=max(one.lag_versions_max for one in steps),
        length_distance=distance(trained, offered),
        length_ratio=mean(trained) / mean(offered) if trained and offered else 1.0,
        busy_share=sum(one.busy_share * one.seconds for one in steps) / seconds if seconds else 0.0,
        success=last.success,
    )


def summarise(records: Sequence[RolloutRecord], baseline: str) -> list[RolloutRow]:
    """Return a row for each candidate and bound, in order of first appearance."""
    named: dict[tuple[str, str], list[RolloutRecord]] = {}
    for record in records:
        named.setdefault((record.role, record.candidate), []).append(record)
    rows = {key: {one.seed: seed_row(one) for one in found} for key, found in named.items()}
    base = rows.get((CANDIDATE, baseline), {})
    uniform = next((found for key, found in rows.items() if key[0] == UNIFORM), base)
    oracle = next((found for key, found in rows.items() if key[0] == ORACLE), {})
    return [
        _row(
            key,
            named[key],
            rows[key],
            base if key != (CANDIDATE, baseline) else {},
            uniform,
            oracle,
        )
        for key in named
    ]


def _row(
    key: tuple[str, str],
    records: Sequence[RolloutRecord],
    rows: Mapping[int, SeedRow],
    base: Mapping[int, SeedRow],
    uniform: Mapping[int, SeedRow],
    oracle: Mapping[int, SeedRow],
) -> RolloutRow:
    shared = [seed for seed in rows if seed in base]
    gain = paired_ratio(
        [rows[seed].effective_per_second for seed in shared],
        [base[seed].effective_per_second for seed in shared],
    )
    bounded = [seed for seed in rows if seed in uniform and seed in oracle]
    shares = [
        ratio(
            rows[seed].effective_ratio - uniform[seed].effective_ratio,
            oracle[seed].effective_ratio - uniform[seed].effective_ratio,
        )
        for seed in bounded
    ]
    seeds = tuple(rows.values())
    return RolloutRow(
        name=key[1],
        role=key[0],
        seeds=seeds,
        estimates={
            name: estimate([getattr(one, name) for one in seeds], least=0.0) for name in MEASURES
        },
        gain=gain,
        gap_share=estimate(shares) if shares else None,
        steps=_by_step(records),
        lengths={
            "trained": quantiles([n for one in records for n in one.trained_lengths]),
            "offered": quantiles([n for one in records for n in one.offered_lengths]),
        },
        policies=records[0].policies,
    )


def _by_step(records: Sequence[RolloutRecord]) -> dict[str, tuple[float, ...]]:
    """Return means over seeds for each step that all of them made."""
    made = min(len(record.steps) for record in records)
    measures: dict[str, Callable[[Any], float]] = {
        "seconds": lambda row: row.seconds,
        "effective": lambda row: row.mixed,
        "stale": lambda row: ratio(row.stale_tokens, row.tokens) or 0.0,
        "success": lambda row: row.success,
        "busy": lambda row: row.busy_share,
    }
    return {
        name: tuple(mean(value(record.steps[at]) for record in records) for at in range(made))
        for name, value in measures.items()
    }


def gain_text(gain: Estimate | None) -> str:
    """Return a gain as a factor with its interval."""
    if gain is None:
        return units.NOTHING
    if gain.interval is None:
        return f"{gain.mean:.2f}×"
    return f"{gain.mean:.2f}× [{gain.interval[0]:.2f}, {gain.interval[1]:.2f}]"


def judge(
    rows: Sequence[RolloutRow], baseline: str, lag_versions_max: float = LAG_MAX
) -> RolloutVerdict:
    """Return the verdict: the best candidate that is clearly better and has nothing against it.

    Against it are other lengths than are offered, and trained tokens that are older on average
    than `lag_versions_max` versions.
    """
    candidates = [row for row in rows if row.role == CANDIDATE]
    base = next(row for row in candidates if row.name == baseline)
    others = [row for row in candidates if row is not base]
    if not others:
        return RolloutVerdict(
            f"only {baseline} was run: there is nothing to choose from.", baseline, ()
        )
    better = [
        row for row in others if _is_clear(row) and not _objection(row, base, lag_versions_max)
    ]
    best = max(better, key=lambda row: row.value("effective_per_second"), default=None)
    reasons = [_reason(row, base, lag_versions_max) for row in others]
    if all(row.value("effective_per_second") == 0.0 for row in candidates):
        overall = (
            f"keep {baseline}: no group had a signal, as all rollouts of each got the same reward."
        )
        return RolloutVerdict(overall, baseline, tuple(reasons))
    if best is None:
        most = max(others, key=lambda row: row.value("effective_per_second"))
        faster = [row for row in others if _is_clear(row)]
        found = "none that is clearly faster may be used" if faster else "none is clearly faster"
        overall = (
            f"keep {baseline}: by groups with a signal per second, {found}; the most has "
            f"{most.name}, {gain_text(most.gain)}."
        )
        return RolloutVerdict(overall, baseline, tuple(reasons))
    before, after = base.value("step_seconds"), best.value("step_seconds")
    overall = (
        f"use {best.name}: {gain_text(best.gain)} the groups with a signal per second of "
        f"{baseline}; a training step takes {units.seconds(after)} instead of "
        f"{units.seconds(before)}."
    )
    return RolloutVerdict(overall, best.name, tuple(reasons))


def _is_clear(row: RolloutRow) -> bool:
    gain = row.gain
    return (
        gain is not None
        and gain.interval is not None
        and gain.interval[0] > 1.0
        and (gain.mean >= GAIN_MIN)
    )


def _objection(row: RolloutRow, base: RolloutRow, lag_versions_max: float) -> str:
    """Return why a candidate is not to be used however fast it is; empty if nothing is."""
    apart = row.value("length_distance") - base.value("length_distance")
    if apart > DISTANCE_MAX:
        found, shift = row.value("length_distance"), units.change(row.value("length_ratio"), 1.0)
        return f"it trains other lengths than are offered (distance {found:.2f}, mean {shift})"
    lag = row.value("lag_versions")
    if lag > max(lag_versions_max, base.value("lag_versions")):
        return (
            f"it trains tokens {lag:.2f} versions old on average, of {lag_versions_max:g} allowed"
        )
    return ""


def _reason(row: RolloutRow, base: RolloutRow, lag_versions_max: float) -> str:
    """Return what is to be said of a candidate."""
    parts = [f"{row.name}: {gain_text(row.gain)}"]
    if row.gain is not None and row.gain.interval is None:
        parts.append("one seed has no interval: run more")
    else:
        if row.gain is not None and row.gain.interval is not None and row.gain.interval[1] < 1.0:
            parts.append("clearly less than the baseline")
        elif not _is_clear(row):
            parts.append("not clearly more than the baseline")
        if len(row.seeds) < SEEDS_MIN:
            parts.append(f"{len(row.seeds)} seeds say little of their spread: run more")
    if objection := _objection(row, base, lag_versions_max):
        parts.append(objection)
    stale = row.value("stale_share")
    if stale > 0.0:
        parts.append(f"{units.share(stale)} of trained tokens from older weights: correct for it")
    lost = ratio(row.value("discarded"), row.value("generated")) or 0.0
    if lost > 0.0:
        parts.append(f"{units.share(lost)} of generated tokens discarded")
    return "; ".join(parts) + "."
