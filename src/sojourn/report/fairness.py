"""How far apart two tenants' service drifts while both have work queued (VTC's measure)."""

from __future__ import annotations

from typing import Final

import numpy as np

from sojourn.decide.clock import SECOND
from sojourn.report.served import BoolArray, FloatArray, Served
from sojourn.steplog.record import RunRecord

PROMPT_WEIGHT: Final = 1.0
OUTPUT_WEIGHT: Final = 2.0
MOMENTS_MAX: Final = 2_000
TENANTS_MAX: Final = 64
"""Pairs grow with the square: of more tenants, those with the most service are compared."""


def service(record: RunRecord) -> FloatArray:
    """Return the weighted tokens that each request received in all (length n).

    One per prompt token once the first token was delivered, two per output token.
    """
    rows = record.requests
    tokens = PROMPT_WEIGHT * rows.prompt_tokens + OUTPUT_WEIGHT * rows.output_tokens
    return np.where(rows.first_token >= 0, tokens, 0.0)


def max_gap_tokens(record: RunRecord, facts: Served) -> float | None:
    """Return the largest difference in service between two backlogged tenants, in tokens.

    Over all pairs of tenants and all maximal intervals in which each of the two has at least one
    request that arrived and had no grant yet, it is the difference between what the two received
    within the interval: 1 per prompt token, credited at the first token, and 2 per output token,
    credited evenly between first token and finish. Backlog and service are read on an even grid
    of at most `MOMENTS_MAX` moments, so an interval shorter than one cell is not seen. None with
    fewer than two tenants; 0 when no two were ever backlogged together.

    Source: Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024, section 4.
    """
    tenants = _tenants(record, facts)
    if len(tenants) < 2 or facts.end <= facts.begin:
        return None
    grid = np.linspace(0.0, (facts.end - facts.begin) / SECOND, MOMENTS_MAX)
    backlog = np.empty((len(tenants), grid.size), dtype=np.bool_)
    received = np.empty((len(tenants), grid.size))
    for row, tenant in enumerate(tenants):
        mine = facts.arrived & (record.requests.tenant == tenant)
        backlog[row] = _backlog(record, facts, mine, grid)
        received[row] = _received(record, facts, mine, grid)
    worst = 0.0
    for one in range(len(tenants) - 1):
        both = backlog[one + 1 :] & backlog[one]
        gap = received[one + 1 :] - received[one]
        worst = max(worst, _largest_drift(both, gap))
    return worst


def _tenants(record: RunRecord, facts: Served) -> list[int]:
    """Return the tenants to compare, those with the most service first, ties by index."""
    column = record.requests.tenant[facts.arrived]
    present = np.unique(column)
    if present.size <= TENANTS_MAX:
        return [int(tenant) for tenant in present]
    total = np.bincount(column - present[0], weights=service(record)[facts.arrived])
    ranked = present[np.argsort(-total[present - present[0]], kind="stable")]
    return [int(tenant) for tenant in ranked[:TENANTS_MAX]]


def _backlog(record: RunRecord, facts: Served, mine: BoolArray, grid: FloatArray) -> BoolArray:
    """Return at which moments a tenant had a request queued: arrived, kept, not yet admitted."""
    queued = mine & ~np.isnan(facts.queue)
    arrival = (record.requests.arrival[queued] - facts.begin) / SECOND
    admitted = arrival + facts.queue[queued]
    came = np.searchsorted(np.sort(arrival), grid, side="right")
    left = np.searchsorted(np.sort(admitted), grid, side="right")
    return np.asarray(came > left)


def _received(record: RunRecord, facts: Served, mine: BoolArray, grid: FloatArray) -> FloatArray:
    """Return a tenant's cumulative service in weighted tokens at each moment of the grid."""
    rows = record.requests
    begun = mine & (rows.first_token >= 0)
    first = (rows.first_token[begun] - facts.begin) / SECOND
    until = np.where(rows.finish[begun] >= 0, rows.finish[begun], facts.end)
    last = (until - facts.begin) / SECOND
    tokens = (OUTPUT_WEIGHT * rows.output_tokens[begun]).astype(np.float64)
    lasting = last > first
    at_once = np.where(lasting, 0.0, tokens) + PROMPT_WEIGHT * rows.prompt_tokens[begun]
    speed = np.where(lasting, tokens / np.where(lasting, last - first, 1.0), 0.0)
    # A stream gives speed × (t − first) from its first token on and no more after its last.
    return (
        _until(first, at_once, grid)
        + grid * (_until(first, speed, grid) - _until(last, speed, grid))
        - (_until(first, speed * first, grid) - _until(last, speed * last, grid))
    )


def _until(times: FloatArray, amounts: FloatArray, grid: FloatArray) -> FloatArray:
    """Return the sum of the amounts whose time has come, at each moment of the grid."""
    order = np.argsort(times, kind="stable")
    total = np.concatenate(([0.0], np.cumsum(amounts[order])))
    return np.asarray(total[np.searchsorted(times[order], grid, side="right")])


def _largest_drift(both: BoolArray, gap: FloatArray) -> float:
    """Return the largest |change of `gap`| over the runs of True in each row of `both`."""
    edges = np.diff(np.pad(both, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, first = np.nonzero(edges == 1)
    _, after = np.nonzero(edges == -1)
    if not row.size:
        return 0.0
    return float(np.abs(gap[row, after - 1] - gap[row, first]).max())
