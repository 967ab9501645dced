"""The numbers of a run, from what its clients saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf, nan
from typing import Final

from benchmarks.vllm_gain.serving import Asked, Served

Objectives = Mapping[str, tuple[float, float]]
"""Seconds until the first token and for each later one, by class; the key "" is everybody's."""

LOWER_IS_BETTER: Final = {
    "mean TTFT": True,
    "mean E2E": True,
    "mean JCT": True,
    "polite mean E2E": True,
    "goodput": False,
    "throughput": False,
    "p99 gap": True,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run in numbers; times in seconds.

    Attributes:
        label: The configuration.
        ttft, e2e: Means over requests.
        gap: 99th percentile over streams of the longest pause in each.
        throughput: Output tokens a second, from the first request to the last token.
        goodput: Requests a second that met their objectives.
        jct: Mean time from a program's first request to its last token; NaN without programs.
        polite: Mean E2E of the tenant called `polite`; NaN without one.
        makespan: Seconds.
        unfinished: Requests that the time limit cut off; their times count up to it.
    """

    label: str
    ttft: float
    e2e: float
    gap: float
    throughput: float
    goodput: float
    jct: float
    polite: float
    makespan: float
    unfinished: int

    def value(self, name: str) -> float:
        """Return a number by the name in `LOWER_IS_BETTER`."""
        return {
            "mean TTFT": self.ttft,
            "mean E2E": self.e2e,
            "mean JCT": self.jct,
            "polite mean E2E": self.polite,
            "goodput": self.goodput,
            "throughput": self.throughput,
            "p99 gap": self.gap,
        }[name]

    def cost(self, name: str) -> float:
        """Return a number that is smaller the better the run is; a run that was cut is last."""
        value = self.value(name)
        badness = value if LOWER_IS_BETTER[name] else -value
        return inf if self.unfinished else badness


def outcome(
    label: str, asked: Sequence[Asked], served: Sequence[Served], objectives: Objectives
) -> Outcome:
    """Return a run in numbers."""
    known = [at for at, one in enumerate(served) if one.sent >= 0]
    end = max((max(served[at].last, served[at].sent) for at in known), default=nan)
    done = [at for at in known if served[at].finish >= 0]
    begin = min(served[at].sent for at in known)
    makespan = max(end - begin, 1e-9)
    first = {at: (served[at].first if served[at].first >= 0 else end) for at in known}
    finish = {at: (served[at].finish if served[at].finish >= 0 else end) for at in known}
    gaps = sorted(served[at].gap for at in known if len(served[at].tokens) > 1)
    polite = [finish[at] - served[at].sent for at in known if asked[at].tenant == "polite"]
    return Outcome(
        label=label,
        ttft=_mean([first[at] - served[at].sent for at in known]),
        e2e=_mean([finish[at] - served[at].sent for at in known]),
        gap=gaps[ceil(0.99 * len(gaps)) - 1] if gaps else nan,
        throughput=sum(len(served[at].tokens) for at in known) / makespan,
        goodput=sum(_met(asked[at], served[at], objectives) for at in done) / makespan,
        jct=_jct(asked, served),
        polite=_mean(polite),
        makespan=makespan,
        unfinished=len(served) - len(done),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else nan


def _met(asked: Asked, served: Served, objectives: Objectives) -> bool:
    bounds = objectives.get(asked.group)
    if bounds is None:
        return True
    later = max(len(served.tokens) - 1, 1)
    pace = (served.finish - served.first) / later
    return served.first - served.sent <= bounds[0] and pace <= bounds[1]


def _jct(asked: Sequence[Asked], served: Sequence[Served]) -> float:
    """Return the mean over programs that came to their end."""
    spans: dict[str, list[float]] = {}
    for one, seen in zip(asked, served, strict=True):
        if not one.program:
            continue
        span = spans.setdefault(one.program, [inf, -1.0])
        span[0] = min(span[0], seen.sent if seen.sent >= 0 else inf)
        if one.last:
            span[1] = seen.finish
    return _mean([end - begin for begin, end in spans.values() if end >= 0])
