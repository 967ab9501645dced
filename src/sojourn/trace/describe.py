"""What a trace is like: its rate, burstiness, lengths, sessions, tenants and shared prefixes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from sojourn.trace.checks import FloatArray, IntArray
from sojourn.trace.model import UNNAMED, Trace

BIN_SECONDS: Final = (1, 10, 60)
BINS_MIN: Final = 10
"""Fewest whole bins from which the spread of counts is read."""

_TICKS_SECONDS: Final = (3600, 60, 30, 10, 5, 3, 2, 1)
_TICK_ERROR_SECONDS: Final = 2e-3


def describe_trace(trace: Trace) -> dict[str, Any]:
    """Return the statistics of a trace; None where the trace cannot say.

    Keys and meanings:
        requests: Rows.
        span_s: Seconds from the first to the last known arrival.
        rate_rps: Requests with a known arrival, over the span.
        cv_iat: Coefficient of variation of the gaps between arrivals; 1 for Poisson.
        idc_1s, idc_10s, idc_60s: Variance over mean of counts in whole bins; 1 for Poisson.
        peak_to_mean_60s: Busiest whole minute over the mean minute.
        arrival_tick_s: The clock's grain, when every arrival is (nearly) a whole multiple of it.
            Counts in bins near that size tell of the clock, not of the traffic.
        prompt_mean, prompt_p50, prompt_p99, prompt_max (and output_…): Tokens.
        sessions, share_multiturn, turns_per_session_p50: The share is of sessions with two or
            more calls here.
        later_turns_without_arrival: Calls that only a closed loop can place in time.
        tenants, top_tenant_share, models: The share is of requests.
        slo_classes: Requests of each class.
        tool_s_p50, tool_s_p90, tool_s_p99, tool_s_mean: Pauses between the calls of a session.
        prefix_hit_token_share_inf_cache: Share of prompt tokens in blocks that an earlier row
            had, behind equal prefixes, in a cache without bounds that starts empty.
        req_with_hit: Share of requests with such a block.
        block_tokens: Tokens in a block.
    """
    return {
        "name": trace.name,
        "requests": len(trace),
        **_arrivals(trace),
        **_lengths("prompt", trace.prompt_tokens),
        **_lengths("output", trace.output_tokens),
        **_sessions(trace),
        **_names(trace),
        **_pauses(trace.tool_seconds),
        **_prefixes(trace),
        "notices": list(trace.notices),
    }


def _arrivals(trace: Trace) -> dict[str, float | None]:
    known = trace.arrival_seconds[~np.isnan(trace.arrival_seconds)]
    span = float(known[-1] - known[0]) if len(known) else None
    gaps = np.diff(known)
    stats: dict[str, float | None] = {
        "span_s": span,
        "rate_rps": len(known) / span if span else None,
        "cv_iat": float(gaps.std() / gaps.mean()) if span else None,
    }
    peak = None
    for bin_seconds in BIN_SECONDS:
        counts, bins = _whole_bins(known, bin_seconds)
        enough = bins >= BINS_MIN and len(counts) > 0
        mean = counts.sum() / bins if enough else 0.0
        # Most bins of a long, sparse trace are empty: they are counted, not listed.
        spread = np.square(counts - mean).sum() + (bins - len(counts)) * mean**2
        stats[f"idc_{bin_seconds}s"] = float(spread / bins / mean) if enough else None
        peak = float(counts.max() / mean) if enough else None
    stats["peak_to_mean_60s"] = peak
    stats["arrival_tick_s"] = _tick(known)
    return stats


def _whole_bins(arrivals: FloatArray, bin_seconds: int) -> tuple[IntArray, int]:
    """Return the counts of the bins with arrivals, and how many bins there are.

    Bins begin at the first arrival; the last, partial one is left out.
    """
    if not len(arrivals):
        return np.empty(0, dtype=np.int64), 0
    since = arrivals - arrivals[0]
    bins = int(since[-1] // bin_seconds)
    places, counts = np.unique(since // bin_seconds, return_counts=True)
    return counts[places < bins].astype(np.int64), bins


def _tick(arrivals: FloatArray) -> float | None:
    """Return the longest tick near which all arrivals lie, or None; a few prove nothing."""
    if len(np.unique(arrivals)) < BINS_MIN:
        return None
    for tick in _TICKS_SECONDS:
        # Published clocks that tick each 3 s are off by a millisecond now and then.
        if np.all(np.abs(arrivals - tick * np.rint(arrivals / tick)) <= _TICK_ERROR_SECONDS):
            return float(tick)
    return None


def _lengths(name: str, tokens: IntArray) -> dict[str, float]:
    middle, high = np.percentile(tokens, [50, 99])
    return {
        f"{name}_mean": float(tokens.mean()),
        f"{name}_p50": float(middle),
        f"{name}_p99": float(high),
        f"{name}_max": int(tokens.max()),
    }


def _sessions(trace: Trace) -> dict[str, float | None]:
    if not trace.sessions:
        keys = ("sessions", "share_multiturn", "turns_per_session_p50")
        return dict.fromkeys((*keys, "later_turns_without_arrival"))
    turns = np.bincount(trace.session[trace.session >= 0])
    lost = int(np.isnan(trace.arrival_seconds).sum()) if trace.has_arrivals else None
    return {
        "sessions": len(turns),
        "share_multiturn": float((turns > 1).mean()),
        "turns_per_session_p50": float(np.median(turns)),
        "later_turns_without_arrival": lost,
    }


def _names(trace: Trace) -> dict[str, Any]:
    named = trace.tenants != (UNNAMED,)
    top = float(np.bincount(trace.tenant).max() / len(trace)) if named else None
    classes = None
    if trace.slo_class is not None:
        counts = np.bincount(trace.slo_class, minlength=len(trace.slo_classes))
        classes = dict(zip(trace.slo_classes, counts.tolist(), strict=True))
    return {
        "tenants": len(trace.tenants) if named else None,
        "top_tenant_share": top,
        "models": list(trace.models) if trace.models != (UNNAMED,) else None,
        "slo_classes": classes,
    }


def _pauses(tool_seconds: FloatArray) -> dict[str, float | None]:
    known = tool_seconds[~np.isnan(tool_seconds)]
    if not len(known):
        return dict.fromkeys(("tool_s_p50", "tool_s_p90", "tool_s_p99", "tool_s_mean"))
    middle, high, top = np.percentile(known, [50, 90, 99])
    return {
        "tool_s_p50": float(middle),
        "tool_s_p90": float(high),
        "tool_s_p99": float(top),
        "tool_s_mean": float(known.mean()),
    }


def _prefixes(trace: Trace) -> dict[str, float | None]:
    if trace.prefix_offsets is None:
        keys = ("prefix_hit_token_share_inf_cache", "req_with_hit", "block_tokens")
        return dict.fromkeys(keys)
    hits = hit_blocks(trace)
    tokens = np.minimum(hits * trace.block_tokens, trace.prompt_tokens)
    return {
        "prefix_hit_token_share_inf_cache": float(tokens.sum() / trace.prompt_tokens.sum()),
        "req_with_hit": float((hits > 0).mean()),
        "block_tokens": trace.block_tokens,
    }


def hit_blocks(trace: Trace) -> IntArray:
    """Return, for each request, how many leading blocks an earlier row of the trace had."""
    offsets, ids = trace.prefix_offsets, trace.prefix_ids
    if offsets is None or ids is None:
        return np.zeros(len(trace), dtype=np.int64)
    starts, ends = offsets[:-1], offsets[1:]
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    row_start = np.repeat(starts, ends - starts)
    unseen = np.flatnonzero(first[inverse.reshape(-1)] >= row_start)
    unseen = np.append(unseen, len(ids))
    first_unseen = unseen[np.searchsorted(unseen, starts)]
    return (np.minimum(first_unseen, ends) - starts).astype(np.int64)
