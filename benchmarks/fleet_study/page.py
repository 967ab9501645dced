"""The study's tables, and what they say in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.fleet_study.designs import STOCK

MARGIN: Final = 0.03
"""Goodput that counts as no difference."""

CAUSES: Final = (
    ("hits", "prompt tokens found in the cache", "{:.0%}", 0.03),
    ("imbalance", "imbalance of busy time", "{:.2f}", 0.03),
    ("gap_p99", "p99 stream gap", "{:.2f} s", 0.05),
    ("ttft_p99", "p99 TTFT", "{:.2f} s", 0.1),
    ("preemptions", "seats lost", "{:,.0f}", 100.0),
)
"""Numbers that explain a difference: key, words, format, and the least difference worth a word."""


def page(
    results: Sequence[Mapping[str, Any]],
    capacities: Mapping[str, float],
    bounds: Mapping[str, tuple[float, float]],
) -> str:
    """Return the page's generated part."""
    parts = [_winners(results, capacities), ""]
    for trace, rate in capacities.items():
        ttft, tpot = bounds[trace]
        parts += [
            f"## {trace}",
            "",
            f"Round robin sustains {rate:.1f} requests/s; objectives: TTFT {ttft:g} s, "
            f"{tpot:g} s for each further token.",
            "",
        ]
        for load in sorted({one["load"] for one in results if one["trace"] == trace}):
            rows = [one for one in results if one["trace"] == trace and one["load"] == load]
            parts += [*_table(rows, load), "", _words(rows), ""]
    return "\n".join(parts).rstrip()


def _best(rows: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], Mapping[str, Any], float]:
    """Return the winner, the best of stock, and by what share the winner's goodput is above it."""
    stock = [one for one in rows if one["design"] in STOCK]
    base = max(stock, key=lambda one: float(one["goodput"] or 0.0))
    best = max(rows, key=lambda one: float(one["goodput"] or 0.0))
    more = (best["goodput"] or 0.0) / base["goodput"] - 1.0 if base["goodput"] else 0.0
    return best, base, more


def _winners(results: Sequence[Mapping[str, Any]], capacities: Mapping[str, float]) -> str:
    loads = sorted({one["load"] for one in results})
    lines = [
        "| trace | " + " | ".join(f"load {load:.1f}" for load in loads) + " |",
        "|---|" + "---|" * len(loads),
    ]
    for trace in capacities:
        cells = []
        for load in loads:
            rows = [one for one in results if one["trace"] == trace and one["load"] == load]
            best, base, more = _best(rows)
            if not base["goodput"] and best["goodput"]:
                cells.append(f"{best['design']} (stock meets nobody's objectives)")
            elif more <= MARGIN:
                cells.append(f"no difference: {base['design']}")
            else:
                cells.append(f"{best['design']} (+{more:.0%} goodput)")
        lines.append(f"| {trace} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _table(rows: Sequence[Mapping[str, Any]], load: float) -> list[str]:
    lines = [
        f"Load {load:.1f}:",
        "",
        "| design | goodput, /s | shed | met | mean TTFT, s | p99 TTFT, s | p99 gap, s "
        "| cache hits | imbalance | moves | $ per 1,000 met | $ per million tokens |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for one in rows:
        met = one["dollars_per_met"]
        lines.append(
            f"| {one['design']} | {one['goodput']:.1f} | {one['shed']:,} "
            f"| {one['attainment'] or 0.0:.0%} "
            f"| {one['ttft']:.2f} | {one['ttft_p99']:.2f} | {one['gap_p99']:.2f} "
            f"| {one['hits'] or 0.0:.0%} | {one['imbalance']:.2f} "
            f"| {one['migrations'] + one['handovers']:,} "
            f"| {'-' if met is None else f'{1000 * met:.2f}'} "
            f"| {one['dollars_per_million']:.2f} |"
        )
    return lines


def _words(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return who wins and which numbers go with it."""
    best, base, more = _best(rows)
    if base["goodput"] and more <= MARGIN:
        return (
            f"No design is more than {MARGIN:.0%} above {base['design']} (best: "
            f"{best['design']}, {more:+.1%}): keep it."
        )
    reasons = [
        f"{words} {shape.format(best[key] or 0.0)} against {shape.format(base[key] or 0.0)}"
        for key, words, shape, least in CAUSES
        if abs((best[key] or 0.0) - (base[key] or 0.0)) >= least
    ]
    why = "; ".join(reasons) or "no single number explains it"
    ahead = f"{more:+.0%} goodput" if base["goodput"] else "the only one with goodput"
    return f"**{best['design']}** wins ({ahead} over {base['design']}): {why}."
