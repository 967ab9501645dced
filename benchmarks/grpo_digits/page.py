"""What the runs say: tables, paired differences with intervals, and the verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from statistics import mean, stdev
from typing import Any, Final, NamedTuple

from benchmarks.grpo_digits.arms import ARMS
from benchmarks.grpo_digits.training import Sizes

STUDENT: Final = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201)
"""97.5 % points of Student's t for 1, 2, ... degrees of freedom."""

FRESH: Final = 5
"""Seeds from here on were run when the results of those before had been looked at."""

Result = Mapping[str, Any]
Number = Callable[[Result], float]


class Interval(NamedTuple):
    """A mean of paired differences and its 95 % interval."""

    centre: float
    low: float
    high: float

    def show(self, form: str) -> str:
        """Return it as text."""
        return f"{self.centre:{form}} ({self.low:{form}} to {self.high:{form}})"


def solved(result: Result, update: int) -> float:
    """Return the share of held-out problems solved after an update, digits weighing the same."""
    return mean(_look(result, update).values())


def _look(result: Result, update: int) -> Mapping[Any, float]:
    looks = result["looks"]
    found: Mapping[Any, float] = looks[update] if update in looks else looks[str(update)]
    return found


def last(result: Result) -> float:
    """Return the share solved in the end."""
    return solved(result, max(int(at) for at in result["looks"]))


def area(result: Result) -> float:
    """Return the mean share solved over all looks after the first: how fast it learns."""
    looks = sorted(int(at) for at in result["looks"])
    return mean(solved(result, at) for at in looks[1:])


def mixed(result: Result) -> float:
    """Return the share of trained groups that taught something."""
    return mean(one["mixed"] for one in result["curve"])


def wall(result: Result) -> float:
    """Return the seconds of generating, learning and deciding."""
    return sum(result["seconds"].values())


def student(values: Sequence[float]) -> Interval:
    """Return the mean of paired differences with Student's interval."""
    centre = mean(values)
    if len(values) < 2:
        return Interval(centre, float("-inf"), float("inf"))
    half = STUDENT[min(len(values) - 2, len(STUDENT) - 1)] * stdev(values) / sqrt(len(values))
    return Interval(centre, centre - half, centre + half)


def paired(
    results: Sequence[Result], one: str, other: str, number: Number, ratio: bool = False
) -> Interval:
    """Return how `one` differs from `other`, seed by seed; as a share of the other's if asked."""
    by_key = {(result["arm"], result["seed"]): result for result in results}
    seeds = common(results, one, other)
    pairs = [(number(by_key[one, seed]), number(by_key[other, seed])) for seed in seeds]
    return student([a / b - 1.0 if ratio else a - b for a, b in pairs])


def common(results: Sequence[Result], one: str, other: str) -> list[int]:
    """Return the seeds that two arms were run with."""
    seeds = [{each["seed"] for each in results if each["arm"] == arm} for arm in (one, other)]
    return sorted(seeds[0] & seeds[1])


def page(results: Sequence[Result], sizes: Sizes) -> str:
    """Return the page's generated part."""
    first = solved(results[0], 0)
    return "\n\n".join(
        (
            f"{_seeds(results)}, {sizes.updates} updates of {sizes.groups} groups of "
            f"{sizes.rollouts}; all runs begin with the same weights, which solve {first:.0%}.",
            "\n".join(verdicts(results)),
            table(results),
            curves(results, sizes),
            by_digits(results, sizes),
        )
    )


def _seeds(results: Sequence[Result]) -> str:
    """Return how many seeds the arms were run with."""
    counts = {arm: 0 for arm, _ in _arms(results)}
    for one in results:
        counts[one["arm"]] += 1
    least = min(counts.values())
    more = [f"`{arm}` {count}" for arm, count in counts.items() if count > least]
    return f"{least} seeds" + (f" ({', '.join(more)})" if more else "")


def table(results: Sequence[Result]) -> str:
    """Return one row for each arm, means over seeds."""
    lines = [
        "| run | solved in the end | mixed groups | generator steps | tokens generated | trained "
        "| of them by older weights | discarded | wall, s |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for arm, words in _arms(results):
        rows = [one for one in results if one["arm"] == arm]
        tokens = {
            name: mean(one["tokens"][name] for one in rows)
            for name in ("generated", "trained", "discarded", "stale")
        }
        shares = {name: tokens[name] / tokens["generated"] for name in tokens}
        lines.append(
            f"| `{arm}`: {words} | {mean(map(last, rows)):.1%} | {mean(map(mixed, rows)):.0%} "
            f"| {mean(one['steps'] for one in rows):,.0f} | {tokens['generated']:,.0f} "
            f"| {shares['trained']:.0%} | {tokens['stale'] / tokens['trained']:.0%} "
            f"| {shares['discarded']:.0%} | {mean(map(wall, rows)):.0f} |"
        )
    return "\n".join(lines)


def curves(results: Sequence[Result], sizes: Sizes) -> str:
    """Return the share solved and the tokens generated after some updates."""
    looks = range(0, sizes.updates + 1, sizes.look_every)
    lines = [
        "Share of held-out problems solved after so many updates, and thousands of tokens "
        "generated by then:",
        "",
        "| run | " + " | ".join(f"{at}" for at in looks) + " |",
        "|---|" + "--:|" * len(looks),
    ]
    for arm, _ in _arms(results):
        rows = [one for one in results if one["arm"] == arm]
        cells = []
        for at in looks:
            share = mean(solved(one, at) for one in rows)
            made = mean(one["curve"][at - 1]["generated"] if at else 0 for one in rows)
            cells.append(f"{share:.1%} ({made / 1000:.0f}k)")
        lines.append(f"| `{arm}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def by_digits(results: Sequence[Result], sizes: Sizes) -> str:
    """Return the share solved by number of digits, first and in the end."""
    digits = range(1, sizes.digits_max + 1)
    lines = [
        "Share solved by number of digits:",
        "",
        "| run | " + " | ".join(f"{at}" for at in digits) + " |",
        "|---|" + "--:|" * len(digits),
    ]

    def row(name: str, rows: Sequence[Result], update: int) -> str:
        found = [{int(k): v for k, v in _look(one, update).items()} for one in rows]
        cells = [f"{mean(one.get(at, 0.0) for one in found):.0%}" for at in digits]
        return f"| {name} | " + " | ".join(cells) + " |"

    lines.append(row("before", results[:1], 0))
    for arm, _ in _arms(results):
        rows = [one for one in results if one["arm"] == arm]
        lines.append(row(f"`{arm}`", rows, sizes.updates))
    return "\n".join(lines)


def _arms(results: Sequence[Result]) -> list[tuple[str, str]]:
    present = {one["arm"] for one in results}
    return [(name, arm.words) for name, arm in ARMS.items() if name in present]


def verdicts(results: Sequence[Result]) -> list[str]:
    """Return one bullet for each comparison that the runs allow."""
    present = {one["arm"] for one in results}
    said = []
    if "sync" in present:
        rise = student([last(one) - solved(one, 0) for one in results if one["arm"] == "sync"])
        said.append(f"- **Reward rises:** `sync` solves {rise.show('+.1%')} more than before.")
    if {"sync", "april"} <= present:
        said.append(_april(results))
    for real, planted in PLANTED:
        if {real, planted} <= present:
            said.append(_planted(results, real, planted))
    return said


def _april(results: Sequence[Result]) -> str:
    def ratio(number: Number) -> str:
        return paired(results, "april", "sync", number, ratio=True).show("+.1%")

    share = paired(results, "april", "sync", last)
    rows = [one for one in results if one["arm"] == "april"]
    stale = mean(one["tokens"]["stale"] / one["tokens"]["trained"] for one in rows)
    learns = (
        "as well" if share.low <= 0.0 <= share.high else ("better" if share.low > 0.0 else "worse")
    )
    return (
        f"- **APRIL against synchronous, at equal updates:** {ratio(lambda one: one['steps'])} "
        f"generator steps, {ratio(lambda one: one['generated'])} tokens, {ratio(wall)} wall time "
        f"on this CPU, whose step takes longer the fuller it is; "
        f"{stale:.0%} of the trained tokens are from older weights. It learns {learns}: "
        f"{share.show('+.1%')} solved in the end, "
        f"{paired(results, 'april', 'sync', area).show('+.1%')} on the way."
    )


NUMBERS: Final = (
    ("mixed groups", mixed),
    ("solved on the way", area),
    ("solved in the end", last),
)
PLANTED: Final = (
    ("stale", "stale-uncorrected"),
    ("mopps-spoilt", "mopps-spoilt-shuffled"),
    ("prune-most", "prune-most-random"),
    ("mopps", "mopps-shuffled"),
    ("prune", "prune-random"),
)
"""What was planted to lose against what."""


def _planted(results: Sequence[Result], real: str, planted: str) -> str:
    parts, loses = [], []
    for words, number in NUMBERS:
        found = paired(results, planted, real, number)
        parts.append(f"{words} {found.show('+.1%')}")
        if found.high < 0.0:
            loses.append(words)
    verdict = f"loses ({', '.join(loses)})" if loses else "**does not lose beyond the noise**"
    tokens = paired(results, planted, real, lambda one: one["generated"], ratio=True)
    return (
        f"- **`{planted}` against `{real}`:** {verdict}: {'; '.join(parts)}; "
        f"tokens {tokens.show('+.1%')} ({len(common(results, real, planted))} seeds)."
        f"{_fresh(results, real, planted)}"
    )


def _fresh(results: Sequence[Result], real: str, planted: str) -> str:
    """Return the same of the seeds that nobody had looked at; empty if there are few."""
    late = [one for one in results if one["seed"] >= FRESH]
    seeds = common(late, real, planted)
    if len(seeds) < 3:
        return ""
    parts = [f"{words} {paired(late, planted, real, n).show('+.1%')}" for words, n in NUMBERS]
    return f" Seeds {seeds[0]} to {seeds[-1]} alone: {'; '.join(parts)}."
