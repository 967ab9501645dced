"""Plain sentences that say, from a run's numbers, what its requests spent their time on."""

from __future__ import annotations

from typing import Final

from sojourn.report.metrics import Row
from sojourn.report.numbers import ratio
from sojourn.report.summary import RunSummary
from sojourn.report.units import change, count, seconds, share

SECOND_CAUSE_SHARE: Final = 0.25
"""A second cause is named when it explains at least this part of what was missed."""
IDLE_SHARE: Final = 0.2
"""Idle time is named from here on, if requests missed their SLOs meanwhile."""
CHANGED_FACTOR: Final = 1.1
"""A p99 latency is named when it grows, or shrinks, by more than this."""
TAIL_FACTOR: Final = 2.0
"""A class's p99 latency is named as a tail when it grows by more than this."""
POINTS: Final = 0.01
"""A class meets fewer SLOs when its attainment falls by more than this share."""


def what_it_missed(row: Row) -> str:
    """Return one sentence on what made a recipe's requests miss their SLOs."""
    missed = sum(row.missed.values())
    if not row.requests:
        return f"with {row.recipe}, no request arrived."
    if not missed:
        return f"with {row.recipe}, every request met every SLO it had."
    ranked = sorted(row.missed.items(), key=lambda pair: -pair[1])
    named = [
        (name, number)
        for place, (name, number) in enumerate(ranked[:2])
        if number and (place == 0 or number >= SECOND_CAUSE_SHARE * missed)
    ]
    parts = [f"{_part(number, missed)} of them {_phrase(name, row)}" for name, number in named]
    text = f"with {row.recipe}, {share(missed / row.requests)} of requests missed an SLO; "
    text += ", ".join(parts)
    idle = row.engine.idle_share
    if idle is not None and idle >= IDLE_SHARE:
        text += f", while the engine stood idle {share(idle)} of the time"
    return text + "."


def costs(winner: RunSummary, stock: RunSummary) -> str:
    """Return one sentence on what else changes with a recipe, for better and worse."""
    new, old = winner.row, stock.row
    parts = [
        f"throughput {change(new.throughput_tps, old.throughput_tps)}",
        f"p99 stream gap {seconds(old.stream_gap_seconds_p99)} → "
        f"{seconds(new.stream_gap_seconds_p99)}",
    ]
    parts += [
        f"p99 {name} {seconds(before)} → {seconds(after)}"
        for name, before, after in (
            ("TTFT", old.ttft_seconds.p99, new.ttft_seconds.p99),
            ("E2E", old.e2e_seconds.p99, new.e2e_seconds.p99),
        )
        if before is not None
        and after is not None
        and not before <= CHANGED_FACTOR * after <= CHANGED_FACTOR**2 * before
    ]
    if new.shed or old.shed:
        before, after = ratio(old.shed, old.requests), ratio(new.shed, new.requests)
        parts.append(f"shed {share(before)} → {share(after)} of requests")
    if new.recomputed_tokens > old.recomputed_tokens:
        parts.append(f"{count(new.recomputed_tokens - old.recomputed_tokens)} more tokens computed")
    losers = losing_classes(new, old)
    if losers:
        parts.append("paid for by " + ", ".join(losers))
    elif len(new.slo_attainment) > 1:
        parts.append("no class meets fewer SLOs")
    tails = longer_tails(winner, stock) if len(winner.classes) > 1 else []
    if tails:
        parts.append("tail: " + ", ".join(tails))
    return "; ".join(parts) + "."


def losing_classes(new: Row, old: Row) -> list[str]:
    """Return `name (before → after)` for each class whose attainment falls."""
    losers = []
    for name, before in old.slo_attainment.items():
        after = new.slo_attainment.get(name)
        if before is not None and after is not None and after < before - POINTS:
            losers.append(f"{name} ({share(before)} → {share(after)} met)")
    return losers


def longer_tails(new: RunSummary, old: RunSummary) -> list[str]:
    """Return `name p99 TTFT before → after` for each class's p99 that grows `TAIL_FACTOR` times."""
    before_by_name = {one.name: one for one in old.classes}
    tails = []
    for one in new.classes:
        was = before_by_name.get(one.name)
        if was is None:
            continue
        for name, before, after in (
            ("TTFT", was.ttft_seconds.p99, one.ttft_seconds.p99),
            ("E2E", was.e2e_seconds.p99, one.e2e_seconds.p99),
        ):
            if before is not None and after is not None and after > TAIL_FACTOR * before:
                tails.append(f"{one.name} p99 {name} {seconds(before)} → {seconds(after)}")
    return tails


def asks_nothing(summary: RunSummary) -> bool:
    """Return whether no class of a run has any bound."""
    return not any(one.bounds for one in summary.classes)


def _part(number: int, whole: int) -> str:
    """Return a part in words or percent."""
    return "all" if number == whole else share(number / whole)


def _phrase(cause: str, row: Row) -> str:
    """Return what happened to the requests of a cause, with the number that shows it."""
    engine = row.engine
    gap = seconds(row.stream_gap_seconds_p99)
    phrases = {
        "shed": "were shed",
        "unfinished": "did not finish",
        "queueing": f"waited too long for a seat (mean queue {seconds(row.queue_seconds.mean)}, "
        f"{share(engine.queue_share)} of E2E time)",
        "prefill": f"had a slow prefill (p99 TTFT {seconds(row.ttft_seconds.p99)})",
        "recomputed": f"lost their KV and had it computed again "
        f"({count(row.recomputed_tokens)} tokens, {share(engine.recomputed_share)} of prefill)",
        "paused": f"were paused in mid-stream (p99 gap {gap}, "
        f"{share(engine.paused_share)} of E2E time)",
        "slow stream": f"got their tokens too slowly (p99 TPOT {seconds(row.tpot_seconds.p99)}, "
        f"p99 gap {gap}; {share(engine.prefilling_share)} of busy time in steps with prefill)",
    }
    return phrases[cause]
