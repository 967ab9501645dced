"""The verdict: which recipe to use at which load, or to keep stock, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sojourn.report.bootstrap import Gain, block_length, paired_gain
from sojourn.report.fleet_figures import fleet_lines
from sojourn.report.overall import over_all
from sojourn.report.reasons import asks_nothing, costs, what_it_missed
from sojourn.report.standing import (
    ADEQUATE_SHARE,
    above,
    best_stock,
    goodput,
    is_adequate,
    met_share,
    rated,
)
from sojourn.report.summary import RunSummary
from sojourn.report.units import RateFactor, at_load, change, seconds, share, significant

STOCK: Final = "vllm"
SHORT_FACTOR: Final = 5.0
"""Arrivals that last fewer mean E2E times than this are no picture of a steady state."""


@dataclass(frozen=True, slots=True)
class LoadVerdict:
    """What one load says.

    Attributes:
        load: The load; None as traced.
        best: The recipe with the best goodput, simulator-only ones included.
        best_deployable: The best one that can be deployed; None if there is none.
        stock: The row that stands for stock at this load, the best one of several; None if none
            was run at this load.
        difference: Whether the best deployable recipe's interval lies clear above stock's.
        paired_gain: Its gain over stock on the same requests; None for stock itself, or if the
            two did not run the same requests.
        headline: The outcome in one sentence.
        why: What the others spent their time on, and what the winner costs.
        recipes: For each recipe, one sentence on what made its requests miss their SLOs.
        adequate: Whether the best deployable recipe meets the SLOs of `ADEQUATE_SHARE` of the
            requests.
    """

    load: float | None
    best: str
    best_deployable: str | None
    stock: str | None
    difference: bool
    paired_gain: Gain | None
    headline: str
    why: str
    recipes: Mapping[str, str]
    adequate: bool

    def to_json(self) -> dict[str, Any]:
        """Return the load's verdict as JSON values."""
        return {
            "load": self.load,
            "best": self.best,
            "best_deployable": self.best_deployable,
            "stock": self.stock,
            "difference": self.difference,
            "paired_gain": None if self.paired_gain is None else self.paired_gain.to_json(),
            "why": self.why,
            "headline": self.headline,
            "recipes": dict(self.recipes),
            "adequate": self.adequate,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict over all loads.

    Attributes:
        overall: The outcome in one sentence.
        recommended: The recipe to use at every load that was run; stock (of several stock rows
            the one with the most goodput over all loads) if nothing beats it where the SLOs can
            be met, and None if no single recipe will do, no load is adequate, or there was
            nothing to choose from.
        notes: Sentences to read the rest with.
        by_load: A verdict for each load, in order of first appearance.
    """

    overall: str
    recommended: str | None
    notes: tuple[str, ...]
    by_load: tuple[LoadVerdict, ...]

    @property
    def text(self) -> str:
        """The verdict in several lines."""
        lines = [f"Verdict: {self.overall}", *self.notes]
        for one in self.by_load:
            lines += ["", f"{at_load(one.load)}: {one.headline}"]
            lines += [f"  {line}" for line in one.why.split("\n") if line]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return {
            "text": self.text,
            "by_load": [one.to_json() for one in self.by_load],
            "overall": self.overall,
            "recommended": self.recommended,
        }


def judge(runs: Sequence[RunSummary], *, stock: str = STOCK, seed: int = 0) -> Verdict:
    """Return the verdict over the runs of one trace.

    A deployable recipe is recommended at a load when its goodput's interval lies above stock's
    without overlap and the load is adequate. Simulator-only recipes are never recommended; they
    bound what is possible.

    Args:
        runs: Summaries, one for each recipe and load.
        stock: Name of the recipe that stands for stock. If it was also run with other limits
            (`vllm@1024x8192`), the one with the best goodput at a load stands for it there.
        seed: Seed of the paired bootstrap.
    """
    if not runs:
        return Verdict("nothing was run.", None, (), ())
    groups: dict[float | None, list[RunSummary]] = {}
    for run in runs:
        groups.setdefault(run.row.load, []).append(run)
    by_load = tuple(_at_load(group, best_stock(group, stock), seed) for group in groups.values())
    recommended, overall = over_all(groups, by_load, stock)
    return Verdict(overall, recommended, _notes(runs), by_load)


def _at_load(runs: list[RunSummary], stock: str, seed: int) -> LoadVerdict:
    """Return the verdict on the runs of one load."""
    base = next((run for run in runs if run.row.recipe == stock), None)
    ranked = sorted(runs, key=lambda run: (-goodput(run), *_change(run, stock)))
    deployable = [run for run in ranked if run.row.deployable]
    winner = deployable[0] if deployable else None
    gain = None
    if winner is not None and base is not None and winner is not base:
        gain = _gain(winner, base, seed)
    difference = winner is not None and base is not None and above(winner, base)
    adequate = winner is not None and is_adequate(winner)
    return LoadVerdict(
        load=runs[0].row.load,
        best=ranked[0].row.recipe,
        best_deployable=None if winner is None else winner.row.recipe,
        stock=None if base is None else stock,
        difference=difference,
        paired_gain=gain,
        headline=(
            _headline(winner, base, stock, gain, len(runs))
            if adequate or winner is None
            else _overloaded(winner, base, stock, gain, ranked)
        ),
        why=_why(ranked, winner, base, difference),
        recipes={run.row.recipe: what_it_missed(run.row) for run in runs},
        adequate=adequate,
    )


def _change(run: RunSummary, stock: str) -> tuple[bool, bool, float]:
    """Return the order among equals: stock, stock's recipe on another fleet, then the quickest."""
    name = run.row.recipe
    recipe, usual = name.rpartition("/")[2], stock.rpartition("/")[2]
    return name != stock, recipe != usual, run.row.e2e_seconds.mean or 0.0


def _headline(
    winner: RunSummary | None, base: RunSummary | None, stock: str, gain: Gain | None, number: int
) -> str:
    """Return the outcome at a load in one sentence."""
    if winner is None:
        return "no recipe that ran can be deployed; the rows show bounds only."
    ours = f"{rated(winner)} req/s"
    if base is None:
        return (
            f"no stock row ({stock}) to compare with; the best deployable recipe is "
            f"{winner.row.recipe}: goodput {ours}."
        )
    if number == 1:
        return f"only stock ({stock}) was run, nothing to compare: goodput {ours}."
    if winner is base:
        return f"keep stock ({stock}): no deployable recipe did better; goodput {ours}."
    if above(winner, base):
        return (
            f"use {winner.row.recipe}: goodput {ours} against stock's {rated(base)} "
            f"({change(winner.row.goodput_rps, base.row.goodput_rps)})."
        )
    text = (
        f"no difference: keep stock. {stock} {rated(base)} req/s; the best deployable recipe, "
        f"{winner.row.recipe}, {rated(winner)}"
    )
    return text + (f"; paired gain {_signed(gain)}." if gain is not None else ".")


def _overloaded(
    winner: RunSummary,
    base: RunSummary | None,
    stock: str,
    gain: Gain | None,
    ranked: list[RunSummary],
) -> str:
    """Return the outcome, in one sentence, at a load where the best recipe is not adequate."""
    name, ours = winner.row.recipe, f"{rated(winner)} req/s"
    shares = f"{name} {share(met_share(winner))}"
    if base is not None and base is not winner:
        shares += f", stock {share(met_share(base))}"
    # In a closed loop the most goodput need not go with the largest share.
    none = not any(run.row.deployable and is_adequate(run) for run in ranked)
    better = base is not None and base is not winner and above(winner, base)
    same = base is not None and base is not winner and not better
    text = "no difference: keep stock; " if same else ""
    load = winner.row.load
    below = load is not None and load < 1 and not isinstance(load, RateFactor)
    text += "" if below else "overloaded, "
    text += (
        f"{'no' if none else 'not the best'} deployable recipe meets even "
        f"{share(ADEQUATE_SHARE)} of requests' SLOs ({shares}): add capacity or shed; "
    )
    if base is None:
        text += f"of those run, {name} loses least: goodput {ours}; no stock row ({stock})"
        return f"{text} to compare with."
    if len(ranked) == 1:
        return f"{text}only stock ({stock}) was run, nothing to compare: goodput {ours}."
    if winner is base:
        return f"{text}of those run, stock ({stock}) loses least: goodput {ours}."
    text += f"of those run, {name} loses least{'' if better else ', though not clearly'}: "
    text += f"goodput {ours} against stock's {rated(base)} "
    text += f"({change(winner.row.goodput_rps, base.row.goodput_rps)})"
    return text + (f"; paired gain {_signed(gain)}." if gain is not None and not better else ".")


def _why(
    ranked: list[RunSummary],
    winner: RunSummary | None,
    base: RunSummary | None,
    difference: bool,
) -> str:
    """Return the lines under a headline: reasons, costs, recipes as good, bounds."""
    lines = []
    others = [run for run in ranked if run.row.deployable and run is not winner and run is not base]
    if base is not None:
        lines.append(f"why: {what_it_missed(base.row)}")
    if winner is not None and winner is not base:
        lines.append(
            f"with {winner.row.recipe}: {costs(winner, base)}"
            if base is not None
            else f"why: {what_it_missed(winner.row)}"
        )
    if winner is not None and others:
        alike = [run.row.recipe for run in others if difference and not above(winner, run)]
        if alike:
            lines.append(f"not clearly behind it: {', '.join(alike)}.")
        lines += [what_it_missed(run.row) for run in others if run.row.recipe not in alike]
    lines += fleet_lines(ranked)
    only_simulated = [run for run in ranked if not run.row.deployable]
    if only_simulated:
        shown = ", ".join(f"{run.row.recipe} {rated(run)}" for run in only_simulated)
        lines.append(f"simulator only, for reference: {shown} req/s{_reach(winner, ranked[0])}.")
    return "\n".join(lines)


def _reach(winner: RunSummary | None, best: RunSummary) -> str:
    """Return how close the best deployable recipe comes to a bound above it."""
    if winner is None or best.row.deployable or not goodput(best):
        return ""
    part = share(goodput(winner) / goodput(best))
    return f"; {winner.row.recipe} reaches {part} of {best.row.recipe}"


def _notes(runs: Sequence[RunSummary]) -> tuple[str, ...]:
    """Return the sentences that qualify everything else."""
    notes = []
    if all(asks_nothing(run) for run in runs):
        notes.append(
            "No SLO was given: goodput counts every finished request, so it tells recipes apart "
            "only where they shed or leave requests behind."
        )
    if short := _short(runs):
        notes.append(short)
    late = {run.row.recipe: run.late_faults for run in runs if run.late_faults}
    for number in dict.fromkeys(late.values()):
        named = ", ".join(name for name, faults in late.items() if faults == number)
        notes.append(
            f"Faults that lie after the end of the run, and never came: {number} ({named})."
        )
    cut = sorted({run.row.recipe for run in runs if not run.row.complete})
    if cut:
        notes.append(f"Interrupted before the end, so only partly comparable: {', '.join(cut)}.")
    return tuple(notes)


def _short(runs: Sequence[RunSummary]) -> str:
    """Return the sentence on arrivals that end before the engines are in their stride, or ""."""
    known = [
        (run.row.requests / run.row.offered_rps, run.row.e2e_seconds.mean)
        for run in runs
        if run.row.offered_rps and run.row.e2e_seconds.mean
    ]
    if not known:
        return ""
    span, e2e = min(one[0] for one in known), min(one[1] for one in known)
    if span >= SHORT_FACTOR * e2e:
        return ""
    return (
        f"Arrivals last {seconds(span)} and a request at least {seconds(e2e)} in the mean: most of "
        "the run is its beginning and its end, so take a longer trace before you act on it."
    )


def _gain(winner: RunSummary, base: RunSummary, seed: int) -> Gain | None:
    """Return the paired gain, in stock's order of arrival; None if the requests differ."""
    offered = winner.row.offered_rps, base.row.offered_rps
    if winner.met.size != base.met.size or offered[0] is None or offered[1] is None:
        return None
    if not np.array_equal(np.sort(winner.order), np.sort(base.order)):
        return None
    block = max(
        block_length(run.row.requests, offered[1], run.row.e2e_seconds.mean)
        for run in (winner, base)
    )
    rows = base.order
    return paired_gain((winner.met[rows], offered[0]), (base.met[rows], offered[1]), block, seed)


def _signed(gain: Gain) -> str:
    """Return a gain with signs, and what it means where it is clear of zero."""
    low, high = gain.interval
    text = f"{significant(gain.goodput_rps)} [{significant(low)}, {significant(high)}] req/s"
    if gain.clear:
        text += " (clear of zero request by request, yet within the spread between bursts)"
    return text
