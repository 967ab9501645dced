"""How two runs at one load stand to each other, and which of several rows stands for stock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sojourn.report.numbers import ratio
from sojourn.report.summary import RunSummary
from sojourn.report.units import rate_with_interval

ADEQUATE_SHARE: Final = 0.9
"""A load is adequate when the best deployable recipe meets the SLOs of at least this share of
the requests. Below it the engine is in collapse: the answer is capacity or shedding, and which
scheduler loses least says little. A request without an SLO counts as met when it finished."""


def above(one: RunSummary, other: RunSummary) -> bool:
    """Return whether the first run's interval lies above the other's without overlap."""
    ours, theirs = one.row.goodput_interval, other.row.goodput_interval
    return ours is not None and theirs is not None and ours[0] > theirs[1]


def goodput(run: RunSummary) -> float:
    """Return a run's goodput, 0 if it has none."""
    return run.row.goodput_rps or 0.0


def rated(run: RunSummary) -> str:
    """Return a run's goodput with its interval."""
    return rate_with_interval(run.row.goodput_rps, run.row.goodput_interval)


def met_share(run: RunSummary) -> float | None:
    """Return the share of the requests whose SLOs were met; None if no request arrived."""
    row = run.row
    return ratio(row.requests - sum(row.missed.values()), row.requests)


def is_adequate(run: RunSummary) -> bool:
    """Return whether a run met the SLOs of enough requests; one without requests did."""
    met = met_share(run)
    return met is None or met >= ADEQUATE_SHARE


def best_stock(runs: Sequence[RunSummary], stock: str) -> str:
    """Return the name of the stock row with the most goodput, summed over the runs given.

    Stock rows are `stock` and the same with other limits (`vllm@1024x8192`). Ties go to `stock`.
    """
    totals: dict[str, float] = {}
    for run in runs:
        name = run.row.recipe
        if name == stock or name.startswith(f"{stock}@"):
            totals[name] = totals.get(name, 0.0) + goodput(run)
    return max(totals, key=lambda name: (totals[name], name == stock), default=stock)
